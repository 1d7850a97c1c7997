"""When a pipe is looked at for a part: so that mostly one look finds it whole, hardly later than it came."""

from __future__ import annotations

LONGEST_SECONDS = 0.02
"""By how much looks are moved at most, to either side of the soonest moment at which a part could come."""

STEP_SECONDS = 0.001
"""By how much a look moves the next ones; a loop's timers are no finer."""

IN_VAIN = 0.25
"""Of all looks, those that come too early; the frames behind them then wake whoever reads."""


class Lookout:
    """One rendition's.

    Each look that is in vain costs a wake-up more, each that is late delays a part by as much. The looks stay
    where a quarter of them is in vain: so they are as late as parts usually are, and follow them both ways.

    Attributes:
        lateness: seconds from the soonest moment to the look.
    """

    def __init__(self) -> None:
        self.lateness = 0.0

    def looked(self, *, whole: bool) -> None:
        """Learn from a look.

        Args:
            whole: whether the part was there.
        """
        moved = self.lateness + STEP_SECONDS * ((1 - IN_VAIN) if not whole else -IN_VAIN)
        self.lateness = max(-LONGEST_SECONDS, min(moved, LONGEST_SECONDS))
