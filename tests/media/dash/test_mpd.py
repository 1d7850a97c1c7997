"""MPDs by ISO/IEC 23009-1; what players make of them is tested with VOD."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree

import pytest

from media.dash.durations import duration
from media.dash.mpd import AdaptationSet, Period, Representation, StaticManifest
from media.dash.segment_addressing import SegmentList, SegmentTemplate

NAMES = {"": "urn:mpeg:dash:schema:mpd:2011"}


def manifest(base_url: str = "video/") -> ElementTree.Element:
    segments = SegmentTemplate(90_000, [900, 180_900, 360_900, 450_900, 540_900], "init.mp4", "$Number$.m4s")
    picture = Representation(
        "v0", base_url, 800_000, "avc1.64001f", segments, (1280, 720), Fraction(30000, 1001)
    )
    sound = Representation("a0", "audio/", 64_000, "mp4a.40.2", segments, sample_rate=48_000, channels=6)
    sets = [AdaptationSet("video", [picture]), AdaptationSet("audio", [sound], "deu", main=False)]
    periods = [Period("0", Fraction(0), None, sets)]
    return ElementTree.fromstring(StaticManifest(Fraction(541, 90), Fraction(2), periods).render())


def one(root: ElementTree.Element, path: str) -> ElementTree.Element:
    found = root.find(path, NAMES)
    assert found is not None
    return found


def test_a_static_presentation_names_its_profile_and_its_duration() -> None:
    root = manifest()
    assert root.tag == "{urn:mpeg:dash:schema:mpd:2011}MPD"
    assert root.get("profiles") == "urn:mpeg:dash:profile:isoff-live:2011"
    assert root.get("type") == "static"
    assert root.get("mediaPresentationDuration") == "PT6.011S"
    assert root.get("minBufferTime")


def test_a_few_slides_have_no_frame_rate() -> None:
    segments = SegmentTemplate(1, [0, 2010], "init.mp4", "$Number$.m4s")
    for seconds, told in ((1000, "1/1000"), (2010, None)):
        slides = Representation("v0", "", 1, "avc1.64001f", segments, (64, 64), Fraction(1, seconds))
        assert slides.element().get("frameRate") == told


def test_equal_durations_in_a_row_are_one_entry_that_repeats() -> None:
    entries = manifest().findall(
        "Period/AdaptationSet/Representation/SegmentTemplate/SegmentTimeline/S", NAMES
    )
    assert [dict(entry.attrib) for entry in entries[:2]] == [
        {"t": "900", "d": "180000", "r": "1"},
        {"d": "90000", "r": "1"},
    ]


def test_segments_with_addresses_of_their_own_have_each_an_entry() -> None:
    """dash.js takes the address of an entry's number, also where entries before it repeat."""
    listed = SegmentList(10, [0, 20, 40, 60, 65], "init.mp4", ["1.m4s", "2.m4s", "3.m4s", "4.m4s"]).element()
    entries = [dict(entry.attrib) for entry in listed.iterfind("SegmentTimeline/S")]
    assert entries == [{"t": "0", "d": "20"}, {"d": "20"}, {"d": "20"}, {"d": "5"}]
    assert [one.get("media") for one in listed.iterfind("SegmentURL")] == ["1.m4s", "2.m4s", "3.m4s", "4.m4s"]


def test_representations_say_what_a_player_chooses_by() -> None:
    picture, sound = manifest().findall("Period/AdaptationSet/Representation", NAMES)
    assert (picture.get("width"), picture.get("height")) == ("1280", "720")
    assert picture.get("frameRate") == "30000/1001"
    assert picture.get("codecs") == "avc1.64001f"
    assert sound.get("audioSamplingRate") == "48000"
    assert one(sound, "AudioChannelConfiguration").get("value") == "6"


def test_sets_have_a_type_a_language_and_a_role() -> None:
    picture, sound = manifest().findall("Period/AdaptationSet", NAMES)
    assert (picture.get("mimeType"), sound.get("mimeType")) == ("video/mp4", "audio/mp4")
    assert (picture.get("lang"), sound.get("lang")) == (None, "deu")
    assert (one(picture, "Role").get("value"), one(sound, "Role").get("value")) == ("main", "alternate")


def test_addresses_can_not_break_out_of_their_element() -> None:
    address = "../a&b<c>\"'/"
    assert one(manifest(address), "Period/AdaptationSet/Representation/BaseURL").text == address


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "PT0.000S"), (Fraction(1, 3), "PT0.333S"), (7200, "PT7200.000S")]
)
def test_durations_are_seconds_to_the_millisecond(seconds: Fraction | int, text: str) -> None:
    assert duration(seconds) == text
