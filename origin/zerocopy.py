"""Bytes of a file onto a socket by sendfile, beside an asyncio transport that owns the socket.

What the socket takes at once goes out on the transport's own descriptor. Only to wait for room it is
duplicated, because a loop doesn't let anybody wait for a descriptor that one of its transports uses. Nothing
else may write to the connection while a sending is under way; `origin/wire.py` sees to that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from origin.byteranges import ByteRange

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension by which an application leaves the sending of a file's bytes to the server."""

STEP = 1024 * 1024
"""Bytes that one connection may send before the others get their turn."""

READ_LIMIT = 16 * 1024
"""Mean length of ranges up to which reading them, and one send, is cheaper than a sendfile for each."""

JOINED_LIMIT = 64 * 1024
"""Bytes of ranges that are read at most; a slow client costs so much memory."""

GATHERED = 64
"""Pieces of bytes that one call sends at most."""

Piece = bytes | memoryview | ByteRange
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
        self._waiting = -1
        self._pieces: list[Piece] = []
        self._file = -1
        self._done: Done | None = None
        self.sent = 0
        """Bytes that the kernel has taken so far."""

    @property
    def is_sending(self) -> bool:
        """Whether bytes are left that the kernel hasn't taken yet."""
        return self._done is not None

    def begin(self, pieces: Sequence[Piece], length: int, file: int, done: Done) -> bool:
        """Send bytes and ranges of a file.

        Args:
            pieces: What to send, in this order.
            length: Of all ranges together.
            file: Descriptor of a regular file, open until the sending has ended; none without ranges.
            done: Called at the end, with the reason if it is an early one; not when the end is now.

        Returns:
            Whether the kernel has all the bytes already.

        Raises:
            TruncatedFileError: The file was too short; what there was has been sent.
            OSError: The connection is gone, or there is no descriptor left to wait with.
        """
        self._file = file
        self._pieces = list(pieces)
        if 0 < length <= JOINED_LIMIT and length <= READ_LIMIT * len(pieces) // 2:
            self._pieces = [b"".join([_read(file, piece) for piece in pieces])]
        if self._step():
            return True
        # Each turn of the loop that finds the socket writable sends one more step.
        if self._waiting < 0:
            self._waiting = os.dup(self._fd)
        self._done = done
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

        if self.begin([head, ByteRange(offset, offset + count - 1)], count, file, done):
            return
        try:
            await ended
        finally:
            self._stop()

    def close(self) -> None:
        """Give the descriptor back; a sending under way ends with an OSError."""
        done = self._stop()
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
                    budget -= self._send_bytes()
        except BlockingIOError:
            return False
        return not pieces

    def _send_bytes(self) -> int:
        """Send the bytes up to the next range."""
        # A write of its own, not joined with the file's first bytes (MSG_MORE): the client wakes up and takes
        # its share of the work while the kernel still gathers pages. Measured: a third less for 1 MiB.
        data = _leading_bytes(self._pieces)
        sent = os.writev(self._fd, data)
        self.sent += sent
        left = sent
        for piece in data:
            if left < len(piece):
                self._pieces[0] = memoryview(piece)[left:]
                break
            left -= len(piece)
            del self._pieces[0]
        return sent

    def _send_range(self, part: ByteRange, length: int) -> int:
        sent = os.sendfile(self._fd, self._file, part.first, length)
        if not sent:
            raise TruncatedFileError(f"no bytes at {part.first}, {part.length} left to send")
        self.sent += sent
        if sent == part.length:
            del self._pieces[0]
        else:
            self._pieces[0] = ByteRange(part.first + sent, part.last)
        return sent


def _leading_bytes(pieces: list[Piece]) -> list[bytes | memoryview]:
    """The pieces before the first range, at most as many as one call takes."""
    data: list[bytes | memoryview] = []
    for piece in pieces:
        if isinstance(piece, ByteRange) or len(data) == GATHERED:
            break
        data.append(piece)
    return data


def _read(file: int, piece: Piece) -> bytes | memoryview:
    """A piece's bytes."""
    if not isinstance(piece, ByteRange):
        return piece
    data = os.pread(file, piece.length, piece.first)
    if len(data) < piece.length:
        raise TruncatedFileError(f"{len(data)} bytes of {piece.length} at {piece.first}")
    return data
