"""Sources of the bytes of replies: files, and long texts that are rendered while they are sent."""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import Callable

from media.hls.precompressed_text import Pieces, rendered, size_of
from packager.threads import SHARED_THREADS, ClientThreads

COPY_STEP = 256 * 1024
"""Bytes of one step of a copy, which is the memory that a slow client costs."""


class ThreadSource:
    """Reads ranges with a blocking function in a thread, and releases only after the last read.

    Unlike aiofiles, it reads at given positions, as several requests share one file.

    Args:
        read: returns up to a number of bytes from a position; other users may call it.
        release: closes the file or the like.
        descriptor: of an open file with the same bytes, from which the kernel may send; None: there is none.
    """

    __slots__ = ("_descriptor", "_read", "_reading", "_release", "_threads")

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        release: Callable[[], None],
        threads: ClientThreads = SHARED_THREADS,
        descriptor: int | None = None,
    ) -> None:
        self._read = read
        self._threads = threads
        self._release = release
        self._descriptor = descriptor
        self._reading: asyncio.Future[bytes] | None = None

    def descriptor(self) -> int | None:
        """Return the descriptor from which the kernel may send, if there is one."""
        return self._descriptor

    async def read(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` in a thread; b"" beyond the current end."""
        self._reading = self._threads.submit(self._read, offset, length)
        # The thread continues when the request is cancelled; `release` waits for it.
        return await asyncio.shield(self._reading)

    def release(self) -> None:
        """Release the file, after the last read."""
        if self._reading is None or self._reading.done():
            self._release()
        else:
            self._reading.add_done_callback(self._released)

    def _released(self, reading: asyncio.Future[bytes]) -> None:
        if not reading.cancelled():
            reading.exception()  # a failure that nobody waits for any more needs no log line
        self._release()


class PiecesSource:
    """A long text of pieces in memory, some of which are rendered when they are read.

    Args:
        pieces: the pieces, which must not change.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._begins = [0, *itertools.accumulate(size_of((piece,)) for piece in pieces)]
        self._begins.pop()
        self._pieces = pieces
        # Index and bytes of the piece that was rendered last, since the next read may begin within it.
        self._latest: tuple[int, bytes] = (-1, b"")

    def descriptor(self) -> int | None:
        """None: there is no file."""
        return None

    async def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, after yielding to other tasks."""
        await asyncio.sleep(0)
        first = bisect_right(self._begins, offset) - 1
        behind = bisect_right(self._begins, offset + length - 1)
        begin = offset - self._begins[first]
        return b"".join(map(self._bytes_of, range(first, behind)))[begin : begin + length]

    def _bytes_of(self, number: int) -> bytes:
        if self._latest[0] != number:
            self._latest = number, b"".join(rendered(self._pieces[number : number + 1]))
        return self._latest[1]

    def release(self) -> None:
        """Nothing to release."""
