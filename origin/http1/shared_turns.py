"""Shares a bounded part of the event loop's time among connections that have sent much at once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable


class SharedTurns:
    """Resumes connections with unread requests or frames, in turn, for a bounded time of each loop step.

    On HTTP/1, a connection's first request is answered when it comes. Requests behind it in the same read
    (RFC 9112 §9.3.2) wait here once the time is up, so that a thousand connections with a thousand requests
    each hold nobody else up.

    Args:
        seconds: of one step of the event loop that may be spent here.
        pause: seconds from one such step to the next; 0 for each step of the loop.
        clock: monotonic seconds.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.perf_counter, *, pause: float = 0.0
    ) -> None:
        self._seconds = seconds
        self._pause = pause
        self._clock = clock
        # When the time of this loop step began to run; None where nobody has asked for it.
        self._began: float | None = None
        # An ordered set, whose oldest member is removed at once.
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()

    def has_time(self) -> bool:
        """Return whether a connection may go on in this step of the loop."""
        if self._began is None:
            self._begin()
            return True
        return self._clock() - self._began < self._seconds

    def append(self, go_on: Callable[[], None]) -> None:
        """Call a connection in one of the next steps, behind those that wait already."""
        self._waiting[go_on] = None
        if self._began is None:
            self._begin()

    def _begin(self) -> None:
        self._began = self._clock()
        loop = asyncio.get_running_loop()
        if self._pause:
            loop.call_later(self._pause, self._run)
        else:
            loop.call_soon(self._run)

    def _run(self) -> None:
        if not self._waiting:
            self._began = None
            return
        # First, so that whatever a connection raises keeps none of the others from its turn.
        self._begin()
        while self._waiting:
            go_on, _ = self._waiting.popitem(last=False)
            go_on()
            # Behind the first: however little time there is, each step resumes one connection.
            if not self.has_time():
                break
