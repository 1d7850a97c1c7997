"""The ASGI extension ``headwater.stream``: a response's body that its owner writes onto the connection.

An ASGI ``send`` costs a task's turn, and for a thousand listeners of one station a thousand turns a second.
Here the response begins through ASGI as any other; then its owner gets a handle, and writes the same bytes to
all its handles in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

STREAM = "headwater.stream"
"""Type of the message behind ``http.response.start``: in it, ``take`` is called with the ``Stream``, and
``buffer`` is the size asked for the kernel's send buffer; ``stream`` is set for who stands between."""

LAST_CHUNK = b"0\r\n\r\n"


class Stream:
    """The way to one client. Nothing here waits: whoever writes looks at ``buffered`` before.

    Args:
        transport: of the connection.
        loop: that it runs in.
        chunked: whether the body is in chunks; who writes frames what it writes (``as_chunk``).
        finish: tells the exchange that the body is complete.
        plain: whether the connection's bytes are the body's own, so that they may go past the transport.

    Attributes:
        closed: whether the client has gone, or the end was written.
        sent: bytes that were written, framing included; whoever writes past the stream adds them in the end.
        on_close: called once, when the client has gone before the end.
    """

    __slots__ = (
        "_finish",
        "_loop",
        "_queued",
        "_socket",
        "_transport",
        "chunked",
        "closed",
        "on_close",
        "sent",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        finish: Callable[[], None],
        *,
        chunked: bool,
        plain: bool = False,
    ) -> None:
        self._transport = transport
        connection = transport.get_extra_info("socket") if plain else None
        self._socket = -1 if connection is None else connection.fileno()
        # Whether the transport may have bytes that must go first: the response's head, to begin with.
        self._queued = True
        self._loop = loop
        self._finish = finish
        self.chunked = chunked
        self.closed = False
        self.sent = 0
        self.on_close: Callable[[], None] | None = None

    @property
    def buffered(self) -> int:
        """Bytes that the kernel hasn't taken yet."""
        return self._transport.get_write_buffer_size()

    def bound(self, size: int) -> None:
        """Bound the kernel's send buffer, which else grows to megabytes and hides how far a client is behind.

        Args:
            size: bytes; Linux doubles it for its own needs (socket(7), SO_SNDBUF).
        """
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    @property
    def direct(self) -> int:
        """The connection's descriptor, while bytes may be written on it past the transport; else -1.

        The loop closes a descriptor after it has told so (``on_close``), never before; then it is another's.
        """
        if self.closed or (self._queued and self._transport.get_write_buffer_size()):
            return -1
        self._queued = False
        return self._socket

    def queue(self, data: memoryview) -> None:
        """Leave bytes to the transport that couldn't be written past it; more go behind them."""
        self._queued = True
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write bytes, framed already; they are kept as they are until the kernel takes them.

        Past the transport where nothing waits there: to a crowd, that is the same at little cost.
        """
        self.sent += len(data)
        descriptor, taken = self.direct, 0
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # no room, or an error that the transport meets too
                taken = os.write(descriptor, data)
        if taken < len(data):
            self.queue(memoryview(data)[taken:])

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Write pieces of the body, not framed yet and not all empty: the kernel joins them, not we.

        Returns:
            How many bytes that was, framing included.
        """
        if self.chunked:
            pieces = (b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n")
        size = sum(map(len, pieces))
        self.sent += size
        descriptor, taken = self.direct, 0
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # as above
                taken = os.writev(descriptor, pieces)
        if taken < size:
            self.queue(memoryview(b"".join(pieces))[taken:])
        return size

    def end(self, patience: float) -> None:
        """Write the end of the body and close, once all is out.

        Args:
            patience: seconds that the client has for taking it; then the connection is cut.
        """
        if self.closed:
            return
        self.closed = True
        if self.chunked:
            self._transport.write(LAST_CHUNK)
        self._finish()
        self._loop.call_later(patience, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection: RFC 9112 §8, that is what tells the client that the body is incomplete."""
        if not self.closed:
            self._transport.abort()

    def hang_up(self) -> None:
        """Take note that the client has gone; called by the exchange."""
        if not self.closed:
            self.closed = True
            on_close, self.on_close = self.on_close, None
            if on_close is not None:
                on_close()


def as_chunk(data: bytes | memoryview) -> bytes:
    """Frame bytes as one chunk (RFC 9112 §7.1), which must not be empty."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
