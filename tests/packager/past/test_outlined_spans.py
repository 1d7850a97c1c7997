"""Playlists of columns are those of segments, whatever is missing, from memory and from files."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Mapping
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from media.hls.precompressed_text import PackedText, rendered
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS, Outline, outlines_of
from packager.past.playlists import media_playlist, without_common_gaps
from packager.past.span_playlists import span_playlist, span_totals
from packager.window.model import WEBVTT_ENTRY, LiveSegment, StoredSegment, Timeline
from packager.window.rendition import extension_of
from packager.window.segment_totals import SegmentTotals
from tests.conformance.handfed import Track
from tests.packager.stored_segments import timeline_of

NAMES = ("720p", "480p", "audio", "captions-en")
FIRST = 4 * BLOCK_SEGMENTS - 100
DURATIONS = (Fraction(2), Fraction(1921, 1000), Fraction(90 * 1024, 44100))
RUNS = st.lists(
    st.tuples(st.lists(st.sampled_from("....GDM-"), min_size=4, max_size=4), st.integers(1, 200)),
    min_size=1,
    max_size=8,
)
"""How a run begins in each rendition, and how long it is: as before, with a gap, with a discontinuity and
another init segment, with that alone, or with a number that is missing. A short run is so as a whole."""

Segments = Mapping[str, list[LiveSegment]]


def segments_of(runs: list[tuple[list[str], int]], timeline: Timeline) -> dict[str, list[LiveSegment]]:
    found: dict[str, list[LiveSegment]] = {name: [] for name in NAMES}
    chosen, date = random.Random(str(runs)), Fraction(1_795_000_000)
    current = {name: Timeline(FIRST, timeline.init, timeline.entry) for name in NAMES}
    current[NAMES[-1]] = Timeline(FIRST, b"WEBVTT\n", WEBVTT_ENTRY)
    number = FIRST
    for states, count in runs:
        for at in range(count):
            duration = chosen.choice(DURATIONS)
            for name, state in zip(NAMES, states, strict=True):
                begins, lacks = at == 0, at == 0 or count < 10
                if begins and state in "DM":
                    current[name] = Timeline(number, current[name].init, current[name].entry)
                if lacks and state == "-":
                    continue
                is_gap = lacks and state == "G"
                stored = StoredSegment.of((chosen.randrange(1, 9999), 5), (number, 1), 0, 77)
                found[name].append(
                    LiveSegment(
                        number,
                        current[name],
                        date.as_integer_ratio(),
                        discontinuity=begins and state == "D",
                        gap=is_gap,
                        duration=duration,
                        stored=None if is_gap else stored,
                    )
                )
            number, date = number + 1, date + duration
    return found


def aligned(segments: Segments) -> dict[str, list[LiveSegment]]:
    """Put gaps where a rendition lacks a number that another one has."""
    known = {one.number: one for own in reversed(list(segments.values())) for one in own}
    found = {}
    for name, own in segments.items():
        there = {one.number: one for one in own}
        found[name] = [
            there.get(number) or replace(known[number], timeline=None, gap=True, stored=None)
            for number in sorted(known)
        ]
    return found


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


def stored(segments: Segments) -> OutlinedSpan:
    """Write the outlines to files and read them again."""
    found: dict[str, list[Outline]] = {}
    for name, own in segments.items():
        timelines = {one.timeline.number: one.timeline for one in own if one.timeline is not None}

        def read(numbers: Iterable[int], known: Mapping[int, Timeline] = timelines) -> Mapping[int, Timeline]:
            return {number: known[number] for number in numbers}

        found[name] = []
        for one in outlines_of(own, extension_of(name)):
            again = Outline.decode(one.encode(17), 17, one.first, extension_of(name), read)
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
    assert written(stored(segments), name, suffix) == expected


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS)
def test_sums_of_columns_are_those_of_segments(timeline: Timeline, runs: list[tuple[list[str], int]]) -> None:
    segments = segments_of(runs, timeline)
    for name, found in span_totals(stored(segments), 2).items():
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


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_damaged_file_or_that_of_another_index_is_no_outline(timeline: Timeline, damage: object) -> None:
    segments = segments_of([(["."] * 4, 20)], timeline)
    (one,) = outlines_of(segments["720p"], "m4s")
    data, chosen = one.encode(100), random.Random(1)

    def read(numbers: Iterable[int]) -> Mapping[int, Timeline]:
        return dict.fromkeys(numbers, timeline)

    assert Outline.decode(data, 100, one.first, "m4s", read) is not None
    assert Outline.decode(data, 101, one.first, "m4s", read) is None
    assert Outline.decode(data, 100, one.first, "m4s", lambda _: {}) is None, "an init segment is gone"
    assert callable(damage)
    assert Outline.decode(damage(data), 100, one.first, "m4s", read) is None
    for _ in range(200):
        changed = bytearray(data)
        changed[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        assert Outline.decode(bytes(changed), 100, one.first, "m4s", read) is None


@pytest.mark.parametrize("field", ["date", "duration", "shown", "pieces"])
def test_a_file_of_another_hand_that_nobody_could_count_with_is_no_outline(
    timeline: Timeline, field: str
) -> None:
    segments = segments_of([(["."] * 4, 20)], timeline)
    (one,) = outlines_of(segments["720p"], "m4s")
    records, pieces = one.records.copy(), [one.piece(index) for index in range(4)]
    if field == "pieces":
        pieces = [each._replace(deflated=each.deflated._replace(size=1 << 30)) for each in pieces]
    else:
        records[field][one.there[3], 1] = 0
    data = Outline(one.first, records, "m4s", one.timelines, pieces).encode(100)

    def read(numbers: Iterable[int]) -> Mapping[int, Timeline]:
        return dict.fromkeys(numbers, timeline)

    assert Outline.decode(data, 100, one.first, "m4s", read) is None
