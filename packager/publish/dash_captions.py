"""Captions for DASH: the cues of WebVTT segments, packed into movie fragments."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from media.errors import MediaError
from media.mp4.text import wvtt
from media.subtitles.webvtt import Cue
from packager.reader_guard import ReaderGuard

INIT = wvtt.INIT
"""The init segment of all captions."""


def milliseconds(seconds: Fraction) -> int:
    """Return a time in the timescale of captions."""
    return round(seconds * wvtt.TIMESCALE)


def pack_segment(text: bytes | None, begin: int, end: int, number: int) -> bytes:
    """Pack one WebVTT segment.

    Args:
        text: the segment; None for a gap, in whose time nothing was said.
        begin: milliseconds of media time.
        end: milliseconds of media time.
        number: media sequence number.

    Raises:
        MediaError: the segment is damaged.
    """
    return wvtt.fragment(() if text is None else wvtt.read_segment(text, begin), begin, end, number)


def pack_segments(texts: Iterable[bytes], begin: int, end: int, number: int) -> bytes:
    """Pack several WebVTT segments into one fragment; damaged ones are left out.

    Args:
        texts: the segments; a cue may be in several.
        begin: milliseconds of media time.
        end: milliseconds of media time.
        number: media sequence number.
    """
    found: dict[Cue, None] = {}
    for text in texts:
        try:
            with ReaderGuard("captions"):
                found.update(dict.fromkeys(wvtt.read_segment(text, begin)))
        except MediaError:
            continue  # the other segments can still be read
    return wvtt.fragment(found, begin, end, number)
