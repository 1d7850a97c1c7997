"""While S3 is silent, who waits for it has no thread, and others go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import pytest

from media.hls.date_range import read_date_range
from packager.dvr.date_ranges.date_range_objects import DateRangeObjects
from packager.library.local_storage import NotFoundError
from packager.recordings.bucket_recordings import BucketRecording
from packager.threads import ThreadLimits, Threads

if TYPE_CHECKING:
    from packager.s3.client import S3Client

TAG = read_date_range('#EXT-X-DATERANGE:ID="a",START-DATE="2026-11-30T12:00:00.000Z",DURATION=10.000')


class SilentS3:
    """An S3 whose answers come once they may.

    Attributes:
        asked: set with the first request.
        requests: how many there were.
    """

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self.requests = 0

    def _wait(self) -> None:
        self.requests += 1
        self.asked.set()
        assert self.answers.wait(60)

    def objects(self, _folder: str) -> Iterator[list[object]]:
        self._wait()
        yield []

    def describe(self, _key: str) -> None:
        self._wait()
        raise NotFoundError

    def put(self, *_: object) -> None:
        pass


@pytest.fixture
def silent() -> Iterator[SilentS3]:
    s3 = SilentS3()
    yield s3
    s3.answers.set()


async def others_go_on(s3: SilentS3, *waiting: Callable[[], object]) -> None:
    """Have several clients wait for S3; nevertheless another client's call has a thread."""
    threads = Threads(ThreadLimits(threads=2, client_threads=1))
    calls = [threads.of(f"192.0.2.{number}").submit(call) for number, call in enumerate(waiting)]
    while not s3.asked.is_set():
        await asyncio.sleep(0)
    assert await threads.of("198.51.100.1").run(lambda: "done") == "done"
    s3.answers.set()
    await asyncio.gather(*calls)


async def test_readers_of_date_ranges_need_no_thread_while_others_ask_s3(
    silent: SilentS3,
) -> None:
    ranges = DateRangeObjects.in_bucket(cast("S3Client", silent), "live/demo/dvr")
    begin, end = Fraction(1_796_000_000), Fraction(1_797_000_000)
    readers = [lambda: ranges.within(begin, end) for _ in range(3)]
    await others_go_on(silent, lambda: ranges.add([TAG], begin), *readers)
    assert silent.requests == 1
    assert len(ranges.within(begin, end).lines_within(begin, end)) == 1


async def test_readers_of_a_recording_need_no_thread_while_another_one_asks_for_its_head(
    silent: SilentS3,
) -> None:
    class Bucket:
        client, address, threads = silent, "s3://bucket", Threads(ThreadLimits(threads=1))

    class Metadata:
        size = start = duration = end = 0

    recording = BucketRecording(cast("object", Metadata()), "folder", cast("object", Bucket()), "none", None)  # type: ignore[arg-type]
    await others_go_on(silent, *[recording.look_for_head] * 4)
    assert silent.requests == 1
    assert recording.obstacle == "none"
