"""A single-flight cache: what several want at once is made once, and what is kept stays within its limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.threads import ThreadLimits, Threads
from tests.waiting import until

WAIT_SECONDS = 60.0


class Maker:
    """Counts what it makes, and is done with it when it may be."""

    def __init__(self, make: Callable[[], bytes] = lambda: b"made") -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self.calls = 0
        self._make = make

    def __call__(self) -> bytes:
        self.calls += 1
        self.began.set()
        assert self.may_end.wait(WAIT_SECONDS)
        return self._make()


def kept(cache: SingleFlightCache[str, bytes], *keys: str) -> list[str]:
    """Say which of some things needn't be made, and ask for no other."""
    found = []
    for key in keys:
        made: list[str] = []

        def make(made: list[str] = made) -> bytes:
            made.append("made")
            raise LookupError

        try:
            cache.get(key, make)
        except LookupError:
            assert made
        else:
            found.append(key)
    return found


async def test_what_several_calls_want_is_made_by_one_of_them_and_the_others_leave_their_threads() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=10))
    threads, maker = Threads(ThreadLimits(threads=2)), Maker()
    first = threads.submit(cache.get, "a", maker)
    await until(maker.began.is_set)
    others = [threads.submit(cache.get, "a", maker) for _ in range(7)]
    # Something else has a thread.
    assert await threads.run(cache.get, "b", lambda: b"other") == b"other"
    assert cache.being_made == 1
    maker.may_end.set()
    assert set(await asyncio.gather(first, *others)) == {b"made"}
    assert maker.calls == 1
    assert cache.being_made == 0


async def test_a_failure_reaches_those_who_wait_and_the_next_one_tries_again() -> None:
    def fail() -> bytes:
        raise OSError("the disk")

    cache = SingleFlightCache[str, bytes](CacheLimits(items=10))
    threads, maker = Threads(ThreadLimits(threads=2)), Maker(fail)
    first = threads.submit(cache.get, "a", maker)
    await until(maker.began.is_set)
    other = threads.submit(cache.get, "a", maker)
    await threads.run(bytes)  # for which the other one has left its thread
    maker.may_end.set()
    outcomes = await asyncio.gather(first, other, return_exceptions=True)
    assert [str(one) for one in outcomes] == ["the disk"] * 2
    assert maker.calls == 1
    assert await threads.run(cache.get, "a", lambda: b"made") == b"made"


async def test_no_client_waits_for_longer_than_the_limit() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=10))
    threads, maker = Threads(ThreadLimits(threads=2, wait_seconds=0.01)), Maker()
    first = threads.submit(cache.get, "a", maker)
    await until(maker.began.is_set)
    with pytest.raises(TimeoutError):
        await threads.of("192.0.2.1").run(cache.get, "a", maker)
    maker.may_end.set()
    assert await first == b"made"


def test_a_call_outside_of_those_threads_waits_for_none_and_makes_the_value_itself() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=10))
    maker = Maker()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(cache.get, "a", maker)
        assert maker.began.wait(WAIT_SECONDS)
        assert cache.get("a", lambda: b"mine") == b"mine"
        maker.may_end.set()
        assert first.result(WAIT_SECONDS) == b"made"
    assert len(cache) == 1


def test_what_was_not_asked_for_for_longest_goes_first() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=3))
    for key in "abc":
        cache.get(key, bytes)
    assert kept(cache, "a") == ["a"]
    cache.get("d", bytes)
    assert kept(cache, *"abcd") == ["a", "c", "d"]
    assert len(cache) == 3


def test_bytes_are_bounded_and_what_is_too_large_by_itself_is_given_but_not_kept() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=100, nbytes=10, item_bytes=6), size=len)
    for key in "abc":
        cache.get(key, lambda: bytes(4))
    assert kept(cache, *"abc") == ["b", "c"]
    assert cache.nbytes == 8
    assert cache.get("large", lambda: bytes(7)) == bytes(7)
    assert kept(cache, *"bc", "large") == ["b", "c"]
    assert cache.nbytes == 8


def test_without_a_limit_of_its_own_size_the_newest_is_kept_whatever_it_takes() -> None:
    cache = SingleFlightCache[str, bytes](CacheLimits(items=100, nbytes=10), size=len)
    cache.get("a", lambda: bytes(4))
    cache.get("large", lambda: bytes(70))
    assert kept(cache, "a", "large") == ["large"]
    cache.get("b", lambda: bytes(4))
    assert kept(cache, "large", "b") == ["b"]
    assert cache.nbytes == 4
