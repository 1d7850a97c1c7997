"""How late the event loop is, and what held it."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from origin.system.loop_lag import LoopLag
from packager.concurrency import background_task
from tests.waiting import until


def compute_for(seconds: float) -> None:
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        sum(range(1000))


def wait_for(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.slow
async def test_what_computes_for_long_is_named_once_a_minute() -> None:
    loop_lag = LoopLag()
    with capture_logs() as logs:
        async with background_task(loop_lag.run()):
            for count in (1, 2):
                await until(lambda count=count: held(loop_lag, compute_for) >= count)  # type: ignore[misc]
    told = [(log["log_level"], log["where"]) for log in logs if "held" in log["event"]]
    assert [level for level, _ in told] == ["warning", *["debug"] * (len(told) - 1)]
    assert all("compute_for (test_loop_lag.py:" in where for _, where in told)


def held(loop_lag: LoopLag, hold: Callable[[float], None]) -> int:
    """Hold the loop for more than half a second, but not so that it never beats."""
    hold(0.6)
    return loop_lag.holds


@pytest.mark.slow
async def test_what_only_waits_is_late_but_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_lag = LoopLag()
    with capture_logs() as logs:
        async with background_task(loop_lag.run()):
            await asyncio.sleep(0)
            wait_for(1.5)
            await until(lambda: loop_lag.lag > 1)
    assert loop_lag.trouble
    assert loop_lag.holds == 0
    assert not logs


class Held:
    """What the code that holds the loop refers to."""


@pytest.mark.slow
async def test_what_was_held_is_freed() -> None:
    loop_lag = LoopLag()
    held_ones: list[weakref.ref[Held]] = []

    def hold(seconds: float) -> None:
        one = Held()
        held_ones.append(weakref.ref(one))
        compute_for(seconds)

    with capture_logs():
        async with background_task(loop_lag.run()):
            await until(lambda: held(loop_lag, hold))
            gc.collect()
            assert [one() for one in held_ones] == [None] * len(held_ones)
