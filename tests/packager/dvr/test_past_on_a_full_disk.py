"""A DVR of which most isn't listed, on a full disk: the oldest segments go, no more than it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.dvr.past_blocks import PastBlocks
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import on_air
from tests.patience import DVR
from tests.small_disk import small_disk
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

ROOM = 1600 << 10
"""Bytes for about 32 segments, of which 22 are listed, or fetchable behind the list."""

COUNT = 49


def kept(folder: Path, name: str = "240p") -> list[int]:
    """Return the numbers of a rendition's past, whose files are there."""
    blocks = PastBlocks(folder / "dvr" / name)
    found = blocks.read(Fraction(0), None, 10**12)
    assert all(Path(blocks.place_of(one)).exists() for one in found)
    numbers = [one.number for one in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no holes"
    return numbers


def fill(file: Path) -> None:
    """Fill the disk of a file, which is that of somebody else."""
    with file.open("wb", buffering=0) as target, contextlib.suppress(OSError):
        while True:
            target.write(bytes(4096))


def share_used(folder: Path) -> float:
    status = os.statvfs(folder)
    return 1 - status.f_bfree / status.f_blocks


async def test_a_full_disk_costs_the_oldest_segments_of_the_past_and_no_more_than_it_takes(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", ROOM) as folder, capture_logs() as logs:
        async with on_air(folder, material, tools, monkeypatch, dvr=1, past=3600) as station:
            oldest = [NUMBER]
            for _ in range(COUNT):
                await station.segment()
                if station.archive.trouble:
                    await station.archive.settle()
                    oldest.append((await asyncio.to_thread(kept, folder))[0])
                    assert (await asyncio.to_thread(kept, folder, "audio"))[0] == oldest[-1]
                    assert share_used(folder) > 0.75
            assert "space" in station.archive.trouble
            # Room for a segment, and for lines of the index.
            assert 0 < max(later - one for one, later in pairwise(oldest)) <= 6
            assert not any(one.gap for one in station.window.listed)
            await station.archive.settle()
            newest = (await asyncio.to_thread(kept, folder))[-1]
            assert newest == station.window.listed[0].number - 1
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["DVR isn't kept"]


async def test_what_waits_in_memory_while_the_playlist_leaves_it_behind_is_in_the_past_once_there_is_room(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(DVR, retry_seconds=0.01)
    with small_disk(tmp_path / "disk", 2 * ROOM) as folder:
        async with on_air(folder, material, tools, monkeypatch, dvr=1, past=3600, limits=hasty) as station:
            await station.segment(3)
            others = folder / "others"
            await asyncio.to_thread(fill, others)
            await station.segment(40, stored=False)
            await until(lambda: "space" in station.archive.trouble)
            assert station.window.listed[0].number > NUMBER + 30
            assert not any(one.gap for one in station.window.listed)
            waiting = station.archive.waiting
            assert waiting > 0
            await asyncio.to_thread(others.unlink)
            await station.archive.settle()
            assert station.archive.waiting == 0
            await station.segment(2)
            await station.archive.settle()
            past = await asyncio.to_thread(kept, folder)
            assert past == list(range(NUMBER, station.window.listed[0].number))


async def test_more_than_may_wait_is_a_gap_in_the_list_and_in_the_past(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 300_000
    hasty = replace(DVR, retry_seconds=0.01, waiting_bytes=room)
    with small_disk(tmp_path / "disk", 2 * ROOM) as folder:
        async with on_air(folder, material, tools, monkeypatch, dvr=1, past=3600, limits=hasty) as station:
            await station.segment(3)
            others = folder / "others"
            await asyncio.to_thread(fill, others)
            lost = set[int]()
            for _ in range(40):
                await station.segment(stored=False)
                assert station.archive.waiting <= room
                lost |= {one.number for one in station.window.listed if one.gap}
            assert lost
            await asyncio.to_thread(others.unlink)
            await station.archive.settle()
            await station.segment(2)
            await station.archive.settle()
            blocks = PastBlocks(folder / "dvr" / "240p")
            past = await asyncio.to_thread(blocks.read, Fraction(0), None, 10**12)
            assert [one.number for one in past] == list(range(NUMBER, station.window.listed[0].number))
            assert {one.number for one in past if one.gap} == lost - {
                one.number for one in station.window.listed
            }
