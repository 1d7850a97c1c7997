"""Bytes of a file onto a socket by sendfile, beside an asyncio transport that owns the socket.

What the socket takes at once goes out on the transport's own descriptor. Only to wait for room it is
duplicated, because a loop doesn't let anybody wait for a descriptor that one of its transports uses. Nothing
else may write to the connection while a sending is under way; `origin/http1/protocol.py` sees to that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from origin.http.byte_ranges import ByteRange
from origin.http1.file_runs import READ_AT_ONCE, FileRuns

MSG_MORE = getattr(socket, "MSG_MORE", 0)

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension by which an application leaves the sending of a file's bytes to the server."""

STEP = 2 * 1024 * 1024
"""Bytes that one connection may send before the others get their turn."""

READ_LIMIT = 16 * 1024
"""Mean length of several ranges up to which reading them, and one send, is cheaper than many sendfiles."""

SINGLE_READ_LIMIT = 4 * 1024
"""Length of a single range up to which reading it is cheaper than a sendfile; it spares no other call."""

JOINED_LIMIT = 64 * 1024
"""Bytes of ranges that are read at most; a slow client costs so much memory."""

PAGE = 4096
"""Bytes of a page of the kernel's page cache."""

PACKET_PAGES = 16
"""Pages of a file that leave together with a header in one packet (MSG_MORE).

A packet of Linux has room for 17 fragments (MAX_SKB_FRAGS): one is the header's, and each page that a range
touches is another. A range that fits spares a packet, which is dear beside a short answer. 64 KiB that begin
between two pages touch 17: left to one call, they nearly double the kernel's time.
"""

SPLIT_PAGES = 2 * PACKET_PAGES
"""Pages of a range up to which two calls that fill a packet each are cheaper than a header for itself."""

HALF_PACKET = PACKET_PAGES // 2 * PAGE
"""Bytes up to which the first of two such calls goes, from the beginning of its first page."""

GATHERED = 64
"""Pieces of bytes that one call sends at most."""

LEAST_GATHERED = 64 * 1024
"""Bytes of runs that are gathered for one call at least, however few the socket has taken of those before."""

Done = Callable[[Exception | None], None]


Piece = bytes | memoryview | ByteRange | FileRuns


class TruncatedFileError(Exception):
    """The file ended before the bytes that were promised."""


class FileSender:
    """Sends bytes and ranges of files on one connection's socket, one sending at a time.

    Args:
        loop: The loop of the connection.
        transport: The connection's; its socket stays its own, and is open until `close`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport) -> None:
        own = transport.get_extra_info("socket")
        self._loop = loop
        # Transports don't let others send; this is the same descriptor, and `close` only forgets it.
        self._socket = socket.socket(own.family, own.type, own.proto, fileno=own.fileno())
        self._socket.setblocking(False)
        self._send = self._socket.send
        self._fd = own.fileno()
        self._waiting = -1
        self._pieces: list[Piece] = []
        self._file = -1
        # Bytes of runs to be gathered for the next call: about as many as the socket takes. What it doesn't
        # take is read again later, so that a slow client costs no memory.
        self._gathered_next = READ_AT_ONCE
        self._done: Done | None = None
        self.sent = 0
        """Bytes that the kernel has taken so far."""

    @property
    def is_sending(self) -> bool:
        """Whether bytes are left that the kernel hasn't taken yet."""
        return self._done is not None

    def begin(self, pieces: Sequence[Piece], length: int, file: int, done: Done | None) -> bool:
        """Send bytes and ranges of a file.

        Args:
            pieces: What to send, in this order.
            length: Of all ranges together.
            file: Descriptor of a regular file, open until the sending has ended; none without ranges.
            done: Called at the end, with the reason if it is an early one; not when the end is now. None: the
                caller awaits `rest`.

        Returns:
            Whether the kernel has all the bytes already.

        Raises:
            TruncatedFileError: The file was too short; what there was has been sent.
            OSError: The connection is gone, or there is no descriptor left to wait with.
        """
        if len(pieces) == 2 and length > SINGLE_READ_LIMIT:
            head, body = pieces
            if isinstance(head, bytes) and isinstance(body, ByteRange):
                return self.begin_range(head, *body, file, done)
        if 0 < length <= JOINED_LIMIT and length <= READ_LIMIT * len(pieces) // 2:
            # Runs are read and sent in one call anyway.
            plain = [piece for piece in pieces if not isinstance(piece, FileRuns)]
            if len(plain) == len(pieces):
                pieces = (b"".join([_read(file, piece) for piece in plain]),)
        elif not length and len(pieces) == 2:
            # A header and bytes from memory: nearly always the kernel takes both in one call.
            pieces = self._offer(*pieces)
            if not pieces:
                return True
        self._pieces = list(pieces)
        self._file = file
        if self._step(MSG_MORE if 0 < length <= PACKET_PAGES * PAGE else 0):
            return True
        if done is not None:
            self._wait(done)
        return False

    def begin_range(self, head: bytes, first: int, last: int, file: int, done: Done | None = None) -> bool:
        """Send bytes and one range of a file, which is what `begin` does in a longer way.

        Args:
            head: What goes before the file's bytes.
            first: The first position of the range.
            last: The last one.
            file: Descriptor of a regular file, open until the sending has ended.
            done: As for `begin`, which says what is returned and raised, too; without it, `rest` is to be
                awaited where the kernel hasn't all the bytes yet.
        """
        length = last + 1 - first
        if length <= SINGLE_READ_LIMIT:
            return self.begin((head, ByteRange(first, last)), length, file, done)
        sent = taken = 0
        try:
            pages = last // PAGE - first // PAGE + 1
            sent = self._send(head, MSG_MORE if pages <= SPLIT_PAGES else 0)
            if sent == len(head):
                if PACKET_PAGES < pages <= SPLIT_PAGES:
                    taken = os.sendfile(self._fd, file, first, HALF_PACKET - first % PAGE)
                left = length - taken
                taken += os.sendfile(self._fd, file, first + taken, min(STEP, left))
                if not taken:
                    raise TruncatedFileError(f"no bytes at {first}, {length} left to send")
        except BlockingIOError:
            pass
        finally:
            self.sent += sent + taken
        if taken == length:
            return True
        rest = ByteRange(first + taken, last)
        self._pieces = [rest] if sent == len(head) else [memoryview(head)[sent:], rest]
        self._file = file
        if done is not None:
            self._wait(done)
        return False

    def _wait(self, done: Done) -> None:
        """Have each turn of the loop that finds the socket writable send one more step."""
        if self._waiting < 0:
            self._waiting = os.dup(self._fd)
        self._done = done
        self._loop.add_writer(self._waiting, self._continue)

    async def rest(self) -> None:
        """Send what `begin_range` has left; returns when the kernel has all the bytes.

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

        self._wait(done)
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
        self._socket.detach()
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

    def _step(self, flags: int = 0) -> bool:
        """Send at most one step. Returns whether everything is sent."""
        budget = STEP
        pieces = self._pieces
        try:
            while pieces and budget > 0:
                piece = pieces[0]
                if isinstance(piece, ByteRange):
                    first, last = piece
                    length = last + 1 - first
                    sent = os.sendfile(self._fd, self._file, first, min(budget, length))
                    if not sent:
                        raise TruncatedFileError(f"no bytes at {first}, {length} left to send")
                    budget -= sent
                elif isinstance(piece, FileRuns) or (
                    len(pieces) > 1 and not isinstance(pieces[1], ByteRange)
                ):
                    taken = self._send_together(flags, budget)
                    if not taken:
                        return False
                    budget -= taken
                    continue
                else:
                    length = len(piece)
                    sent = self._socket.send(piece, flags if len(pieces) > 1 else 0)
                self.sent += sent
                if sent == length:
                    del pieces[0]
                elif isinstance(piece, ByteRange):
                    pieces[0] = ByteRange(piece.first + sent, piece.last)
                else:
                    pieces[0] = memoryview(piece)[sent:]
        except BlockingIOError:
            return False
        return not pieces

    def _offer(self, head: Piece, body: Piece) -> Sequence[Piece]:
        """Send of bytes what the kernel takes now. Returns the rest."""
        if isinstance(head, ByteRange | FileRuns) or isinstance(body, ByteRange | FileRuns):
            return (head, body)
        try:
            sent = self._socket.sendmsg((head, body))
        except BlockingIOError:
            return (head, body)
        self.sent += sent
        if sent == len(head) + len(body):
            return ()
        if sent < len(head):
            return (memoryview(head)[sent:], body)
        return (memoryview(body)[sent - len(head) :],)

    def _send_together(self, flags: int, budget: int) -> int:
        """Send the bytes up to the next range, and runs behind them, in one call.

        Returns:
            How many bytes the step has left fewer; 0 where the socket is full.
        """
        pieces = self._pieces
        data = _leading_bytes(pieces)
        leading = len(data)
        runs = pieces[leading] if leading < len(pieces) else None
        if isinstance(runs, FileRuns):
            gathered = runs.read(self._file, min(self._gathered_next, budget))
            if gathered:
                data.append(gathered)
            elif not leading:
                raise TruncatedFileError(f"the file ends before the last {len(runs)} bytes to send")
        left = sent = self._socket.sendmsg(data, (), flags if leading < len(pieces) else 0)
        self.sent += sent
        for piece in data[:leading]:
            if left < len(piece):
                pieces[0] = memoryview(piece)[left:]
                return 0
            left -= len(piece)
            del pieces[0]
        if not isinstance(runs, FileRuns) or len(data) == leading:
            return 1
        runs.skip(left)
        if left < len(data[-1]):
            self._gathered_next = max(LEAST_GATHERED, left)
            return 0
        self._gathered_next = min(READ_AT_ONCE, 2 * self._gathered_next)
        if not runs:
            del pieces[0]
        # However short the runs are, gathering them takes its time.
        return max(left, LEAST_GATHERED)


def _leading_bytes(pieces: list[Piece]) -> list[bytes | memoryview]:
    """The pieces before the first range, at most as many as one call takes."""
    data: list[bytes | memoryview] = []
    for piece in pieces:
        if isinstance(piece, ByteRange | FileRuns) or len(data) == GATHERED:
            break
        data.append(piece)
    return data


def _read(file: int, piece: bytes | memoryview | ByteRange) -> bytes | memoryview:
    """A piece's bytes."""
    if not isinstance(piece, ByteRange):
        return piece
    data = os.pread(file, piece.length, piece.first)
    if len(data) < piece.length:
        raise TruncatedFileError(f"{len(data)} bytes of {piece.length} at {piece.first}")
    return data
