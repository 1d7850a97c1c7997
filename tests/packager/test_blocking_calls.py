"""What calls in threads do about each other: work that is done once for all, and work that several share."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import obstore
import pytest

from packager.blocking_calls import ThreadFlights, in_background, in_parallel, without_waits
from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from packager.threads import ThreadLimits, Threads
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import until

CALLS = 64
STRANGER, NEIGHBOUR = "192.0.2.1", "192.0.2.2"


class Work:
    """Work that is done when the test says so, how often it was begun, and by how many at a time."""

    def __init__(self) -> None:
        self.times = self.running = self.most = 0
        self.done = threading.Event()
        self.error: Exception | None = None
        self.flights = ThreadFlights[str, str]()

    def __call__(self) -> str:
        self.times += 1
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.done.wait(120)
        self.running -= 1
        if self.error is not None:
            raise self.error
        return "result"


async def test_all_calls_that_ask_before_it_is_done_get_one_result_and_one_has_a_thread() -> None:
    work, threads = Work(), Threads(ThreadLimits(threads=2))
    calls = [threads.submit(work.flights.do, "key", work) for _ in range(CALLS)]
    await until(lambda: work.times)
    assert await threads.run(lambda: "at once") == "at once"
    work.done.set()
    assert {*await asyncio.gather(*calls)} == {"result"}
    assert (work.times, len(work.flights)) == (1, 0)
    assert await threads.run(work.flights.do, "key", work) == "result"
    assert work.times == 2, "who asks later has it done again"


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    work, threads = Work(), Threads(ThreadLimits(threads=2))
    work.error = FileNotFoundError("gone")
    calls = [threads.submit(work.flights.do, "key", work) for _ in range(CALLS)]
    await until(lambda: work.times)
    await threads.run(int)  # for which all others have left their threads
    work.done.set()
    assert {str(error) for error in await asyncio.gather(*calls, return_exceptions=True)} == {"gone"}
    work.error = None
    assert await threads.run(work.flights.do, "key", work) == "result"


async def test_a_call_does_its_own_work_once_however_often_it_is_made_again() -> None:
    work, threads, own = Work(), Threads(ThreadLimits(threads=2)), ThreadFlights[str, str]()
    done: list[str] = []

    def own_work() -> str:
        done.append("own")
        return "own"

    def both() -> tuple[str, str]:
        return own.do("own", own_work), work.flights.do("key", work)

    first = threads.submit(work.flights.do, "key", work)
    await until(lambda: work.times)
    other = threads.submit(both)
    await until(lambda: done)
    work.done.set()
    assert (await first, await other) == ("result", ("own", "result"))
    assert done == ["own"]


async def test_what_several_calls_lack_in_part_is_done_by_each_part_once() -> None:
    flights, threads, may_end = ThreadFlights[int, int](), Threads(ThreadLimits(threads=3)), threading.Event()
    done: list[int] = []

    def work(keys: Sequence[int]) -> Iterator[tuple[int, int]]:
        for key in keys:
            done.append(key)
            assert may_end.wait(60)
            yield key, 10 * key

    first = threads.submit(lambda: dict(flights.do_all([1, 2, 3], work)))
    await until(lambda: done)
    second = threads.submit(lambda: dict(flights.do_all([2, 3, 4, 5], work)))
    await until(lambda: 4 in done)
    may_end.set()
    assert await first == {1: 10, 2: 20, 3: 30}
    assert await second == {2: 20, 3: 30, 4: 40, 5: 50}
    assert sorted(done)[-2:] == [4, 5]
    assert done.count(1) == done.count(4) == done.count(5) == 1


async def test_a_call_without_waits_does_what_another_one_does() -> None:
    work, threads = Work(), Threads(ThreadLimits(threads=2))
    first = threads.submit(work.flights.do, "key", work)
    await until(lambda: work.times)
    alone = threads.submit(without_waits(work.flights.do), "key", lambda: "mine")
    assert await alone == "mine"
    work.done.set()
    assert await first == "result"


class Items:
    """Notes by how many threads a function is called at a time, and ends once it may."""

    def __init__(self) -> None:
        self.may_end = threading.Semaphore(0)
        self.begun: list[int] = []
        self.of_threads = Counter[int]()

    def __call__(self, item: int) -> int:
        self.begun.append(item)
        self.of_threads[threading.get_ident()] += 1
        assert self.may_end.acquire(timeout=60)
        return 10 * item

    def all(self, count: int, at_once: int) -> list[int]:
        return [*in_parallel(self, range(count), at_once)]


async def test_threads_that_are_free_help_a_call_and_its_results_are_in_order() -> None:
    items, threads = Items(), Threads(ThreadLimits(threads=4))
    shared = threads.submit(items.all, 20, 3)
    await until(lambda: len(items.begun) == 3)
    assert await threads.run(lambda: "at once") == "at once", "so many and no more help"
    items.may_end.release(20)
    assert await shared == [10 * number for number in range(20)]
    assert sorted(items.begun) == [*range(20)]


async def test_a_call_that_nobody_helps_does_all_by_itself() -> None:
    items, threads = Items(), Threads(ThreadLimits(threads=1))
    items.may_end.release(20)
    assert await threads.run(items.all, 20, 8) == [10 * number for number in range(20)]
    assert items.begun == [*range(20)]
    items.may_end.release(20)
    assert items.all(20, 8) == [10 * number for number in range(20)], "nor does a thread outside of the door"


async def test_another_client_has_a_thread_after_each_item_that_a_call_shares() -> None:
    items, threads = Items(), Threads(ThreadLimits(threads=2))
    shared = threads.of(STRANGER).submit(items.all, 20, 8)
    await until(lambda: len(items.begun) == 2)
    neighbour = threads.of(NEIGHBOUR).submit(lambda: items.of_threads[threading.get_ident()])

    def one_ends() -> bool:
        items.may_end.release()
        return neighbour.done()

    await until(one_ends)
    assert await neighbour == 1
    items.may_end.release(20)
    assert len(await shared) == 20


async def test_the_first_error_of_shared_work_is_the_calls_and_the_rest_is_left() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        done.append(item)
        if item == 3:
            raise OSError("the disk")
        return item

    with pytest.raises(OSError, match="the disk"):
        await Threads(ThreadLimits(threads=4)).run(lambda: [*in_parallel(work, range(1000), 4)])
    assert max(done) <= 3 + 4


async def test_what_is_begun_in_the_background_is_done_by_another_thread() -> None:
    done, threads = threading.Event(), Threads(ThreadLimits(threads=2))

    def call() -> bool:
        in_background(done.set)
        return done.wait(60)

    assert await threads.run(call)


def beside(library: S3Library) -> Callable[[], tuple[list[str], int]]:
    names = library.folder_names(1000)
    return lambda: (names.subtitles("", "film"), len(names.subtitles_below("", "film")))


async def test_files_beside_a_film_in_a_bucket_are_listed_once_for_all_who_ask(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_server.store("flights")
    for name in ("film.mp4", "film.de.srt", "Subs/2_English.srt"):
        await obstore.put_async(store, name, b"content")
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    library = S3Library(f"s3://{BUCKET}/flights", tmp_path, S3Limits())
    threads = Threads(ThreadLimits(threads=CALLS))
    try:
        assert await threads.run(beside(library)) == (["film.de.srt"], 1)
        by_one = len(s3_proxy.requests)
        calls = [threads.submit(many) for many in [beside(library)] * CALLS]
        assert await asyncio.gather(*calls) == [(["film.de.srt"], 1)] * CALLS
        assert len(s3_proxy.requests) == 2 * by_one
    finally:
        library.close()
