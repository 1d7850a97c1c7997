"""How late the event loop is, and what held it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from origin.pulse import Pulse
from packager.beside import beside
from tests.waiting import until


def compute_for(seconds: float) -> None:
    begin = time.thread_time()
    while time.thread_time() - begin < seconds:
        sum(range(1000))


def wait_for(seconds: float) -> None:
    time.sleep(seconds)


async def test_what_computes_for_long_is_named_once_a_minute() -> None:
    pulse = Pulse()
    with capture_logs() as logs:
        async with beside(pulse.run()):
            for count in (1, 2):
                await until(lambda count=count: held(pulse, compute_for) >= count)  # type: ignore[misc]
    told = [(log["log_level"], log["where"]) for log in logs if "held" in log["event"]]
    assert [level for level, _ in told] == ["warning", *["debug"] * (len(told) - 1)]
    assert all("compute_for (test_pulse.py:" in where for _, where in told)


def held(pulse: Pulse, hold: Callable[[float], None]) -> int:
    """Hold the loop for a second, but not so that it never beats."""
    hold(1.0)
    return pulse.holds


async def test_what_only_waits_is_late_but_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse()
    with capture_logs() as logs:
        async with beside(pulse.run()):
            await asyncio.sleep(0)
            wait_for(1.5)
            await until(lambda: pulse.lag > 1)
    assert pulse.trouble
    assert pulse.holds == 0
    assert not logs
