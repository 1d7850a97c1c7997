"""How many segments are waited for that players of DASH ask for by their clock."""

from __future__ import annotations

from fractions import Fraction

import pytest

from origin.live.requests.availability import due_segments
from packager.publish.live_stream import FoldedLog, LiveStream
from packager.window.cadence import cadence
from packager.window.log import CadenceEntry, RenditionFormat
from packager.window.model import LivePart
from tests.origin.live.served_log import NoCommands

END = 100
"""When the last part ends, by the clock."""


@pytest.mark.parametrize(
    ("seconds", "late", "awaited"),
    [
        (2.0, -1, 1),
        (2.0, 0.9, 1),
        (2.0, 2.0, 2),
        (2.0, 5.0, 3),
        (2.0, 600, 6),
        # A source that is late by a segment and a part, whose segments are shorter than the target duration,
        # which is 2 s.
        (1.5, 1.7, 2),
        # Dates may be later than their period says by 0.3 s, and a player's clock may be ahead.
        (1.0, 0.9, 2),
        (2.0, 1.8, 2),
    ],
)
def test_as_many_segments_are_waited_for_as_a_late_encoder_owes(
    seconds: float, late: float, awaited: int
) -> None:
    stream = LiveStream("test", NoCommands())
    cut = cadence(Fraction(30), seconds, 0.2)
    stream.adopt(FoldedLog(CadenceEntry(cut, (RenditionFormat("240p", True, 1000),), 7, 0, 0.0)))
    window = stream.renditions["240p"].window
    stream.wall_clock = lambda: END + late
    assert due_segments(stream, window) == 1
    length = cut.segment_duration
    window.append(LivePart(b"x", length, True), END - length, ends_segment=True)
    assert due_segments(stream, window) == awaited
