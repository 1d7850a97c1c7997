"""The writer with which a rendition's parts and segments are appended to the channel's log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Protocol

from media.mp4.codecs.sample_entry import SampleEntry
from packager.window.log import (
    DiscontinuityEntry,
    EndEntry,
    Entry,
    ForgottenEntry,
    GapEntry,
    InitEntry,
    LostEntry,
    PartEntry,
    RestoredEntry,
    RetiredEntry,
    SegmentDoneEntry,
    StoredEntry,
)
from packager.window.model import LivePart, LiveSegment, StoredSegment
from packager.window.window import Window


class Appending(Protocol):
    """Takes the entries of a log."""

    @property
    def append(self) -> Callable[[Entry], None]:
        """Publishes an entry."""


class RenditionWriter:
    """Appends what one rendition publishes to its channel's log.

    Args:
        log: appends an entry to the channel's log.
        window: the window that the log is folded into, from which numbers are read.
        compose: returns the text of a whole segment of captions; None for other renditions.
    """

    def __init__(
        self,
        log: Appending,
        name: str,
        window: Window,
        compose: Callable[[LiveSegment], bytes] | None = None,
    ) -> None:
        self.name = name
        self.window = window
        self._append = log.append
        self._compose = compose
        window.on_lost = self._lose

    def restore(
        self, segments: Iterable[LiveSegment], next_number: int, discontinuity_sequence: int = 0
    ) -> None:
        """Restore segments that an earlier process left on disk; see ``Window.restore``."""
        self._append(RestoredEntry(self.name, tuple(segments), next_number, discontinuity_sequence))

    def begin(self, init: bytes, entry: SampleEntry, frame_rate: Fraction | None = None) -> None:
        """Start a timeline: what is appended from now on is decoded with this init segment."""
        self.interrupt()
        self._append(InitEntry(self.name, init, entry, frame_rate))

    def break_off(self) -> None:
        """Start a timeline with the same init segment as before."""
        self.interrupt()
        self._append(DiscontinuityEntry(self.name))

    def append(self, part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        """Publish a part; see ``Window.append``."""
        is_text = self._compose is not None
        # The whole text of a segment of captions is known with its last part.
        self._append(PartEntry(self.name, part, program_date_time, ends_segment and not is_text))
        if ends_segment and is_text:
            self.interrupt()

    def interrupt(self) -> None:
        """Finish the open segment with the parts it has: its source is gone."""
        segment = self.window.open
        if segment is not None:
            text = b"" if self._compose is None else self._compose(segment)
            self._append(SegmentDoneEntry(self.name, text))

    def gap(self, like: LiveSegment) -> None:
        """Publish a gap for the next segment, which another rendition has and this one lacks.

        Args:
            like: the other's, whose duration, date and discontinuity the gap shares (§6.2.4).
        """
        self.interrupt()
        self._append(GapEntry(self.name, like.program_date_time, like.duration, like.discontinuity))

    def end(self) -> None:
        """Finish the open segment as the last one of all: nothing comes any more."""
        self.interrupt()
        self._append(EndEntry(self.name))

    def confirm(self, number: int, stored: StoredSegment) -> bool:
        """Note that a segment is on disk; return False if its bytes aren't needed any more."""
        wanted = self.window.needs_storing(number)
        if wanted:
            self._append(StoredEntry(self.name, number, stored))
        return wanted

    def retire(self) -> bool:
        """Remove the oldest segment from the list to save room; it stays fetchable for its time.

        Returns:
            False when no more than what must be listed is.
        """
        may = self.window.finished.may_retire
        if may:
            self._append(RetiredEntry(self.name))
        return may

    def forget(self) -> bool:
        """Forget the oldest segment, for want of room; False when only what is in memory is left."""
        may = self.window.finished.may_forget
        if may:
            self._append(ForgottenEntry(self.name))
        return may

    def lose(self, number: int) -> None:
        """Replace a segment that waits to be stored by a gap, as there is no room for it in memory."""
        self.window.lose(number)  # which calls ``_lose``

    def _lose(self, number: int) -> None:
        self._append(LostEntry(self.name, number))
