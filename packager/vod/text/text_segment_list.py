"""Says which segments of text a playlist names: all of a film, or those that a clip has something of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.mp4.sample_table import Int64
from packager.vod.text.text_tracks import TIMESCALE


@dataclass(frozen=True, slots=True)
class TextSegments:
    """Segments of text, the same for all text tracks of a file.

    Attributes:
        whole: when each begins in milliseconds of the film, and behind them the end.
        first: number of the first one.
        begin: when a clip begins of which they are; None: they are all of the film's.
        query: what is behind the address of their playlist; "" but of a clip.
    """

    whole: Int64
    first: int = 0
    begin: int | None = None
    end: int | None = None
    query: str = ""

    def clipped(self, begin: Fraction, end: Fraction, query: str) -> TextSegments:
        """Keep the segments that a clip has something of.

        Args:
            begin: seconds of the film at which it begins.
            end: seconds at which it ends.
            query: what is behind the addresses of its playlists.
        """
        # Not before the clip: Shaka drops cues that begin before its presentation does.
        start, stop = math.ceil(begin * TIMESCALE), math.ceil(end * TIMESCALE)
        start = min(start, int(self.whole[-1]) - 1)
        stop = min(max(stop, start + 1), int(self.whole[-1]))
        low = int(self.whole.searchsorted(start, "right")) - 1
        high = int(self.whole.searchsorted(stop, "left"))
        return TextSegments(self.whole[low : high + 1], low, start, stop, query)

    @property
    def times(self) -> Int64:
        """When what is named of each begins in milliseconds of the film, and behind them the end."""
        times = self.whole.copy()
        if self.begin is not None:
            times[0] = self.begin
        if self.end is not None:
            times[-1] = self.end
        return times

    @property
    def offset(self) -> int:
        """Milliseconds of the film at which the presentation begins."""
        return self.begin or 0

    @property
    def webvtt_names(self) -> Sequence[str]:
        """The names of the segments as WebVTT.

        A cue is whole in each segment that it is shown in, so all must say the same of one that has begun
        before the clip: players show what differs twice.
        """
        begin = "" if self.begin is None else f"-{self.begin}"
        return [f"{self.first + number}{begin}" for number in range(len(self.whole) - 1)]

    @property
    def ending_webvtt_names(self) -> Sequence[str]:
        """The names of the WebVTT segments whose cues are over when the next clip begins."""
        until = self.whole[-1] if self.end is None else self.end
        return [f"{self.first + number}-{self.offset}-{until}" for number in range(len(self.whole) - 1)]

    @property
    def mp4_name(self) -> str:
        """The template of the segments' names in MP4, where each has of its cues what is shown in it.

        It is one template for all: dash.js finds by time the wrong ones of a list.
        """
        return "$Number$" if self.begin is None else f"$Number$-{self.begin}-{self.end}"

    @property
    def durations(self) -> list[Fraction]:
        """Seconds of what is named of each."""
        return [Fraction(length, TIMESCALE) for length in np.diff(self.times).tolist()]
