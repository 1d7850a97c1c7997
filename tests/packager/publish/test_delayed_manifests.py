"""DASH of a channel as it was a while ago: periods stay what they are while players are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from xml.etree import ElementTree

import pytest

from media.hls.precompressed_text import rendered
from packager.publish.hls import Presentation
from packager.window.cadence import cadence
from packager.window.model import LiveSegment, StoredSegment, Timeline, WindowOptions
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.conformance.handfed import Track
from tests.packager.stored_segments import timeline_of

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
STEP = 2
FIRST, COUNT = 1000, 120
CADENCE = cadence(Fraction(25), float(STEP), 0.5)
TOLD = 20
"""Segments that a manifest tells."""


def segments_of(
    timelines: dict[int, Timeline], gaps: Sequence[int], jumps: Sequence[int] = ()
) -> list[LiveSegment]:
    """Make segments: some are missing, and timelines begin with some."""
    found, begun, jumped = [], FIRST, 0
    for number in range(FIRST, FIRST + COUNT):
        begun = number if number in timelines else begun
        jumped += number in jumps
        shown = (number - begun) * STEP + 10 + 5 * jumped
        is_gap = number in gaps
        found.append(
            LiveSegment(
                number,
                timelines[begun],
                (number * STEP, 1),
                gap=is_gap,
                discontinuity=number == begun > FIRST,
                duration=Fraction(STEP),
                stored=None if is_gap else StoredSegment.of([100], (shown, 1)),
            )
        )
    return found


def manifests(track: Track, segments: list[LiveSegment]) -> list[ElementTree.Element]:
    """Return the manifests of all stretches of the segments, each a little later than the one before."""
    renditions = {}
    for name in ("240p", "audio"):
        window = Window(WindowOptions(STEP, FIRST + COUNT))
        window.begin(track.init.data, timeline_of(track, FIRST + COUNT).entry)
        window.listed.extend(segments[-3:])
        renditions[name] = Rendition(name, window, video=name != "audio", bitrate=1)
    presentation = Presentation(renditions, CADENCE)
    found = []
    for begin in range(0, len(segments) - TOLD, 3):
        told = segments[begin : begin + TOLD]
        made = presentation.delayed(dict.fromkeys(renditions, told), ())
        pieces = made.pieces("", 5000.0, Fraction(100), Fraction(5000), 12)
        found.append(ElementTree.fromstring(b"".join(rendered(pieces))))
    return found


def period_of(manifest: ElementTree.Element, number: int) -> tuple[str, str, Fraction] | None:
    """Return the id and the start of the period that has a segment, and the date of the segment by it."""
    for period in manifest.findall(f"{MPD}Period"):
        template = period.find(f".//{MPD}SegmentTemplate")
        assert template is not None
        first = int(template.get("startNumber", "0"))
        if first <= number <= int(template.get("endNumber", "99999")):
            start = period.get("start", "")
            date = Fraction(start.removeprefix("PT").removesuffix("S")) + (number - first) * STEP
            return period.get("id", ""), start, date
    return None


def check(track: Track, segments: list[LiveSegment]) -> set[str]:
    """Assert that each segment stays in one period, at its date; return the periods' ids."""
    known: dict[int, tuple[str, str, Fraction]] = {}
    for begin, manifest in enumerate(manifests(track, segments)):
        ids = [one.get("id") for one in manifest.findall(f"{MPD}Period")]
        assert len(set(ids)) == len(ids)
        for one in segments[3 * begin : 3 * begin + TOLD]:
            if not one.gap:
                found = period_of(manifest, one.number)
                assert found is not None
                assert found[2] == one.program_date_time
                assert known.setdefault(one.number, found) == found, one.number
    return {found[0] for found in known.values()}


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.2")
@pytest.mark.parametrize("gaps", [(), (1030,), (1030, 1031, 1032, 1060), tuple(range(1030, 1045))])
def test_a_period_keeps_its_id_when_a_gap_leaves_it(material: dict[str, Track], gaps: Sequence[int]) -> None:
    track = material["240p"]
    assert check(track, segments_of({FIRST: timeline_of(track, FIRST)}, gaps)) == {f"p{FIRST}"}


def test_a_break_begins_a_period_that_keeps_its_id(material: dict[str, Track]) -> None:
    track = material["240p"]
    timelines = {number: timeline_of(track, number) for number in (FIRST, 1050, 1080)}
    assert check(track, segments_of(timelines, (1030, 1048, 1049, 1085))) == {"p1000", "p1050", "p1080"}


def test_media_times_that_jump_behind_a_gap_begin_a_period(material: dict[str, Track]) -> None:
    track = material["240p"]
    segments = segments_of({FIRST: timeline_of(track, FIRST)}, (1030,), jumps=(1031,))
    (manifest,) = manifests(track, segments[20 : 20 + TOLD + 1])
    assert [one.get("id") for one in manifest.findall(f"{MPD}Period")] == ["p1000", "p1031"]
