"""Timeouts of a connection: for clients that take no bytes, and for requests that don't come to their end."""

from __future__ import annotations

import asyncio
import enum
import math
from typing import Protocol

from origin.http1.limits import HttpLimits
from origin.http1.sendfile import FileSender
from origin.http1.transport import unconfirmed_bytes

CHECK_SECONDS = 0.05
"""Least time between two checks of a client's timeouts."""

CHECK_STEP_SECONDS = 1.0
"""Clients that are being answered are checked at multiples of this."""


class AwaitedFromClient(enum.Enum):
    """The next thing that a client has to send."""

    NOTHING = enum.auto()
    REQUEST = enum.auto()
    HEAD = enum.auto()


class TimedConnection(Protocol):
    """A connection as `ConnectionTimeouts` sees it."""

    sender: FileSender | None

    @property
    def awaited(self) -> AwaitedFromClient:
        """The part of a request that the client has to send now."""

    def expire(self, awaited: AwaitedFromClient) -> None:
        """End the connection, since its client was too slow; with NOTHING, too slow in taking bytes."""


class LeastRate:
    """Judges a client that takes bytes that wait for it, but too few of them over a long time."""

    __slots__ = ("_before", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._before = 0

    def restart(self, taken: int) -> None:
        """Begin to count anew.

        Args:
            taken: bytes that the client has taken so far.
        """
        self._seconds, self._before = 0.0, taken

    def is_missed(self, seconds: float, taken: int, limits: HttpLimits) -> bool:
        """Add the seconds for which bytes waited for the client; return whether it has taken too few of them.

        Args:
            taken: bytes that the client has taken so far.
        """
        self._seconds += seconds
        if self._seconds < limits.slow_seconds:
            return False
        is_missed = taken - self._before < limits.slow_bytes
        self.restart(taken)
        return is_missed


class SendProgress:
    """Measures for how long a client has taken none of the bytes that wait for it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._untaken: tuple[int, int, int] | None = None
        self._since = 0.0
        self._rate = LeastRate()
        self._rated: float | None = None

    def is_too_slow(self, now: float, sender: FileSender | None, limits: HttpLimits) -> bool:
        """Return whether the client takes so few bytes of a file, over a long time, that it holds it open."""
        if sender is None or not sender.is_sending:
            self._rated = None
            return False
        taken = sender.sent - (unconfirmed_bytes(self._transport) or 0)
        if self._rated is None:
            self._rate.restart(taken)
        before, self._rated = now if self._rated is None else self._rated, now
        return self._rate.is_missed(now - before, taken, limits)

    def seconds_without(self, now: float, sender: FileSender | None) -> float:
        """Return the seconds for which the client has taken nothing; 0 if nothing waits for it."""
        buffered = self._transport.get_write_buffer_size()
        if not buffered and (sender is None or not sender.is_sending):
            self._untaken = None
            return 0.0
        # The kernel asks for more only when a third of its buffer is free, which may take a slow client
        # minutes; so what the client hasn't confirmed counts too.
        untaken = (buffered, 0 if sender is None else sender.sent, unconfirmed_bytes(self._transport))
        if untaken != self._untaken:
            self._untaken, self._since = untaken, now
        return now - self._since


class ConnectionTimeouts:
    """Checks one connection now and then, which is cheaper than a timer per request.

    Attributes:
        since: when it became idle, or began to read a head, by the loop's clock.
        served: whether a request has been answered.
    """

    def __init__(
        self,
        watched: TimedConnection,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        limits: HttpLimits,
        keep_alive_seconds: float,
    ) -> None:
        self._watched: TimedConnection | None = watched
        self._loop = loop
        self._limits = limits
        self._keep_alive = keep_alive_seconds
        self._progress = SendProgress(transport)
        self._interval = max(
            CHECK_SECONDS, min(limits.header_seconds, limits.stalled_seconds, keep_alive_seconds)
        )
        self.since = loop.time()
        self.served = False
        self._timer: asyncio.TimerHandle | None = loop.call_later(self._interval, self._check)

    def stop(self) -> None:
        """Stop checking, and drop the reference to the connection."""
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        watched = self._watched
        if watched is None:
            return
        now = self._loop.time()
        due = now + self._interval
        is_stalled = self._progress.seconds_without(now, watched.sender) >= self._limits.stalled_seconds
        if is_stalled or self._progress.is_too_slow(now, watched.sender, self._limits):
            self._timer = None
            watched.expire(AwaitedFromClient.NOTHING)
            return
        awaited = watched.awaited
        if awaited is not AwaitedFromClient.NOTHING:
            # RFC 9110 §15.5.9, RFC 9112 §9.5: a request that doesn't come to its end; a connection idle.
            waits_for_head = awaited is AwaitedFromClient.HEAD or not self.served
            limit = self._limits.header_seconds if waits_for_head else self._keep_alive
            if now >= self.since + limit:
                watched.expire(awaited)
            due = min(due, max(self.since + limit, now + CHECK_SECONDS))
        elif self._interval >= CHECK_STEP_SECONDS:
            # Connections that are being answered are checked together, so that they wake the loop once.
            step = CHECK_STEP_SECONDS
            due = math.ceil(due / step) * step
        self._timer = self._loop.call_at(due, self._check)
