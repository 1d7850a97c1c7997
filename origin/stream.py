"""The ASGI extension ``headwater.stream``: a response's body that its owner writes onto the connection.

An ASGI ``send`` costs a task's turn, and for a thousand listeners of one station a thousand turns a second.
Here the response begins through ASGI as any other; then its owner gets a handle, and writes the same bytes to
all its handles in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

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

    Attributes:
        closed: whether the client has gone, or the end was written.
        sent: bytes that were written, framing included.
        on_close: called once, when the client has gone before the end.
    """

    __slots__ = ("_finish", "_loop", "_transport", "chunked", "closed", "on_close", "sent")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        finish: Callable[[], None],
        *,
        chunked: bool,
    ) -> None:
        self._transport = transport
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

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes, framed already; they are kept as they are until the kernel takes them."""
        self.sent += len(data)
        self._transport.write(data)

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
            if self.on_close is not None:
                self.on_close()


def as_chunk(data: bytes | memoryview) -> bytes:
    """Frame bytes as one chunk (RFC 9112 §7.1), which must not be empty."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
