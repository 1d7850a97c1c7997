"""Spans are collected, and requests answered, while recordings go to a slow place, or the past is in one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from packager.dvr.past_blocks import PastBlocks
from packager.dvr.segment_sources import DiskSegments, Put
from packager.process.ffmpeg_discovery import Tools
from packager.recordings.disk_recordings import FOR_EVER, Recordings
from packager.recordings.kept_spans import KeptSpan, SpansState, write_state
from packager.recordings.limits import RecordingsLimits
from packager.recordings.metadata import RecordingMetadata
from packager.recordings.pending_segments import ENDING, PENDING
from packager.recordings.playlist_facts import PlaylistFacts
from packager.recordings.span_keeper import KeepingRule, SpanKeeper
from packager.safe_files import DataFolder
from packager.window.model import LiveSegment
from tests.conformance.handfed import Track
from tests.packager.station import Station, on_air
from tests.patience import CLIENT_SECONDS
from tests.waiting import until

LIMITS = RecordingsLimits(span_look_seconds=0.05, late_seconds=float("inf"))


class SlowRecordings(Recordings):
    """Recordings that are added once they may be, but for some that are refused then.

    Attributes:
        waiting: how many have waited.
    """

    def __init__(self, place: Path, refusals: int = 0) -> None:
        super().__init__(place, "test", FOR_EVER)
        self.may_be_added = asyncio.Event()
        self.waiting = 0
        self._refusals = refusals

    async def add(self, metadata: RecordingMetadata) -> None:
        self.waiting += not self.may_be_added.is_set()
        await self.may_be_added.wait()
        if self._refusals:
            self._refusals -= 1
            raise OSError("refused")
        await super().add(metadata)


def keeper_of(
    station: Station, recordings: Recordings, source: DiskSegments, limits: RecordingsLimits = LIMITS
) -> SpanKeeper:
    place = station.channel._data
    assert place is not None
    stream = station.channel.stream
    return SpanKeeper(
        "test", (place, source), recordings, lambda: PlaylistFacts.of(stream, None), KeepingRule(), limits
    )


def span(name: str, start: Fraction, seconds: int) -> KeptSpan:
    begin = int(start * 1000)
    return KeptSpan(name, begin, begin + seconds * 1000, name, pinned=True)


async def test_a_recording_on_its_way_holds_up_no_other_span(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        start = station.window.listed[0].program_date_time
        state = SpansState((span("short", start, 2), span("long", start, 6)))
        await asyncio.to_thread(write_state, DataFolder.at(tmp_path), state)
        recordings = SlowRecordings(tmp_path / "recordings", refusals=1)
        keeper = keeper_of(station, recordings, DiskSegments(DataFolder.at(tmp_path / "dvr")))
        async with keeper.running(None):
            await until(lambda: recordings.waiting)
            await station.segment(4)
            newest = f"{station.window.listed[-2].number}.m4s"
            await until(lambda: (tmp_path / PENDING / "240p" / newest).exists(), "the other span", 30)
            recordings.may_be_added.set()
            await until(lambda: len(list(recordings)) == 2)
            await until(lambda: keeper.waiting == (), "the end of both spans")
            await until(lambda: not keeper.trouble)
        assert recordings.waiting == 1
        made = {one.metadata.span: round(one.metadata.duration) for one in recordings}
        assert made == {"short": 2, "long": 6}


async def test_a_span_that_is_forgotten_while_its_recording_is_on_its_way_leaves_none(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        state = SpansState((span("short", station.window.listed[0].program_date_time, 2),))
        await asyncio.to_thread(write_state, DataFolder.at(tmp_path), state)
        recordings = SlowRecordings(tmp_path / "recordings")
        keeper = keeper_of(station, recordings, DiskSegments(DataFolder.at(tmp_path / "dvr")))
        async with keeper.running(None):
            await until(lambda: recordings.waiting)
            assert await keeper.forget("short")
            recordings.may_be_added.set()
            await until(lambda: not any((tmp_path / "recordings").iterdir()))
        assert list(recordings) == []


class SlowPast(PastBlocks):
    """The past of a rendition that can't be read before it may be."""

    may_be_read = threading.Event()

    def read(
        self, start: Fraction, end: Fraction | None, before: int, like: Sequence[LiveSegment] = ()
    ) -> list[LiveSegment]:
        self.may_be_read.wait(CLIENT_SECONDS)
        return super().read(start, end, before, like)


class SlowSegments(DiskSegments):
    """A DVR with such a past, from which no segment comes before it may be read."""

    def past(self, rendition: str) -> PastBlocks:
        return SlowPast(self._dvr / rendition)

    @contextlib.contextmanager
    def fetched(self, rendition: str, segments: Sequence[LiveSegment]) -> Iterator[Put]:
        SlowPast.may_be_read.wait(CLIENT_SECONDS)
        with super().fetched(rendition, segments) as put:
            yield put


async def test_who_asks_for_a_span_of_the_past_waits_for_its_place_no_longer_than_may_be(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(LIMITS, keep_seconds=0.1)
    async with on_air(tmp_path, material, tools, monkeypatch, past=3600) as station:
        await station.segment(2)
        begin = int(station.window.listed[0].program_date_time * 1000)
        source = SlowSegments(DataFolder.at(tmp_path / "dvr"))
        keeper = keeper_of(station, SlowRecordings(tmp_path / "recordings"), source, limits)
        try:
            async with keeper.running(None):
                with pytest.raises(OSError, match="soon"):
                    async with asyncio.timeout(30):
                        await keeper.keep(begin - 5000, begin - 1000, "")
        finally:
            SlowPast.may_be_read.set()


async def test_who_waits_for_segments_of_a_slow_place_takes_no_thread_of_others(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    SlowPast.may_be_read.clear()
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        state = SpansState((span("short", station.window.listed[0].program_date_time, 2),))
        await asyncio.to_thread(write_state, DataFolder.at(tmp_path), state)
        recordings = SlowRecordings(tmp_path / "recordings")
        recordings.may_be_added.set()
        keeper = keeper_of(station, recordings, SlowSegments(DataFolder.at(tmp_path / "dvr")))
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        try:
            async with keeper.running(None):
                pending = tmp_path / PENDING
                await until(lambda: any(one.name != ENDING for one in pending.glob("*")), "collecting")
                async with asyncio.timeout(30):
                    await asyncio.to_thread(int)
                SlowPast.may_be_read.set()
                await until(lambda: list(recordings))
        finally:
            SlowPast.may_be_read.set()
