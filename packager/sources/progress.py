"""Whether a stream that another program copies is still what it says, or another has taken its place. Pure.

ffmpeg doesn't follow everything that a program becomes. Where its codec changes, what comes has no access
point any more; where its clock goes back, the times stand still: ffmpeg gives each packet the next tick. A
new connection is good for both. All times are seconds: of the stream's own clock, and ``now`` of a monotonic
one.
"""

from __future__ import annotations

KEY_SECONDS = 20.0
"""How long no access point may come; thrice what there was between two where that is longer."""

STILL_SECONDS = 3.0
"""How long bytes may come without the clock's going on."""

LEAST_STEP = 0.1
"""By how much it goes on at least."""

LONGEST_REST = 0.5
"""What counts at most of the time between bytes and bytes: a pause is no standing still."""


class StreamContinuity:
    """Watches one connection's stream.

    Args:
        now: this moment.
    """

    def __init__(self, now: float) -> None:
        self._heard = now
        self._patience = KEY_SECONDS
        self._clock: float | None = None
        self._still = self._since_key = 0.0

    def received(self, clock: float | None, now: float, *, access: bool) -> str | None:
        """Note what came.

        Args:
            clock: how far; None where nothing of it is known.
            now: this moment.
            access: whether decoding can begin with some of it.

        Returns:
            What is wrong with it, in words; None for nothing.
        """
        passed, self._heard = min(now - self._heard, LONGEST_REST), now
        self._still += passed
        self._since_key += passed
        if clock is not None and (self._clock is None or abs(clock - self._clock) >= LEAST_STEP):
            self._clock, self._still = clock, 0.0
        if access:
            self._patience = max(self._patience, 3 * self._since_key)
            self._since_key = 0.0
        if self._since_key > self._patience:
            return f"no key frame came for {self._patience:.0f} s"
        if self._clock is not None and self._still > STILL_SECONDS:
            return "its clock stands still"
        return None
