"""Events of a publisher's stream that can't be published cost a line of the log, however many come."""

from __future__ import annotations

import time
from fractions import Fraction

from structlog.testing import capture_logs

from media.hls.date_range import DateRange
from media.packets import EventKind, StreamEvent
from packager.live.stream_events import StreamEvents
from packager.live.timed_metadata import TimedMetadata
from packager.publish.date_ranges import DateRangeError


def test_whoever_sends_events_that_are_refused_does_not_choose_how_much_is_logged() -> None:
    def refuse(_range: DateRange) -> None:
        raise DateRangeError("there are too many")

    events = StreamEvents("studio", refuse, TimedMetadata(["source"], 0))
    now = Fraction(round(time.time()))
    with capture_logs() as lines:
        for number in range(500):
            events.push(StreamEvent(EventKind.SPLICE, 0, b"no section %d" % number), now)
            # A name, and no more.
            events.push(StreamEvent(EventKind.CUE, 0, b"\x02\x00\x04%04d" % number), now)
    assert sorted(one["reason"] for one in lines) == ["no section of SCTE 35", "there are too many"]
