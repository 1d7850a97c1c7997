"""Writing to a pipe as there is room in it, without a transport."""

from __future__ import annotations

import asyncio
import os
from collections import deque

GONE = "the program no longer reads its input"


class PipeWriter:
    """Writes to a pipe without blocking the event loop.

    Args:
        descriptor: the pipe's end, which is closed behind the last byte, or when nobody reads any more.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._loop = asyncio.get_running_loop()
        self._descriptor: int | None = descriptor
        self._unwritten = deque[memoryview]()
        self._is_ending = self._is_broken = self._is_listening = False
        self._written: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Write bytes, and wait until the pipe has them; if that is cancelled, they are written all the same.

        Raises:
            BrokenPipeError: nobody reads, or the pipe was closed.
        """
        if self._descriptor is None or self._is_ending:
            raise BrokenPipeError(GONE)
        self._unwritten.append(memoryview(data))
        if not self._is_listening:
            self._write()
        while self._unwritten:
            if self._written is None:
                self._written = self._loop.create_future()
            await asyncio.shield(self._written)
        if self._is_broken:
            raise BrokenPipeError(GONE)

    def close(self) -> None:
        """Close the pipe behind what is still to be written. May be called again."""
        self._is_ending = True
        if not self._unwritten:
            self._release()

    def abort(self) -> None:
        """Close the pipe at once. May be called again."""
        self._is_broken = True
        self._unwritten.clear()
        self._release()

    def _write(self) -> None:
        """Write as much as there is room for."""
        while self._unwritten and self._descriptor is not None:
            piece = self._unwritten[0]
            try:
                count = os.write(self._descriptor, piece)
            except BlockingIOError:
                self._listen()
                return
            except OSError:
                self.abort()
                return
            if count < len(piece):
                self._unwritten[0] = piece[count:]
            else:
                self._unwritten.popleft()
        self._stop_listening()
        if self._is_ending:
            self._release()
        self._wake()

    def _release(self) -> None:
        descriptor = self._descriptor
        if descriptor is not None:
            self._stop_listening()
            self._descriptor = None
            os.close(descriptor)
            self._wake()

    def _wake(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.set_result(None)

    def _listen(self) -> None:
        if not self._is_listening and self._descriptor is not None:
            self._is_listening = True
            self._loop.add_writer(self._descriptor, self._write)

    def _stop_listening(self) -> None:
        if self._is_listening and self._descriptor is not None:
            self._is_listening = False
            self._loop.remove_writer(self._descriptor)
