"""Spans of the past are whole only once all renditions have their last segment."""

from __future__ import annotations

from pathlib import Path

import pytest

from packager.past.past_window import past_window
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import Track
from tests.packager.station import PARTS, on_air


async def test_a_span_whose_sound_comes_a_moment_later_grows_until_then(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        renditions = station.channel.renditions
        for _ in range(PARTS["240p"]):
            station._sources["240p"].publish()
        listed = renditions["240p"].window.listed
        assert len(listed) == 4
        start, end = listed[0].program_date_time, listed[3].program_date_time + listed[3].duration / 2
        early = past_window(renditions, start, end)
        assert early is not None
        assert not early.is_whole
        assert {len(one) for one in early.segments.values()} == {3}
        for _ in range(PARTS["audio"]):
            station._sources["audio"].publish()
        whole = past_window(renditions, start, end)
        assert whole is not None
        assert whole.is_whole
        assert {len(one) for one in whole.segments.values()} == {4}
