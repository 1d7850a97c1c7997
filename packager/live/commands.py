"""What requests may cause at a channel that runs here; see :class:`packager.publish.commands.Commands`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from fractions import Fraction
from typing import TYPE_CHECKING

from media.hls.date_range import DateRange
from media.webvtt import Cue

if TYPE_CHECKING:
    from packager.live.channel import Channel


class ChannelCommands:
    """Carries out at a channel what requests ask of it.

    Args:
        channel: it.
        on_viewer: called whenever somebody asks for a playlist.
        is_postponed: tells that it isn't begun now although somebody asks.
    """

    def __init__(
        self, channel: Channel, on_viewer: Callable[[], None], is_postponed: Callable[[], bool]
    ) -> None:
        self._channel = channel
        self.note_viewer = on_viewer
        self.is_postponed = is_postponed

    async def end_event(self) -> bool:
        """End the event, and wait for its recording; False where that takes longer than anybody waits."""
        return await self._channel.live_event.end()

    def begin_event(self) -> bool:
        """Begin another event, once the last one is over; False while it isn't to end."""
        return self._channel.live_event.begin()

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Put an event on playlists and into the media; the end of a planned one only on playlists."""
        channel, timed_metadata = self._channel, self._channel.timed_metadata
        if channel.presentation.date_ranges.start_of(tag.id) is not None:
            channel.add_date_range(tag)
            return
        timed_metadata.check(len(id3))
        channel.add_date_range(tag)
        duration = tag.planned_duration if tag.duration is None else tag.duration
        timed_metadata.add(tag.start_date, duration or None, id3)

    def feeding_captions(self) -> AbstractAsyncContextManager[None]:
        """Be one of those who bring captions."""
        return self._channel.captions.feeding()

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Take cues, all or none; give how many are too late to be shown."""
        return self._channel.captions.tracks[language].add(cues, zero)
