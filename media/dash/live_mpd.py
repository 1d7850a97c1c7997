"""The syntax of live DASH manifests (ISO/IEC 23009-1, type dynamic), as far as those of films lack it.

Segments of a period have one duration: so a player knows the number of a segment and when it comes, before it
is there (§5.3.9.5.3); `media.dash.segment_addressing.NumberTemplate` says so, with availabilityTimeOffset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement

from media.dash.durations import decimal, duration
from media.dash.mpd import HTTP_ISO, ISOFF_LIVE, NAMESPACE, encoded

LATENCY_REFERENCE = 0
"""ID by which the service description refers to ProducerReferenceTime elements (annex K.3.2)."""

PERIODS = "Periods"
"""Placeholder element, which the serialized periods replace."""

BETWEEN = b"\n  "
"""Separator of two periods."""

EPOCH = "1970-01-01T00:00:00Z"
"""Availability starts with the epoch: then a period's start is its date, on every node and for ever."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency targets in seconds, and the playback rates by which players reach them (annex K.3.2)."""

    target: Fraction
    least: Fraction
    most: Fraction
    slowest: Fraction = Fraction(96, 100)
    fastest: Fraction = Fraction(104, 100)

    def later(self, delay: Fraction) -> Latency:
        """Return the targets of those who watch so many seconds later."""
        return replace(self, target=self.target + delay, least=self.least + delay, most=self.most + delay)

    def element(self) -> Element:
        """Build the ServiceDescription; latencies are written in milliseconds."""
        description = Element("ServiceDescription", id="0")
        low, wanted, high = (str(round(1000 * value)) for value in (self.least, self.target, self.most))
        SubElement(
            description, "Latency", referenceId=str(LATENCY_REFERENCE), min=low, target=wanted, max=high
        )
        SubElement(description, "PlaybackRate", min=decimal(self.slowest), max=decimal(self.fastest))
        return description


@dataclass(frozen=True, slots=True)
class DynamicManifest:
    """A live presentation (§5.3.1.2, type dynamic).

    Attributes:
        publish_time: ISO 8601 date of this version.
        update_period: seconds after which a player asks for a newer one.
        time_shift_depth: seconds that can be sought back.
        max_segment_duration: seconds of the longest segment.
        min_buffer: seconds to buffer, at a representation's bandwidth, for playing without a stall.
        presentation_delay: seconds behind the newest at which players begin.
        latency: targets of players; None where playback is to stay where it began.
        clock: address of the clock (``HTTP_ISO``).
        location: address of its next versions, relative to its own; empty where that is the same.
        availability_start: ISO 8601 date from which the periods' starts count, for the clock of players.
        end: seconds from the availability start to the last period's end, of an ended presentation.
        ended: whether no more segments will come.
        settled: whether all players have seen the end: the manifest is then of type static, without a live
            edge, and times count from its beginning. For a player in between that would move all times.
    """

    publish_time: str
    update_period: Fraction
    time_shift_depth: Fraction
    max_segment_duration: Fraction
    min_buffer: Fraction
    presentation_delay: Fraction
    latency: Latency | None
    clock: str
    location: str = ""
    availability_start: str = EPOCH
    end: Fraction = Fraction(0)
    has_periods: bool = True
    ended: bool = False
    settled: bool = False

    def around(self) -> tuple[bytes, bytes]:
        """Write the parts of the manifest before and behind the periods, as XML in UTF-8.

        The periods are serialized apart (`Period.write`), joined by `BETWEEN`: few of many are new each time.
        """
        mpd = Element(
            "MPD",
            xmlns=NAMESPACE,
            profiles=ISOFF_LIVE,
            type="static" if self.settled else "dynamic",
            publishTime=self.publish_time,
            maxSegmentDuration=duration(self.max_segment_duration),
            minBufferTime=duration(self.min_buffer),
        )
        if not self.settled:
            mpd.set("availabilityStartTime", self.availability_start)
            mpd.set("timeShiftBufferDepth", duration(self.time_shift_depth))
            mpd.set("suggestedPresentationDelay", duration(self.presentation_delay))
        if self.ended:
            # §5.3.1.2: its end is known.
            mpd.set("mediaPresentationDuration", duration(self.end))
        else:
            # §5.4.1: without it nothing is ever updated.
            mpd.set("minimumUpdatePeriod", duration(self.update_period))
        if self.location:
            SubElement(mpd, "Location").text = self.location
        if self.latency is not None and not self.settled:
            mpd.append(self.latency.element())
        if self.has_periods:
            SubElement(mpd, PERIODS)
        if not self.settled:
            SubElement(mpd, "UTCTiming", schemeIdUri=HTTP_ISO, value=self.clock)
        before, _, behind = encoded(mpd).partition(b"<%b />" % PERIODS.encode())
        return before, behind
