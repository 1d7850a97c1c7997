"""The end of a connection whose client may still send: its last bytes are sent, and what comes is dropped.

Closing with unread bytes, such as those that open windows, would make the kernel reset the connection: the
client would lose what it hasn't read yet. So they are read on; most clients close by themselves.
"""

from __future__ import annotations

import asyncio
import math

from origin.http1.limits import HttpLimits
from origin.http1.transport import FlowControl, unconfirmed_bytes

IGNORED_SECONDS = 0.02
"""Pause between two reads of what a client at fault sends behind its connection's end."""

IGNORED_BYTES = 16 * 1024
"""Bytes behind the end of a connection's answers that show that its client is still reading these."""


class ConnectionEnd:
    """Sends the last bytes of a connection, and closes it afterwards.

    Args:
        last: the last bytes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: HttpLimits,
        transport: asyncio.Transport,
        flow: FlowControl,
        last: bytes,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._flow = flow
        self._transport = transport
        # Bytes that have come since, and when a client at fault is cut off.
        self._ignored, self._cut_at = 0, math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._transport.write(last)
        self._flow.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def cut_off(self) -> None:
        """Close once a client at fault can have read the last bytes."""
        self._cut_at = self._loop.time() + self._limits.linger_seconds
        self._timer = self._loop.call_at(self._cut_at, self._transport.abort)

    def close_in_time(self, before: tuple[int, int] | None = None) -> None:
        """Close once the client has neither taken nor sent anything for some time; so much it had before."""
        before = before or (self._untaken(), 0)
        seconds = self._limits.stalled_seconds if before[0] else self._limits.linger_seconds
        self._timer = self._loop.call_later(seconds, self._close_if_done, before)

    def _close_if_done(self, before: tuple[int, int]) -> None:
        now = self._untaken(), min(self._ignored, IGNORED_BYTES)
        if now == before:
            self._transport.abort()
        else:
            self.close_in_time(now)

    def _untaken(self) -> int:
        """Return how many bytes the client's system hasn't confirmed."""
        return self._transport.get_write_buffer_size() + unconfirmed_bytes(self._transport)

    def ignore(self, count: int) -> None:
        """Note bytes that have come; a client at fault gets others read only now and then."""
        self._ignored += count
        if self._cut_at < math.inf:
            self._flow.pause_reading()
            self.cancel()
            due = min(self._loop.time() + IGNORED_SECONDS, self._cut_at)
            self._timer = self._loop.call_at(due, self._ignore_on)

    def _ignore_on(self) -> None:
        if self._loop.time() >= self._cut_at:
            self._transport.abort()
        else:
            self._timer = self._loop.call_at(self._cut_at, self._transport.abort)
            self._flow.resume_reading()

    def cancel(self) -> None:
        """Do nothing more: the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
