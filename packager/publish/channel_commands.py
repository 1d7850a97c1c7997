"""Commands to a live channel, the only way from the code that serves a stream to the code that makes it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from fractions import Fraction
from typing import Protocol

from media.hls.date_range import DateRange
from media.subtitles.webvtt import Cue


class RecordingState(enum.Enum):
    """The state of the recording of an event that was ended."""

    AWAITED = enum.auto()
    """The recording isn't finished yet."""
    MADE = enum.auto()
    """The recording is finished, and the newest one of its channel."""
    NONE = enum.auto()
    """There is none, since nothing is recorded, nothing came, or the disk failed."""


class TooManyEventsError(Exception):
    """Too many events wait already for the time at which they begin."""


class TooManyCuesError(Exception):
    """More captions than fit; none of them was taken."""


class TooManyFeedsError(Exception):
    """Too many requests publish captions already."""


class Commands(Protocol):
    """The commands that viewers and publishers may give to a channel."""

    def note_viewer(self) -> None:
        """Note a request for a playlist: a channel on demand begins only then."""

    def is_postponed(self) -> bool:
        """Return whether the channel doesn't begin now although it has viewers; requests then don't wait."""

    async def end_event(self) -> RecordingState:
        """End the event, and wait for its recording, but not for longer than anybody waits."""

    def begin_event(self) -> bool:
        """Begin another event once the last one is over; return False while the last one isn't to end."""

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Publish an event in playlists and media; the end of a planned one only in playlists.

        Args:
            id3: the ID3 tag that says it in the media.

        Raises:
            ImplausibleDateError: it can't be written, or never is over.
            DateRangeError: its ID was used for another one, or there are too many.
            TooManyEventsError: as many as may are waiting for their time.
        """

    def continue_date_ranges(self, tags: Sequence[DateRange]) -> None:
        """List the date ranges of another packager, which are in the media already."""

    def feeding_captions(self) -> AbstractAsyncContextManager[None]:
        """Count as a source of captions while the context is open.

        Raises:
            TooManyFeedsError: the channel has as many sources of captions as it may.
            TimeoutError: the channel is closed.
        """

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Add cues, all or none.

        Args:
            cues: their times count from ``zero``.
            zero: seconds since the epoch.

        Returns:
            How many are too late to be shown.

        Raises:
            ImplausibleDateError: one of them begins too far ahead, or is shown for too long.
            TooManyCuesError: they don't fit.
        """
