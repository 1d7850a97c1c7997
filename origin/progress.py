"""Whether a client takes the bytes that wait for it."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

from origin.zerocopy import FileSender


class Progress:
    """What of a connection's bytes the client has taken, looked at now and then.

    Args:
        transport: The connection's.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._untaken: tuple[int, int, int] | None = None
        self._since = 0.0

    def seconds_without(self, now: float, sender: FileSender | None) -> float:
        """How long the client has taken nothing of what waits for it; 0 when nothing does.

        Args:
            now: The loop's time.
            sender: The connection's sender of files, if it has one.
        """
        buffered = self._transport.get_write_buffer_size()
        if not buffered and (sender is None or not sender.is_sending):
            self._untaken = None
            return 0.0
        # The kernel asks for more only when a third of its buffer is free, which may take a slow client
        # minutes; so what the client hasn't confirmed counts too.
        untaken = (buffered, 0 if sender is None else sender.sent, self._unconfirmed())
        if untaken != self._untaken:
            self._untaken, self._since = untaken, now
        return now - self._since

    def _unconfirmed(self) -> int:
        """Bytes in the kernel that the client's system hasn't confirmed."""
        file = self._transport.get_extra_info("socket").fileno()
        return int.from_bytes(fcntl.ioctl(file, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
