"""Playlists of columns are those of segments, whatever is missing, from memory and from files."""

from __future__ import annotations

import zlib
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.hls.precompressed_text import PackedText, rendered
from packager.past.coded_outlines import NotedOutline, OutlineGroup
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import Outline, outlines_of
from packager.past.playlists import media_playlist, without_common_gaps
from packager.past.span_playlists import span_playlist, span_totals
from packager.window.model import Timeline
from packager.window.rendition import extension_of
from packager.window.segment_totals import SegmentTotals
from tests.conformance.handfed import Track
from tests.packager.past.span_runs import FIRST, NAMES, RUNS, Segments, aligned, segments_of
from tests.packager.stored_segments import timeline_of


def text(segments: Segments, name: str, suffix: str) -> str:
    """Write a rendition's playlist from its segments, one by one."""
    kept = without_common_gaps(aligned(segments))[name]
    ranges = ['#EXT-X-DATERANGE:ID="1"']
    lines = media_playlist(kept, 2, ranges, extension_of(name), suffix=suffix).render().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#EXT-X-MEDIA-SEQUENCE"))


def written(span: OutlinedSpan, name: str, suffix: str) -> str:
    """Write it from columns; compare what is sent compressed with it."""
    ranges = ['#EXT-X-DATERANGE:ID="1"']
    made = span_playlist(span, name, Fraction(0), 2, ranges, suffix)
    pieces = made.pieces()
    for one in pieces:
        if isinstance(one, PackedText):
            assert zlib.crc32(one.render()) == one.deflated.crc
            assert len(one.render()) == one.size
    lines = b"".join(rendered(pieces)).decode().splitlines()
    (number,) = (line for line in lines if line.startswith("#EXT-X-MEDIA-SEQUENCE"))
    first = next(line for line in lines if line.partition(".")[0].isdigit())
    assert number.partition(":")[2] == first.partition(".")[0]
    return "\n".join(line for line in lines if line != number)


def grouped(segments: Segments) -> OutlinedSpan:
    """Write the outlines of all renditions to one file, and read them again."""
    all_of_them = (one.timeline for own in segments.values() for one in own)
    timelines = {(one.number, one.init): one for one in all_of_them if one is not None}
    outlines = {
        name: [NotedOutline(3, one) for one in outlines_of(own, extension_of(name))]
        for name, own in segments.items()
    }
    data = OutlineGroup.encode(FIRST, outlines)
    group = OutlineGroup.decode(data, FIRST, lambda *key: timelines[key])
    assert group is not None
    found: dict[str, list[Outline]] = {name: [] for name in segments}
    for name, own in outlines.items():
        for _, one in own:
            assert group.outline(name, one.first, 4) is None, "made of something else"
            again = group.outline(name, one.first, 3)
            assert again is not None
            found[name].append(again)
    return OutlinedSpan(OutlinedSpan.of(segments).numbers, found)


@pytest.fixture(scope="module")
def timeline(material: dict[str, Track]) -> Timeline:
    return timeline_of(material["240p"], 1)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS, name=st.sampled_from(NAMES), suffix=st.sampled_from(["", "?token=a.m4s"]))
def test_a_playlist_of_columns_has_the_bytes_of_one_of_segments(
    timeline: Timeline, runs: list[tuple[list[str], int]], name: str, suffix: str
) -> None:
    segments = segments_of(runs, timeline)
    if all(one.gap for own in segments.values() for one in own):
        return
    expected = text(segments, name, suffix)
    assert written(OutlinedSpan.of(segments), name, suffix) == expected
    assert written(grouped(segments), name, suffix) == expected


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS)
def test_sums_of_columns_are_those_of_segments(timeline: Timeline, runs: list[tuple[list[str], int]]) -> None:
    segments = segments_of(runs, timeline)
    for name, found in span_totals(grouped(segments), 2).items():
        expected = SegmentTotals(2)
        expected.add_all(segments[name])
        assert found.totals.peak_bandwidth == expected.peak_bandwidth
        assert found.totals.average_bandwidth == expected.average_bandwidth
        assert found.timeline == (segments[name][-1].timeline if segments[name] else None)


def test_whole_pieces_are_the_same_objects_in_all_playlists(timeline: Timeline) -> None:
    segments = segments_of([(["."] * 4, 900)], timeline)
    outlines = {name: list(outlines_of(own, extension_of(name))) for name, own in segments.items()}
    packed = []
    for begin, behind in ((FIRST + 1, FIRST + 700), (FIRST + 99, FIRST + 800)):
        span = OutlinedSpan(range(begin, behind), outlines)
        pieces = span_playlist(span, "720p", Fraction(0), 2, (), "").pieces()
        packed.append({id(one) for one in pieces if isinstance(one, PackedText)})
    assert len(packed[0] & packed[1]) == 4
