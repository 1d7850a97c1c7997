"""A tee of a pumped stream: a further reader for which the channel never waits; one too slow is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from media.stream_reader import StreamChunk


class TeeBranch:
    """A second reader of one stream, from its newest access point on; made by ``Pump.branch``.

    Args:
        beginning: the headers, and what has come since that access point.
        most_bytes: of memory that chunks that follow may take until they are read; beyond, the branch ends.

    Attributes:
        has_ended: whether the stream has ended, or a decoder can't go on with what follows.
        has_overflown: whether the reader was too slow.
    """

    def __init__(self, beginning: Iterable[StreamChunk], most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._chunks = list(beginning)
        # A group of pictures may be larger than that; it is there already, and the reader may just begin.
        self._waiting = 0
        self._changed = asyncio.Event()
        self.has_ended = False
        self.has_overflown = False

    def push(self, chunk: StreamChunk) -> None:
        """Take the stream's next chunk."""
        if self._waiting + chunk.memory > self._most_bytes:
            self.has_overflown = True
            self.receive_eof()
        else:
            self._chunks.append(chunk)
            self._waiting += chunk.memory
            self._changed.set()

    def receive_eof(self) -> None:
        """End the branch."""
        self.has_ended = True
        self._changed.set()

    async def read(self) -> list[StreamChunk]:
        """Wait for the next chunks; nothing at the end."""
        while not self._chunks:
            if self.has_ended:
                return []
            self._changed.clear()
            await self._changed.wait()
        chunks, self._chunks = self._chunks, []
        self._waiting = 0
        return chunks
