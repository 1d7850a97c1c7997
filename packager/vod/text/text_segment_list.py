"""The segments of text that a playlist names: all of a film, or those that overlap with a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.mp4.movie.box_arrays import Int64
from packager.vod.text.cues import TIMESCALE


@dataclass(frozen=True, slots=True)
class TextSegments:
    """Segments of text, the same for all text tracks of a file.

    Attributes:
        whole: when each begins in milliseconds of the film, and behind them the end.
        first: number of the first one.
        begin: when a clip begins of which they are; None: they are all of the film's.
        query: the query of their playlist's address; "" except of a clip.
    """

    whole: Int64
    first: int = 0
    begin: int | None = None
    end: int | None = None
    query: str = ""

    def clipped(self, begin: Fraction, end: Fraction, query: str) -> TextSegments:
        """Return the segments that overlap with a clip.

        Args:
            begin: seconds of the film at which it begins.
            end: seconds at which it ends.
            query: the query of the addresses of its playlists.
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
        """The template of the segments' names in MP4, where a cue is cut at the segment's bounds.

        One template is used for all segments: in a list dash.js finds wrong ones by time.
        """
        return "$Number$" if self.begin is None else f"$Number$-{self.begin}-{self.end}"

    @property
    def durations(self) -> list[Fraction]:
        """Seconds of what is named of each."""
        return [Fraction(length, TIMESCALE) for length in np.diff(self.times).tolist()]
