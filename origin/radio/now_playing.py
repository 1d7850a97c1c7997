"""What a station plays, at media time: its titles and their history, on its event channel.

A title goes out with its audio, but is heard later: by the burst, and by what a player keeps ahead. So each
has the media time of its first frame, and a reader that names its listener is told what that one hears.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from media.mp3.icy import clean_title
from origin.events.channel import ChannelLimits, EventChannel, Reader
from origin.http1.stream import Stream
from origin.radio.listener_time import ListenerTimes, MediaTimeMark
from origin.radio.listeners import Listener

TITLE_CHARS = 1000
"""Longest title that is told: about what ICY's own blocks have room for."""


@dataclass(frozen=True, slots=True)
class PlayedTitle:
    """What is played from a moment on.

    Attributes:
        text: one line, without what could change the text around it.
        media_time: of its first frame, in seconds since the station's start.
        started: when that went out, in seconds of the epoch.
    """

    text: str
    media_time: Fraction
    started: float


class NowPlaying:
    """The titles of one station, the newest known to everybody who reads.

    Args:
        name: of the mount.
        limits: of its event channel; as many titles are kept as events.
        clock: monotonic seconds.
        count: told how many bytes were written to readers.

    Attributes:
        channel: its event channel.
        titles: the newest, oldest first.
    """

    def __init__(
        self, name: str, limits: ChannelLimits, clock: Callable[[], float], count: Callable[[int], None]
    ) -> None:
        # The clock names the life of the channel, so that no state is needed to tell it from the last one.
        epoch = f"{time.time_ns() // 1_000_000:x}"
        self.channel = EventChannel(f"radio/{name}", epoch, limits, clock, count)
        self.titles: deque[PlayedTitle] = deque(maxlen=limits.history)
        self._listener_times = ListenerTimes(clock)

    def change(self, title: str, media_time: Fraction) -> None:
        """Take note that another title begins, and tell everybody."""
        # JSON knows no lone surrogates, which may come from tags.
        text = clean_title(title).encode("utf-8", "replace").decode()[:TITLE_CHARS]
        now = PlayedTitle(text, media_time, time.time())
        self.titles.append(now)
        self.channel.publish("title", describe_title(now))

    def accompany(self, listener: Listener) -> None:
        """Take note of what a listener hears from its first byte on, if it has a name; its reader is told."""
        token = listener.token
        if token is None:
            return

        def tell(place: MediaTimeMark) -> None:
            self.channel.tell(token, "listening", describe_place(place))

        listener.listener_time = listener_time = self._listener_times.begin(token, tell)
        listener.done.add_done_callback(lambda _: self._listener_times.end(token, listener_time))

    def enter(self, reader: Reader, stream: Stream) -> None:
        """Let a reader in: first what its listener hears, then the titles that it hasn't seen."""
        places = self._listener_times.places(reader.token)
        self.channel.enter(reader, stream, [("listening", describe_place(place)) for place in places])


def describe_title(title: PlayedTitle) -> dict[str, object]:
    """Write a title for JSON, times in seconds and as RFC 3339 has dates."""
    started = datetime.fromtimestamp(title.started, UTC).isoformat(timespec="milliseconds")
    return {
        "title": title.text,
        "media_time": as_seconds(title.media_time),
        "started": started.replace("+00:00", "Z"),
    }


def describe_place(place: MediaTimeMark) -> dict[str, object]:
    """Write what a listener hears for JSON, times in seconds."""
    return {"position": as_seconds(place.position), "media_time": as_seconds(place.media_time)}


def as_seconds(media_time: Fraction) -> float:
    """Round to microseconds, less than a sample."""
    return round(float(media_time), 6)
