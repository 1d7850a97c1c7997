"""DASH of a live channel over breaks: where its periods begin and end, before and after the end of all."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from xml.etree import ElementTree

import pytest

from packager.window.cadence import cadence
from tests.packager.publish.aired_periods import LONG_AFTER, NUMBER, SCALE, Air

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}


def seconds(element: ElementTree.Element, name: str) -> Fraction:
    return Fraction(element.attrib[name].removeprefix("PT").removesuffix("S"))


def numbers(period: ElementTree.Element) -> set[tuple[int, int]]:
    """First and last number, of picture and sound."""
    templates = period.findall("AdaptationSet/Representation/SegmentTemplate", NAMES)
    assert len(templates) == 2
    return {(int(one.attrib["startNumber"]), int(one.attrib["endNumber"])) for one in templates}


BREAKS = [
    # Parts of picture and sound before the break; tenths of a second that both have, and segments.
    ((35, 33), 33, 4),
    ((33, 35), 33, 4),
    ((33, 30), 30, 3),  # the sound has nothing of the fourth segment
    ((29, 33), 29, 3),
]


@pytest.mark.parametrize(("runs", "common", "count"), BREAKS)
def test_a_period_that_is_over_ends_where_its_first_rendition_does(
    runs: tuple[int, int], common: int, count: int
) -> None:
    air = Air()
    air.run(*runs)
    air.run(15, 15)
    first, second = air.root().findall("Period", NAMES)
    assert seconds(first, "start") == NUMBER
    # A hole before the next period is one in which a player stalls, and a number that isn't there is a 404.
    assert seconds(first, "duration") == Fraction(common, 10)
    assert numbers(first) == {(NUMBER, NUMBER + count - 1)}
    assert second.get("duration") is None
    assert seconds(second, "start") == NUMBER + 4


@pytest.mark.parametrize(("last", "tenths"), [((25, 23), 25), ((23, 25), 25), ((13, 9), 10), ((4, 5), 10)])
def test_the_end_of_all_is_the_end_of_the_longest(last: tuple[int, int], tenths: int) -> None:
    air = Air()
    air.run(35, 35)
    air.run(*last)
    air.aligned.end()
    root = air.root()
    assert root.get("type") == "dynamic"
    _, period = root.findall("Period", NAMES)
    # dash.js stops before what lies behind the end; and takes a last period below a second for none.
    assert seconds(period, "duration") == Fraction(tenths, 10)
    assert seconds(root, "mediaPresentationDuration") == NUMBER + 4 + Fraction(tenths, 10)


def test_sound_that_ends_behind_the_last_segment_begins_no_other_one() -> None:
    air = Air()
    air.run(35, 35)
    air.run(30, 30, behind=Fraction(15, 1000))
    air.aligned.end()
    *_, period = air.root().findall("Period", NAMES)
    for template in period.findall("AdaptationSet/Representation/SegmentTemplate", NAMES):
        step = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
        count = math.ceil(seconds(period, "duration") / step)
        assert int(template.attrib["endNumber"]) == int(template.attrib["startNumber"]) + count - 1


def test_what_is_settled_lasts_as_long_as_its_sound_and_lists_the_segments_that_there_are() -> None:
    """dash.js 5.2.1 pauses for ever where it looks between a too early end and the end of the media."""
    air = Air()
    air.run(35, 35)
    air.run(30, 30, behind=Fraction(15, 1000))
    air.aligned.end()
    root = air.root(LONG_AFTER)
    first, last = root.findall("Period", NAMES)
    assert seconds(last, "duration") == Fraction(3015, 1000)
    assert seconds(root, "mediaPresentationDuration") == seconds(first, "duration") + Fraction(3015, 1000)
    for period in (first, last):
        for template in period.findall("AdaptationSet/Representation/SegmentTemplate", NAMES):
            # Shaka 5.2.12 knows no @endNumber: only a timeline tells it how many segments there are.
            assert template.get("duration") is None
            count, end = 0, int(template.attrib["presentationTimeOffset"])
            for entry in template.findall("SegmentTimeline/S", NAMES):
                assert int(entry.attrib["t"]) == end
                repeated = 1 + int(entry.get("r", 0))
                count, end = count + repeated, end + repeated * int(entry.attrib["d"])
            assert int(template.attrib["endNumber"]) == int(template.attrib["startNumber"]) + count - 1
            length = Fraction(
                end - int(template.attrib["presentationTimeOffset"]), int(template.attrib["timescale"])
            )
            assert length == seconds(period, "duration")


def test_numbers_and_times_of_sound_stay_together_for_years() -> None:
    """44.1 kHz and 29.97 frames a second have no whole number of ticks in common but each ten seconds."""
    air = Air(rate=Fraction(30000, 1001), scale=44_100)
    air.run(35, 35)
    for template in air.root().iterfind(".//SegmentTemplate", NAMES):
        step = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
        assert step == Fraction(30 * 1001, 30000)


@pytest.mark.parametrize(("kept", "count"), [(60, 2), (42, 2), (8, 1)])
def test_what_is_settled_is_told_from_its_beginning_without_what_was_missed(kept: int, count: int) -> None:
    air = Air(kept)
    air.run(35, 33)
    air.run(400, 400)
    air.aligned.end()
    root = air.root(LONG_AFTER)
    assert root.get("type") == "static"
    assert root.get("availabilityStartTime") is None
    periods = root.findall("Period", NAMES)
    assert len(periods) == count
    assert seconds(periods[0], "start") == 0
    for before, after in itertools.pairwise(periods):
        assert seconds(before, "start") + seconds(before, "duration") == seconds(after, "start")
    assert seconds(periods[-1], "start") + seconds(periods[-1], "duration") == seconds(
        root, "mediaPresentationDuration"
    )
    oldest = air.renditions["240p"].window.listed[0].number
    # What has left the playlists isn't offered: it may be gone when somebody asks for it.
    assert {first for first, _ in numbers(periods[0])} == {oldest}
    for template in periods[0].findall("AdaptationSet/Representation/SegmentTemplate", NAMES):
        assert int(template.attrib["presentationTimeOffset"]) == oldest * int(template.attrib["timescale"])
        assert template.get("availabilityTimeOffset") is None


def test_a_period_begins_when_its_first_picture_is_shown_and_not_when_it_is_decoded() -> None:
    air = Air(delay=80)
    air.run(35, 35)
    (period,) = air.root().findall("Period", NAMES)
    assert seconds(period, "start") == NUMBER + Fraction(8, 100)
    for template in period.findall("AdaptationSet/Representation/SegmentTemplate", NAMES):
        assert int(template.attrib["presentationTimeOffset"]) == NUMBER * SCALE + 80


def test_a_period_never_lasts_into_the_next_one() -> None:
    air = Air()
    air.run(30, 30)
    # The clock was found to be ahead by half a second, when the next encoder began at once.
    air.run(30, 30, late=Fraction(-1, 2))
    first, second = air.root().findall("Period", NAMES)
    assert seconds(first, "start") + seconds(first, "duration") == seconds(second, "start")


def test_the_publish_time_changes_with_the_manifest_and_not_with_who_asks() -> None:
    air = Air()
    air.run(35, 35)

    def published(now: float, suffix: str = "") -> str | None:
        return ElementTree.fromstring(air.manifest.render(suffix, now)).get("publishTime")

    first = published(NUMBER + 10)
    assert first == published(NUMBER + 20) == published(NUMBER + 30, "?token=1")
    air.run(15, 15)
    assert published(NUMBER + 40) != first


def test_a_station_says_that_its_parts_may_wait_for_the_block_that_has_their_end() -> None:
    """Its sound comes in blocks as long as a part: what a part lacks of a block comes with the next one."""
    air = Air(names=("audio",))
    air.run(0, 15)
    (template,) = air.root().iterfind(".//SegmentTemplate", NAMES)
    segment = Fraction(int(template.attrib["duration"]), int(template.attrib["timescale"]))
    target = cadence(Fraction(30), 1.0, 0.1).part_target
    assert Fraction(template.attrib["availabilityTimeOffset"]) == segment - 2 * target
