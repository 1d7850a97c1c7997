"""The division of a recording's captions for DASH into movie fragments of a minute. Pure.

Sidecar files would be simpler, but some players take their times relative to the presentation instead of the
period (dash.js 5.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from packager.past.periods import RecordedPeriod
from packager.publish.dash import TEXT_INIT_NUMBER
from packager.publish.dash_captions import milliseconds, pack_segments
from packager.window.rendition import segment_uri

FRAGMENT_SECONDS = 60
"""Duration of a movie fragment, which players load at once."""

INIT_NAME = f"init-{TEXT_INIT_NUMBER}.mp4"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A movie fragment of captions.

    Attributes:
        begin: milliseconds of media time.
        end: milliseconds of media time.
        segments: media sequence numbers of the segments with its cues.
    """

    number: int
    begin: int
    end: int
    segments: Sequence[int]

    @property
    def name(self) -> str:
        """Its file name."""
        return segment_uri(self.number)

    def pack(self, texts: Iterable[bytes]) -> bytes:
        """Write the movie fragment, given its WebVTT segments."""
        return pack_segments(texts, self.begin, self.end, self.number)


def chunks(period: RecordedPeriod) -> list[Chunk]:
    """Divide a period into fragments that cover exactly all of it, as players expect."""
    groups: list[list[int]] = []
    edges: list[Fraction] = []
    end = period.began + period.length
    for number, time in period.segments():
        if time >= end:
            break
        if not edges or time - edges[-1] >= FRAGMENT_SECONDS:
            groups.append([])
            edges.append(time)
        groups[-1].append(number)
    times = [milliseconds(edge) for edge in (*edges, end)]
    numbers = range(period.number, period.number + len(groups))
    return [Chunk(*one) for one in zip(numbers, times[:-1], times[1:], groups, strict=True)]
