"""packager.window.waiters: who is released when, in which order, and what a fault of one costs the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import structlog
import uvloop

from packager.window import waiters as waiting
from packager.window.limits import PublishLimits
from packager.window.waiters import RELEASED_AT_ONCE, TooManyWaitersError, Waiters

LONG_SECONDS = 30.0


class One:
    """Somebody who waits, and writes down how it ended."""

    def __init__(self, told: list[tuple[One, bool]], failing: Callable[[], None] = lambda: None) -> None:
        self._told = told
        self._failing = failing

    def release(self, holds: bool) -> None:
        self._told.append((self, holds))
        self._failing()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def test_a_group_is_released_in_its_order_with_one_look_at_its_condition() -> None:
    waiters, told, looks, there = Waiters(), list[tuple[One, bool]](), list[bool](), list[bool]()

    def ready() -> bool:
        looks.append(True)
        return bool(there)

    crowd = [One(told) for _ in range(2 * RELEASED_AT_ONCE + 1)]
    for one in crowd:
        waiters.add(one, ready, LONG_SECONDS, "part")
    waiters.notify()
    assert waiters.count == len(crowd)
    there.append(True)
    waiters.notify()
    assert waiters.count == 0
    assert told == []
    await until(lambda: len(told) == len(crowd))
    assert told == [(one, True) for one in crowd]
    assert len(looks) <= 4


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_has_no_time_left_gives_up_at_once(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def wait() -> bool:
        async with asyncio.timeout(LONG_SECONDS):
            return await Waiters().wait(lambda: False, 0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert not runner.run(wait())


async def test_each_gives_up_at_its_own_time() -> None:
    """The one that came first has the most patience; who has left isn't told."""
    waiters, told = Waiters(), list[tuple[One, bool]]()
    late, gone, soon = (One(told) for _ in range(3))
    waiters.add(late, lambda: False, 0.2, "part")
    waiters.add(gone, lambda: False, 0.01, "part")
    waiters.add(soon, lambda: False, 0.01, "part")
    waiters.remove(gone)
    await until(lambda: (soon, False) in told)
    await until(lambda: (late, False) in told)
    assert len(told) == 2
    assert waiters.count == 0
    waiters.remove(late)


async def test_a_fault_of_one_doesnt_keep_the_others() -> None:
    waiters, told, faults = Waiters(), list[tuple[One, bool]](), list[object]()

    def fail() -> None:
        raise ValueError("mine")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    crowd = [One(told), One(told, fail), One(told)]
    for one in crowd:
        waiters.add(one, lambda: False, LONG_SECONDS, "part")
    waiters.close()
    await until(lambda: len(told) == 3)
    assert told == [(one, False) for one in crowd]
    assert [str(fault) for fault in faults] == ["mine"]
    with pytest.raises(TooManyWaitersError):
        waiters.add(One(told), lambda: False, LONG_SECONDS)


async def test_a_condition_that_fails_lets_its_group_go_and_nobody_else() -> None:
    """Who publishes what is waited for goes on, and the other groups wait on."""
    waiters, told = Waiters(), list[tuple[One, bool]]()
    one, other = One(told), One(told)

    def fail() -> bool:
        raise ValueError("mine")

    waiters.add(other, lambda: False, LONG_SECONDS, "other")
    waiters.add(one, fail, LONG_SECONDS, "part")
    there: list[bool] = []
    sleeper = asyncio.ensure_future(waiters.wait(lambda: bool(there), LONG_SECONDS, "sleep"))
    await asyncio.sleep(0)
    assert waiters.count == 3
    there.append(True)
    with structlog.testing.capture_logs() as logged:
        waiters.notify()
    assert [(line["event"], line["waiting"]) for line in logged] == [
        ("a condition that requests wait for can't be checked", 1)
    ]
    await until(lambda: len(told) == 1)
    assert told == [(one, False)]
    assert await sleeper
    assert waiters.count == 1
    waiters.remove(other)


async def test_a_release_that_takes_long_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each gets an answer of its own, a crowd is released in steps of bounded time."""
    told: list[tuple[One, bool]] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: next(clock) * 0.004))
    waiters, turns = Waiters(PublishLimits(released_at_least=2)), list[int]()
    for _ in range(10):
        waiters.add(One(told), lambda: True, LONG_SECONDS, "part")
    waiters.notify()
    while len(told) < 10:
        await asyncio.sleep(0)
        turns.append(len(told))
    # From the second on each takes 4 ms of the 10 ms of a step.
    assert turns == [4, 8, 10]
