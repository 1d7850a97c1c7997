"""The WebVTT of a span of a channel's past that names a small picture for each few seconds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from media.mp4.codecs.sample_entry import SampleEntry
from media.subtitles.webvtt import timestamp
from packager.window.model import LiveSegment

THUMBNAIL_WIDTH = 192
"""Pixels of a small picture's width."""

INTERVAL_SECONDS = 10
"""Seconds for which a small picture stands; a long span has them less often."""

MOST_THUMBNAILS = 1000
"""Most small pictures of a span."""


def thumbnail_size(entry: SampleEntry) -> tuple[int, int]:
    """Return width and height of a small picture in pixels."""
    across, down = entry.pixel_aspect
    ratio = Fraction(max(entry.height, 1) * down, max(entry.width, 1) * across)
    return THUMBNAIL_WIDTH, max(2 * round(THUMBNAIL_WIDTH * ratio / 2), 2)


def thumbnails_vtt(
    segments: Sequence[LiveSegment], zero: Fraction, size: tuple[int, int], address: Callable[[Fraction], str]
) -> str:
    """Write the WebVTT; what is missed has no pictures.

    Args:
        segments: of the span, in order.
        zero: the date at which its times begin, in seconds since the epoch.
        size: of the pictures, in pixels.
        address: returns the address of the picture of a date.
    """
    last = segments[-1]
    behind = last.program_date_time + last.duration
    interval = max(INTERVAL_SECONDS, math.ceil((behind - zero) / MOST_THUMBNAILS))
    lines, place = ["WEBVTT", ""], "#xywh=0,0,{},{}".format(*size)
    shown = None
    for segment in segments:
        begin = segment.program_date_time
        end = begin + segment.duration
        if segment.gap:
            continue
        # Dates are multiples of the interval, so that all spans name the same pictures.
        first = max(math.ceil(begin / interval), math.ceil(zero / interval) - 1)
        dates = [Fraction(number * interval) for number in range(first, math.ceil(end / interval))]
        if shown is None and (not dates or dates[0] > zero):
            # None of these is in the first seconds, which have the picture of their beginning.
            dates.insert(0, Fraction(math.ceil(max(begin, zero) * 1000), 1000))
        for date in dates:
            if date == shown:
                continue
            shown = date
            until = min(Fraction((math.floor(date / interval) + 1) * interval), behind)
            lines += [f"{_at(date - zero)} --> {_at(until - zero)}", address(date) + place, ""]
    return "\n".join(lines) + "\n"


def _at(seconds: Fraction) -> str:
    return timestamp(max(round(seconds * 1000), 0))
