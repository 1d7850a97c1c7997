"""The timelines of one window, of whose init segments players may still be in need."""

from __future__ import annotations

from collections.abc import Iterable

from media.mp4.codecs import SampleEntry
from packager.window.model import LiveSegment, Timeline


class Timelines:
    """The timelines of the segments that are fetchable.

    Attributes:
        newest: what is being published now, or was last; None before anything.
    """

    def __init__(self) -> None:
        self.newest: Timeline | None = None
        self._known: dict[int, Timeline] = {}

    def begin(self, number: int, init: bytes, entry: SampleEntry) -> None:
        """Take up a new one.

        Args:
            number: media sequence number of the segment that comes next.
            init: the init segment.
            entry: what its sample entry says.
        """
        if number in self._known and self._known[number].init != init:
            # Nothing followed the one before; but its init segment may have been hinted at under this name.
            number = max(self._known) + 1
        self.newest = self._known[number] = Timeline(number, init, entry)

    def restore(self, segments: Iterable[LiveSegment]) -> None:
        """Take up those of segments that an earlier process published."""
        for segment in segments:
            timeline = segment.timeline
            if timeline is not None and timeline is not self.newest:
                self.newest = self._known[timeline.number] = timeline

    def init(self, number: int) -> bytes | None:
        """Give the init segment of the timeline that begins with a number."""
        found = self._known.get(number)
        return None if found is None else found.init

    def forget(self, oldest: LiveSegment, following: LiveSegment | None) -> list[int]:
        """Let those go that end with a segment.

        Args:
            oldest: the segment, which is fetchable no more.
            following: the one behind it, if any.

        Returns:
            Their numbers.
        """
        if following is None or following.timeline is oldest.timeline:
            return []
        kept = following.number if following.timeline is None else following.timeline.number
        gone = [number for number in self._known if number < kept]
        for number in gone:
            del self._known[number]
        return gone
