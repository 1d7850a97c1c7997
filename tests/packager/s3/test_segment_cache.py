"""Encoded segments in a real S3 bucket: shared by servers, verified, bounded, and never needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.encode.renditions import EncodedRendition
from packager.encode.segment_encoder import EncodeSegment, encode_segment
from packager.library.file_listing import CatalogueLimits
from packager.library.storage_interface import SETTLED_AFTER
from packager.process.ffmpeg_discovery import Tools
from packager.retry_policy import RetryPolicy
from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from packager.s3.segment_cache import BucketSegmentCache
from packager.vod.movie.movie_reader import Read
from tests.packager import films
from tests.packager.encode.encoded_library import encoding, library
from tests.s3_server import BUCKET, READER, S3Proxy, S3Server
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

FILM = "bframes.mp4"
LIMITS = S3Limits(
    retries=0,
    silent_seconds=1.0,
    encoded_pauses=RetryPolicy(0.05, 0.1),
    find_seconds=60.0,
    waiting_segment_bytes=1 << 20,
)
CACHE = S3Limits(memory_bytes=1 << 20)


class Bucket:
    """The library of one test in S3."""

    def __init__(self, server: S3Server, prefix: str) -> None:
        self.address = f"s3://{BUCKET}/{prefix}"
        self.store = server.store(prefix)

    def segments(self) -> dict[str, bytes]:
        """Give the objects below ``.encoded/`` by name."""
        found = {}
        for one in self.store.list(".encoded").collect():
            with contextlib.suppress(FileNotFoundError):  # the segment has just been removed
                data = obstore.get(self.store, one["path"]).bytes()
                found[one["path"].rpartition("/")[2]] = bytes(data)
        return found

    def put(self, name: str, data: bytes) -> None:
        obstore.put(self.store, f".encoded/{name}", data)

    async def has(self, condition: Callable[[dict[str, bytes]], bool], what: str) -> dict[str, bytes]:
        """Wait until the segments fulfil a condition."""
        async with asyncio.timeout(120):
            while not condition(found := await asyncio.to_thread(self.segments)):
                await asyncio.sleep(0.05)
        return found


class CountingEncoder:
    """Encodes nothing, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    async def encode(
        self, _tools: Tools, rendition: EncodedRendition, number: int, _bounds: object, _read: Read
    ) -> bytes:
        self.count += 1
        return f"segment {number} of {rendition.track.name}".encode()


PLACES = {letter: (letter * 32, 7) for letter in "abcdef"}


async def stored_at_last(cache: BucketSegmentCache, bucket: Bucket, letter: str) -> None:
    """Ask for a segment to be stored until it is."""

    def is_stored(there: dict[str, bytes]) -> bool:
        if (found := any(name.startswith(letter) for name in there)) is False:
            cache.keep(PLACES[letter], bytes(3000))
        return found

    await bucket.has(is_stored, f"segment {letter}")


def old_library(tmp_path: Path) -> Path:
    """Make a library of a film that isn't new."""
    folder = library(tmp_path, FILM)
    os.utime(folder / FILM, (10**9, 10**9))
    return folder


async def forbidden(*_: object) -> bytes:
    raise AssertionError("an encoder was started")


@pytest.fixture
def bucket(
    s3_server: S3Server, s3_proxy: S3Proxy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server, f"encoded/{request.node.name}")


async def test_a_second_server_serves_what_the_first_one_encoded(
    bucket: Bucket, s3_proxy: S3Proxy, tools: Tools, tmp_path: Path
) -> None:
    data = await asyncio.to_thread(films.film(FILM).read_bytes)
    await asyncio.to_thread(obstore.put, bucket.store, FILM, data)
    changed = time.time()
    await until(lambda: time.time() > changed + 2 * SETTLED_AFTER, "a film that isn't new")
    found, encoders = list[bytes](), (encode_segment, forbidden)
    for number in range(2):
        encode: EncodeSegment = encoders[number]
        storage = await asyncio.to_thread(S3Library, bucket.address, tmp_path / f"cache{number}", CACHE)
        shared = BucketSegmentCache(bucket.address, LIMITS)
        folder = tmp_path / f"data{number}"
        async with encoding(storage, tools, folder, encode=encode, shared=shared) as media:
            init, _ = await media.init(FILM, "video-180p")
            segment, _ = await media.segment(FILM, "video-180p", 1)
            found.append(init + segment)
            await bucket.has(lambda there: len(there) == 3, "init segment, segment and the next one")
        await asyncio.to_thread(storage.close)
    assert found[0] == found[1]
    assert found[0].count(b"moof") == 1
    assert len(s3_proxy.asked("PUT", "/.encoded/")) == 3


async def test_a_damaged_object_is_encoded_anew_and_replaced(
    bucket: Bucket, tools: Tools, tmp_path: Path
) -> None:
    async def segment(number: int) -> tuple[bytes, int]:
        encoder, shared = CountingEncoder(), BucketSegmentCache(bucket.address, LIMITS)
        async with encoding(films_folder, tools, encode=encoder.encode, shared=shared) as media:
            # The last segment, behind which nothing is read ahead.
            data, _ = await media.segment(FILM, ("video-180p", "audio-aac")[number], 2)
            await bucket.has(
                lambda there: (
                    whole.items() <= there.items() and any(one.endswith(data) for one in there.values())
                ),
                "the objects",
            )
        return data, encoder.count

    films_folder, whole = old_library(tmp_path), dict[str, bytes]()
    first, second = await segment(0), await segment(1)
    assert (first[1], second[1]) == (1, 1)
    whole |= await bucket.has(lambda there: len(there) == 2, "two objects")
    name = next(name for name, stored in whole.items() if stored.endswith(first[0]))
    stored, other = whole[name], next(one for one in whole.values() if one != whole[name])
    assert await segment(0) == (first[0], 0)
    damages = {
        "cut": stored[:-1],
        "longer": stored + b"x",
        "changed": stored[:-1] + b"x",
        "empty": b"",
        "the segment alone": first[0],
        "another segment's": other,
        "large": stored.partition(b"\n")[0] + b"\n" + bytes(LIMITS.waiting_segment_bytes + 1000),
    }
    for damage, data in damages.items():
        await asyncio.to_thread(bucket.put, name, data)
        assert await segment(0) == (first[0], 1), damage


async def test_without_s3_segments_are_encoded_and_with_it_stored_again(
    bucket: Bucket, s3_proxy: S3Proxy, s3_server: S3Server, tools: Tools, tmp_path: Path
) -> None:
    encoder = CountingEncoder()
    limits = replace(LIMITS, find_seconds=0.5)
    shared = BucketSegmentCache(bucket.address, limits)
    async with encoding(old_library(tmp_path), tools, encode=encoder.encode, shared=shared) as media:
        with s3_server.stopped():
            await media.segment(FILM, "video-180p", 2)
            await until(lambda: len(s3_proxy.asked("GET", "/.encoded/")) == 1, "the request")
            await media.segment(FILM, "video-180p", 1)
            assert len(s3_proxy.asked("GET", "/.encoded/")) == 1, "a slow S3 is asked once"
        with s3_proxy.refusing():
            await media.segment(FILM, "audio-aac", 0)
            await until(lambda: encoder.count == 5 and not media.running, "the segments ahead")
        await stored_at_last(shared, bucket, "a")


async def test_a_bucket_that_can_only_be_read_is_read_and_its_refusal_logged_once(
    bucket: Bucket, s3_proxy: S3Proxy, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films_folder = old_library(tmp_path)
    writer = CountingEncoder()
    shared = BucketSegmentCache(bucket.address, LIMITS)
    async with encoding(films_folder, tools, encode=writer.encode, shared=shared) as media:
        await media.segment(FILM, "audio-aac", 2)
        stored = await bucket.has(bool, "the segment")
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    shared = BucketSegmentCache(bucket.address, replace(LIMITS, trim_seconds=0.05))
    reader = CountingEncoder()
    with capture_logs() as logs:
        async with encoding(films_folder, tools, encode=reader.encode, shared=shared) as media:
            await media.segment(FILM, "audio-aac", 2)
            assert reader.count == 0
            puts = len(s3_proxy.asked("PUT"))
            while len(s3_proxy.asked("PUT")) < puts + 3:
                shared.keep(PLACES["a"], b"segment")
                await asyncio.sleep(0.05)
    assert await asyncio.to_thread(bucket.segments) == stored
    events = [line["event"] for line in logs]
    assert events.count("encoded segments aren't stored in S3") == 1
    assert events.count("S3 refuses requests") == 1


async def test_the_oldest_segments_are_removed_and_nothing_else(bucket: Bucket) -> None:
    one, two, three = (f"{digit * 32}-1.segment" for digit in "123")
    foreign = {
        "film.mp4": b"film",
        one: bytes(5000),
        two: f"headwater encoded segment {one} 1 {'0' * 64}\n1".encode(),
        three: f"headwater encoded segment {three} 9 {'0' * 64}\n1".encode(),
        f"{'4' * 32}-123456.segment": b"",
    }
    for key, data in foreign.items():
        await asyncio.to_thread(bucket.put, key, data)
    cache = BucketSegmentCache(bucket.address, replace(LIMITS, trim_seconds=3600.0))
    async with background_task(cache.run()):
        for letter in "ab":
            await stored_at_last(cache, bucket, letter)
    second = int(time.time())
    await until(lambda: int(time.time()) > second + 1, "an age that S3 tells apart")
    cache = BucketSegmentCache(bucket.address, replace(LIMITS, trim_seconds=0.05, encoded_bytes=8000))
    async with background_task(cache.run()):
        for letter in "cd":
            await stored_at_last(cache, bucket, letter)
        there = await bucket.has(lambda there: not any(name[0] in "ab" for name in there), "the removal")
    assert foreign.items() <= there.items()
    assert sorted(name[0] for name in there if name not in foreign) == ["c", "d"]
    assert await cache.find(PLACES["c"]) == bytes(3000)


async def test_where_the_bound_cant_be_kept_nothing_more_is_stored(bucket: Bucket, s3_proxy: S3Proxy) -> None:
    cache = BucketSegmentCache(bucket.address, replace(LIMITS, trim_seconds=0.5))
    refused = "encoded segments aren't stored in S3"
    with capture_logs() as logs:
        async with background_task(cache.run()), asyncio.timeout(120):
            # Sooner or later S3 is away when the objects are to be listed.
            while not any(line["event"] == refused for line in logs):
                cache.keep(PLACES["a"], b"segment")
                await asyncio.sleep(0.2)
                with s3_proxy.refusing():
                    await asyncio.sleep(1.0)
                    if any(line["event"] == refused for line in logs):
                        cache.keep(PLACES["b"], b"segment")
            await stored_at_last(cache, bucket, "c")
    assert {name[0] for name in await asyncio.to_thread(bucket.segments)} == {"a", "c"}


async def test_no_more_segments_wait_than_allowed_and_old_ones_are_stored_again(
    bucket: Bucket, s3_proxy: S3Proxy
) -> None:
    cache = BucketSegmentCache(
        bucket.address, replace(LIMITS, waiting_segments=3, waiting_segment_bytes=1000, stale_seconds=-60.0)
    )
    for letter, length in {"a": 500, "b": 501, "c": 499, "d": 1, "e": 0}.items():
        cache.keep(PLACES[letter], bytes(length))
    async with background_task(cache.run()):
        there = await bucket.has(lambda there: len(there) == 3, "what fits")
        assert {name[0] for name in there} == {"a", "c", "d"}
        assert await cache.find(PLACES["a"]) == bytes(500)
        await until(lambda: len(s3_proxy.asked("PUT", f"/{'a' * 32}-7")) == 2, "the segment's new age")


async def test_a_bucket_that_is_gone_is_tried_and_nothing_breaks(bucket: Bucket, s3_proxy: S3Proxy) -> None:
    cache = BucketSegmentCache("s3://gone/library", replace(LIMITS, trim_seconds=0.05))
    async with background_task(cache.run()), asyncio.timeout(120):
        assert await cache.find(PLACES["a"]) is None
        while len(s3_proxy.asked("PUT", "/gone/library/.encoded/")) < 3:
            cache.keep(PLACES["a"], b"segment")
            await asyncio.sleep(0.05)
    assert await asyncio.to_thread(bucket.segments) == {}


def test_encoded_segments_are_no_files_and_dont_count_as_such(bucket: Bucket, tmp_path: Path) -> None:
    names = ["!first.mp4", "film.mp4", "folder/other.mp4"]
    for name in names:
        obstore.put(bucket.store, name, b"film")
    for number in range(20):
        bucket.put(f"{number:032x}-0.mp4", b"segment")
    library = S3Library(bucket.address, tmp_path, CACHE)
    found = library.walk(frozenset({".mp4"}), CatalogueLimits(most_names=5), lambda: False)
    library.close()
    assert [one.path for one in found.files] == names
