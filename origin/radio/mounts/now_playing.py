"""Publishes a station's titles with their media times on its event channel, and keeps their history.

Listeners hear a title later than it is sent, because of the burst and their player's buffer. So each title
has the media time of its first frame, and a reader that names its listener gets the media time of that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from media.mp3.icy import clean_title
from origin.events.channel import EventChannel, new_epoch
from origin.events.channel_reader import ChannelReader
from origin.http1.body_writer import Stream
from origin.radio.mounts.listener_media_time import ListenerTime, ListenerTimes, MediaTimeMark
from origin.radio.mounts.listeners import Listener
from origin.radio.mounts.options import MountOptions

TITLE_CHARACTERS = 1000
"""Longest title; about what an ICY metadata block holds."""


@dataclass(frozen=True, slots=True)
class PlayedTitle:
    """A title and when it began.

    Attributes:
        text: one printable line, without line ends.
        media_time: of its first frame, in seconds since the station's start.
        started: when that was sent, in seconds since the epoch.
    """

    text: str
    media_time: Fraction
    started: float


class NowPlaying:
    """The titles of one station.

    Args:
        options: of the mount; as many titles are kept as events of its channel.
        count: called with the bytes written to readers.

    Attributes:
        titles: the newest, oldest first.
    """

    def __init__(
        self, name: str, options: MountOptions, clock: Callable[[], float], count: Callable[[int], None]
    ) -> None:
        self.channel = EventChannel(f"radio/{name}", new_epoch(), options.events, clock, count)
        self.titles: deque[PlayedTitle] = deque(maxlen=options.events.history)
        self._listener_times = ListenerTimes(clock, options.limits)

    def change(self, title: str, media_time: Fraction) -> None:
        """Publish a new title."""
        # JSON knows no lone surrogates, which may come from tags.
        text = clean_title(title).encode("utf-8", "replace").decode()[:TITLE_CHARACTERS]
        now = PlayedTitle(text, media_time, time.time())
        self.titles.append(now)
        self.channel.publish("title", describe_title(now))

    def accompany(self, listener: Listener) -> None:
        """Record the media time of a listener with a token, and send it to the listener's reader."""
        token = listener.token
        if token is None:
            return
        listener.listener_time = listener_time = self.begin_times(token)
        listener.done.add_done_callback(lambda _: self.end_times(token, listener_time))

    def begin_times(self, token: str) -> ListenerTime:
        """Begin the marks of a listener with a token, which are sent to its reader of events."""

        def publish_mark(mark: MediaTimeMark) -> None:
            self.channel.send_to(token, "listening", describe_mark(mark))

        return self._listener_times.begin(token, publish_mark)

    def end_times(self, token: str, listener_time: ListenerTime) -> None:
        """Note that a listener with a token has gone."""
        self._listener_times.end(token, listener_time)

    def enter(self, reader: ChannelReader, stream: Stream) -> None:
        """Add a reader: it gets the media times of its listener, then the titles it has missed."""
        marks = self._listener_times.marks(reader.token)
        self.channel.enter(reader, stream, [("listening", describe_mark(mark)) for mark in marks])


def describe_title(title: PlayedTitle) -> dict[str, object]:
    """Convert a title for JSON, times in seconds and in RFC 3339 format."""
    started = datetime.fromtimestamp(title.started, UTC).isoformat(timespec="milliseconds")
    return {
        "title": title.text,
        "media_time": as_seconds(title.media_time),
        "started": started.replace("+00:00", "Z"),
    }


def describe_mark(mark: MediaTimeMark) -> dict[str, object]:
    """Convert a mark for JSON, times in seconds."""
    return {"position": as_seconds(mark.position), "media_time": as_seconds(mark.media_time)}


def as_seconds(media_time: Fraction) -> float:
    """Round to microseconds, less than a sample."""
    return round(float(media_time), 6)
