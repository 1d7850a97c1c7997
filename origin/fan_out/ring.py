"""A ring buffer of immutable blocks, stored once and read by any number of cursors.

The buffer is bounded in bytes, and optionally in blocks, and never waits: a reader whose next block was
evicted gets ``LaggedError``. Blocks may hold anything, such as audio or events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from origin.fan_out.packed_blocks import PackedBlocks


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
        blocks: keeps them; None for a dictionary.
    """

    __slots__ = (
        "_blocks",
        "_cursors",
        "_most_blocks",
        "capacity",
        "end",
        "first_sequence",
        "next_sequence",
        "size",
    )

    def __init__(
        self, capacity: int, most_blocks: int | None = None, blocks: PackedBlocks[BlockT] | None = None
    ) -> None:
        self.capacity = capacity
        self._most_blocks = most_blocks
        self._blocks: dict[int, BlockT] | PackedBlocks[BlockT] = {} if blocks is None else blocks
        # Numbers of the oldest block that is kept, and of the next one.
        self.first_sequence = self.next_sequence = 0
        # Bytes held, and the offset behind the newest byte since the ring was made.
        self.size = self.end = 0
        self._cursors: set[CursorT] | frozenset[CursorT] = frozenset()

    @property
    def start(self) -> int:
        """Offset of the oldest byte that is kept; of the next one if there is none."""
        return self.end - self.size

    @property
    def newest(self) -> tuple[int, BlockT | None]:
        """Number of the newest block, and the block; None if there is none."""
        return self.next_sequence - 1, self._blocks.get(self.next_sequence - 1)

    @property
    def oldest(self) -> BlockT | None:
        """The oldest block that is kept."""
        return self._blocks.get(self.first_sequence)

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
        self._blocks[self.next_sequence] = block
        self.next_sequence += 1
        self.end += size
        self.size += size
        self._drop_excess()
        for cursor in [cursor for cursor in self._cursors if cursor.sequence < self.first_sequence]:
            if cursor.on_lag is not None:
                cursor.on_lag()

    def put_before(self, block: BlockT) -> bool:
        """Insert a block before the oldest one, with the number before; return False if there is no room.

        Its ``start`` is to be ``start`` minus its size.
        """
        count = self.next_sequence - self.first_sequence
        is_full = self._most_blocks is not None and count >= self._most_blocks
        if is_full or self.size + block.size > self.capacity:
            return False
        self.first_sequence -= 1
        self._blocks[self.first_sequence] = block
        self.size += block.size
        return True

    def resize(self, capacity: int, most_blocks: int | None) -> None:
        """Keep more from now on, or less: then the oldest blocks go."""
        self.capacity, self._most_blocks = capacity, most_blocks
        self._drop_excess()

    def _drop_excess(self) -> None:
        most = math.inf if self._most_blocks is None else self._most_blocks
        while self.size > self.capacity or self.next_sequence - self.first_sequence > most:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Evict the oldest block; there must be one."""
        self.size -= self._blocks.pop(self.first_sequence).size
        self.first_sequence += 1

    def clear(self) -> None:
        """Drop all blocks; readers that have not read them lag."""
        self._blocks.clear()
        self.first_sequence, self.size = self.next_sequence, 0

    def skip_to(self, sequence: int) -> None:
        """Drop all blocks, and set the number of the next one; readers that haven't read up to it lag."""
        self.clear()
        self.first_sequence = self.next_sequence = sequence

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
        if cursor.sequence < self.first_sequence:
            return self.size
        block = self._blocks.get(cursor.sequence)
        return 0 if block is None else self.end - block.start

    def between(self, first: int, end: int, most_bytes: int | None = None) -> list[BlockT]:
        """Return the blocks from one number up to another, which isn't included.

        Args:
            first: number of the first one.
            end: number behind the last one.
            most_bytes: bytes from which on further blocks are left out; None for all.

        Raises:
            LaggedError: some of them were evicted.
        """
        if first < self.first_sequence:
            raise LaggedError
        blocks, size = list[BlockT](), 0
        for sequence in range(first, min(end, self.next_sequence)):
            if most_bytes is not None and size >= most_bytes:
                break
            blocks.append(block := self._blocks[sequence])
            size += block.size
        return blocks
