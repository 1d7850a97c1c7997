"""Sends ranges of files with sendfile(2), or encrypted, on a socket that belongs to an asyncio transport.

As long as the socket takes bytes at once, the transport's own descriptor is used. It is duplicated only to
wait for room, because asyncio doesn't let others watch a descriptor that a transport uses. Nothing else may
write to the connection meanwhile: ``origin/http1/connection.py`` and ``exchange.py`` see to that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial

from origin.answers.pieces import PIECES_AT_ONCE, READ_LIMIT, LazyPieces, Piece, TruncatedFileError
from origin.answers.vectored_read import READ_AT_ONCE, FileRuns
from origin.http.byte_ranges import SelectedRange

MSG_MORE = getattr(socket, "MSG_MORE", 0)

STEP = 2 * 1024 * 1024
"""Most bytes that one connection sends before the others get their turn."""

SINGLE_READ_LIMIT = 4 * 1024
"""Length of a single range up to which reading it is cheaper than a sendfile."""

JOINED_LIMIT = 64 * 1024
"""Most bytes of ranges that are read into memory: what a slow client costs."""

PAGE = 4096
"""Size of a page of the kernel's page cache in bytes."""

PACKET_PAGES = 16
"""Most pages of a file that leave in one packet together with a header (MSG_MORE).

A packet of Linux has room for 17 fragments (MAX_SKB_FRAGS): one for the header, and one for each page that
the range touches. Saving a packet matters for a short answer. A range of 64 KiB that doesn't begin at a
page's start touches 17 pages; sent in one call, it takes the kernel nearly twice as long.
"""

SPLIT_PAGES = 2 * PACKET_PAGES
"""Most pages of a range that is sent in two calls, which is cheaper than a packet for the header alone."""

HALF_PACKET = PACKET_PAGES // 2 * PAGE
"""Bytes up to which the first of these two calls goes, counted from the start of its first page."""

LEAST_GATHERED = 64 * 1024
"""Least bytes of runs that are gathered for one call, however few the socket took the last time."""

Done = Callable[[Exception | None], None]


_OF_FILE = SelectedRange | FileRuns | LazyPieces


class FileSender:
    """Sends bytes and ranges of files on a connection's socket, one sending at a time.

    The transport keeps owning the socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport) -> None:
        own = transport.get_extra_info("socket")
        self._loop = loop
        self._fd = own.fileno()
        self._socket: socket.socket | None = None
        output = transport.get_extra_info("tls_output")
        if output is None:
            # asyncio's socket can't be sent on; this one has its descriptor, which `close` doesn't close.
            output = self._socket = socket.socket(own.family, own.type, own.proto, fileno=own.fileno())
            output.setblocking(False)
        self._send: Callable[[bytes | memoryview, int], int] = output.send
        self._sendmsg: Callable[..., int] = output.sendmsg
        # Arguments: the file's descriptor, the first byte and the number of bytes.
        self._sendfile: Callable[[int, int, int], int] = (
            output.sendfile if self._socket is None else partial(os.sendfile, self._fd)
        )
        self._waiting = -1
        self._pieces: list[Piece] = []
        self._file = -1
        # How many bytes of runs to gather for the next call: about as many as the socket takes. The rest is
        # read again later, so that a slow client costs no memory.
        self._gathered_next = READ_AT_ONCE
        self._done: Done | None = None
        self.sent = 0
        """Bytes that the kernel has taken so far."""

    @property
    def is_sending(self) -> bool:
        """Whether the kernel hasn't taken all the bytes yet."""
        return self._done is not None

    def begin(self, pieces: Sequence[Piece], length: int, file: int, done: Done | None) -> bool:
        """Send bytes and ranges of a file; return whether the kernel has taken all of them already.

        Args:
            pieces: bytes and ranges, in the order in which they are sent.
            length: bytes of all ranges together.
            file: descriptor of a regular file, open until the sending has ended; any number without ranges.
            done: called at the end, with the error if there is one, but not if this method returns True or
                raises. None: the caller awaits `rest`.

        Raises:
            TruncatedFileError: the file is too short; its bytes have been sent.
            OSError: the connection is gone, or no descriptor is left to wait with.
        """
        if 0 < length <= JOINED_LIMIT and length <= READ_LIMIT * len(pieces) // 2:
            # Runs are left out, as they are gathered into one call anyway.
            plain = [piece for piece in pieces if not isinstance(piece, FileRuns | LazyPieces)]
            if len(plain) == len(pieces):
                pieces = (b"".join([_read(file, piece) for piece in plain]),)
        elif not length and len(pieces) == 2:
            # The kernel nearly always takes a header and bytes from memory in one call.
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
        """Send a header and one range of a file, in a shorter way than `begin`, whose rules hold here too.

        Without `done`, `rest` is to be awaited if this returns False.
        """
        length = last + 1 - first
        if length <= SINGLE_READ_LIMIT:
            head, length = b"".join((head, _read(file, SelectedRange(first, last)))), 0
        sent = taken = 0
        try:
            pages = last // PAGE - first // PAGE + 1
            sent = self._send(head, MSG_MORE if length and pages <= SPLIT_PAGES else 0)
            if length and sent == len(head):
                if PACKET_PAGES < pages <= SPLIT_PAGES and self._socket is not None:
                    taken = self._sendfile(file, first, HALF_PACKET - first % PAGE)
                left = length - taken
                taken += self._sendfile(file, first + taken, min(STEP, left))
                if not taken:
                    raise TruncatedFileError(f"no bytes at {first}, {length} left to send")
        except BlockingIOError:
            pass
        finally:
            self.sent += sent + taken
        if taken == length and sent == len(head):
            return True
        self._pieces = [] if sent == len(head) else [memoryview(head)[sent:]]
        if length:
            self._pieces.append(SelectedRange(first + taken, last))
        self._file = file
        if done is not None:
            self._wait(done)
        return False

    def _wait(self, done: Done) -> None:
        """Send one more step whenever the loop finds the socket writable."""
        if self._waiting < 0:
            self._waiting = os.dup(self._fd)
        self._done = done
        self._loop.add_writer(self._waiting, self._continue)

    async def rest(self) -> None:
        """Wait until the bytes that are left are sent.

        Raises:
            TruncatedFileError: the file is too short; its bytes have been sent.
            OSError: the connection is gone, or no descriptor is left to wait with.
        """
        ended: asyncio.Future[None] = self._loop.create_future()
        self._wait(partial(_complete, ended))
        try:
            await ended
        finally:
            self._stop()
            # An error's traceback has this frame: with what holds the error, it would wait for the collector.
            del ended

    def close(self) -> None:
        """Close the duplicated descriptor; a sending that isn't complete ends with an OSError."""
        done = self._stop()
        if self._waiting >= 0:
            os.close(self._waiting)
            self._waiting = -1
        if self._socket is not None:
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
            # Its traceback has this frame, which would keep it and be kept by it.
            error = caught.with_traceback(None)
        done = self._stop()
        if done is not None:
            done(error)

    def _step(self, flags: int = 0) -> bool:
        """Send up to `STEP` bytes; return whether everything is sent."""
        budget = STEP
        pieces = self._pieces
        try:
            while pieces and budget > 0:
                piece = pieces[0]
                if isinstance(piece, SelectedRange):
                    first, last = piece
                    length = last + 1 - first
                    sent = self._sendfile(self._file, first, min(budget, length))
                    if not sent:
                        raise TruncatedFileError(f"no bytes at {first}, {length} left to send")
                    budget -= sent
                elif isinstance(piece, LazyPieces):
                    pieces[:1] = [*made, piece] if (made := piece.make()) else []
                    continue
                elif isinstance(piece, FileRuns) or (
                    len(pieces) > 1 and not isinstance(pieces[1], SelectedRange)
                ):
                    taken = self._send_together(flags, budget)
                    if not taken:
                        return False
                    budget -= taken
                    continue
                else:
                    length = len(piece)
                    sent = self._send(piece, flags if len(pieces) > 1 else 0)
                self.sent += sent
                if sent == length:
                    del pieces[0]
                elif isinstance(piece, SelectedRange):
                    pieces[0] = SelectedRange(piece.first + sent, piece.last)
                else:
                    pieces[0] = memoryview(piece)[sent:]
        except BlockingIOError:
            return False
        return not pieces

    def _offer(self, head: Piece, body: Piece) -> Sequence[Piece]:
        """Send what the kernel takes now, if both pieces are bytes; return the rest."""
        if isinstance(head, _OF_FILE) or isinstance(body, _OF_FILE):
            return (head, body)
        try:
            sent = self._sendmsg((head, body))
        except BlockingIOError:
            return (head, body)
        self.sent += sent
        if sent == len(head) + len(body):
            return ()
        if sent < len(head):
            return (memoryview(head)[sent:], body)
        return (memoryview(body)[sent - len(head) :],)

    def _send_together(self, flags: int, budget: int) -> int:
        """Send the bytes up to the next range, and the runs behind them, in one call.

        Returns:
            How much of the step's budget is used up; 0 if the socket is full.
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
        # Bytes behind which nothing comes would wait for a fifth of a second; lazy pieces may be at an end.
        behind = leading + (isinstance(runs, FileRuns) and len(gathered) == len(runs))
        is_last = behind == len(pieces) or isinstance(pieces[behind], LazyPieces)
        left = sent = self._sendmsg(data, (), 0 if is_last else flags)
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
        # Gathering takes its time, however short the runs are.
        return max(left, LEAST_GATHERED)


def _leading_bytes(pieces: list[Piece]) -> list[bytes | memoryview]:
    """Return the pieces before the first range, at most as many as one call takes."""
    data: list[bytes | memoryview] = []
    for piece in pieces:
        if isinstance(piece, _OF_FILE) or len(data) == PIECES_AT_ONCE:
            break
        data.append(piece)
    return data


def _read(file: int, piece: bytes | memoryview | SelectedRange) -> bytes | memoryview:
    """Return the bytes of a piece, read from the file if it is a range."""
    if not isinstance(piece, SelectedRange):
        return piece
    data = os.pread(file, piece.length, piece.first)
    if len(data) < piece.length:
        raise TruncatedFileError(f"{len(data)} bytes of {piece.length} at {piece.first}")
    return data


def _complete(ended: asyncio.Future[None], error: Exception | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
