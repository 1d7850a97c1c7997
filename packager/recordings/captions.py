"""Captions of a recording for DASH: movie fragments of a minute, of the WebVTT segments that HLS has. Pure.

In files beside the media they would be simpler: but some players take their times for those of the whole
presentation, and not of the period (dash.js 5.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.errors import MediaError
from media.mp4 import wvtt
from media.webvtt import Cue
from packager.publish.dash import TEXT_INIT_NUMBER
from packager.recordings.periods import RecordedPeriod
from packager.window.rendition import segment_uri

FRAGMENT_SECONDS = 60
"""Of one movie fragment, which players load in one piece."""

INIT = f"init-{TEXT_INIT_NUMBER}.mp4"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A movie fragment of captions.

    Attributes:
        number: by which it is named.
        begin: milliseconds of media time.
        end: likewise.
        segments: media sequence numbers of the segments whose cues it has.
    """

    number: int
    begin: int
    end: int
    segments: Sequence[int]

    @property
    def name(self) -> str:
        """Its file's name."""
        return segment_uri(self.number)


def chunks(period: RecordedPeriod) -> list[Chunk]:
    """Cut a period: all of it, and nothing beyond; players look for text wherever they look for media."""
    groups: list[list[int]] = []
    edges: list[Fraction] = []
    end = period.began + period.length
    for one in map(period.leading, period.rows):
        if one.presentation_time >= end:
            break
        if not edges or one.presentation_time - edges[-1] >= FRAGMENT_SECONDS:
            groups.append([])
            edges.append(one.presentation_time)
        groups[-1].append(one.number)
    times = [_milliseconds(edge) for edge in (*edges, end)]
    numbers = range(period.number, period.number + len(groups))
    return [Chunk(*one) for one in zip(numbers, times[:-1], times[1:], groups, strict=True)]


def fragment(chunk: Chunk, segments: Iterable[bytes]) -> bytes:
    """Write a movie fragment.

    Args:
        chunk: it.
        segments: its WebVTT segments; a cue that lasts over several is in each of them.
    """
    found: dict[Cue, None] = {}
    for data in segments:
        try:
            found.update(dict.fromkeys(wvtt.read_segment(data, chunk.begin)))
        except MediaError:
            continue  # of all the others there is something to read
    return wvtt.fragment(found, chunk.begin, chunk.end, chunk.number)


def _milliseconds(seconds: Fraction) -> int:
    return round(seconds * wvtt.TIMESCALE)
