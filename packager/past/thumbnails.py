"""The WebVTT of a span of a channel's past that names a small picture for each few seconds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from media.mp4.codecs.sample_entry import SampleEntry
from media.subtitles.webvtt import timestamp
from packager.past.outlined_span import Column, OutlinedSpan, OutlinedTrack
from packager.past.outlines import MEDIA

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
    span: OutlinedSpan,
    rendition: str,
    zero: Fraction,
    size: tuple[int, int],
    address: Callable[[Fraction], str],
) -> str:
    """Write the WebVTT; what is missed has no pictures.

    Args:
        rendition: the rendition of the pictures.
        zero: the date at which its times begin, in seconds since the epoch.
        size: of the pictures, in pixels.
        address: returns the address of the picture of a date.
    """
    behind = span.last.program_date_time + span.last.duration
    interval = max(INTERVAL_SECONDS, math.ceil((behind - zero) / MOST_THUMBNAILS))
    lines, place = ["WEBVTT", ""], "#xywh=0,0,{},{}".format(*size)
    for date in _dates(span.tracks[rendition], zero, behind, interval):
        until = min(Fraction((math.floor(date / interval) + 1) * interval), behind)
        lines += [f"{_at(date - zero)} --> {_at(until - zero)}", address(date) + place, ""]
    return "\n".join(lines) + "\n"


def _dates(track: OutlinedTrack, zero: Fraction, behind: Fraction, interval: int) -> list[Fraction]:
    """Return the dates of the pictures, which are multiples of the interval: all spans name the same ones."""
    media = np.flatnonzero(track.has(MEDIA))
    if not len(media):
        return []
    begins, seconds = (_seconds(track.column(field)[media]) for field in ("date", "duration"))
    numbers = np.arange(math.ceil(zero / interval) - 1, math.ceil(behind / interval))
    wanted = numbers * float(interval)
    # The last segment that has begun has the picture, unless that has ended.
    at = np.searchsorted(begins, wanted, side="right") - 1
    shown = (numbers[(at >= 0) & (wanted < (begins + seconds)[at])] * interval).tolist()
    dates = [Fraction(one) for one in shown]
    first = max(Fraction(*track.ratio("date", int(media[0]))), zero)
    if not dates or dates[0] > first:
        # None of these is in the first seconds, which have the picture of their beginning.
        dates.insert(0, Fraction(math.ceil(first * 1000), 1000))
    return dates


def _seconds(ratios: Column) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = ratios[:, 0] / ratios[:, 1]
    return found


def _at(seconds: Fraction) -> str:
    return timestamp(max(round(seconds * 1000), 0))
