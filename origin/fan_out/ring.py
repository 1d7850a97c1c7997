"""A ring buffer of immutable blocks, stored once and read by any number of cursors.

The buffer is bounded in bytes, and optionally in blocks, and never waits: a reader whose next block was
evicted gets ``LaggedError``. Blocks may hold anything, such as audio or events.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class LaggedError(Exception):
    """The reader's next block was evicted."""


class RingBlock(Protocol):
    """An immutable block of a ring."""

    @property
    def start(self) -> int:
        """Offset of its first byte since the ring was made."""
        ...

    @property
    def size(self) -> int:
        """Length of the block in bytes."""
        ...


class Cursor:
    """The position of one reader: the number of its next block."""

    __slots__ = ("on_lag", "sequence")

    def __init__(self, sequence: int, on_lag: Callable[[], None] | None = None) -> None:
        self.sequence = sequence
        self.on_lag = on_lag


BlockT = TypeVar("BlockT", bound=RingBlock)
CursorT = TypeVar("CursorT", bound=Cursor)


class Ring(Generic[BlockT, CursorT]):
    """The newest blocks, numbered from 0 on.

    Args:
        capacity: bytes that are kept at most.
        most_blocks: how many are kept at most; None for no such limit.
    """

    __slots__ = (
        "_blocks",
        "_cursors",
        "_end",
        "_first",
        "_most_blocks",
        "_next",
        "_size",
        "capacity",
    )

    def __init__(self, capacity: int, most_blocks: int | None = None) -> None:
        self.capacity = capacity
        self._most_blocks = most_blocks
        self._blocks: dict[int, BlockT] = {}
        self._first = 0
        self._next = 0
        self._size = 0
        self._end = 0
        self._cursors: set[CursorT] | frozenset[CursorT] = frozenset()

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def start(self) -> int:
        """Offset of the oldest byte that is kept; of the next one if there is none."""
        return self._end - self._size

    @property
    def end(self) -> int:
        """Offset behind the newest byte since the ring was made."""
        return self._end

    @property
    def first_sequence(self) -> int:
        """Number of the oldest block that is kept; of the next one if there is none."""
        return self._first

    @property
    def next_sequence(self) -> int:
        """Number that the next block will have."""
        return self._next

    @property
    def newest(self) -> tuple[int, BlockT | None]:
        """Number of the newest block, and the block; None if there is none."""
        return self._next - 1, self._blocks.get(self._next - 1)

    @property
    def oldest(self) -> BlockT | None:
        """The oldest block that is kept."""
        return self._blocks.get(self._first)

    @property
    def cursors(self) -> int:
        """Number of readers that joined."""
        return len(self._cursors)

    def put(self, block: BlockT) -> None:
        """Append a block, evict the oldest, and call ``on_lag`` of readers that lost blocks.

        Raises:
            ValueError: the block is empty or larger than the ring.
        """
        size = block.size
        if not 0 < size <= self.capacity:
            raise ValueError(f"a block of {size} bytes doesn't fit a ring of {self.capacity}")
        self._blocks[self._next] = block
        self._next += 1
        self._end += size
        self._size += size
        self._drop_excess()
        for cursor in [cursor for cursor in self._cursors if cursor.sequence < self._first]:
            if cursor.on_lag is not None:
                cursor.on_lag()

    def put_before(self, block: BlockT) -> bool:
        """Insert a block before the oldest one, with the number before; return False if there is no room.

        Its ``start`` is to be ``start`` minus its size.
        """
        is_full = self._most_blocks is not None and len(self._blocks) >= self._most_blocks
        if is_full or self._size + block.size > self.capacity:
            return False
        self._first -= 1
        self._blocks[self._first] = block
        self._size += block.size
        return True

    def resize(self, capacity: int, most_blocks: int | None) -> None:
        """Keep more from now on, or less: then the oldest blocks go."""
        self.capacity, self._most_blocks = capacity, most_blocks
        self._drop_excess()

    def _drop_excess(self) -> None:
        most = math.inf if self._most_blocks is None else self._most_blocks
        while self._size > self.capacity or len(self._blocks) > most:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Evict the oldest block; there must be one."""
        self._size -= self._blocks.pop(self._first).size
        self._first += 1

    def clear(self) -> None:
        """Drop all blocks; readers that have not read them lag."""
        self._blocks.clear()
        self._first, self._size = self._next, 0

    def skip_to(self, sequence: int) -> None:
        """Drop all blocks, and set the number of the next one; readers that haven't read up to it lag."""
        self.clear()
        self._first = self._next = sequence

    def enter(self, cursor: CursorT) -> None:
        """Add a reader."""
        if isinstance(self._cursors, frozenset):
            self._cursors = set()
        self._cursors.add(cursor)

    def leave(self, cursor: CursorT) -> None:
        """Remove a reader; a second time does nothing."""
        if isinstance(self._cursors, set):
            self._cursors.discard(cursor)
        # Break the reference cycle: the callback refers to the reader, which has the cursor.
        cursor.on_lag = None

    def lag(self, cursor: CursorT) -> int:
        """Count the bytes that a reader has not read; at most ``size`` if it lags."""
        block = self._blocks.get(cursor.sequence)
        if block is not None:
            return self._end - block.start
        return self._size if cursor.sequence < self._first else 0

    def between(self, first: int, end: int, most_bytes: int | None = None) -> list[BlockT]:
        """Return the blocks from one number up to another, which isn't included.

        Args:
            first: number of the first one.
            end: number behind the last one.
            most_bytes: bytes from which on further blocks are left out; None for all.

        Raises:
            LaggedError: some of them were evicted.
        """
        if first < self._first:
            raise LaggedError
        end = min(end, self._next)
        if most_bytes is not None and first < end:
            # By bisection, as the result may be a small part of all blocks.
            enough = self._blocks[first].start + most_bytes
            end = min(bisect_left(range(first, end), enough, key=self._end_of) + first + 1, end)
        return [self._blocks[sequence] for sequence in range(first, end)]

    def _end_of(self, sequence: int) -> int:
        block = self._blocks[sequence]
        return block.start + block.size
