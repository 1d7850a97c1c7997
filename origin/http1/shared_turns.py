"""Shares the event loop's time among connections that send much at once, and among very many busy ones."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

UNWATCHED_REQUESTS = 64
"""Requests of a step that are answered without a look at the others: looking costs each one some per cent."""

STEP_REQUESTS = 256
"""Most requests that are answered in one step of the loop."""

QUIET_SECONDS = 1.0
"""Who has asked nothing for so long doesn't wait behind those who ask all the time."""


class RequestTurns:
    """Ends a step of the loop that has very many requests, and answers the rest in order in the next ones.

    libuv reads from ready sockets up to 48 times, 1,024 at a time, before it runs anything else. So two
    thousand busy connections would keep answers that need a second step, and new connections, for a second.

    Attributes:
        asked: requests of this step of the loop, as far as it is known to be one.
    """

    __slots__ = ("_clock", "_is_watched", "_seconds", "_waiting", "asked")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin without a request.

        Args:
            seconds: of a step of the loop for requests that have waited.
            clock: monotonic seconds.
        """
        self.asked = 0
        self._seconds = seconds
        self._clock = clock
        self._is_watched = False
        self._waiting: deque[Callable[[], None]] = deque()

    def admits(self, quiet_seconds: float) -> bool:
        """Return whether a request is answered in this step; it is to be asked from the 65th one on.

        Args:
            quiet_seconds: for how long its connection has asked nothing.
        """
        if not self._is_watched:
            self._watch()
        if self.asked > STEP_REQUESTS:
            return False
        return not self._waiting or quiet_seconds > QUIET_SECONDS

    def append(self, answer: Callable[[], None]) -> None:
        """Call what answers a request that isn't admitted, in one of the next steps."""
        self._waiting.append(answer)
        if not self._is_watched:
            self._watch()

    def _watch(self) -> None:
        self._is_watched = True
        asyncio.get_running_loop().call_soon(self._end_step)

    def _end_step(self) -> None:
        """Answer some of those that wait: the step in which they asked is over."""
        self._is_watched = False
        self.asked = 0
        if not self._waiting:
            return
        # First, so that whatever an answer raises keeps none of the others from its turn.
        self._watch()
        self.asked = UNWATCHED_REQUESTS
        ends = self._clock() + self._seconds
        for _ in range(min(len(self._waiting), STEP_REQUESTS)):
            self._waiting.popleft()()
            if self._clock() > ends:
                break


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
