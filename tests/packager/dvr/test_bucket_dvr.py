"""A DVR in S3: what stays listed and fetchable behind the live edge, over restarts, and while S3 is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from packager.dvr.bucket.dvr_bucket import DvrBucket
from packager.dvr.bucket.past_pieces import PastPieces
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.s3.client import AccessRefusedError, S3Client
from packager.s3.limits import S3Limits
from packager.window.segments import MEMORY_TARGET_DURATIONS
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import PARTS, Station, on_air
from tests.patience import DVR
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import until

LIMITS = replace(
    DVR,
    retry_seconds=0.1,
    bucket_look_seconds=0.01,
    piece_lines=8,
    removal_retry_seconds=0.1,
    new_piece_seconds=0.0,
    old_piece_seconds=0.0,
    removal_seconds=0.1,
)
S3 = S3Limits(retries=0)


class Place:
    """A place in a bucket for the DVR of one channel, which several processes may use one after the other."""

    def __init__(self, store: S3Store, address: str, folder: Path, arguments: tuple[Any, ...]) -> None:
        self.store = store
        self.address = address
        self._folder = folder
        self._arguments = arguments
        self.opened: list[DvrBucket] = []

    def bucket(self) -> DvrBucket:
        self.opened.append(DvrBucket(self.address, self._folder, S3))
        return self.opened[-1]

    def on_air(self, **options: Any) -> AbstractAsyncContextManager[Station]:
        options = {"limits": LIMITS, **options}
        return on_air(None, *self._arguments, bucket=self.bucket(), **options)

    def objects(self, rendition: str = "240p") -> set[str]:
        """Give the keys of a rendition's objects, without what they begin with."""
        beginning = f"live/test/dvr/{rendition}/"
        found = [one["path"] for one in self.store.list().collect()]
        return {path.removeprefix(beginning) for path in found if path.startswith(beginning)}


@pytest.fixture
def place(
    request: pytest.FixtureRequest,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Place]:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    prefix = f"dvr/{request.node.name}"
    address = f"s3://{BUCKET}/{prefix}"
    found = Place(s3_server.store(prefix), address, tmp_path, (material, tools, monkeypatch))
    yield found
    for one in found.opened:
        one.close()


async def bytes_of(station: Station, name: str = "240p") -> dict[int, bytes]:
    return await asyncio.to_thread(station.bytes_of, name)


async def test_segments_are_in_s3_behind_the_live_edge_and_listed_again_after_a_restart(place: Place) -> None:
    async with place.on_air() as station:
        await station.segment(12)
        held = [one.number for one in station.window.listed if one.data]
        assert held == list(range(NUMBER + 12 - MEMORY_TARGET_DURATIONS, NUMBER + 12))
        before = {name: await bytes_of(station, name) for name in PARTS}
        dates = [one.program_date_time for one in station.window.listed]
    async with place.on_air(number=NUMBER + 15) as station:
        assert station.channel.ready
        assert {name: await bytes_of(station, name) for name in PARTS} == before
        await station.segment(2)
        listed = station.window.listed
        assert [one.number for one in listed] == list(range(NUMBER, NUMBER + 17))
        assert [one.number for one in listed if one.gap] == [NUMBER + 12, NUMBER + 13, NUMBER + 14]
        assert [one.number for one in listed if one.discontinuity] == [NUMBER + 15]
        assert [one.program_date_time for one in listed][:12] == dates
        text = station.text()
    async with place.on_air(number=NUMBER + 17) as station:
        # What was said of the time between is said again.
        assert _segments_in(station.text())[: 3 * 16] == _segments_in(text)[: 3 * 16]


def _segments_in(text: str) -> list[str]:
    words = ("#EXTINF", "#EXT-X-GAP", "#EXT-X-PROGRAM", "#EXT-X-MAP", "#EXT-X-DISC")
    return [line for line in text.splitlines() if line.startswith(words) or not line.startswith("#")]


async def test_while_s3_is_silent_live_goes_on_and_what_waits_is_bounded(
    place: Place, s3_server: S3Server
) -> None:
    async with place.on_air() as station:
        await station.segment(3)
        with s3_server.stopped():
            await station.segment(10, stored=False)
            await until(lambda: station.archive.trouble, "the trouble")
            assert [one.number for one in station.window.listed if one.gap] == []
            assert len([one for one in station.window.listed if one.data]) == 10
        await until(lambda: all(map(station.is_settled, PARTS)), "what S3 lacks")
        await station.segment(LIMITS.calm_writes)
        assert station.archive.trouble == ""
        before = await bytes_of(station)
    few = replace(LIMITS, waiting_bytes=2 * max(map(len, before.values())), drain_seconds=0.1)
    async with place.on_air(number=NUMBER + 33, limits=few) as station:
        await station.segment(1)
        with s3_server.stopped():
            for _ in range(13):
                await station.segment(stored=False)
                await asyncio.sleep(0.05)  # it looks in between
            gone = {one.number for one in station.window.listed if one.gap and one.number > NUMBER + 33}
            assert gone
            # What waits for longest is behind the skip boundary, where nothing changes any more.
            assert NUMBER + 34 not in gone
            assert station.window.finished.waiting
            assert sum(station.window.finished.waiting.values()) <= few.waiting_bytes


async def test_what_has_left_the_window_is_removed_and_nothing_else(place: Place) -> None:
    foreign = (
        "index/holiday.jpg",
        "index/000000000000005-7",
        "5.m4s",
        "5-7.m4s",
        "init-5-7.mp4",
        "a%2Fb/c d",
    )
    for name in foreign:
        obstore.put(place.store, f"live/test/dvr/240p/{name}", b"not ours")
    async with place.on_air(dvr=0.001) as station:
        await station.segment(2)
        (second,) = (key for key in place.objects() if key.startswith(f"{NUMBER + 1}-"))
        obstore.put(place.store, f"live/test/dvr/240p/{second}", b"somebody put something else there")
        for _ in range(45):
            await station.segment()
        oldest = station.window.finished.oldest_number
        assert oldest > NUMBER + 16
        own = {*foreign, second}

        def removed() -> bool:
            numbers = [int(key.partition("-")[0]) for key in place.objects() - own if key.endswith(".m4s")]
            return min(numbers) >= oldest

        await until(removed, "the removal")
        assert own <= place.objects()
        pieces = sorted(key for key in place.objects() - own if key.startswith("index/"))
        assert int(pieces[0][len("index/") :].partition("-")[0]) > NUMBER
        assert station.archive.trouble == ""
        (init,) = (key for key in place.objects() - own if key.startswith("init-"))
        assert init.startswith(f"init-{NUMBER}-")


async def test_who_stores_late_takes_nobodys_place(place: Place) -> None:
    async with place.on_air() as late, place.on_air() as owner:
        await owner.segment(3)
        await late.segment(2)
        listed = await bytes_of(owner)
        assert len([key for key in place.objects() if key.startswith(f"{NUMBER}-")]) == 2
        assert {one.stored_by for one in _stored(late)}.isdisjoint(one.stored_by for one in _stored(owner))
    async with place.on_air(number=NUMBER + 4) as station:
        assert await bytes_of(station) == listed


def _stored(station: Station) -> list[Any]:
    return [one.stored for one in station.window.listed if one.stored is not None]


async def test_an_index_that_somebody_else_wrote_lists_nothing_that_isnt_there(place: Place) -> None:
    async with place.on_air() as station:
        await station.segment(4)
        before = await bytes_of(station)
        (piece,) = (key for key in place.objects() if key.startswith("index/"))
    data = bytes(obstore.get(place.store, f"live/test/dvr/240p/{piece}").bytes())
    header, *lines = data.splitlines(keepends=True)
    crafted = {
        f"{NUMBER + 9:015d}-9": header + b'{"number":1e400}\n{"number":' + b"[" * 5000 + b"\n" + lines[0],
        f"{NUMBER + 10:015d}-9": b"\xff\xfe" * 100,
        f"{NUMBER + 11:015d}-9": header + lines[1].replace(str(NUMBER + 1).encode(), b"999999999999999"),
        f"{NUMBER + 12:015d}-0": data,
        f"{NUMBER + 13:015d}-99999999999": data,
    }
    for name, text in crafted.items():
        obstore.put(place.store, f"live/test/dvr/240p/index/{name}", text)
    async with place.on_air(number=NUMBER + 5) as station:
        assert await bytes_of(station) == before
        await station.segment(1)
    assert {f"index/{name}" for name in crafted} <= place.objects()


async def test_a_place_that_isnt_that_of_a_segment_is_never_read(place: Place) -> None:
    bucket = place.bucket()
    obstore.put(place.store, "secret", b"secret")
    for path in ("secret", "live/test/dvr/240p/../../../../secret", "live/test/dvr/240p/1.m4s", ""):
        with pytest.raises(NotFoundError):
            await bucket.threads.run(bucket.open_segment, f"{place.address}/{path}")
    with pytest.raises(NotFoundError):
        await bucket.threads.run(bucket.open_segment, f"s3://other/{BUCKET}/live/test/dvr/240p/1-1.m4s")


async def test_who_may_not_remove_anything_stores_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: S3Client, key: str) -> None:
        raise AccessRefusedError(f"not {key}")

    monkeypatch.setattr(S3Client, "delete", refuse)
    async with place.on_air(dvr=0.001) as station:
        await station.segment(40)
        assert station.window.finished.oldest_number > NUMBER
        await until(lambda: "removed" in station.archive.trouble, "the trouble")
        assert not any(one.gap for one in station.window.listed)
    assert len([key for key in place.objects() if key.endswith(".m4s")]) == 40


LONG = 10 * 365 * 86_400.0
"""Seconds that are longer ago than the segments."""


def past_of(place: Place, station: Station) -> PastPieces:
    found = place.bucket().past(station.archive.place_of("240p"), station.channel.cadence, LIMITS)
    assert found is not None
    return found


async def past_numbers(place: Place, station: Station) -> list[int]:
    past = past_of(place, station)
    return [one.number for one in await past.threads.run(past.read, Fraction(0), None, 10**12)]


async def test_what_has_left_the_playlist_stays_and_nobody_has_it_in_memory(place: Place) -> None:
    async with place.on_air(dvr=0.001, past=LONG) as station:
        await station.segment(27)
        assert station.window.listed[0].number > NUMBER + 8
        assert await past_numbers(place, station) == list(range(NUMBER, NUMBER + 27))
    async with place.on_air(dvr=0.001, past=LONG, number=NUMBER + 29) as station:
        listed = [one.number for one in station.window.listed]
        assert NUMBER + 8 < listed[0] < NUMBER + 27
        assert listed[-1] == NUMBER + 28
        await station.segment(2)
        assert await past_numbers(place, station) == list(range(NUMBER, NUMBER + 31))
    # Away for longer than the playlist: what was there is still found.
    async with place.on_air(dvr=0.001, past=LONG, number=NUMBER + 45) as station:
        assert all(one.gap for one in station.window.listed)
        await station.segment(2)
        found = await past_numbers(place, station)
        assert found[:31] == list(range(NUMBER, NUMBER + 31))
        assert found[-2:] == [NUMBER + 45, NUMBER + 46]
    # All of it is listed again where the playlist isn't to be shorter.
    async with place.on_air(number=NUMBER + 47) as station:
        assert station.window.listed[0].number == NUMBER


@pytest.mark.parametrize("bounds", [{"past": 1.0}, {"past": LONG, "dvr_bytes": 1}], ids=["age", "size"])
async def test_of_the_past_what_is_over_is_removed_and_nothing_else(
    place: Place, bounds: dict[str, Any]
) -> None:
    foreign = ("index/holiday.jpg", "index/000000000000005-7", "5-7.m4s", "init-5-7.mp4")
    for name in foreign:
        obstore.put(place.store, f"live/test/dvr/240p/{name}", b"not ours")
    async with place.on_air(dvr=0.001, **bounds) as station:
        await station.segment(45)

        def removed() -> bool:
            keys = [key for key in place.objects() if key not in foreign and key.endswith(".m4s")]
            return min(int(key.partition("-")[0]) for key in keys) >= NUMBER + 8

        await until(removed, "the removal")
        oldest = station.window.finished.oldest_number
        kept = [one.number for one in station.window.listed]
        assert (await past_numbers(place, station))[-len(kept) :] == kept
        await until(lambda: not any(key.startswith("expired/") for key in place.objects()), "all of it")
        keys = [key for key in place.objects() if key not in foreign and key.endswith(".m4s")]
        assert min(int(key.partition("-")[0]) for key in keys) <= oldest
        assert set(foreign) <= place.objects()
        assert any(key.startswith("init-") for key in place.objects() - set(foreign))
        assert station.archive.trouble == ""
