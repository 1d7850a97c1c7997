"""The door to threads: turns of clients, one call for all who want the same, waits that take no thread."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from functools import partial

import pytest

from packager.blocking_calls import LackingError, awaited, may_be_repeated
from packager.threads import SERVER, SWITCH_SECONDS, CrowdedError, ThreadLimits, Threads
from tests.waiting import until

STRANGER, NEIGHBOUR, THIRD = "192.0.2.1", "192.0.2.2", "2001:db8::/64"


class Held:
    """Calls that note their names, and end once they may."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Semaphore(0)

    def __call__(self, name: str) -> str:
        self.begun.append(name)
        assert self.may_end.acquire(timeout=60)
        return name


@pytest.fixture
def held() -> Held:
    return Held()


async def test_one_client_leaves_threads_to_others_however_much_it_asks_for(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=3, client_threads=2))
    many = [threads.of(STRANGER).submit(held, f"stranger {number}") for number in range(50)]
    await until(lambda: len(held.begun) == 2)
    assert await threads.of(NEIGHBOUR).run(lambda: "at once") == "at once"
    assert held.begun == ["stranger 0", "stranger 1"]
    for _ in many:
        held.may_end.release()
    await asyncio.gather(*many)


async def test_clients_that_wait_for_a_thread_take_turns(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1))
    calls = [threads.of(STRANGER).submit(held, f"stranger {number}") for number in range(20)]
    calls += [threads.of(client).submit(held, client) for client in (NEIGHBOUR, THIRD, SERVER)]
    for _ in calls:
        held.may_end.release()
    await asyncio.gather(*calls)
    assert {NEIGHBOUR, THIRD, SERVER} < {*held.begun[:6]}, (
        "no client waits for more than a turn of each other"
    )
    strangers = [name for name in held.begun if name.startswith("stranger")]
    assert strangers == [f"stranger {number}" for number in range(20)], "none of them starves"


async def test_calls_of_one_key_are_one_call_in_the_first_turn_of_all_who_want_it(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1))
    first = threads.of(STRANGER).submit(held, "first")
    queue = [threads.of(STRANGER, number).submit(held, f"stranger {number}") for number in range(9)]
    joined = [threads.of(NEIGHBOUR, 8).submit(held, "never") for _ in range(5)]
    for _ in range(10):
        held.may_end.release()
    await asyncio.gather(first, *queue)
    assert await asyncio.gather(*joined) == ["stranger 8"] * 5
    assert held.begun.index("stranger 8") <= 2, "the neighbour doesn't wait in the stranger's queue"
    assert len(held.begun) == 10
    held.may_end.release()
    assert await threads.of(NEIGHBOUR, 8).run(held, "anew") == "anew", "a result is kept for nobody else"


async def test_an_error_reaches_all_who_wait() -> None:
    threads, go = Threads(ThreadLimits(threads=1)), threading.Event()

    def fail() -> None:
        assert go.wait(60)
        raise OSError("the disk")

    calls = [threads.of(client, "same").submit(fail) for client in (STRANGER, NEIGHBOUR, NEIGHBOUR)]
    go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(one) for one in outcomes] == ["the disk"] * 3


async def test_who_leaves_takes_nothing_from_those_who_stay(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1))
    first = threads.of(STRANGER).submit(held, "first")
    leaving = threads.of(STRANGER, "same").submit(held, "same")
    staying = threads.of(NEIGHBOUR, "same").submit(held, "same")
    gone = threads.of(STRANGER, "gone").submit(held, "gone")
    leaving.cancel()
    gone.cancel()
    held.may_end.release(2)
    assert [await first, await staying] == ["first", "same"]
    assert held.begun == ["first", "same"], "what nobody waits for isn't begun"
    held.may_end.release()
    assert await threads.of(STRANGER, "gone").run(held, "again") == "again"


async def test_the_place_of_a_call_that_was_left_is_free_once_its_thread_is(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1))
    left = threads.of(STRANGER).submit(held, "left")
    await until(lambda: held.begun)
    left.cancel()
    next_one = threads.of(NEIGHBOUR).submit(held, "next")
    await asyncio.sleep(0)
    assert held.begun == ["left"]
    held.may_end.release(2)
    assert await next_one == "next"


async def test_the_newest_of_the_client_that_has_most_is_refused_where_too_many_wait(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1, waiting=3))
    first = threads.of(STRANGER).submit(held, "first")
    queue = [threads.of(STRANGER).submit(held, f"stranger {number}") for number in range(3)]
    with pytest.raises(CrowdedError):
        await threads.of(STRANGER).run(held, "one too many")
    other = threads.of(NEIGHBOUR).submit(held, "neighbour")
    with pytest.raises(CrowdedError):
        await queue[2]
    held.may_end.release(4)
    assert await asyncio.gather(first, *queue[:2], other) == [
        "first",
        "stranger 0",
        "stranger 1",
        "neighbour",
    ]


async def test_a_wait_for_a_thread_has_an_end_but_for_the_servers_own_calls(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1, wait_seconds=0.01))
    first = threads.of(STRANGER).submit(held, "first")
    own = threads.submit(held, "own")
    with pytest.raises(TimeoutError, match="waits for others"):
        await threads.of(NEIGHBOUR).run(held, "late")
    held.may_end.release(2)
    assert [await first, await own] == ["first", "own"], "what has a thread has no end"
    assert held.begun == ["first", "own"]


def lacking(maker: Threads, make: Callable[[], str]) -> str:
    """Need what another pool of threads makes."""
    assert may_be_repeated()
    return awaited("key", lambda client: maker.of(client, "key").submit(make))


async def test_what_a_call_lacks_is_waited_for_without_a_thread_and_made_once(held: Held) -> None:
    threads, maker = Threads(ThreadLimits(threads=1)), Threads(ThreadLimits(threads=1), "maker")
    calls = [
        threads.of(f"192.0.2.{number}").submit(lacking, maker, partial(held, "made")) for number in range(30)
    ]
    await until(lambda: held.begun)
    assert await threads.of(NEIGHBOUR).run(lambda: "at once") == "at once"
    held.may_end.release()
    assert await asyncio.gather(*calls) == ["made"] * 30
    assert held.begun == ["made"]
    assert not may_be_repeated()


async def test_all_waits_of_a_call_together_have_one_end(held: Held) -> None:
    threads = Threads(ThreadLimits(threads=1, wait_seconds=0.05))
    tries: list[int] = []

    def never_enough() -> None:
        tries.append(len(tries))
        raise LackingError(len(tries), lambda _: _slept(0.02))

    with pytest.raises(TimeoutError):
        await threads.of(STRANGER).run(never_enough)
    assert 1 <= len(tries) <= 4


def _slept(seconds: float) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    slept: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, lambda: None if slept.done() else slept.set_result(None))
    return slept


async def test_an_error_of_what_is_lacking_is_the_calls() -> None:
    threads, maker = Threads(ThreadLimits(threads=1)), Threads(ThreadLimits(threads=1), "maker")

    def fail() -> str:
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        await threads.of(STRANGER).run(lacking, maker, fail)


class Opened:
    """Something that is open until it is closed."""

    def __init__(self, go: threading.Event) -> None:
        assert go.wait(60)
        self.is_closed = threading.Event()

    def close(self) -> None:
        self.is_closed.set()


async def test_what_is_opened_for_nobody_is_closed() -> None:
    threads, go, made = Threads(ThreadLimits(threads=1)), threading.Event(), list[Opened]()

    def open_it() -> Opened:
        made.append(Opened(go))
        return made[-1]

    opening = asyncio.ensure_future(threads.of(STRANGER).opened(open_it))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    go.set()
    await until(lambda: made and made[0].is_closed.is_set())


async def test_a_forked_process_has_threads_of_its_own() -> None:
    threads = Threads(ThreadLimits(threads=1))
    assert await threads.run(lambda: "here") == "here"

    def fork() -> int:
        if (child := os.fork()) != 0:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = 1
        try:
            code = asyncio.new_event_loop().run_until_complete(asyncio.wait_for(threads.run(lambda: 0), 60))
        finally:
            os._exit(code)

    assert await asyncio.to_thread(fork) == 0


def test_the_event_loop_waits_for_a_computing_thread_for_less_than_a_millisecond() -> None:
    sys.setswitchinterval(0.005)
    Threads(ThreadLimits(threads=1))
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    assert SWITCH_SECONDS < 0.001
