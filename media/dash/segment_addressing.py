"""Addresses and times of a DASH representation's segments (ISO/IEC 23009-1 §5.3.9): template, list, one file.

Films have a template with a timeline of each segment's time (§5.3.9.6), as the isoff-live profile wants it,
or a list of addresses; live channels have a template by numbers, with availabilityTimeOffset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import numpy.typing as npt

from media.dash.durations import decimal

Times = Sequence[int] | npt.NDArray[np.int64]
"""Ticks; of many an array, which is faster."""


@dataclass(frozen=True, slots=True)
class SegmentTemplate:
    """The addresses and times of a representation's segments (§5.3.9.4).

    Attributes:
        timescale: ticks per second of the timeline.
        times: when each segment begins in ticks, rising, and behind them the end.
        initialization: address of the init segment.
        media: address of a segment, with ``$Number$`` for its number.
        start_number: of the first segment.
        presentation_time_offset: time in ticks at which the period begins.
    """

    timescale: int
    times: Times
    initialization: str
    media: str
    start_number: int = 0
    presentation_time_offset: int = 0

    def element(self) -> Element:
        """Build the SegmentTemplate element, with its timeline."""
        template = Element(
            "SegmentTemplate",
            timescale=str(self.timescale),
            startNumber=str(self.start_number),
            initialization=self.initialization,
            media=self.media,
        )
        if self.presentation_time_offset:
            template.set("presentationTimeOffset", str(self.presentation_time_offset))
        template.append(_timeline(self.times))
        return template


@dataclass(frozen=True, slots=True)
class SegmentList:
    """The times of a representation's segments, each of which has an address of its own (§5.3.9.3).

    Attributes:
        timescale: ticks per second of the timeline.
        times: when each segment begins in ticks, rising, and behind them the end.
        initialization: address of the init segment.
        presentation_time_offset: time in ticks at which the period begins.
    """

    timescale: int
    times: Sequence[int]
    initialization: str
    media: Sequence[str]
    presentation_time_offset: int = 0

    def element(self) -> Element:
        """Build the SegmentList element, with its timeline."""
        listed = Element("SegmentList", timescale=str(self.timescale))
        if self.presentation_time_offset:
            listed.set("presentationTimeOffset", str(self.presentation_time_offset))
        SubElement(listed, "Initialization", sourceURL=self.initialization)
        # dash.js 5.2 counts an entry that repeats as one address, and asks for others than these segments.
        listed.append(_timeline(self.times, repeat=False))
        for media in self.media:
            SubElement(listed, "SegmentURL", media=media)
        return listed


def _timeline(times: Times, *, repeat: bool = True) -> Element:
    """Build a SegmentTimeline; equal durations in a row may be one entry that repeats (§5.3.9.6)."""
    timeline = Element("SegmentTimeline")
    for duration, count in _runs(times):
        for _ in range(1 if repeat else count):
            entry = SubElement(timeline, "S", d=str(duration))
            if len(timeline) == 1:
                entry.set("t", str(times[0]))
        if repeat and count > 1:
            entry.set("r", str(count - 1))
    return timeline


def _runs(times: Times) -> Iterator[tuple[int, int]]:
    """Yield the durations between times, each with how often it comes in a row."""
    if isinstance(times, np.ndarray):
        durations = times[1:] - times[:-1]
        behind = [*(np.flatnonzero(durations[1:] != durations[:-1]) + 1).tolist(), len(durations)]
        yield from ((int(durations[end - 1]), end - begin) for begin, end in pairwise((0, *behind)))
        return
    for duration, run in groupby(end - start for start, end in pairwise(times)):
        yield duration, sum(1 for _ in run)


@dataclass(frozen=True, slots=True)
class NumberTemplate:
    """Segments of equal duration, the last of which can be requested before it is complete (§5.3.9.5).

    Attributes:
        timescale: ticks per second.
        duration: of a segment, in ticks.
        start_number: of the period's first segment.
        end_number: of the period's last segment; None while it follows from the period's duration.
        last_duration: of the last segment in ticks, when all exist; a timeline then has their number
            (§5.3.9.6). Players that don't know @endNumber would count segments by the period's duration, and
            request one too many where audio ends a few milliseconds behind the last picture.
        presentation_time_offset: media time in ticks at which the period begins.
        availability_time_offset: seconds by which a segment can be requested before it is complete; None
            if all are complete.
        initialization: address of the init segment.
        media: address of a segment, with ``$Number$`` for its number.
    """

    timescale: int
    duration: int
    start_number: int
    presentation_time_offset: int
    availability_time_offset: Fraction | None
    initialization: str
    media: str
    end_number: int | None = None
    last_duration: int | None = None

    def element(self) -> Element:
        """Build the SegmentTemplate element; it has no timeline while more segments may come."""
        template = Element(
            "SegmentTemplate",
            timescale=str(self.timescale),
            startNumber=str(self.start_number),
            presentationTimeOffset=str(self.presentation_time_offset),
            initialization=self.initialization,
            media=self.media,
        )
        if self.availability_time_offset is not None:
            template.set("availabilityTimeOffset", decimal(self.availability_time_offset))
            template.set("availabilityTimeComplete", "false")
        if self.end_number is not None:
            template.set("endNumber", str(self.end_number))
        if self.end_number is None or self.last_duration is None:
            template.set("duration", str(self.duration))
            return template
        timeline, begin = SubElement(template, "SegmentTimeline"), self.presentation_time_offset
        before = self.end_number - self.start_number
        if before:
            SubElement(timeline, "S", t=str(begin), d=str(self.duration), r=str(before - 1))
        SubElement(timeline, "S", t=str(begin + before * self.duration), d=str(self.last_duration))
        return template


@dataclass(frozen=True, slots=True)
class SegmentBase:
    """The one file of a representation, which begins with init segment and index (§5.3.9.2).

    Attributes:
        timescale: ticks per second.
        init_bytes: length of the init segment at its beginning.
        index_bytes: length of the index (``sidx``) behind that.
        offset: time in the media at which the period begins, in ticks.
    """

    timescale: int
    init_bytes: int
    index_bytes: int
    offset: int = 0

    def element(self) -> Element:
        """Build the SegmentBase element."""
        first, behind = self.init_bytes, self.init_bytes + self.index_bytes
        base = Element("SegmentBase", timescale=str(self.timescale), indexRange=f"{first}-{behind - 1}")
        if self.offset:
            base.set("presentationTimeOffset", str(self.offset))
        SubElement(base, "Initialization", range=f"0-{first - 1}")
        return base


@dataclass(frozen=True, slots=True)
class PictureTemplate:
    """Pictures by number, from 0, each for ``duration`` ticks (§5.3.9.4)."""

    media: str
    duration: int
    timescale: int = 1000

    def element(self) -> Element:
        """Build the SegmentTemplate element of pictures."""
        return Element(
            "SegmentTemplate",
            timescale=str(self.timescale),
            duration=str(self.duration),
            startNumber="0",
            media=self.media,
        )
