"""Which media time a listener hears, for players that name their connection: ``/radio/NAME?listener=TOKEN``.

A connection's audio begins at some media time; from there on the player's own clock tells what is heard,
until the listener is set forward because it fell behind.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

TOKEN = re.compile(r"[A-Za-z0-9_-]{8,64}")
"""What a listener may call itself: long enough not to be somebody else's by chance."""

KEPT_SECONDS = 60.0
"""How long it is known what a listener heard, after it has gone: its player still has some audio."""

MAX_GONE = 10_000
"""Listeners that have gone and are known still; beyond, the first that went is forgotten."""

MAX_PLACES = 8
"""How often one listener may be set forward until its first places are forgotten."""


@dataclass(frozen=True, slots=True)
class MediaTimeMark:
    """From here on a connection's audio has this media time.

    Attributes:
        position: seconds of audio that the connection has given before.
        media_time: of the audio that follows, in seconds since the station's start.
    """

    position: Fraction
    media_time: Fraction


class ListenerTime:
    """What one connection hears.

    Args:
        tell: called with each new place.

    Attributes:
        places: the first, and one for each time that it was set forward.
    """

    __slots__ = ("_tell", "places")

    def __init__(self, tell: Callable[[MediaTimeMark], None]) -> None:
        self._tell = tell
        self.places: deque[MediaTimeMark] = deque(maxlen=MAX_PLACES)

    def begin(self, media_time: Fraction) -> None:
        """Take note of the media time of the first byte."""
        self._add(MediaTimeMark(Fraction(0), media_time))

    def skip(self, before: Fraction, after: Fraction) -> None:
        """Take note that it was set forward, from one media time to another."""
        last = self.places[-1]
        position = last.position + before - last.media_time
        if position == last.position:
            # Nothing was heard there.
            self.places.pop()
        self._add(MediaTimeMark(position, after))

    def _add(self, place: MediaTimeMark) -> None:
        self.places.append(place)
        self._tell(place)


class ListenerTimes:
    """What the listeners hear that have named themselves.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[str, ListenerTime] = {}
        self._gone: deque[tuple[float, str, ListenerTime]] = deque()

    def __len__(self) -> int:
        """Count the listeners that are known by name."""
        return len(self._known)

    def begin(self, token: str, tell: Callable[[MediaTimeMark], None]) -> ListenerTime:
        """Begin anew for a connection of this name; an earlier one of it is forgotten."""
        listener_time = self._known[token] = ListenerTime(tell)
        return listener_time

    def end(self, token: str, listener_time: ListenerTime) -> None:
        """Take note that a listener has gone."""
        self._gone.append((self._clock(), token, listener_time))
        self._forget()

    def places(self, token: str | None) -> list[MediaTimeMark]:
        """Give what a listener heard so far; [] for one that isn't known."""
        self._forget()
        listener_time = self._known.get(token or "")
        return [] if listener_time is None else list(listener_time.places)

    def _forget(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._gone and (self._gone[0][0] < oldest or len(self._gone) > MAX_GONE):
            _, token, listener_time = self._gone.popleft()
            if self._known.get(token) is listener_time:
                del self._known[token]
