"""Spans of the past have all segments, even those that come or leave the list just now."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from packager.dvr.past_blocks import PastBlocks
from packager.past.earlier_segments import EarlierSegments
from packager.past.outlines import MEDIA, THERE
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


@pytest.mark.parametrize("outlined", [False, True])
async def test_a_span_has_what_has_left_the_list_but_is_not_in_the_past_yet(
    tmp_path: Path,
    material: dict[str, Track],
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
    outlined: bool,
) -> None:
    async with on_air(tmp_path / "a", material, tools, monkeypatch, dvr=1, past=3600) as station:
        await station.segment(14)
        window, renditions = station.window, station.channel.renditions
        unlisted = window.unlisted
        assert len(unlisted) > 2
        past = {name: PastBlocks(tmp_path / "empty" / name) for name in renditions}
        earlier = EarlierSegments(renditions, past, outlined=outlined)
        for later in (Fraction(0), Fraction(1, 8)):
            for begin in (0, 1, len(unlisted) - 2):
                for end in (unlisted[-1], window.listed[0], window.listed[2]):
                    start = unlisted[begin].program_date_time + later
                    found = await earlier.window(start, end.program_date_time + later)
                    assert found is not None
                    # A segment that begins where the span ends has none of it.
                    expected = range(unlisted[begin].number, end.number + (later > 0))
                    assert list(found.columns.numbers) == list(expected)
                    assert found.is_whole
                    assert all(found.columns.tracks[name].has(THERE | MEDIA).all() for name in renditions)
