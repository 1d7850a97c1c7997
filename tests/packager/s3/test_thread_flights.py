"""Work of threads that is done once for all that ask for it before it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from packager.s3.thread_flights import ThreadFlights
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

THREADS = 64


class Work:
    """Work that is done when the test says so, how often it was begun, and by how many at a time."""

    def __init__(self) -> None:
        self.times = self.running = self.most = 0
        self.done = threading.Event()
        self.error: Exception | None = None
        self.flights = ThreadFlights[str, str](120.0)

    def __call__(self) -> str:
        self.times += 1
        self.running += 1
        self.most = max(self.most, self.running)
        assert self.done.wait(120)
        self.running -= 1
        if self.error is not None:
            raise self.error
        return "result"


def all_at_once(ask: Callable[[], object]) -> list[Future[object]]:
    """Ask in many threads, and return when all have begun."""
    begun = threading.Barrier(THREADS + 1)

    def asked() -> object:
        begun.wait(120)
        return ask()

    pool = ThreadPoolExecutor(THREADS)
    futures = [pool.submit(asked) for _ in range(THREADS)]
    begun.wait(120)
    pool.shutdown(wait=False)
    return futures


def test_all_threads_that_ask_before_it_is_done_get_one_result() -> None:
    work = Work()
    futures = all_at_once(lambda: work.flights.do("key", work))
    wait_for(lambda: work.times, "the work to begin")
    work.done.set()
    assert {future.result(120) for future in futures} == {"result"}
    assert work.most == 1
    times = work.times
    work.flights.do("key", work)
    assert work.times == times + 1, "who asks later has it done again"


def test_an_error_is_everybodys_and_is_not_kept() -> None:
    work = Work()
    work.error = FileNotFoundError("gone")
    futures = all_at_once(lambda: work.flights.do("key", work))
    wait_for(lambda: work.times, "the work to begin")
    work.done.set()
    assert {str(future.exception(120)) for future in futures} == {"gone"}
    work.error = None
    assert work.flights.do("key", work) == "result"


def test_files_beside_a_film_in_a_bucket_are_listed_once_for_all_who_ask(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_server.store("flights")
    for name in ("film.mp4", "film.de.srt", "Subs/2_English.srt"):
        obstore.put(store, name, b"content")
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    library = S3Library(f"s3://{BUCKET}/flights", tmp_path, S3Limits())
    try:
        alone, many = library.folder_names(1000), library.folder_names(1000)
        assert (alone.subtitles("", "film"), len(alone.subtitles_below("", "film"))) == (["film.de.srt"], 1)
        by_one = len(s3_proxy.requests)
        futures = all_at_once(lambda: (many.subtitles("", "film"), len(many.subtitles_below("", "film"))))
        assert [future.result(120) for future in futures] == [(["film.de.srt"], 1)] * THREADS
        assert len(s3_proxy.requests) == 2 * by_one
    finally:
        library.close()
