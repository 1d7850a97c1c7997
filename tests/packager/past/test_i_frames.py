"""What I-frame playlists of long and broken spans list, beside the media playlists of the same spans."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from itertools import pairwise

import pytest

from packager.past.i_frames import MOST_I_FRAMES, i_frame_playlist, i_frame_variants
from packager.past.outlined_span import OutlinedSpan
from packager.past.playlists import media_playlist, without_common_gaps
from packager.window.model import LiveSegment, StoredSegment, Timeline
from tests.conformance.handfed import Track
from tests.packager.stored_segments import timeline_of

LONG = Fraction(2002, 1000)


@pytest.fixture
def timeline(material: dict[str, Track]) -> Timeline:
    return timeline_of(material["240p"], 1)


def span(
    timeline: Timeline,
    count: int,
    *,
    gaps: Collection[int] = (),
    own_gaps: Collection[int] = (),
    breaks: Collection[int] = (),
    unknown: Collection[int] = (),
) -> dict[str, list[LiveSegment]]:
    """Make a span of a picture and its sound.

    Args:
        gaps: numbers that both lack.
        own_gaps: numbers that the picture lacks.
        breaks: numbers that begin with a discontinuity.
        unknown: numbers of which it isn't known where their key frame ends.
    """
    segments: dict[str, list[LiveSegment]] = {"240p": [], "audio": []}
    for name, listed in segments.items():
        for number in range(1, count + 1):
            is_gap = number in gaps or (name == "240p" and number in own_gaps)
            end = 0 if number in unknown or name == "audio" else 1000 + number
            stored = None if is_gap else StoredSegment.of([9000], (number, 1), 0, end)
            listed.append(
                LiveSegment(
                    number,
                    timeline,
                    (number * LONG).as_integer_ratio(),
                    discontinuity=number in breaks,
                    gap=is_gap,
                    duration=LONG,
                    stored=stored,
                )
            )
    return segments


def times(past: dict[str, list[LiveSegment]]) -> dict[str, tuple[Fraction, bool]]:
    """Return when each segment of the media playlist begins, and whether behind a discontinuity."""
    passed, found = Fraction(0), {}
    for one in media_playlist(without_common_gaps(past)["240p"], 2, (), "m4s").segments:
        found[str(one.uri)] = passed, one.discontinuity
        passed += one.duration
    return found | {"end": (passed, False)}


@pytest.mark.parametrize(
    ("holes", "listed"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"gaps": [4, 5]}, [1, 2, 3, 6, 7, 8, 9]),
        ({"own_gaps": [4, 5]}, [1, 2, 3, 6, 7, 8, 9]),
        ({"gaps": [4], "own_gaps": [5, 6], "breaks": [7]}, [1, 2, 3, 7, 8, 9]),
        ({"breaks": [1, 4], "unknown": [1, 2, 6]}, [3, 4, 5, 7, 8, 9]),
    ],
)
def test_each_key_frame_is_shown_when_its_segment_is(
    timeline: Timeline, holes: dict[str, list[int]], listed: list[int]
) -> None:
    past = span(timeline, 9, **holes)
    made, media = i_frame_playlist(OutlinedSpan.of(past), "240p"), times(past)
    assert made is not None
    assert [one.uri for one in made.segments] == [f"{number}.m4s" for number in listed]
    begins = [Fraction(0), *(media[str(one.uri)][0] for one in made.segments[1:]), media["end"][0]]
    assert [one.duration for one in made.segments] == [behind - begin for begin, behind in pairwise(begins)]
    assert [one.discontinuity for one in made.segments[1:]] == [
        media[str(one.uri)][1] for one in made.segments[1:]
    ]
    assert [str(one.byte_range) for one in made.segments] == [f"{1000 + number}@0" for number in listed]


def test_of_a_long_span_every_so_many_segments_have_one_and_each_stretch(timeline: Timeline) -> None:
    count = 10 * MOST_I_FRAMES
    past = span(timeline, count, breaks=[5, 777])
    made, media = i_frame_playlist(OutlinedSpan.of(past), "240p", "?a=b"), times(past)
    assert made is not None
    numbers = [int(str(one.uri).partition(".")[0]) for one in made.segments]
    assert numbers == sorted({1, 5, 777, *range(10, count + 1, 10)})
    assert sum(one.duration for one in made.segments) == media["end"][0]
    assert [number for number, one in zip(numbers, made.segments, strict=True) if one.discontinuity] == [
        5,
        777,
    ]
    assert made.target_duration == 20
    (entry,) = i_frame_variants(OutlinedSpan.of(past), "?start=1&end=2")
    assert entry.uri == "240p/iframes.m3u8?start=1&end=2"
    assert entry.bandwidth == pytest.approx(8 * (1000 + count) / (10 * LONG), abs=1)


def test_where_no_key_frame_is_known_there_is_no_playlist(timeline: Timeline) -> None:
    past = span(timeline, 3, unknown=[1, 2, 3])
    for name in past:
        assert i_frame_playlist(OutlinedSpan.of(past), name) is None
    assert i_frame_variants(OutlinedSpan.of(past)) == []
