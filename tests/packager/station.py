"""A channel with a DVR that is fed by hand, without a server: real media, and the test says when."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from packager.dvr.bucket.dvr_bucket import DvrBucket
from packager.dvr.limits import DvrLimits
from packager.dvr.segment_archive import SegmentArchive
from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import DataFolder
from packager.window.sequence_numbers import SequenceNumbers
from packager.window.window import Window
from tests.conformance.handfed import NUMBER, OPTIONS, Source, Track, media_clock
from tests.patience import DVR
from tests.waiting import until

PARTS = {"240p": 5, "audio": 4}
SETTLE_SECONDS = 120.0
"""The machine may be slow: for what is finished to be on disk tests wait longer than a channel's end does."""


class Station:
    """A channel with a DVR whose segments come when the test says so."""

    def __init__(
        self, channel: Channel, archive: SegmentArchive, material: dict[str, Track], number: int
    ) -> None:
        self.channel = channel
        self.archive = archive
        for rendition in channel.renditions.values():
            rendition.window.clock = media_clock(rendition.window)
        self._sources = {name: Source(channel, name, track, number, 0) for name, track in material.items()}

    @property
    def window(self) -> Window:
        return self.channel.renditions["240p"].window

    def text(self, name: str = "240p") -> str:
        return self.channel.presentation.media(name).decode()

    async def segment(self, count: int = 1, *, stored: bool = True) -> None:
        """Publish so many segments of all renditions, and wait until they are on disk."""
        for _ in range(count):
            for name, source in self._sources.items():
                for _ in range(PARTS[name]):
                    source.publish()
            if stored:
                await until(lambda: all(self.is_settled(name) for name in self.channel.renditions))

    def is_settled(self, name: str) -> bool:
        window = self.channel.renditions[name].window
        newest = window.at(window.next_number - 1)
        return newest is not None and newest.stored is not None

    def bytes_of(self, name: str) -> dict[int, bytes]:
        """The listed segments' bytes, from memory or where they are stored."""
        window, found = self.channel.renditions[name].window, {}
        for one in window.listed:
            if not one.gap:
                where = window.stored(one.number)
                found[one.number] = one.data or (self._read(where[0]) if where else b"")
        return found

    def _read(self, place: str) -> bytes:
        bucket = self.channel.options.dvr_bucket
        if bucket is None:
            return Path(place).read_bytes()
        with bucket.open_segment(place) as file:
            return file.pread(0, file.size)


@contextlib.asynccontextmanager
async def on_air(
    data: Path | DataFolder | None,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
    *,
    number: int = NUMBER,
    dvr: float = 3600,
    dvr_bytes: int = 0,
    past: float = 0,
    part_duration: float = 0.25,
    captions: tuple[str, ...] = (),
    limits: DvrLimits = DVR,
    bucket: DvrBucket | None = None,
) -> AsyncIterator[Station]:
    """Run a channel as a process would, but for its encoder."""
    options = replace(OPTIONS, data=data, dvr_window=dvr, dvr_bytes=dvr_bytes, part_duration=part_duration)
    options = replace(options, captions=captions, limits=LiveLimits(dvr=limits), dvr_bucket=bucket)
    options = replace(options, past_seconds=past)
    monkeypatch.setattr(SequenceNumbers, "first_number", lambda *_: number)
    channel = Channel(options, tools)
    archive = channel.archive
    assert archive is not None
    channel._adopt(await channel._planner.plan_restored(channel.cadence, archive))
    async with archive.running():
        yield Station(channel, archive, material, number)
