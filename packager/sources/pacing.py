"""Whether a stream that is brought comes faster than its own time, and what is done about it. Pure.

Two kinds do. What could come at any speed (a file behind a URL) is held back, as far ahead as is useful. What
is live comes at its own pace, and mustn't be held back, or its server loses patience; but a burst at its
beginning, or a clock that goes a thousandth too fast for days, would stay as latency for ever. So where more
has been waiting for a whole minute than its unevenness asks for, it is to go on with its newest picture.

All times are seconds: media times of the stream's own clock, and ``now`` of a monotonic one.
"""

from __future__ import annotations

import math

from packager.sources.limits import DEFAULT_LIMITS, PacingLimits


class Pacing:
    """Watches one stream from one connection; see the module.

    Args:
        cushion: how much is to wait, as where whole segments are fetched at a time.
        limits: how far it may be from its own time.
    """

    def __init__(self, cushion: float = 0.0, limits: PacingLimits = DEFAULT_LIMITS.pump.pacing) -> None:
        self._cushion = cushion
        self._limits = limits
        self.begin()

    def begin(self) -> None:
        """Another stream follows."""
        # When the stream was at media time 0, by the local clock and its rate of 1.
        self._origin: float | None = None
        self._received = 0.0
        self._held = False
        self._sent: float | None = None
        self._access_point: float | None = None
        self._begin_window(-math.inf)

    def _begin_window(self, now: float) -> None:
        """Begin a window."""
        self._since, self._start = now, self._received
        self._received_at = now
        self._longest_silence = self._longest_group = 0.0
        self._least_waiting = math.inf

    @property
    def waiting(self) -> float:
        """Seconds of the stream that came and weren't given on; 0 while nobody takes it."""
        return 0.0 if self._sent is None else max(self._received - self._sent, 0.0)

    def attached(self, clock: float | None, now: float) -> None:
        """Note that somebody takes the stream from a media time on; None: from where it is."""
        self._sent = self._received if clock is None else clock
        self._begin_window(now)

    def detached(self) -> None:
        """Note that nobody takes it."""
        self._sent = None

    def given(self, clock: float) -> None:
        """Note that it was given on up to a media time."""
        if self._sent is not None:
            self._sent = clock
            self._least_waiting = min(self._least_waiting, self.waiting)

    def received(self, clock: float, now: float, *, access: bool = False) -> None:
        """Note how far it came.

        Args:
            clock: media time.
            now: this moment.
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
        """Give the seconds for which it is to be held back; 0: not at all."""
        if self._sent is None:
            return max(self._ahead(now) - max(self._limits.untaken_seconds, self._cushion), 0.0)
        excess = self._ahead(now) - self._limits.ahead_seconds
        self._held |= excess > 0
        return max(excess, 0.0)

    def late(self, now: float) -> bool:
        """Tell, once a window, whether so much is waiting that the stream is to go on with its newest."""
        elapsed, limits = now - self._since, self._limits
        if self._origin is None or elapsed < limits.window_seconds:
            return False
        is_live = not self._held and self._received - self._start <= limits.live_rate * elapsed
        if is_live:
            # A fast clock isn't held against it, nor what it makes up for behind a pause.
            ahead = min(max(self._ahead(now), -limits.behind_seconds), 0.0)
            self._origin = now - self._received + ahead
        unevenness = self._cushion + self._longest_silence + self._longest_group
        late = is_live and limits.slack_seconds + unevenness < self._least_waiting < math.inf
        self._begin_window(now)
        return late

    def _ahead(self, now: float) -> float:
        return 0.0 if self._origin is None else self._received - (now - self._origin)
