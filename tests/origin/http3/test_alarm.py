"""A call at the earliest of several times, also of those that are past."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from origin.http3.alarm import Alarm
from tests.waiting import until


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_alarm_comes_once_and_at_the_earliest_time_however_late_that_is(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> None:
        loop, calls = asyncio.get_running_loop(), list[float]()
        alarm = Alarm(loop, lambda: calls.append(loop.time()))
        alarm.set_by(loop.time() + 3600)
        for earlier in (0, 1, 2):
            alarm.set_by(loop.time() - earlier)
        alarm.set_by(loop.time() + 3600)
        await until(lambda: bool(calls))
        alarm.set_by(loop.time() + 3600)
        alarm.cancel()
        alarm.set_by(loop.time())
        await until(lambda: len(calls) == 2)
        alarm.cancel()
        assert len(calls) == 2

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())
