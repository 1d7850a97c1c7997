"""A DVR of which most isn't listed, on a full disk: the oldest segments go, no more than it takes."""

from __future__ import annotations

import asyncio
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.dvr.past_blocks import PastBlocks
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import NUMBER, Track
from tests.packager.station import on_air
from tests.small_disk import small_disk

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
