"""For how long a mount has had nothing to hear, of its own station and of anything."""

from __future__ import annotations

from collections.abc import Callable

SILENCE_SECONDS = 5.0
"""A station that gives nothing for so long is down."""

FALLBACK_SECONDS = 2.5
"""A source that gives nothing for so long is replaced by the fallback: blocks come each second."""


class Silence:
    """One mount's.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        # When the station, and when anything, was last heard here.
        self._heard: float | None = None
        self._sounded: float | None = None

    def begin(self) -> None:
        """Count from now on where nothing was heard yet."""
        self._begun = self._clock()

    def begin_anew(self) -> None:
        """Count from now on, whatever sounded before."""
        self._begun, self._sounded = self._clock(), None

    def hear(self) -> None:
        """Take notice of a block of the station."""
        self._heard = self._clock()

    def sound(self) -> None:
        """Take notice of a block that went out, the fallback's too."""
        self._sounded = self._clock()

    @property
    def is_broken(self) -> bool:
        """Whether anything has sounded since it began anew."""
        return self._sounded is not None

    @property
    def seconds(self) -> float:
        """For how long nothing has sounded."""
        return self._clock() - (self._begun if self._sounded is None else self._sounded)

    @property
    def is_long(self) -> bool:
        """Whether the mount is down."""
        return self.seconds > SILENCE_SECONDS

    @property
    def wants_fallback(self) -> bool:
        """Whether the station itself has given nothing for so long that the fallback is heard."""
        since = self._begun if self._heard is None else self._heard
        return self._clock() - since > FALLBACK_SECONDS
