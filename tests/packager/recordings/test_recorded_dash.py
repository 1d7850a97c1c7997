"""DASH of a recording, over breaks of all kinds: where its periods begin and end, and what they offer."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from media.mp4.boxes import box
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.movie.track_box import TrackFacts
from packager.past.dash_captions import chunks
from packager.past.manifest import manifest
from packager.past.outlined_span import OutlinedSpan
from packager.past.periods import RecordedPeriod, recorded_periods
from packager.window.model import LiveSegment, StoredSegment, Timeline

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}
NUMBER = 1_795_000_000
FRAMES = {"240p": Fraction(1, 30), "audio": Fraction(1024, 48_000)}
ENTRIES = {
    "240p": SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=1280, height=720),
    "audio": SampleEntry(b"mp4a", "mp4a.40.2", b"", (), channels=2, sample_rate=48_000),
}
TIMESCALES = {"240p": 15_360, "audio": 48_000}


Runs = list[tuple[float, float]]
"""For how many seconds each start of an encoder brought picture and sound."""


def cut(name: str, number: int, seconds: float) -> list[LiveSegment]:
    """Cut one run into segments of a second: of sound, each begins with its first whole frame."""
    frame, scale = FRAMES[name], TIMESCALES[name]
    init = write_init_segment(TrackFacts(1, b"vide", scale, box(b"free")))
    timeline = Timeline(number, init, ENTRIES[name])
    starts = [math.ceil((number + at) / frame) * frame for at in range(math.ceil(seconds))]
    end = starts[0] + math.floor(Fraction(seconds) / frame) * frame
    found = []
    for index, (start, stop) in enumerate(itertools.pairwise([*starts, end])):
        stored = StoredSegment.of([100], start.as_integer_ratio())
        if stop > start:
            found.append(
                LiveSegment(
                    number + index, timeline, start.as_integer_ratio(), duration=stop - start, stored=stored
                )
            )
    return found


def recorded(runs: Runs) -> dict[str, list[LiveSegment]]:
    """Give what is left of them: segments of the same numbers, gaps where one lacks any, discontinuities."""
    found: dict[str, list[LiveSegment]] = {name: [] for name in FRAMES}
    number = NUMBER
    for lengths in runs:
        own = {name: cut(name, number, length) for name, length in zip(FRAMES, lengths, strict=True)}
        longest = max(own.values(), key=len)
        for name, listed in own.items():
            gaps = [
                replace(one, gap=True, stored=None, timeline=listed[0].timeline)
                for one in longest[len(listed) :]
            ]
            found[name] += [replace(listed[0], discontinuity=number > NUMBER), *listed[1:], *gaps]
        number += len(longest) + 3
    return found


def periods_of(segments: dict[str, list[LiveSegment]]) -> list[RecordedPeriod]:
    return recorded_periods(OutlinedSpan.of(segments), segments)


@dataclass(frozen=True)
class Offered:
    """A period as players compute it: seconds since its beginning (ISO/IEC 23009-1 §5.3.9.6)."""

    start: Fraction
    end: Fraction
    tracks: dict[str, list[tuple[int, Fraction, Fraction]]]


def seconds_of(text: str | None) -> Fraction:
    assert text is not None
    return Fraction(text.removeprefix("PT").removesuffix("S"))


def read(data: bytes) -> tuple[list[Offered], Fraction]:
    root, periods = ElementTree.fromstring(data), []
    for period in root.findall("Period", NAMES):
        start, tracks = seconds_of(period.get("start")), {}
        for one in period.findall("AdaptationSet/Representation", NAMES):
            (template,) = one.findall("SegmentTemplate", NAMES)
            scale, offset = int(template.attrib["timescale"]), int(template.attrib["presentationTimeOffset"])
            number, time, listed = int(template.attrib["startNumber"]), 0, []
            for entry in template.findall("SegmentTimeline/S", NAMES):
                time = int(entry.get("t", time))
                for _ in range(int(entry.get("r", 0)) + 1):
                    begin, time = time, time + int(entry.attrib["d"])
                    listed.append(
                        (
                            number,
                            start + Fraction(begin - offset, scale),
                            start + Fraction(time - offset, scale),
                        )
                    )
                    number += 1
            tracks[one.attrib["id"]] = listed
        periods.append(Offered(start, start + seconds_of(period.get("duration")), tracks))
    return periods, seconds_of(root.get("mediaPresentationDuration"))


RUNS: list[Runs] = [
    [(3.5, 3.45), (1.5, 1.5)],  # both die in the same segment, the sound a little earlier
    [(3.5, 3.1), (1.5, 1.3)],
    [(3.1, 3.5), (1.3, 1.5)],  # the picture a part or more earlier
    [(3.3, 2.9), (2.0, 2.0)],  # the sound has nothing of the last segment
    [(2.9, 3.3), (2.0, 2.0)],
    [(3.0, 3.0), (1.0, 1.1)],
    [(0.3, 0.25), (1.0, 1.05)],  # next to nothing before the break
    [(0.6, 0.5), (0.7, 0.8), (2.2, 2.3)],
    [(4.5, 4.2)],
    [(4.2, 4.5)],
]


@pytest.mark.parametrize("runs", RUNS)
def test_periods_are_full_of_picture_and_sound_and_the_last_one_has_all_that_there_is(runs: Runs) -> None:
    segments = recorded(runs)
    made = manifest(periods_of(segments), Fraction(30))
    assert made is not None
    periods, whole = read(made.render())
    assert len(periods) == len(runs)
    assert periods[0].start == 0
    assert periods[-1].end == whole
    lasts = {(name, one.number): one.duration for name, listed in segments.items() for one in listed}
    for before, after in itertools.pairwise(periods):
        assert before.end == after.start
    for period in periods:
        for name, offered in period.tracks.items():
            # Players look for the segment of the period's first moment, and there has to be one.
            assert offered[0][1] == period.start
            assert offered[-1][1] < period.end
            for number, begin, end in offered:
                # Sound begins up to a frame late: that much its first segment is dated earlier.
                assert 0 <= end - begin - lasts[name, number] < FRAMES["audio"]
            if period is periods[-1]:
                # What lies behind the end is never played: dash.js stops up to half a second before it then.
                assert offered[-1][2] <= period.end
            else:
                # A hole before the next period is one in which a player stalls.
                assert offered[-1][2] >= period.end
    ends = [offered[-1][2] for offered in periods[-1].tracks.values()]
    assert whole - max(ends) < Fraction(1, 1000)


def test_a_segment_that_only_the_picture_has_ends_a_period() -> None:
    made = manifest(periods_of(recorded([(3.3, 2.9), (2.0, 2.0)])), Fraction(30))
    assert made is not None
    first, second = read(made.render())[0]
    for name in FRAMES:
        assert [number for number, *_ in first.tracks[name]] == [NUMBER, NUMBER + 1, NUMBER + 2]
        assert [number for number, *_ in second.tracks[name]] == [NUMBER + 7, NUMBER + 8]


def test_sound_that_begins_behind_its_picture_makes_no_period_with_it() -> None:
    segments = recorded([(3.0, 3.0), (0.5, 0.5), (3.0, 3.0)])
    at = [one.number for one in segments["audio"]].index(NUMBER + 6)
    late = segments["audio"][at]
    begin = Fraction(*late.date_ratio) + Fraction(3, 4)
    stored = StoredSegment.of([100], begin.as_integer_ratio())
    segments["audio"][at] = replace(late, stored=stored)
    made = manifest(periods_of(segments), Fraction(30))
    assert made is not None
    periods, whole = read(made.render())
    assert [number for period in periods for number, *_ in period.tracks["240p"]] == [
        *(NUMBER, NUMBER + 1, NUMBER + 2),
        *(NUMBER + 10, NUMBER + 11, NUMBER + 12),
    ]
    assert periods[-1].end == whole


@pytest.mark.parametrize("lost", [(2, 3), (0,), (5,)], ids=str)
def test_a_gap_of_one_rendition_takes_nothing_from_the_others(lost: tuple[int, ...]) -> None:
    segments = recorded([(6.0, 6.0)])
    high = [
        replace(one, gap=True, stored=None) if index in lost else one
        for index, one in enumerate(segments["240p"])
    ]
    made = manifest(periods_of({"720p": high, **segments}), Fraction(30))
    assert made is not None
    periods, whole = read(made.render())
    assert periods[0].start == 0
    assert periods[-1].end == whole
    assert all(before.end == after.start for before, after in itertools.pairwise(periods))
    numbers = {
        name: [number for period in periods for number, *_ in period.tracks.get(name, [])]
        for name in ("720p", *FRAMES)
    }
    assert numbers["240p"] == numbers["audio"] == [NUMBER + index for index in range(6)]
    assert numbers["720p"] == [NUMBER + index for index in range(6) if index not in lost]
    # Players that find no segment in a period stop: where it lacks one, it isn't offered.
    assert all(track for period in periods for track in period.tracks.values())


def test_a_rendition_without_a_segment_is_not_offered() -> None:
    segments = recorded([(3.0, 3.0)])
    none = [replace(one, gap=True, stored=None, timeline=None) for one in segments["240p"]]
    made = manifest(periods_of({**segments, "720p": none}), Fraction(30))
    assert made is not None
    (period,), _ = read(made.render())
    assert period.tracks.keys() == FRAMES.keys()


def test_a_period_ends_with_its_last_picture_where_groups_of_pictures_are_open() -> None:
    segments = recorded([(3.0, 3.0), (2.0, 2.0)])
    # Three pictures of what the first group spans in time are decoded behind the next key frame, and so on.
    first, *others = segments["240p"]
    segments["240p"] = [replace(first, duration=first.duration - 3 * FRAMES["240p"]), *others]
    made = manifest(periods_of(segments), Fraction(30))
    assert made is not None
    period, following = read(made.render())[0]
    assert period.end == following.start == Fraction(29, 10)


@pytest.mark.parametrize("behind", [(0.25, 0.3), (0.9, 0.95)])
def test_a_last_moment_that_would_make_a_player_stop_before_it_is_left_out(
    behind: tuple[float, float],
) -> None:
    # dash.js 5.2.1, DashAdapter: a period that ends less than a second before the presentation is its last.
    made = manifest(periods_of(recorded([(3.0, 3.0), behind])), Fraction(30))
    assert made is not None
    (period,), whole = read(made.render())
    assert period.end == whole
    assert [number for number, *_ in period.tracks["240p"]] == [NUMBER, NUMBER + 1, NUMBER + 2]


def test_captions_are_cut_into_fragments_of_a_minute_that_fill_a_period() -> None:
    first, second = periods_of(recorded([(125.5, 125.5), (2.0, 2.0)]))
    cut = chunks(first)
    assert [one.begin - 1000 * NUMBER for one in cut] == [0, 60_000, 120_000]
    assert [before.end for before in cut[:-1]] == [after.begin for after in cut[1:]]
    assert cut[-1].end == round(1000 * (first.began + first.length))
    assert [one.number for one in cut] == [NUMBER, NUMBER + 1, NUMBER + 2]
    assert [number for one in cut for number in one.segments] == list(range(NUMBER, NUMBER + 126))
    # No two fragments of a recording have the same name.
    assert chunks(second)[0].number == NUMBER + 129
