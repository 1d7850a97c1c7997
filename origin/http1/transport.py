"""What a connection knows of its transport: its two ends, whether it is encrypted, whether it has room."""

from __future__ import annotations

import asyncio
import socket


class FlowControl:
    """Whether a connection reads, and whether its transport takes more.

    Args:
        transport: The connection's.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable = asyncio.Event()
        self._is_writable.set()

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.write_paused = True
        self._is_writable.clear()

    def resume_writing(self) -> None:
        """The transport's buffer has room again, or nobody is there to write to."""
        self.write_paused = False
        self._is_writable.set()

    async def drain(self) -> None:
        """Wait until the transport's buffer has room."""
        await self._is_writable.wait()


def remote_address(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """The client's address and port; None where it has none, as on a Unix socket."""
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is None:
        return _internet_address(transport.get_extra_info("peername"))
    try:
        return _internet_address(own.getpeername())
    except OSError:
        # It has gone already.
        return None


def local_address(transport: asyncio.BaseTransport) -> tuple[str, int | None] | None:
    """The address and port that the client came to, or the path of a Unix socket and None."""
    own: socket.socket | None = transport.get_extra_info("socket")
    name = transport.get_extra_info("sockname") if own is None else own.getsockname()
    return (name, None) if isinstance(name, str) else _internet_address(name)


def _internet_address(name: object) -> tuple[str, int] | None:
    # An IPv6 address has a flow label and a scope besides.
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None


def is_encrypted(transport: asyncio.BaseTransport) -> bool:
    """Whether TLS lies between the connection and its socket."""
    return transport.get_extra_info("sslcontext") is not None
