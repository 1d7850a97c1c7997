"""The writer with which a rendition's parts and segments are appended to the channel's log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Protocol

from media.mp4.sample_entry import SampleEntry
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
        log: the channel's, or whatever else takes entries.
        window: what folding the log gives for it; numbers are read there.
        compose: of captions, gives the text of a whole segment.
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
        """Take up what an earlier process left on disk; see ``Window.restore``."""
        self._append(RestoredEntry(self.name, tuple(segments), next_number, discontinuity_sequence))

    def begin(self, init: bytes, entry: SampleEntry) -> None:
        """Start a timeline: what is appended from now on is decoded with this init segment."""
        self.interrupt()
        self._append(InitEntry(self.name, init, entry))

    def break_off(self) -> None:
        """Start a timeline with the same init segment as before."""
        self.interrupt()
        self._append(DiscontinuityEntry(self.name))

    def append(self, part: LivePart, program_date_time: Fraction, *, ends_segment: bool) -> None:
        """Publish a part; see ``Window.append``."""
        is_text = self._compose is not None
        # What is in the whole text of captions is known when the last part is there.
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
        """Let a gap stand for the next segment, which another rendition has and this one lacks.

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
        """Note that a segment is on disk; False where its bytes aren't needed any more."""
        wanted = self.window.needs_storing(number)
        if wanted:
            self._append(StoredEntry(self.name, number, stored))
        return wanted

    def retire(self) -> bool:
        """Take the oldest segment off the list, for want of room; it stays fetchable for its time.

        Returns:
            False when no more than what must be listed is.
        """
        may = self.window.may_retire
        if may:
            self._append(RetiredEntry(self.name))
        return may

    def forget(self) -> bool:
        """Forget the oldest segment, for want of room; False when only what is in memory is left."""
        may = self.window.may_forget
        if may:
            self._append(ForgottenEntry(self.name))
        return may

    def lose(self, number: int) -> None:
        """Let a gap stand for a segment that waits to be stored, for want of room in memory."""
        self.window.lose(number)  # and that tells ``_lose``

    def _lose(self, number: int) -> None:
        self._append(LostEntry(self.name, number))
