"""A tee of a pumped stream: a further reader for which the channel never waits; one too slow is ended."""

from __future__ import annotations

import asyncio
from collections import deque


class TeeBranch:
    """A second reader of one stream, from its newest access point on; made by ``Pump.branch``.

    Args:
        beginning: the headers, and what has come since that access point.
        most_bytes: how much of what follows may wait to be read; beyond, the branch ends.

    Attributes:
        has_ended: whether the stream has ended, or a decoder can't go on with what follows.
        has_overflown: whether the reader was too slow.
    """

    def __init__(self, beginning: bytes, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pieces = deque((beginning,) if beginning else ())
        # A group of pictures may be larger than that; it is there already, and the reader may just begin.
        self._waiting = 0
        self._changed = asyncio.Event()
        self.has_ended = False
        self.has_overflown = False

    def receive_data(self, data: bytes) -> None:
        """Take the stream's next bytes."""
        if self._waiting + len(data) > self._most_bytes:
            self.has_overflown = True
            self.receive_eof()
        else:
            self._pieces.append(data)
            self._waiting += len(data)
            self._changed.set()

    def receive_eof(self) -> None:
        """End it."""
        self.has_ended = True
        self._changed.set()

    async def read(self) -> bytes:
        """Wait for the next bytes; nothing at the end."""
        while not self._pieces:
            if self.has_ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        return data
