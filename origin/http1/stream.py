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
        plain: whether the connection's bytes are the body's own, so that they may go past the transport.

    Attributes:
        closed: whether the client has gone, or the end was written.
        sent: bytes that were written, framing included.
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

    def offer(self, data: bytes) -> bool:
        """Write bytes, framed already, if none wait before them; the same for a crowd, at little cost.

        Returns:
            Whether they are on their way; else nothing of them was written.
        """
        # The loop closes a descriptor after it has told so (``hang_up``), never before; then it is another's.
        if self.closed or (self._queued and self._transport.get_write_buffer_size()):
            return False
        size = len(data)
        self.sent += size
        try:
            taken = os.write(self._socket, data) if self._socket >= 0 else 0
        except OSError:
            taken = 0  # no room, or an error that the transport meets too, with what is left to it
        self._queued = taken < size
        if self._queued:
            self._transport.write(memoryview(data)[taken:])
        return True

    def write(self, data: bytes) -> None:
        """Write bytes, framed already; they are kept as they are until the kernel takes them."""
        if not self.offer(data):
            self.sent += len(data)
            self._queued = True
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


def as_chunk(*pieces: bytes | memoryview) -> bytes:
    """Frame bytes as one chunk (RFC 9112 §7.1), which must not be empty."""
    return b"".join((b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"))
