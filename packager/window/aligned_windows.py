"""The windows of a channel's renditions side by side: the same numbers, discontinuities and gaps in each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from packager.window.model import LiveSegment
from packager.window.rendition_log_writer import RenditionWriter

SHORTEST_GAP = Fraction(1, 1000)
"""Seconds: what is shorter has no duration in a playlist."""


class AlignedWindows:
    """The windows of one channel's renditions, kept at the same media sequence number."""

    def __init__(self, writers: Sequence[RenditionWriter]) -> None:
        self._writers = writers
        self._windows = [writer.window for writer in writers]
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether every rendition has a finished segment, so that playlists can be played."""
        # Once they have one they always do: looking again at each request would be in vain.
        self._ready = self._ready or all(window.has_segments() for window in self._windows)
        return self._ready

    @property
    def next_number(self) -> int:
        """Media sequence number of the next segment of the window that is furthest ahead."""
        return max(window.next_number for window in self._windows)

    @property
    def used(self) -> int:
        """The last number that any window has listed; -1 where none has."""
        return max(window.next_number - 1 if window.listed else -1 for window in self._windows)

    @property
    def last_number(self) -> int:
        """Media sequence number of the newest segment of any window, open ones too."""
        return max(window.next_number - (window.open is None) for window in self._windows)

    @property
    def discontinuity_sequence(self) -> int:
        """Discontinuity sequence number of the newest segment of any window."""
        return max(window.newest_discontinuity_sequence for window in self._windows)

    @property
    def end_date(self) -> Fraction | None:
        """When the newest segment of any window ends, in seconds since the epoch; None without any."""
        return max(map(_end_of, self._newest), default=None)

    @property
    def least_newest_duration(self) -> Fraction:
        """Seconds of the shortest of the windows' newest segments; 0 without any."""
        return min((one.duration for one in self._newest), default=Fraction(0))

    @property
    def _newest(self) -> list[LiveSegment]:
        """The newest segment of each window that has any."""
        return [window.listed[-1] for window in self._windows if window.listed]

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more."""
        return any(window.ended for window in self._windows)

    @property
    def least_number(self) -> int:
        """Media sequence number up to which all windows have segments."""
        return min(window.next_number for window in self._windows)

    @property
    def version(self) -> int:
        """A number that changes with every part of any window."""
        return sum(window.version for window in self._windows)

    def has_media_since(self, number: int) -> bool:
        """Return whether any segment with this number or a later one is more than a gap."""
        return any(
            not segment.gap
            for window in self._windows
            for segment in itertools.takewhile(lambda one: one.number >= number, reversed(window.listed))
        )

    def align(self) -> None:
        """Bring all windows to the same media sequence number, with gaps where one has fewer segments."""
        for writer in self._writers:
            writer.interrupt()
        furthest = max(self._windows, key=lambda window: window.next_number)
        # Of a window of days only the end is examined.
        least = self.least_number
        newest = itertools.takewhile(lambda one: one.number >= least, reversed(furthest.listed))
        having = {segment.number: segment for segment in newest}
        for writer in self._writers:
            while (number := writer.window.next_number) < furthest.next_number:
                writer.gap(having.get(number, furthest.listed[-1]))

    def fill(self, duration: Fraction) -> None:
        """Publish the segment that is due although its source is late: cut short, or a gap (§4.4.4.7).

        Args:
            duration: seconds of the gap.
        """
        before = self.next_number
        self.align()
        if self.next_number > before:
            return
        for writer in self._writers:
            window = writer.window
            last = window.listed[-1]
            date = last.program_date_time + last.duration
            ratio = date.as_integer_ratio()
            writer.gap(LiveSegment(window.next_number, window.timeline, ratio, duration=duration))

    def skip(self, count: int, longest: Fraction, until: Fraction) -> None:
        """Publish gaps for numbers that the clock has left behind while no source was there.

        If there is no time between the last segment and the next one, nothing is skipped.

        Args:
            longest: most seconds of one gap; together the gaps last no longer than the time that has passed.
            until: seconds since the epoch, before which the next segment doesn't begin.
        """
        self.align()
        # RFC 8216bis §6.2.1: no segment's date lies in another one.
        lasts = [window.listed[-1] for window in self._windows]
        room = until - max(map(_end_of, lasts))
        length = min(room / count, longest) if count else Fraction(0)
        if length < SHORTEST_GAP:
            return
        for writer, last in zip(self._writers, lasts, strict=True):
            date = last.program_date_time + last.duration
            for index in range(count):
                ratio = (date + index * length).as_integer_ratio()
                number = writer.window.next_number
                writer.gap(LiveSegment(number, writer.window.timeline, ratio, duration=length))

    def end(self) -> None:
        """End all windows with the same number (EXT-X-ENDLIST)."""
        self.align()
        for writer in self._writers:
            writer.end()


def _end_of(segment: LiveSegment) -> Fraction:
    return segment.program_date_time + segment.duration
