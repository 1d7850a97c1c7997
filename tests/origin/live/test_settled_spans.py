"""Spans that are over are for caches to keep only once all of their segments are stored."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from origin.live.past.spans import is_settled
from packager.past.past_window import past_window
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import Track
from tests.packager.station import on_air
from tests.patience import DVR
from tests.waiting import until


async def test_a_span_with_a_segment_that_may_become_a_gap_isnt_kept_for_ever(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hasty = replace(DVR, retry_seconds=0.01, look_seconds=0.05)
    async with on_air(tmp_path, material, tools, monkeypatch, limits=hasty) as station:
        stream, window = station.channel.stream, station.window
        stream.wall_clock = lambda: float(window.listed[-1].program_date_time) + 600

        def is_for_ever(end: Fraction) -> bool:
            past = past_window(stream.renditions, window.listed[0].program_date_time, end)
            assert past is not None
            return is_settled(stream, past, end)

        await station.segment(3)
        stored = window.listed[-1].program_date_time
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            await station.segment(2, stored=False)
            newest = window.listed[-1].program_date_time
            assert is_for_ever(stored)
            assert not is_for_ever(newest)
        await until(lambda: is_for_ever(newest), "the storing of all segments")
