"""The ring buffer of a mount: immutable blocks, stored once and read by any number of cursors.

It is bounded in bytes and never waits: a reader whose next block was evicted gets ``LaggedError``. Blocks and
cursors carry media times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


class LaggedError(Exception):
    """The reader's next block was evicted."""


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that were appended at once.

    Attributes:
        start: offset of the first byte since the ring was made.
        data: the bytes.
        label: goes along with them, such as an ICY metadata block.
        cuts: ascending offsets in ``data`` where a reader may begin, at equal distances in media time. Bytes
            before the first are only for readers that had the previous block.
        lead: headers for a reader that begins in this block.
        link: identifies the headers: a reader that had them once doesn't need them again; 0 for none.
        begins: media time of the first byte, in seconds.
        ends: media time behind the last byte.
    """

    start: int
    data: bytes
    label: bytes = b""
    cuts: tuple[int, ...] = (0,)
    begins: Fraction = Fraction(0)
    ends: Fraction = Fraction(0)
    lead: bytes = b""
    link: int = 0

    def time_at(self, cut: int) -> Fraction:
        """Return the media time of a cut, by its index."""
        return self.begins + (self.ends - self.begins) * cut / len(self.cuts)


class Cursor:
    """The position of one reader: the number of its next block, and the cut where it begins there.

    Attributes:
        media_time: of its next byte, in seconds, even if that was evicted.
        cut: index of the cut where it begins; None once it has begun, and reads whole blocks.
        link: of the newest block that it read, 0 for none.
    """

    __slots__ = ("cut", "link", "media_time", "on_lag", "sequence")

    def __init__(
        self,
        sequence: int,
        cut: int = 0,
        on_lag: Callable[[], None] | None = None,
        media_time: Fraction = Fraction(0),
        link: int = 0,
    ) -> None:
        self.sequence = sequence
        self.cut: int | None = cut
        self.on_lag = on_lag
        self.media_time = media_time
        self.link = link

    def move_behind(self, block: Block) -> None:
        """Advance behind a block."""
        self.sequence += 1
        self.cut = None
        self.media_time, self.link = block.ends, block.link


class Ring:
    """The newest blocks, at most ``capacity`` bytes.

    Args:
        capacity: bytes.

    Attributes:
        media_time: behind the newest byte, in seconds since the ring was made.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: dict[int, Block] = {}
        self._first = 0
        self._next = 0
        self._size = 0
        self._end = 0
        self.media_time = Fraction(0)
        self._cursors: set[Cursor] = set()

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def end(self) -> int:
        """Offset behind the newest byte since the ring was made."""
        return self._end

    @property
    def newest(self) -> tuple[int, Block | None]:
        """Number of the newest block, and the block; None if there is none."""
        return self._next - 1, self._blocks.get(self._next - 1)

    @property
    def cursors(self) -> int:
        """Number of readers."""
        return len(self._cursors)

    def append(
        self,
        data: bytes,
        label: bytes = b"",
        cuts: tuple[int, ...] = (0,),
        duration: Fraction = Fraction(0),
        lead: bytes = b"",
        link: int = 0,
    ) -> None:
        """Append a block, evict the oldest, and call ``on_lag`` of readers that lost blocks.

        Args:
            data: the bytes.
            label: goes along with them.
            cuts: offsets where a reader may begin.
            duration: of the block, in seconds.
            lead: headers for a reader that begins in it.
            link: identifies the headers.

        Raises:
            ValueError: the block is empty or larger than the ring.
        """
        if not 0 < len(data) <= self.capacity:
            raise ValueError(f"a block of {len(data)} bytes doesn't fit a ring of {self.capacity}")
        begins, self.media_time = self.media_time, self.media_time + duration
        block = Block(self._end, data, label, cuts, begins, self.media_time, lead, link)
        self._blocks[self._next] = block
        self._next += 1
        self._end += len(data)
        self._size += len(data)
        while self._size > self.capacity:
            self._size -= len(self._blocks.pop(self._first).data)
            self._first += 1
        for cursor in [cursor for cursor in self._cursors if cursor.sequence < self._first]:
            if cursor.on_lag is not None:
                cursor.on_lag()

    def join(self, burst: int = 0, on_lag: Callable[[], None] | None = None, link: int = 0) -> Cursor:
        """Add a reader.

        Args:
            burst: most bytes before the end where it begins, at the first cut from there.
            on_lag: called by every ``append`` after which its next block is gone; it may leave then.
            link: whose headers it already has.

        Returns:
            Its cursor, for ``read`` and ``leave``.
        """
        sequence, cut = self._burst_start(burst)
        block = self._blocks.get(sequence)
        cursor = Cursor(sequence, cut, on_lag, self.media_time, link)
        if block is not None:
            cursor.media_time = block.time_at(cut)
        self._cursors.add(cursor)
        return cursor

    def fork(self, cursor: Cursor, on_lag: Callable[[], None] | None = None) -> Cursor:
        """Add a reader at another cursor's position."""
        own = Cursor(cursor.sequence, 0, on_lag, cursor.media_time, cursor.link)
        own.cut = cursor.cut
        self._cursors.add(own)
        return own

    def clear(self) -> None:
        """Drop all blocks; readers that have not read them lag."""
        self._blocks.clear()
        self._first, self._size = self._next, 0

    def leave(self, cursor: Cursor) -> None:
        """Remove a reader; a second time does nothing."""
        self._cursors.discard(cursor)
        # Break the reference cycle: the callback refers to the listener, which has the cursor.
        cursor.on_lag = None

    def lag(self, cursor: Cursor) -> int:
        """Count the bytes that a reader has not read; at most ``size`` if it lags."""
        block = self._blocks.get(cursor.sequence)
        if block is not None:
            return self._end - block.start - (0 if cursor.cut is None else block.cuts[cursor.cut])
        return self._size if cursor.sequence < self._first else 0

    def read(self, cursor: Cursor, limit: int) -> list[tuple[bytes | memoryview, bytes]]:
        """Read blocks and advance the cursor.

        Args:
            cursor: of ``join``.
            limit: bytes after which no further block is read; one block and its lead are always returned.

        Returns:
            Bytes and label of each block or lead; empty at the end.

        Raises:
            LaggedError: the next block was evicted.
        """
        if cursor.sequence < self._first:
            raise LaggedError
        taken: list[tuple[bytes | memoryview, bytes]] = []
        size = 0
        while cursor.sequence < self._next:
            block = self._blocks[cursor.sequence]
            data: bytes | memoryview = block.data
            if cursor.cut is not None:
                if block.lead and cursor.link != block.link:
                    taken.append((block.lead, block.label))
                data = memoryview(data)[block.cuts[cursor.cut] :] if block.cuts[cursor.cut] else data
            size += len(data)
            if size > limit and size > len(data):
                break
            if data:
                taken.append((data, block.label))
            cursor.move_behind(block)
        return taken

    def _burst_start(self, burst: int) -> tuple[int, int]:
        """Find the number of the block, and the index of the cut in it, where a burst begins."""
        sequence, wanted = self._next, self._end - burst
        while sequence > self._first and self._blocks[sequence - 1].start >= wanted:
            sequence -= 1
        if sequence == self._first or burst <= 0:
            return sequence, 0
        older = self._blocks[sequence - 1]
        cut = bisect_left(older.cuts, wanted - older.start)
        return (sequence - 1, cut) if cut < len(older.cuts) else (sequence, 0)
