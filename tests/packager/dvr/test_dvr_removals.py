"""Removing segments of a DVR on a disk that refuses some of it: nothing is lost, and it is tried again."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.disk_writer import Writer
from packager.dvr.index import INDEX
from packager.dvr.limits import DvrLimits
from packager.dvr.segment_removal import DvrBounds, SegmentRemover
from packager.dvr.stored_outlines import OUTLINE_FOLDER, OutlineStore
from packager.dvr.write_queue import Archival, DiskHealth, Removal, RenditionStore, WriteQueue
from packager.past.outlines import BLOCK_SEGMENTS
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import DataFolder
from packager.window.model import LiveSegment
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import on_air
from tests.packager.stored_segments import make_segments, store
from tests.patience import DVR
from tests.waiting import until

COUNT = 5


class Stored:
    """Segments on disk, and what removes them."""

    def __init__(
        self, path: Path, segments: list[LiveSegment], limits: DvrLimits, bounds: DvrBounds | None = None
    ) -> None:
        store(path, segments)
        self.path = path
        self.folder = DvrFolder(path, limits)
        self.found = self.folder.load()
        self.health = DiskHealth("test", limits.calm_writes)
        self.queue = WriteQueue(self.health, limits.waiting_bytes, limits.leaving_segments)
        self.rendition = RenditionStore(self.queue, self.folder)
        outlines = OutlineStore.on_disk(DataFolder(path))
        self.removal = SegmentRemover(
            self.queue, {"240p": self.rendition}, self.health, bounds or DvrBounds(), limits, outlines
        )
        self.writer = Writer(self.queue, self.removal, self.health, limits)
        self.removal.used = sum(segment.size for segment in segments)

    @property
    def numbers(self) -> list[int]:
        """The segments that are there."""
        return sorted(int(path.stem) for path in self.path.glob("*.m4s"))

    @property
    def lines(self) -> int:
        """How many lines the index has."""
        return len((self.path / INDEX).read_bytes().splitlines())

    def look_again(self) -> None:
        """Queue the removal of a gap that never was on disk, as something does with each new segment."""
        self.rendition.remove(NUMBER - 1, 0, ())


@pytest.fixture
def segments(material: dict[str, Track]) -> list[LiveSegment]:
    return make_segments(material["240p"], COUNT)


def refuse(patch: pytest.MonkeyPatch, names: Collection[str]) -> None:
    """Let nothing be removed that has one of these names."""
    real = os.unlink

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        if path in names:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        real(path, dir_fd=dir_fd)

    patch.setattr(os, "unlink", unlink)


async def test_a_segment_that_the_disk_refuses_to_remove_holds_up_no_other_and_goes_later(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await asyncio.to_thread(Stored, tmp_path, segments, DVR)
    stuck = segments[1]
    with monkeypatch.context() as patch:
        refuse(patch, {f"{stuck.number}.m4s"})
        for segment in segments:
            stored.rendition.remove(segment.number, segment.size, [NUMBER] if segment is segments[-1] else ())
        async with background_task(stored.writer.run()):
            await stored.queue.idle()
            assert stored.numbers == [stuck.number]
            assert stored.removal.used == stuck.size
            assert "Too many open files" in stored.health.reason
    async with background_task(stored.writer.run()):
        stored.look_again()
        await until(lambda: not stored.removal.used, "the last segment's removal")
    assert not stored.numbers
    assert not list(tmp_path.glob("init-*"))


async def test_an_init_segment_or_an_index_that_the_disk_refuses_to_change_hides_no_removed_segment(
    tmp_path: Path, segments: list[LiveSegment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes no shorter index: that is when segments are removed."""
    limits = replace(DVR, compact_slack_lines=0)
    stored = await asyncio.to_thread(Stored, tmp_path, segments, limits)

    def refuse_writing(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        refuse(patch, {f"init-{NUMBER}.mp4"})
        patch.setattr(os, "write", refuse_writing)
        for segment in segments[:-1]:
            stored.rendition.remove(segment.number, segment.size, [NUMBER])
        async with background_task(stored.writer.run()):
            await stored.queue.idle()
            assert (stored.numbers, stored.removal.used) == ([segments[-1].number], segments[-1].size)
            assert stored.health.reason
    assert stored.lines == COUNT
    with monkeypatch.context() as patch:
        refuse(patch, {f"init-{NUMBER}.mp4"})
        async with background_task(stored.writer.run()):
            stored.look_again()
            await until(lambda: stored.lines == 1, "a shorter index")
    async with background_task(stored.writer.run()):
        stored.look_again()
        await until(lambda: not list(tmp_path.glob("init-*")), "the init segment's removal")


@pytest.mark.parametrize(
    ("is_found", "kept", "removed"), [(False, 3, 2), (True, COUNT, COUNT)], ids=["coming", "of a start"]
)
async def test_as_many_segments_as_may_wait_for_a_disk_that_takes_none_into_the_past(
    tmp_path: Path,
    segments: list[LiveSegment],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_found: bool,
    kept: int,
    removed: int,
) -> None:
    limits = replace(DVR, leaving_segments=3, retry_seconds=0.01, look_seconds=0.01)
    stored = await asyncio.to_thread(Stored, tmp_path, segments, limits)

    def refuse_linking(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with background_task(stored.writer.run()):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse_linking)
            for line in stored.found.lines.values():
                stored.queue.archive(Archival(stored.rendition, line), is_found=is_found)
                stored.queue.remove(Removal(stored.rendition, line.number, line.size, ()), is_found=is_found)
            await until(lambda: stored.health.reason, "the disk's refusal")
        stored.look_again()
        await until(lambda: len(stored.numbers) == COUNT - removed, "the removal of those that may go")
    past = await asyncio.to_thread(stored.folder.past.read, Fraction(0), None, NUMBER + COUNT)
    assert [one.number for one in past] == [one.number for one in segments[-kept:]]


@pytest.mark.parametrize("is_free", [True, False])
async def test_outlines_are_written_beside_and_what_lies_in_their_place_holds_nothing_up(
    tmp_path: Path, material: dict[str, Track], is_free: bool
) -> None:
    first = 3 * BLOCK_SEGMENTS - 2
    segments = await asyncio.to_thread(make_segments, material["240p"], COUNT, first=first)
    stored = await asyncio.to_thread(Stored, tmp_path, segments, DVR, DvrBounds(seconds=3600))
    place = tmp_path / OUTLINE_FOLDER
    if not is_free:
        place.write_text("mine")
    async with background_task(stored.writer.run()):
        for line in stored.found.lines.values():
            stored.queue.archive(Archival(stored.rendition, line), is_found=False)
            await until(lambda: not stored.queue.has_archivals, "the past")
        if is_free:
            await until(lambda: [*place.glob("*-1")], "outlines of the first block")
        # The last one may still be on its way.
        past = stored.folder.past
        async with asyncio.timeout(60):
            while len(await asyncio.to_thread(past.read, Fraction(0), None, first + COUNT)) < COUNT:
                await asyncio.sleep(0.01)
    assert is_free or place.read_text() == "mine"
    assert not stored.health.reason


async def test_while_the_disk_removes_nothing_no_more_is_forgotten_than_comes(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 900_000
    async with on_air(tmp_path, material, tools, monkeypatch, dvr_bytes=most) as station:
        await station.segment(30)
        listed, fetchable = len(station.window.listed), station.window.finished.oldest_number
        with monkeypatch.context() as patch:
            folder = tmp_path / "dvr"
            refuse(patch, {path.name for path in folder.rglob("*.m4s")})
            await station.segment(3)
            await until(lambda: station.archive.trouble, "the disk's refusal")
            assert len(station.window.listed) >= listed - 3
            # Each of two renditions' segments may push one number out.
            assert station.window.finished.oldest_number <= fetchable + 2 * 3 + 1
        await station.segment(3)
        await station.archive.settle()
        assert sum(path.stat().st_size for path in folder.rglob("*.m4s")) <= most
