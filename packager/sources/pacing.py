"""Flow control for streams that arrive faster than real time, without I/O.

A file behind a URL can arrive at any speed, and is read only a limited time ahead. A live stream must not be
held back, or its server drops the connection; but a burst at its beginning, or a clock that is a little too
fast, would remain as latency. So if, for a whole minute, more was buffered than the stream's jitter requires,
the stream skips to its newest access point.

All times are seconds: media times of the stream's clock, and ``now`` of a monotonic clock.
"""

from __future__ import annotations

import math

from packager.sources.limits import DEFAULT_LIMITS, SourceLimits


class Pacing:
    """Measures how far one connection's stream is ahead of real time, and how much of it is buffered.

    Args:
        cushion: seconds to keep buffered, such as for segments that arrive whole.
        limits: how far the stream may be ahead or behind.
    """

    def __init__(self, cushion: float = 0.0, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._cushion = cushion
        self._limits = limits
        self.begin()

    def begin(self) -> None:
        """Reset for another stream."""
        # The local time that corresponds to media time 0.
        self._origin: float | None = None
        self._received = 0.0
        self._held = False
        self._sent: float | None = None
        self._access_point: float | None = None
        self._begin_window(-math.inf)

    def _begin_window(self, now: float) -> None:
        """Begin a measurement window."""
        self._since, self._start = now, self._received
        self._received_at = now
        self._longest_silence = self._longest_group = 0.0
        self._least_waiting = math.inf

    @property
    def waiting(self) -> float:
        """Buffered seconds: received, but not yet sent on; 0 while there is no reader."""
        return 0.0 if self._sent is None else max(self._received - self._sent, 0.0)

    def attached(self, clock: float | None, now: float) -> None:
        """Record that a reader begins at a media time, or at the newest if None."""
        self._sent = self._received if clock is None else clock
        self._begin_window(now)

    def detached(self) -> None:
        """Record that there is no reader."""
        self._sent = None

    def given(self, clock: float) -> None:
        """Record that the stream was sent on up to a media time."""
        if self._sent is not None:
            self._sent = clock
            self._least_waiting = min(self._least_waiting, self.waiting)

    def received(self, clock: float, now: float, *, access: bool = False) -> None:
        """Record that the stream was received up to a media time.

        Args:
            access: whether decoding can begin here.
        """
        if self._origin is None:
            self._origin = now - clock
            self._received = clock
            self._begin_window(now)
        self._received = max(clock, self._received)
        self._longest_silence = max(self._longest_silence, now - self._received_at)
        self._received_at = now
        if access:
            if self._access_point is not None:
                self._longest_group = max(self._longest_group, clock - self._access_point)
            self._access_point = clock

    def wait(self, now: float) -> float:
        """Return the seconds to wait before reading on; 0 for none."""
        if self._sent is None:
            return max(self._ahead(now) - max(self._limits.untaken_seconds, self._cushion), 0.0)
        excess = self._ahead(now) - self._limits.ahead_seconds
        self._held |= excess > 0
        return max(excess, 0.0)

    def late(self, now: float) -> bool:
        """Decide, once per window, whether the stream should skip to its newest access point."""
        elapsed, limits = now - self._since, self._limits
        if self._origin is None or elapsed < limits.window_seconds:
            return False
        is_live = not self._held and self._received - self._start <= limits.live_rate * elapsed
        if is_live:
            # Neither a fast clock nor catching up after a pause counts as being ahead.
            ahead = min(max(self._ahead(now), -limits.behind_seconds), 0.0)
            self._origin = now - self._received + ahead
        unevenness = self._cushion + self._longest_silence + self._longest_group
        late = is_live and limits.slack_seconds + unevenness < self._least_waiting < math.inf
        self._begin_window(now)
        return late

    def _ahead(self, now: float) -> float:
        return 0.0 if self._origin is None else self._received - (now - self._origin)
