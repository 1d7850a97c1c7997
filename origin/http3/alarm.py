"""A call at the earliest of several times of an event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Calls a function once, at the earliest time that was set.

    The time is noted here: for one that is past already, uvloop returns a handle that doesn't know its time.

    Attributes:
        due: when the function will be called; infinite for never.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self.due = math.inf
        self._handle: asyncio.Handle | None = None

    def set_by(self, due: float) -> None:
        """Have the function called by a time of the loop, unless it will be called earlier."""
        if due < self.due:
            self.cancel()
            self.due, self._handle = due, self._loop.call_at(due, self._ring)

    def cancel(self) -> None:
        """Call nothing, until another time is set."""
        if self._handle is not None:
            self._handle.cancel()
        self.due, self._handle = math.inf, None

    def _ring(self) -> None:
        self.due, self._handle = math.inf, None
        self._call()
