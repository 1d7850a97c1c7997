"""Facts about an asyncio transport and its socket: addresses, TLS, flow control, bytes in the kernel."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios


class FlowControl:
    """Pauses and resumes a transport's reading, and lets writers wait until its buffer has room.

    Attributes:
        has_unread: whether bytes that were read wait for their turn, so that no more are read before.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self.has_unread = False
        # Made when a writer waits: few connections ever need one, which takes more memory than all else here.
        self._is_writable: asyncio.Event | None = None

    def pause_reading(self) -> None:
        """Stop reading, so that the client's bytes stay in the kernel and slow it down."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading."""
        if self.read_paused and not self.has_unread:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Note that the buffer has room, or that the connection is closed."""
        self.write_paused = False
        if self._is_writable is not None:
            self._is_writable.set()
            self._is_writable = None

    async def drain(self) -> None:
        """Wait until the buffer has room."""
        if self.write_paused:
            self._is_writable = self._is_writable or asyncio.Event()
            await self._is_writable.wait()


def remote_address(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Return the client's address and port; None where it has none, as on a Unix socket."""
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is None:
        return _internet_address(transport.get_extra_info("peername"))
    try:
        return _internet_address(own.getpeername())
    except OSError:
        # The client has gone already.
        return None


def local_address(transport: asyncio.BaseTransport) -> tuple[str, int | None] | None:
    """Return the address and port that the client connected to; for a Unix socket its path and None."""
    own: socket.socket | None = transport.get_extra_info("socket")
    name = transport.get_extra_info("sockname") if own is None else own.getsockname()
    return (name, None) if isinstance(name, str) else _internet_address(name)


def _internet_address(name: object) -> tuple[str, int] | None:
    # An IPv6 address has a flow label and a scope besides.
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None


def is_encrypted(transport: asyncio.BaseTransport) -> bool:
    """Return whether TLS lies between the transport and its socket."""
    return transport.get_extra_info("sslcontext") is not None


def unread_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes of the client are in the kernel, not read yet (tcp(7), SIOCINQ)."""
    return _queued(transport, termios.FIONREAD)


def unconfirmed_bytes(transport: asyncio.Transport) -> int:
    """Return how many sent bytes the client's system hasn't confirmed yet (tcp(7), SIOCOUTQ)."""
    return _queued(transport, termios.TIOCOUTQ)


def _queued(transport: asyncio.Transport, request: int) -> int:
    file = transport.get_extra_info("socket").fileno()
    return int.from_bytes(fcntl.ioctl(file, request, bytes(4)), sys.byteorder)
