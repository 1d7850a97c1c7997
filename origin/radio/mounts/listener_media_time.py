"""The media time that a player hears, if it names its connection: ``/radio/NAME?listener=TOKEN``.

A connection's audio begins at some media time; from there on the player's own clock is enough, until the
listener skips ahead because it fell behind.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from origin.radio.mounts.limits import RadioLimits

GONE_LISTENERS = 10_000
"""Most closed connections whose times are kept; beyond, the oldest are forgotten."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{8,64}")
"""The form of a listener's token: long enough to be unique by chance."""


@dataclass(frozen=True, slots=True)
class MediaTimeMark:
    """The media time at a position in a connection's audio.

    Attributes:
        position: seconds of audio sent on the connection before.
        media_time: of the audio that follows, in seconds since the station's start.
    """

    position: Fraction
    media_time: Fraction


class ListenerTime:
    """The marks of one connection.

    Args:
        tell: called with each new mark, to send it to the listener's reader.

    Attributes:
        marks: the first, and one for each skip.
    """

    __slots__ = ("_tell", "marks")

    def __init__(self, tell: Callable[[MediaTimeMark], None], limits: RadioLimits) -> None:
        self._tell = tell
        self.marks: deque[MediaTimeMark] = deque(maxlen=limits.listener_marks)

    def begin(self, media_time: Fraction, position: Fraction = Fraction(0)) -> None:
        """Note the media time of the station's first audio, behind some seconds of other audio."""
        self.add(MediaTimeMark(position, media_time))

    def skip(self, before: Fraction, after: Fraction) -> None:
        """Note a skip from one media time to another."""
        last = self.marks[-1]
        position = last.position + before - last.media_time
        if position == last.position:
            # No audio was sent since the last mark.
            self.marks.pop()
        self.add(MediaTimeMark(position, after))

    def add(self, mark: MediaTimeMark) -> None:
        """Note a mark, and report it."""
        self.marks.append(mark)
        self._tell(mark)


class ListenerTimes:
    """The marks of all connections of a mount that have a token."""

    def __init__(self, clock: Callable[[], float], limits: RadioLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._known: dict[str, ListenerTime] = {}
        self._gone: deque[tuple[float, str, ListenerTime]] = deque()

    def __len__(self) -> int:
        """Count the tokens."""
        return len(self._known)

    def begin(self, token: str, tell: Callable[[MediaTimeMark], None]) -> ListenerTime:
        """Start the marks of a new connection; they replace those of an earlier one with this token."""
        listener_time = self._known[token] = ListenerTime(tell, self._limits)
        return listener_time

    def end(self, token: str, listener_time: ListenerTime) -> None:
        """Note that a connection was closed."""
        self._gone.append((self._clock(), token, listener_time))
        self._forget()

    def marks(self, token: str | None) -> list[MediaTimeMark]:
        """Return the marks of a token; none if it is unknown."""
        self._forget()
        listener_time = self._known.get(token or "")
        return [] if listener_time is None else list(listener_time.marks)

    def _forget(self) -> None:
        oldest = self._clock() - self._limits.listener_gone_seconds
        while self._gone and (self._gone[0][0] < oldest or len(self._gone) > GONE_LISTENERS):
            _, token, listener_time = self._gone.popleft()
            if self._known.get(token) is listener_time:
                del self._known[token]
