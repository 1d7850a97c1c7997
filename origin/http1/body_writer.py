"""The ASGI extension ``headwater.stream``: a response whose body is written straight onto the connection.

An ASGI ``send`` costs a turn of a task: with a thousand listeners of a station, a thousand turns a second.
Here the response begins through ASGI like any other. Then the owner of the body gets a `Stream`, and writes
the same bytes to all its streams in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence

from starlette.types import Scope

STREAM = "headwater.stream"
"""Type of the ASGI message that may follow ``http.response.start``.

Its ``take`` is called with the `Stream`, and ``buffer`` is the size asked for the kernel's send buffer. The
server sets ``stream``, for middleware.
"""

MAY_OUTLIVE, AT_END = "may_outlive", "at_end"
"""Keys of the extension in a scope: whether its `Stream` may go on when the application returns, and what is
called at its end where it does."""

LAST_CHUNK = b"0\r\n\r\n"


def _do_nothing() -> None:
    """Do nothing, for all streams whose owner waits for no room."""


def may_outlive(scope: Scope) -> bool:
    """Return whether the application may return while its `Stream` goes on."""
    return MAY_OUTLIVE in scope.get("extensions", {}).get(STREAM, ())


def outlive(scope: Scope) -> None:
    """Have the `Stream` go on when the application returns, which frees all that its call holds.

    Code with something to do at the end of the response says so by `at_end`, and keeps no scope.
    """
    scope["extensions"][STREAM][AT_END] = []


def stay(scope: Scope) -> None:
    """Have the application's call last as long as its `Stream`, as something waits for its return."""
    scope.get("extensions", {}).get(STREAM, {}).pop(MAY_OUTLIVE, None)


def at_end(scope: Scope, callback: Callable[[], None]) -> None:
    """Call back at the response's end: now that the application returns, or when its `Stream` ends later."""
    callbacks: list[Callable[[], None]] | None = scope.get("extensions", {}).get(STREAM, {}).get(AT_END)
    if callbacks is None:
        callback()
    else:
        callbacks.append(callback)


class Stream:
    """The body of a response to one client. No method waits: the writer looks at ``buffered`` before.

    Args:
        finish: tells the exchange that the body is complete.
        chunked: whether the body is sent in chunks, which the writer then makes (``as_chunk``).
        plain: whether the connection isn't encrypted, so that bytes may be written past the transport.

    Attributes:
        closed: whether the client has gone, or the end of the body was written.
        sent: bytes written, framing included; code that writes past the stream adds them at the end.
        on_close: called once, if the client goes before the end of the body.
        on_room: called when all that waited was taken, where the transport says so.
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
        "on_room",
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
        # Whether the transport may hold bytes that must go first, such as the response's header.
        self._queued = True
        self._loop = loop
        self._finish = finish
        self.chunked = chunked
        self.closed = False
        self.sent = 0
        self.on_close: Callable[[], None] | None = None
        self.on_room: Callable[[], None] = _do_nothing

    @property
    def buffered(self) -> int:
        """Bytes that the kernel hasn't taken yet."""
        return self._transport.get_write_buffer_size()

    def bound(self, size: int) -> None:
        """Bound the kernel's send buffer, which would grow to megabytes and hide how far a client lags.

        Linux doubles the size for its own needs (socket(7), SO_SNDBUF).
        """
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    @property
    def direct(self) -> int:
        """The connection's descriptor while bytes may be written on it past the transport, otherwise -1.

        asyncio closes a descriptor only after ``on_close`` was called; from then on it may be another
        connection's.
        """
        if self.closed or (self._queued and self._transport.get_write_buffer_size()):
            return -1
        self._queued = False
        return self._socket

    def queue(self, data: memoryview) -> None:
        """Pass the bytes that the socket didn't accept to the transport; later bytes go behind them."""
        self._queued = True
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Write bytes that are framed already; they are kept uncopied until the kernel takes them.

        They go past the transport if nothing waits there, which is much cheaper for many clients.
        """
        self.sent += len(data)
        descriptor, taken = self.direct, 0
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # no room, or an error that the transport meets too
                taken = os.write(descriptor, data)
        if taken < len(data):
            self.queue(memoryview(data)[taken:])

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Write unframed pieces of the body, not all of them empty, and return their size with framing.

        The kernel joins them.
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
        """End the body, and close once the client has taken it, or after `patience` seconds."""
        if self.closed:
            return
        self.closed = True
        if self.chunked:
            self._transport.write(LAST_CHUNK)
        self._finish()
        self._loop.call_later(patience, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection, which tells the client that the body is incomplete (RFC 9112 §8)."""
        if not self.closed:
            self._transport.abort()

    def hang_up(self) -> None:
        """Handle the client's disconnection; the exchange calls this."""
        if not self.closed:
            self.closed = True
            on_close, self.on_close = self.on_close, None
            if on_close is not None:
                on_close()


def as_chunk(data: bytes | memoryview) -> bytes:
    """Frame bytes, at least one, as a chunk (RFC 9112 §7.1)."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
