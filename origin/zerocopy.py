"""Bytes of a file onto a socket by sendfile, beside an asyncio transport that owns the socket.

What the socket takes at once goes out on the transport's own descriptor. Only to wait for room it is
duplicated, because a loop doesn't let anybody wait for a descriptor that one of its transports uses. Nothing
else may write to the connection while a sending is under way; `origin/wire.py` sees to that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from origin.byteranges import ByteRange

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension by which an application leaves the sending of a file's bytes to the server."""

STEP = 1024 * 1024
"""Bytes that one connection may send before the others get their turn."""

LONG = 512 * 1024
"""Bytes of a range from which on the kernel joins what stands before it with its first bytes in one packet
(MSG_MORE). With fewer, that costs more than it saves."""

READ_LIMIT = 16 * 1024
"""Bytes up to which reading a range and sending it with what stands before it is cheaper than a sendfile."""

Done = Callable[[Exception | None], None]


class TruncatedFileError(Exception):
    """The file ended before the bytes that were promised."""


class FileSender:
    """Sends bytes and ranges of files on one connection's socket, one sending at a time.

    Args:
        loop: The loop of the connection.
        fd: The connection's non-blocking socket; it stays the transport's, and is open until `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        # Only for its send with flags; it owns no descriptor: see `close`.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        self._socket.setblocking(False)
        self._waiting = -1
        self._pieces: list[bytes | memoryview | ByteRange] = []
        self._file = -1
        self._done: Done | None = None
        self.progress = 0.0
        """The loop's time when the kernel last took bytes of a sending that `is_sending`."""

    @property
    def is_sending(self) -> bool:
        """Whether bytes are left that the kernel hasn't taken yet."""
        return self._done is not None

    def begin(self, pieces: Sequence[bytes | ByteRange], file: int, done: Done) -> bool:
        """Send bytes and ranges of a file.

        Args:
            pieces: What to send, in this order.
            file: Descriptor of a regular file, open until the sending has ended.
            done: Called at the end, with the reason if it is an early one; not when the end is now.

        Returns:
            Whether the kernel has all the bytes already.

        Raises:
            TruncatedFileError: The file was too short; what there was has been sent.
            OSError: The connection is gone, or there is no descriptor left to wait with.
        """
        self._file = file
        self._pieces = _merged(pieces, file)
        if self._step():
            return True
        # Each turn of the loop that finds the socket writable sends one more step.
        if self._waiting < 0:
            self._waiting = os.dup(self._fd)
        self._done = done
        self.progress = self._loop.time()
        self._loop.add_writer(self._waiting, self._continue)
        return False

    async def send(self, head: bytes, file: int, offset: int, count: int) -> None:
        """Send bytes and then a range of a file; returns when the kernel has them all.

        Args:
            head: What goes before the file's bytes.
            file: Descriptor of a regular file.
            offset: Position of the first byte.
            count: Number of bytes.

        Raises:
            TruncatedFileError: The file was too short; what there was has been sent.
            OSError: The connection is gone, or there is no descriptor left to wait with.
        """
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(error: Exception | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        if self.begin((head, ByteRange(offset, offset + count - 1)), file, done):
            return
        try:
            await ended
        finally:
            self._stop()

    def close(self) -> None:
        """Give the descriptor back; a sending under way ends with an OSError."""
        done = self._stop()
        self._socket.detach()
        if self._waiting >= 0:
            os.close(self._waiting)
            self._waiting = -1
        if done is not None:
            done(ConnectionAbortedError("the connection was closed"))

    def _stop(self) -> Done | None:
        done, self._done = self._done, None
        if done is not None:
            self._loop.remove_writer(self._waiting)
        return done

    def _continue(self) -> None:
        error: Exception | None = None
        try:
            if not self._step():
                return
        except (OSError, TruncatedFileError) as caught:
            error = caught
        done = self._stop()
        if done is not None:
            done(error)

    def _step(self) -> bool:
        """Send at most one step. Returns whether everything is sent."""
        budget = STEP
        pieces = self._pieces
        try:
            while pieces and budget > 0:
                piece = pieces[0]
                if isinstance(piece, ByteRange):
                    budget -= self._send_range(piece, min(piece.length, budget))
                else:
                    self._send_bytes(piece)
                self.progress = self._loop.time()
        except BlockingIOError:
            return False
        return not pieces

    def _send_bytes(self, data: bytes | memoryview) -> None:
        following = self._pieces[1] if len(self._pieces) > 1 else None
        joins = isinstance(following, ByteRange) and following.length >= LONG
        sent = self._socket.send(data, socket.MSG_MORE if joins else 0)
        if sent == len(data):
            del self._pieces[0]
        else:
            self._pieces[0] = memoryview(data)[sent:]

    def _send_range(self, part: ByteRange, length: int) -> int:
        sent = os.sendfile(self._fd, self._file, part.first, length)
        if not sent:
            raise TruncatedFileError(f"no bytes at {part.first}, {part.length} left to send")
        if sent == part.length:
            del self._pieces[0]
        else:
            self._pieces[0] = ByteRange(part.first + sent, part.last)
        return sent


def _merged(pieces: Sequence[bytes | ByteRange], file: int) -> list[bytes | memoryview | ByteRange]:
    """The same bytes as one piece, if they are few."""
    ranges = [piece for piece in pieces if isinstance(piece, ByteRange)]
    if not ranges or sum(part.length for part in ranges) > READ_LIMIT:
        return [*pieces]
    return [b"".join(_read(file, piece) if isinstance(piece, ByteRange) else piece for piece in pieces)]


def _read(file: int, part: ByteRange) -> bytes:
    data = os.pread(file, part.length, part.first)
    if len(data) < part.length:
        raise TruncatedFileError(f"{len(data)} bytes of {part.length} at {part.first}")
    return data
