"""Bytes of a file onto a socket by sendfile, beside an asyncio transport that owns the socket.

The socket is duplicated, because a loop doesn't let anybody wait for a descriptor that one of its transports
uses. Nothing else may write to the connection while a sending is under way; `origin/wire.py` sees to that.
"""

from __future__ import annotations

import asyncio
import os
import socket

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension by which an application leaves the sending of a file's bytes to the server."""

STEP = 512 * 1024
"""Bytes that one connection may send before the others get their turn."""


class TruncatedFileError(Exception):
    """The file ended before the bytes that were promised."""


class FileSender:
    """Sends bytes and ranges of files on one connection's socket, one sending at a time.

    Args:
        loop: The loop of the connection.
        fd: The connection's non-blocking socket; it stays the transport's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.setblocking(False)
        self._head: memoryview = memoryview(b"")
        self._file = -1
        self._offset = 0
        self._left = 0
        self._done: asyncio.Future[None] | None = None
        self.progress = loop.time()
        """The loop's time when the kernel last took bytes."""

    @property
    def is_sending(self) -> bool:
        """Whether bytes are left that the kernel hasn't taken yet."""
        return self._done is not None

    async def send(self, head: bytes, file: int, offset: int, count: int) -> None:
        """Send bytes and then a range of a file; returns when the kernel has them all.

        Args:
            head: What goes before the file's bytes.
            file: Descriptor of a regular file.
            offset: Position of the first byte.
            count: Number of bytes.

        Raises:
            TruncatedFileError: The file was too short; what there was has been sent.
            OSError: The connection is gone.
        """
        self._head = memoryview(head)
        self._file, self._offset, self._left = file, offset, count
        self.progress = self._loop.time()
        if self._step():
            return
        # Each turn of the loop that finds the socket writable sends one more step.
        self._done = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), self._continue)
        try:
            await self._done
        finally:
            self._done = None
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        """Give the descriptor back; a sending under way ends with an OSError."""
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionAbortedError("the connection was closed"))

    def _continue(self) -> None:
        if self._done is None or self._done.done():
            return
        try:
            if self._step():
                self._done.set_result(None)
        except (OSError, TruncatedFileError) as error:
            self._done.set_exception(error)

    def _step(self) -> bool:
        """Send at most one step. Returns whether everything is sent."""
        try:
            if self._head:
                # With much to follow, the kernel joins the head with the first bytes in one packet. With
                # little, that costs more than it saves.
                flags = socket.MSG_MORE if self._left >= STEP else 0
                self._head = self._head[self._socket.send(self._head, flags) :]
                self.progress = self._loop.time()
                if self._head:
                    return False
            if self._left:
                sent = os.sendfile(self._socket.fileno(), self._file, self._offset, min(self._left, STEP))
                if not sent:
                    raise TruncatedFileError(f"no bytes at {self._offset}, {self._left} left to send")
                self.progress = self._loop.time()
                self._offset += sent
                self._left -= sent
        except BlockingIOError:
            return False
        return not self._left
