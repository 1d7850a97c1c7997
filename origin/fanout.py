"""One ring of immutable bytes, read by any number of listeners, each with a cursor of its own.

A block is stored once whatever the number of listeners. The ring is bounded in bytes and never waits: a
listener that has fallen out at its old end finds that out (``LaggedError``), and the others don't notice it.
``Ring`` is pure; ``Fanout`` lets tasks wait for it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass


class LaggedError(Exception):
    """The listener's next block is no longer in the ring."""


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that were appended at once.

    Attributes:
        start: position of the first byte in all that was ever appended.
        data: the bytes.
        label: what the producer says of them, such as an ICY metadata block.
        cuts: offsets in ``data``, rising, where a listener may begin; 0 is always one.
    """

    start: int
    data: bytes
    label: bytes = b""
    cuts: tuple[int, ...] = (0,)


class Cursor:
    """Where one listener stands: the number of its next block, and the offset in it (after joining)."""

    __slots__ = ("offset", "on_lag", "sequence")

    def __init__(self, sequence: int, offset: int = 0, on_lag: Callable[[], None] | None = None) -> None:
        self.sequence = sequence
        self.offset = offset
        self.on_lag = on_lag


class Ring:
    """The newest blocks, at most ``capacity`` bytes of them.

    Args:
        capacity: bytes; a listener lags when more than this has been appended since its position.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: dict[int, Block] = {}
        self._first = 0
        self._next = 0
        self._size = 0
        self._end = 0
        self._cursors: set[Cursor] = set()

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def end(self) -> int:
        """Position behind the newest byte: all bytes that were ever appended."""
        return self._end

    @property
    def cursors(self) -> int:
        """How many listeners there are."""
        return len(self._cursors)

    def append(self, data: bytes, label: bytes = b"", cuts: tuple[int, ...] = (0,)) -> None:
        """Add a block and evict the oldest that are too much; tell the listeners that fell out.

        Raises:
            ValueError: the block alone is larger than the ring, or empty.
        """
        if not 0 < len(data) <= self.capacity:
            raise ValueError(f"a block of {len(data)} bytes doesn't fit a ring of {self.capacity}")
        self._blocks[self._next] = Block(self._end, data, label, cuts)
        self._next += 1
        self._end += len(data)
        self._size += len(data)
        while self._size > self.capacity:
            self._size -= len(self._blocks.pop(self._first).data)
            self._first += 1
        for cursor in [cursor for cursor in self._cursors if cursor.sequence < self._first]:
            if cursor.on_lag is not None:
                cursor.on_lag()

    def join(self, burst: int = 0, on_lag: Callable[[], None] | None = None) -> Cursor:
        """Let a listener in.

        Args:
            burst: how many of the newest bytes it gets at once, at most; it begins at the first cut there.
            on_lag: called by every ``append`` after which its next block is gone; it may leave then.

        Returns:
            Its cursor, for ``read`` and ``leave``.
        """
        cursor = Cursor(*self._place(burst), on_lag)
        self._cursors.add(cursor)
        return cursor

    def clear(self) -> None:
        """Forget all blocks: who hasn't read them has lagged."""
        self._blocks.clear()
        self._first, self._size = self._next, 0

    def leave(self, cursor: Cursor) -> None:
        """Forget a listener; a second time does nothing."""
        self._cursors.discard(cursor)

    def lag(self, cursor: Cursor) -> int:
        """Count the bytes that the listener hasn't read; at most ``size`` when it has lagged."""
        block = self._blocks.get(cursor.sequence)
        if block is not None:
            return self._end - block.start - cursor.offset
        return self._size if cursor.sequence < self._first else 0

    def read(self, cursor: Cursor, limit: int) -> list[tuple[bytes | memoryview, bytes]]:
        """Take what is there for a listener and move its cursor behind it.

        Args:
            cursor: of ``join``.
            limit: bytes after which no further block is begun; one block is always given.

        Returns:
            Bytes and label of each block; empty when the listener has read all.

        Raises:
            LaggedError: the next block is gone.
        """
        if cursor.sequence < self._first:
            raise LaggedError
        taken: list[tuple[bytes | memoryview, bytes]] = []
        size = 0
        while cursor.sequence < self._next:
            block = self._blocks[cursor.sequence]
            size += len(block.data) - cursor.offset
            if taken and size > limit:
                break
            taken.append(
                (memoryview(block.data)[cursor.offset :] if cursor.offset else block.data, block.label)
            )
            cursor.sequence += 1
            cursor.offset = 0
        return taken

    def _place(self, burst: int) -> tuple[int, int]:
        sequence, wanted = self._next, self._end - burst
        while sequence > self._first and self._blocks[sequence - 1].start >= wanted:
            sequence -= 1
        if sequence == self._first or burst <= 0:
            return sequence, 0
        older = self._blocks[sequence - 1]
        cut = bisect_left(older.cuts, wanted - older.start)
        return (sequence - 1, older.cuts[cut]) if cut < len(older.cuts) else (sequence, 0)


class Fanout(Ring):
    """A ring that tasks can wait for: one wake-up per append, shared by all, and no timers."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._grown = asyncio.Event()
        self.closed = False

    def publish(self, data: bytes, label: bytes = b"", cuts: tuple[int, ...] = (0,)) -> None:
        """Append a block and wake everybody who waits; see ``append``."""
        self.append(data, label, cuts)
        self._wake()

    def close(self) -> None:
        """Let listeners read what is there and then tell them that it is all."""
        self.closed = True
        self._wake()

    async def next(self, cursor: Cursor, limit: int) -> list[tuple[bytes | memoryview, bytes]]:
        """Wait for bytes and take them; see ``read``.

        Returns:
            At least one block; empty when the fan-out is closed and all is read.

        Raises:
            LaggedError: the next block is gone.
        """
        while not (taken := self.read(cursor, limit)) and not self.closed:
            await self._grown.wait()
        return taken

    def _wake(self) -> None:
        self._grown.set()
        self._grown.clear()
