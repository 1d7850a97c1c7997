"""Date ranges as events of live manifests, beside those of manifests that are made from scratch."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from fractions import Fraction
from xml.etree import ElementTree

import pytest

from media.hls.date_range import DateRange, read_date_range
from packager.publish.dash import LiveManifest
from packager.publish.dash_events import MOST_EVENTS, SCHEME, event_streams
from packager.publish.date_ranges import DateRanges, merged
from tests.packager.publish.aired_periods import LONG_AFTER, NUMBER, Air

DASH = "{urn:mpeg:dash:schema:mpd:2011}"


def a_range(
    name: str, start: float, duration: float | None = None, planned: float | None = None
) -> DateRange:
    """Make a range that starts so many seconds behind the channel's beginning."""
    lasts, planned_to_last = (None if one is None else Fraction(one) for one in (duration, planned))
    return DateRange(
        name, Fraction(NUMBER + start), "test", lasts, planned_to_last, {"X-TITLE": f"ä\ufffe {name}"}
    )


def events(air: Air, now: float = NUMBER) -> list[list[tuple[str, int, str | None]]]:
    """Return the name, the time and the duration of the events of each period."""
    found = []
    for period in ElementTree.fromstring(air.manifest.render("", now)).iter(f"{DASH}Period"):
        # ISO/IEC 23009-1 §5.3.2.3: in this order.
        kinds = [one.tag.removeprefix(DASH) for one in period]
        assert kinds == sorted(kinds, key=["EventStream", "AdaptationSet"].index)
        streams = period.findall(f"{DASH}EventStream")
        assert [(one.get("schemeIdUri"), one.get("timescale")) for one in streams] in ([], [(SCHEME, "1000")])
        listed = [one for stream in streams for one in stream]
        names = [json.loads(one.text or "")["ID"] for one in listed]
        assert len({one.get("id") for one in listed}) == len(names)
        times = [int(one.attrib["presentationTime"]) for one in listed]
        found.append(list(zip(names, times, [one.get("duration") for one in listed], strict=True)))
    return found


@pytest.mark.clause("ISO/IEC 23009-1 §5.10.2")
def test_each_period_has_the_ranges_that_touch_it() -> None:
    air = Air(600)
    air.manifest.date_ranges = ranges = DateRanges()
    # Ten seconds each, and no time between.
    for _ in range(3):
        air.run(100, 100)
    assert events(air) == [[], [], []]
    for one in (
        a_range("before", -20, 25),
        a_range("moment", 12.5, 0),
        a_range("across", 5, 10),
        a_range("planned", 8, planned=14),
        a_range("open", 15),
        a_range("over", -20, 20),
        a_range("to come", 29.5, 2),
    ):
        ranges.add(one, 0)
    assert events(air) == [
        [("before", 0, "5000"), ("across", 5000, "10000"), ("planned", 8000, "14000")],
        [
            ("across", 0, "5000"),
            ("planned", 0, "12000"),
            ("moment", 2500, "0"),
            ("open", 5000, None),
        ],
        [("planned", 0, "2000"), ("open", 0, None), ("to come", 9500, "2000")],
    ]
    ranges.add(replace(a_range("open", 15, 3), client_attributes={}), 0)
    assert ("open", 5000, "3000") in events(air)[1]
    assert "open" not in [name for name, _, _ in events(air)[2]]
    # Times of a channel that is over count from its beginning, but those of events from their periods'.
    air.aligned.end()
    assert events(air, LONG_AFTER)[1][1] == ("planned", 0, "12000")


def test_a_message_has_what_hls_says() -> None:
    tag = replace(
        a_range("a", 1, 2.5, 3), client_attributes={"X-N": 1.5, "X-TITLE": '<&> "ö'.replace('"', "'")}
    )
    ((stream,),) = event_streams([tag], [Fraction(NUMBER)], None)
    assert json.loads(stream.events[0].text) == {
        "ID": "a",
        "CLASS": "test",
        "START-DATE": str(tag).partition('START-DATE="')[2].partition('"')[0],
        "DURATION": 2.5,
        "PLANNED-DURATION": 3.0,
        "X-N": 1.5,
        "X-TITLE": "<&> 'ö",
    }
    assert read_date_range(str(tag)) == tag


def test_many_periods_have_the_events_of_a_manifest_from_scratch() -> None:
    air = Air(600)
    air.manifest = LiveManifest(air.renditions, air.manifest._cadence, 3, DateRanges())
    ranges = air.manifest.date_ranges
    for number in range(20):
        air.run(30, 30)
        if number % 4 == 0:
            ranges.add(a_range(f"r{number}", 3 * number + 1, planned=15), 0)
        if number % 8 == 2:
            ranges.add(replace(a_range(f"r{number - 2}", 3 * number - 5, 7), client_attributes={}), 0)
        if number % 3 == 0:
            air.manifest.keep_up()
        kept = air.manifest.render("", NUMBER)
        scratch = LiveManifest(air.renditions, air.manifest._cadence, date_ranges=ranges)
        scratch._tracker, scratch._published = air.manifest._tracker, air.manifest._published
        assert scratch.render("", NUMBER) == kept
    assert len([one for one in events(air) if one]) > 10


def test_a_manifest_has_so_many_events_of_the_newest() -> None:
    begins = [Fraction(NUMBER + number) for number in range(MOST_EVENTS)]
    found = event_streams([a_range(f"r{number}", number) for number in range(500)], begins, None)
    assert sum(len(one.events) for streams in found for one in streams) == MOST_EVENTS
    assert found[-1] != ()


def test_tags_of_one_range_are_one() -> None:
    planned, other = a_range("a", 1, planned=3), a_range("b", 2)
    ended = replace(planned, duration=Fraction(2), planned_duration=None, client_attributes={})
    assert merged([planned, other, ended]) == (replace(planned, duration=Fraction(2)), other)


OUT = "0xFC302F000000000000FFFFF014054800008F7FEFFE7369C02EFE0052CCF500000000000A0008435545490000013562DBA30A"
IN = "0xFC3020000000000000FFFFF00F05000000017F7FFE000000000000000000006F8D9D21"


@pytest.mark.clause("ISO/IEC 23009-1 §5.10.2")
def test_a_break_of_scte_35_is_in_dash_at_its_beginning_and_at_its_end() -> None:
    out = replace(a_range("ad", 4, planned=60), client_attributes={"SCTE35-OUT": OUT})
    back = replace(out, duration=Fraction(30), client_attributes={"SCTE35-IN": IN})
    (whole,) = merged([out, back])
    assert whole.client_attributes == {"SCTE35-OUT": OUT, "SCTE35-IN": IN}
    air = Air(600)
    air.manifest.date_ranges = DateRanges()
    air.run(100, 100)
    for tag in (out, back):
        air.manifest.date_ranges.add(tag, 0)
    (period,) = ElementTree.fromstring(air.manifest.render("", NUMBER)).iter(f"{DASH}Period")
    ranges, splices = period.findall(f"{DASH}EventStream")
    assert (ranges.get("schemeIdUri"), len(ranges)) == (SCHEME, 1)
    # SCTE 214-1 §6.7.4; ISO/IEC 23009-1 §5.10.2.2: a message of bytes is in base64.
    assert splices.get("schemeIdUri") == "urn:scte:scte35:2013:bin"
    facts = [
        (one.get("presentationTime"), one.get("duration"), one.get("contentEncoding")) for one in splices
    ]
    assert facts == [("4000", "30000", "base64"), ("34000", "0", "base64")]
    assert base64.b64decode(splices[0].text or "").hex() == OUT[2:].lower()
