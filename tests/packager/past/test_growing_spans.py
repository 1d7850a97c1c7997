"""Playlists of spans that grow are those of all their segments, however long somebody has followed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as replaced
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from media.hls.date_range import DateRange
from media.hls.media_playlist import MediaPlaylist
from media.hls.precompressed_text import FilledText, PackedText
from packager.past.growing_span import MOST_BYTES, Edge, GrowingSpan, GrowingSpans, SpanRanges
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS
from packager.past.past_window import PastWindow
from packager.past.playlists import media_playlist
from packager.past.stored_ranges import StoredRanges
from packager.publish.date_ranges import DateRanges
from packager.publish.hls import Presentation
from packager.publish.live_stream import ReadOnlySegmentStore
from packager.window.cadence import cadence
from packager.window.model import LiveSegment, Timeline, WindowOptions
from packager.window.rendition import Rendition, extension_of
from packager.window.window import Window
from tests.conformance.handfed import Track
from tests.packager.past.span_runs import NAMES, RUNS, Segments, aligned, segments_of
from tests.packager.stored_segments import timeline_of

CADENCE = cadence(Fraction(25), 2.0, 0.5)
TEXT = NAMES[-1]
STORE = ReadOnlySegmentStore("folder", "m4s")
SUFFIXES = "", "?token=a.m4s"
LISTED = 80
GROWTH = (0.1, 0.4, 0.41, 0.9, 1.0)
"""How much of what comes behind the disk is there when somebody asks."""


@pytest.fixture(scope="module")
def timeline(material: dict[str, Track]) -> Timeline:
    return timeline_of(material["240p"], 1)


class Channel:
    """A channel whose first segments are on a disk alone; more and more of the others have come."""

    def __init__(self, segments: Segments, before: int) -> None:
        self.all = aligned(segments)
        self.past = OutlinedSpan.of({name: _before(segments[name], before) for name in segments})
        self.renditions = {
            name: Rendition(
                name, Window(WindowOptions(2, before, text=name == TEXT), STORE), name[0] != "a", 1
            )
            for name in NAMES
        }
        self.presentation = Presentation(self.renditions, CADENCE)

    def come(self, behind: int) -> None:
        """Let the segments up to a number come."""
        for name, rendition in self.renditions.items():
            window, finished = rendition.window, rendition.window.finished
            new = [one for one in self.all[name] if window.next_number <= one.number < behind]
            window.listed.extend(new)
            finished.next_number += len(new)
            # What is made already isn't needed any more.
            while len(window.listed) > LISTED:
                window.listed.popleft()

    def edge(self, name: str, suffix: str) -> Edge:
        live = self.presentation.edge(name, suffix, "?start=1")
        return Edge(live, self.presentation.skip_boundary(name))

    def straight(self, name: str, start: Fraction, suffix: str, *, skip: bool) -> MediaPlaylist:
        """Make the playlist of all of a span's segments, one by one."""
        edge, own = self.edge(name, suffix), self.all[name]
        older = [one for one in own if one.number < edge.number]
        newer = [*edge.playlist.segments]
        if older:
            older[0] = replace(older[0], discontinuity=False)
        made = media_playlist([] if skip else older, 2, (), extension_of(name), suffix=suffix)
        return replaced(
            edge.playlist,
            playlist_type="EVENT",
            older=MediaPlaylist(2, ()).older,
            segments=[*made.segments, *newer],
            media_sequence_number=own[0].number,
            discontinuity_sequence=None,
            start=start - own[0].program_date_time,
            server_control=edge.playlist.server_control
            and replaced(edge.playlist.server_control, can_skip_dateranges=False),
            skipped_segments=len(older) if skip else 0,
            date_ranges=(),
            removed_date_ranges=None,
        )


def _before(segments: Sequence[LiveSegment], number: int) -> list[LiveSegment]:
    return [one for one in segments if one.number < number]


def span_of(channel: Channel, start: Fraction) -> PastWindow:
    first = channel.past.first
    return PastWindow(start, {NAMES[0]: [first]}, first.program_date_time, is_whole=False)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    runs=RUNS,
    name=st.sampled_from(NAMES),
    suffix=st.sampled_from(SUFFIXES),
    share=st.floats(0.05, 0.9),
)
def test_a_playlist_that_grew_has_the_bytes_of_one_of_all_its_segments(
    timeline: Timeline, runs: list[tuple[list[str], int]], name: str, suffix: str, share: float
) -> None:
    assume(all(set(states) != {"-"} for states, _ in runs))
    segments = segments_of(runs, timeline)
    numbers = [one.number for one in aligned(segments)[name]]
    assume(len(numbers) > 60)
    before = numbers[0] + max(int(share * (len(numbers) - 50)), 1)
    channel, made = Channel(segments, before), None
    start = channel.past.first.program_date_time + Fraction(1, 2)
    for grown in GROWTH:
        channel.come(before + 40 + int(grown * (numbers[-1] - before - 39)))
        window = channel.renditions[name].window
        if made is None or not made.may_follow(window):
            made = GrowingSpan(name, channel.past.first, channel.past)
            made.extend(one for one in channel.all[name] if before <= one.number < window.listed[0].number)
        for skip in (True, False, False):
            edge, past = channel.edge(name, suffix), span_of(channel, start)
            found = made.playlist(past, None, window, edge, skip=skip, suffix=suffix)
            assert found.render() == channel.straight(name, start, suffix, skip=skip).render()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_lasts_of_a_playlist_is_the_same_objects_as_it_grows(timeline: Timeline, suffix: str) -> None:
    channel = Channel(segments_of([(["."] * 4, 8 * BLOCK_SEGMENTS)], timeline), 6 * BLOCK_SEGMENTS)
    first = channel.past.first
    made, lasting = GrowingSpan("720p", first, channel.past), []
    for behind in (6 * BLOCK_SEGMENTS + 40, 6 * BLOCK_SEGMENTS + 75):
        channel.come(behind)
        past, edge = span_of(channel, first.program_date_time), channel.edge("720p", suffix)
        window = channel.renditions["720p"].window
        pieces = made.playlist(past, None, window, edge, skip=False, suffix=suffix).pieces()
        lasting.append([one for one in pieces if isinstance(one, PackedText | FilledText)])
        own = sum(len(one) for one in pieces if isinstance(one, bytes))
        assert own < 200 * BLOCK_SEGMENTS // 2, "few lines are written anew"
    assert len(lasting[0]) > 8
    if suffix:
        templates = [[one.template for one in found if isinstance(one, FilledText)] for found in lasting]
        assert all(one is other for one, other in zip(*templates, strict=True))
    else:
        assert all(one is other for one, other in zip(*lasting, strict=True))


def test_segments_that_may_still_be_lost_are_written_anew_until_they_are_stored(timeline: Timeline) -> None:
    segments = segments_of([(["."] * 4, 200)], timeline)
    first = segments["720p"][0].number
    channel = Channel(segments, first + 50)
    channel.come(first + 150)
    window = channel.renditions["720p"].window
    at = 3
    window.listed[at] = replace(window.listed[at], stored=None)
    made = GrowingSpan("720p", channel.past.first, channel.past)
    made.extend(one for one in channel.all["720p"] if first + 50 <= one.number < window.listed[0].number)
    past = span_of(channel, channel.past.first.program_date_time)

    def text() -> str:
        edge = channel.edge("720p", "")
        return made.playlist(past, None, window, edge, skip=False, suffix="").render()

    assert "#EXT-X-GAP" not in text()
    assert made.next_number == window.listed[at].number
    window.listed[at] = replace(window.listed[at], gap=True)
    assert text().count("#EXT-X-GAP") == 1
    assert made.next_number > window.listed[at].number


def test_the_spans_that_are_kept_have_a_bound(timeline: Timeline) -> None:
    channel = Channel(segments_of([(["."] * 4, 600)], timeline), 4 * BLOCK_SEGMENTS + 300)
    spans, one = GrowingSpans(), GrowingSpan("720p", channel.past.first, channel.past)
    one.nbytes = MOST_BYTES // 4
    for start in range(8):
        spans.add(Fraction(start), "720p", one)
    assert spans.nbytes <= MOST_BYTES
    assert spans.find(Fraction(0), "720p") is None
    assert spans.find(Fraction(7), "720p") is one
    one.nbytes = 1
    for start in range(1000):
        spans.add(Fraction(start), "720p", one)
    assert sum(spans.find(Fraction(start), "720p") is one for start in range(1000)) < 200


def test_announced_ranges_come_once_the_span_reaches_them() -> None:
    listed, begin = DateRanges(), Fraction(1000)
    for name, at in (("late", 1010), ("early", 1001)):
        listed.add(DateRange(name, Fraction(at)), 0.0)
    ranges = SpanRanges(StoredRanges(), listed.version)
    for end, expected in ((1002, ["early"]), (1009, ["early"]), (1010, ["early"]), (1011, ["late", "early"])):
        lines = ranges.lines(begin, Fraction(end), listed)
        assert [line.split('"')[1] for line in lines] == expected
        assert ranges.lines(begin, Fraction(end), listed) is lines
