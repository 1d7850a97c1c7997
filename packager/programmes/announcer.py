"""Announces programmes to players: as date ranges in the playlists, and as timed metadata in the media.

A programme is announced with its planned duration when it begins, and gets its duration when it is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import structlog

from media.hls.attribute_values import quotable
from media.hls.date_range import DateRange
from media.mp3.id3 import write_id3v2
from packager.past.programmes import Programme, Schedule
from packager.publish.channel_commands import TooManyEventsError
from packager.publish.date_ranges import DateRangeError, ImplausibleDateError
from packager.publish.hls import Presentation
from packager.publish.live_stream import LiveStream

log = structlog.get_logger()

CLASS = "org.headwater.programme"
"""The class of the date ranges of programmes; X-TITLE and X-PROGRAMME have the title and the name."""

LOOK_SECONDS = 1.0
"""How often it is looked whether a programme begins or ends."""

MOST_AT_ONCE = 100
"""Most programmes that are announced at the same time."""


class ProgrammeAnnouncer:
    """Announces the programmes of one channel.

    Args:
        channel: the channel's name, for the log.
        schedule: returns the programmes as they are now.
    """

    def __init__(self, channel: str, schedule: Callable[[], Schedule], stream: LiveStream) -> None:
        self._channel = channel
        self._schedule = schedule
        self._stream = stream
        self._announced: dict[str, Programme] = {}
        self._refused: set[str] = set()
        # The playlists that have the programmes of before: a restart begins others.
        self._presentation: Presentation | None = None

    async def run(self) -> None:
        """Announce programmes until cancelled."""
        while True:
            self.announce(Fraction(self._stream.wall_clock()))
            await asyncio.sleep(LOOK_SECONDS)

    def announce(self, now: Fraction) -> None:
        """Announce the programmes that run, and end those that are over or were deleted.

        Args:
            now: seconds since the epoch.
        """
        presentation, now_ms = self._stream.presentation, int(now * 1000)
        if presentation.live_edge is None and not self._announced:
            return
        running = {name_of(one): one for one in self._schedule().touching(now_ms, now_ms + 1)[-MOST_AT_ONCE:]}
        for name in [one for one in self._announced if one not in running]:
            programme = self._announced.pop(name)
            length = min(now, programme.end) - programme.start
            if presentation.date_ranges.start_of(name) is not None:
                self._publish(DateRange(name, programme.start, CLASS, duration=length))
        if presentation.live_edge is None or all(
            one.window.ended for one in self._stream.renditions.values()
        ):
            return
        if presentation is not self._presentation:
            self._presentation = presentation
            self._announce_past(now_ms)
        self._refused &= running.keys()
        for name, programme in running.items():
            if name in self._refused:
                continue
            # An earlier process may have announced it; windows of another event list none.
            if presentation.date_ranges.start_of(name) is None:
                self._publish(planned(name, programme), id3=True)
            self._announced[name] = programme

    def _announce_past(self, now_ms: int) -> None:
        """Announce the programmes that are over, and of which the playlists list something."""
        listed = [one.window.listed[0] for one in self._stream.renditions.values() if one.window.listed]
        oldest_ms = int(min((one.program_date_time for one in listed), default=Fraction(now_ms, 1000)) * 1000)
        past = [one for one in self._schedule().touching(oldest_ms, now_ms) if one.end_ms <= now_ms]
        for programme in past[-MOST_AT_ONCE:]:
            name = name_of(programme)
            if self._stream.presentation.date_ranges.start_of(name) is None:
                length = programme.end - programme.start
                self._publish(replace(planned(name, programme), planned_duration=None, duration=length))

    def _publish(self, tag: DateRange, *, id3: bool = False) -> None:
        title = str(tag.client_attributes.get("X-TITLE", ""))
        frames = [("TXXX:ID", tag.id), ("TXXX:CLASS", CLASS)] + ([("TIT2", title)] if title else [])
        try:
            self._stream.commands.publish_metadata(tag, write_id3v2(frames) if id3 else b"")
        except (DateRangeError, ImplausibleDateError, TooManyEventsError, ValueError) as error:
            self._refused.add(tag.id)
            log.warning(
                "a programme isn't announced", channel=self._channel, programme=tag.id, reason=str(error)
            )


def name_of(programme: Programme) -> str:
    """Return the ID of a programme's date range: another one where it was moved (RFC 8216bis §6.2.1)."""
    return f"programme-{programme.id}-{programme.start_ms}"


def planned(name: str, programme: Programme) -> DateRange:
    """Return the date range with which a programme begins."""
    attributes = {"X-PROGRAMME": programme.id}
    title = quotable(programme.title)
    if title:
        attributes["X-TITLE"] = title
    planned_duration = programme.end - programme.start
    return DateRange(
        name, programme.start, CLASS, planned_duration=planned_duration, client_attributes=attributes
    )
