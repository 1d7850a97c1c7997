"""Objects are read by range, in blocks that are fetched once and kept within bounds."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError
from packager.s3.client import AccessRefusedError, UnavailableError
from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from packager.threads import ThreadLimits, Threads
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from tests.packager import films
from tests.s3_server import BUCKET, S3Proxy, S3Server

BLOCK = 64 << 10
LIMITS = S3Limits(disk_bytes=64 * BLOCK, memory_bytes=4 * BLOCK, block_bytes=BLOCK)
NO_PAUSE = replace(LIMITS, known_seconds=0.0)
"""Every opening asks S3 anew."""


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"reader/{abs(hash(request.node.name)):x}"


class Opened:
    """Makes libraries behind the proxy, and closes them."""

    def __init__(self, proxy: S3Proxy, server: S3Server, prefix: str, folder: Path) -> None:
        self.proxy, self.server, self.prefix, self.folder = proxy, server, prefix, folder
        self.store = server.store(prefix)
        self.made: list[S3Library] = []

    def library(self, limits: S3Limits = LIMITS, bucket: str = BUCKET) -> S3Library:
        self.made.append(S3Library(f"s3://{bucket}/{self.prefix}", self.folder, limits))
        return self.made[-1]


@pytest.fixture
def opened(
    s3_proxy: S3Proxy, s3_server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    found = Opened(s3_proxy, s3_server, prefix, tmp_path / "cache")
    yield found
    for library in found.made:
        library.close()


async def test_a_hundred_who_miss_the_same_block_cause_one_request(opened: Opened) -> None:
    data = os.urandom(10 * BLOCK)
    await obstore.put_async(opened.store, "film.mp4", data)
    threads = Threads(ThreadLimits(threads=100))
    with await threads.run(opened.library().open, "film.mp4") as file:
        before = len(opened.proxy.requests)
        barrier = threading.Barrier(100)

        def read(begun: list[bool]) -> bytes:
            if not begun:
                begun.append(True)
                barrier.wait(60)
            return file.pread(5 * BLOCK + 10, 100)

        found = {*await asyncio.gather(*(threads.submit(read, []) for _ in range(100)))}
    assert found == {data[5 * BLOCK + 10 :][:100]}
    assert len(opened.proxy.requests) - before == 1


def test_ranges_are_those_of_the_object(opened: Opened) -> None:
    data = os.urandom(5 * BLOCK + 100)
    obstore.put(opened.store, "film.mp4", data)
    with opened.library().open("film.mp4") as file:
        assert file.size == len(data)
        for offset, length in (
            (0, 1),
            (BLOCK - 1, 2),
            (10, 3 * BLOCK),
            (0, 10**9),
            (len(data), 5),
            (10**9, 5),
        ):
            assert file.pread(offset, length) == data[offset : offset + length]
            assert file.pread(offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("film", ["bframes.mp4", "moovlast.mp4"])
def test_an_index_takes_two_or_three_requests_and_never_the_whole_object(opened: Opened, film: str) -> None:
    data = films.film(film).read_bytes()
    # Of a film of usual length, media lie between its beginning and the moov, or behind it.
    where = data.index(b"mdat") - 4
    size = int.from_bytes(data[where : where + 4], "big")
    free = (8 * BLOCK + 4).to_bytes(4, "big") + b"free" + bytes(8 * BLOCK - 4)
    obstore.put(opened.store, film, data[: where + size] + free + data[where + size :])
    library = opened.library()
    titles = Titles(library, TitleLimits())
    titles.segments.track(film, "video")
    asked = opened.proxy.asked("GET", film)
    assert 1 <= len(asked) <= 3
    assert len(opened.proxy.requests) <= 3


def test_what_is_cached_stays_within_its_limit_and_the_oldest_goes(opened: Opened) -> None:
    data = os.urandom(40 * BLOCK)
    obstore.put(opened.store, "film.mp4", data)
    library = opened.library(replace(LIMITS, disk_bytes=10 * BLOCK))
    with library.open("film.mp4") as file:
        for number in range(40):
            assert file.pread(number * BLOCK, BLOCK) == data[number * BLOCK :][:BLOCK]
            assert library.cache.disk_blocks <= 10
        before = library.counters.requests
        file.pread(39 * BLOCK, 10)
        assert library.counters.requests == before
        assert file.pread(BLOCK, 10) == data[BLOCK:][:10]
        assert library.counters.requests == before + 1
    # The file has no name: whoever looks into the folder finds none, and after a crash nothing is left.
    assert [*opened.folder.iterdir()] == []
    assert opened.folder.stat().st_mode & 0o777 == 0o700


def test_readers_and_writers_of_a_small_cache_get_only_their_own_bytes(opened: Opened) -> None:
    data = b"".join(bytes([number]) * BLOCK for number in range(30))
    obstore.put(opened.store, "film.mp4", data)
    library = opened.library(replace(LIMITS, disk_bytes=3 * BLOCK))
    with library.open("film.mp4") as file, ThreadPoolExecutor(8) as threads:

        def read(seed: int) -> bool:
            return all(
                file.pread(number * BLOCK, BLOCK) == bytes([number]) * BLOCK
                for number in ((seed * 7 + step * 11) % 30 for step in range(40))
            )

        assert all(one.result() for one in [threads.submit(read, seed) for seed in range(8)])


def test_a_disk_that_takes_nothing_leaves_what_is_fetched_in_memory(opened: Opened, tmp_path: Path) -> None:
    data = os.urandom(20 * BLOCK)
    obstore.put(opened.store, "film.mp4", data)
    (tmp_path / "file").write_bytes(b"")
    opened.folder = tmp_path / "file"
    library = opened.library()
    with library.open("film.mp4") as file:
        assert file.pread(0, 10**9) == data
        assert library.cache.disk_blocks == 0
        assert 0 < library.cache.memory_bytes <= LIMITS.memory_bytes
        before = library.counters.requests
        file.pread(19 * BLOCK, 10)
        assert library.counters.requests == before


def test_a_replaced_object_is_never_mixed_with_the_former_one(opened: Opened) -> None:
    old, new = b"o" * 6 * BLOCK, b"n" * 6 * BLOCK
    obstore.put(opened.store, "film.mp4", old)
    library = opened.library()
    file = library.open("film.mp4")
    assert file.pread(0, 10) == b"o" * 10
    obstore.put(opened.store, "film.mp4", new)
    assert file.pread(5, 10) == b"o" * 10  # fetched before
    with pytest.raises(FileChangedError):
        file.pread(3 * BLOCK, 10)
    again = library.open("film.mp4")
    assert (again.validator(0) != file.validator(0), again.identity != file.identity) == (True, True)
    assert again.pread(0, 10**9) == new
    obstore.delete(opened.store, "film.mp4")
    with pytest.raises(FileChangedError):
        file.pread(4 * BLOCK, 10)
    with pytest.raises(NotFoundError):
        library.open("film.mp4")


def test_without_s3_what_is_cached_goes_on_and_the_rest_fails_at_once(opened: Opened) -> None:
    data = os.urandom(8 * BLOCK)
    obstore.put(opened.store, "film.mp4", data)
    limits = replace(NO_PAUSE, retries=0, silent_seconds=0.5)
    library = opened.library(limits)
    with library.open("film.mp4") as file:
        file.pread(0, BLOCK)
    with opened.proxy.refusing():
        before = opened.proxy.connections
        for _ in range(50):
            with library.open("film.mp4") as file:  # known, and its block is cached
                assert file.pread(10, 100) == data[10:110]
            with pytest.raises(UnavailableError):
                file.pread(6 * BLOCK, 10)
            with pytest.raises(UnavailableError):
                library.open("other.mp4")
        assert library.trouble
        # No storm: after three failures one connection at a time is tried, after a pause each.
        assert opened.proxy.connections - before < 20
    for _ in range(600):
        try:
            with library.open("film.mp4") as file:
                assert file.pread(6 * BLOCK, 10) == data[6 * BLOCK :][:10]
            break
        except UnavailableError:
            threading.Event().wait(0.05)
    else:
        pytest.fail("it isn't reached again")
    assert not library.trouble


def test_a_silent_s3_costs_its_time_out_and_not_more(opened: Opened) -> None:
    obstore.put(opened.store, "film.mp4", b"x" * 4 * BLOCK)
    limits = replace(NO_PAUSE, retries=0, silent_seconds=0.3, failures=1)
    library = opened.library(limits)
    with library.open("film.mp4") as file:
        with opened.server.stopped(), pytest.raises(UnavailableError):
            file.pread(2 * BLOCK, 10)
        assert library.trouble == "S3 doesn't answer"


def test_a_missing_bucket_and_wrong_credentials_are_said_without_them(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AccessRefusedError, match="S3 refuses bucket nowhere: NoSuchBucket"):
        opened.library(bucket="nowhere").check()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    library = opened.library()
    with pytest.raises(AccessRefusedError) as refused:
        library.check()
    assert "SignatureDoesNotMatch" in str(refused.value)
    assert "wrong-secret" not in repr(refused.value)
    assert library.trouble == str(refused.value)
    with pytest.raises(AccessRefusedError):
        library.open("film.mp4")


def test_what_no_key_can_be_isnt_there_and_isnt_asked_for(opened: Opened) -> None:
    library = opened.library()
    before = len(opened.proxy.requests)
    for name in (
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/./b",
        "a\x01",
        "a\nb",
        "x" * 1025,
        ".hidden",
        "a\\b",
        "\udcff",
    ):
        with pytest.raises(NotFoundError):
            library.open(name)
    assert len(opened.proxy.requests) == before
