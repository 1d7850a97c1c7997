"""The syntax of live DASH manifests (ISO/IEC 23009-1, type dynamic).

Segments of a period have one duration: so a player knows the number of a segment and when it comes, before it
is there (§5.3.9.5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from xml.etree.ElementTree import Element, SubElement

from media.dash.mpd import HTTP_ISO, ISOFF_LIVE, NAMESPACE, WrittenPeriod, decimal, duration, encoded

LATENCY_REFERENCE = 0
"""By which the service description names the adaptation sets' ProducerReferenceTime (annex K.3.2)."""

PERIODS = "Periods"
"""An element in whose place the periods are put, which are written already: of many only few are new."""

EPOCH = "1970-01-01T00:00:00Z"
"""Availability starts with the epoch: then a period's start is its date, on every node and for ever."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How far behind now a player should be (annex K.3.2), in seconds, and how much it may hurry or lag."""

    target: Fraction
    least: Fraction
    most: Fraction
    slowest: Fraction = Fraction(96, 100)
    fastest: Fraction = Fraction(104, 100)

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
    """A live presentation (§5.3.1.2, type dynamic), whose availability starts with the epoch.

    Attributes:
        publish_time: ISO 8601 date of this version.
        update_period: seconds after which a player asks for a newer one.
        time_shift_depth: seconds that can be sought back.
        max_segment_duration: seconds of the longest segment.
        min_buffer: seconds to buffer, at a representation's bandwidth, for playing without a stall.
        latency: what the service aims at.
        clock: address of the clock (``HTTP_ISO``).
        periods: in order.
        ended: whether nothing comes any more.
        settled: whether everybody who was there knows it: then it is of type static, which has no live edge
            that leaves it behind; times count from its beginning. To a player on the way that would change
            what all times count from.
    """

    publish_time: str
    update_period: Fraction
    time_shift_depth: Fraction
    max_segment_duration: Fraction
    min_buffer: Fraction
    latency: Latency
    clock: str
    periods: Sequence[WrittenPeriod]
    ended: bool = False
    settled: bool = False

    def render(self) -> bytes:
        """Write the manifest as XML in UTF-8."""
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
            mpd.set("availabilityStartTime", EPOCH)
            mpd.set("timeShiftBufferDepth", duration(self.time_shift_depth))
            mpd.set("suggestedPresentationDelay", duration(self.latency.target))
        if self.ended:
            # §5.3.1.2: its end is known.
            end = max((one.start + (one.duration or 0) for one in self.periods), default=Fraction(0))
            mpd.set("mediaPresentationDuration", duration(end))
        else:
            # §5.4.1: without it nothing is ever updated.
            mpd.set("minimumUpdatePeriod", duration(self.update_period))
        if not self.settled:
            mpd.append(self.latency.element())
        if self.periods:
            SubElement(mpd, PERIODS)
        if not self.settled:
            SubElement(mpd, "UTCTiming", schemeIdUri=HTTP_ISO, value=self.clock)
        return encoded(mpd).replace(
            b"<%b />" % PERIODS.encode(), b"\n  ".join(one.text for one in self.periods)
        )
