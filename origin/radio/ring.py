"""One ring of immutable bytes, read by any number of listeners, each with a cursor of its own.

A block is stored once whatever the number of listeners. The ring is bounded in bytes and never waits: a
listener that has fallen out at its old end finds that out (``LaggedError``), and the others don't notice it.
Media time runs along: every block begins where the one before it ended, and every cursor knows where it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


class LaggedError(Exception):
    """The listener's next block is no longer in the ring."""


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that were appended at once.

    Attributes:
        start: position of the first byte in all that was ever appended.
        data: the bytes.
        label: what the producer says of them, such as an ICY metadata block.
        cuts: offsets in ``data``, rising, where a listener may begin. Between two of them is the same media
            time. Before the first is what only those need who have had the block before, if anything.
        lead: what a listener needs that begins in this block, before the rest.
        link: tells what the lead is of: within one link who has had it needs it no more; 0 for none.
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
        """Give the media time of a cut, by its index."""
        return self.begins + (self.ends - self.begins) * cut / len(self.cuts)


class Cursor:
    """Where one listener stands: the number of its next block, and where it begins there after joining.

    Attributes:
        media_time: of its next byte, in seconds; also when that is no longer in the ring.
        cut: index of the cut with which it will begin; None once it has begun, and gets whole blocks.
        link: the link of the newest block that it has had, 0 for none.
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
        """Go on behind a block that was taken."""
        self.sequence += 1
        self.cut = None
        self.media_time, self.link = block.ends, block.link


class Ring:
    """The newest blocks, at most ``capacity`` bytes of them.

    Args:
        capacity: bytes; a listener lags when more than this has been appended since its position.

    Attributes:
        media_time: behind the newest byte, in seconds: of all that was ever appended.
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
        """Position behind the newest byte: all bytes that were ever appended."""
        return self._end

    @property
    def newest(self) -> tuple[int, Block | None]:
        """The block that was appended last, and its number; None when there is none."""
        return self._next - 1, self._blocks.get(self._next - 1)

    @property
    def cursors(self) -> int:
        """How many listeners there are."""
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
        """Add a block and evict the oldest that are too much; tell the listeners that fell out.

        Args:
            data: the bytes.
            label: what the producer says of them.
            cuts: offsets where a listener may begin.
            duration: media time of the block, in seconds.
            lead: what who begins in it needs first.
            link: what that is of.

        Raises:
            ValueError: the block alone is larger than the ring, or empty.
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
        """Let a listener in.

        Args:
            burst: how many of the newest bytes it gets at once, at most; it begins at the first cut there.
            on_lag: called by every ``append`` after which its next block is gone; it may leave then.
            link: of which it has had the lead before, with a cursor that lagged.

        Returns:
            Its cursor, for ``read`` and ``leave``.
        """
        sequence, cut = self._place(burst)
        block = self._blocks.get(sequence)
        cursor = Cursor(sequence, cut, on_lag, self.media_time, link)
        if block is not None:
            cursor.media_time = block.time_at(cut)
        self._cursors.add(cursor)
        return cursor

    def fork(self, cursor: Cursor, on_lag: Callable[[], None] | None = None) -> Cursor:
        """Let a listener go on with a cursor of its own from where another stands."""
        own = Cursor(cursor.sequence, 0, on_lag, cursor.media_time, cursor.link)
        own.cut = cursor.cut
        self._cursors.add(own)
        return own

    def clear(self) -> None:
        """Forget all blocks: who hasn't read them has lagged."""
        self._blocks.clear()
        self._first, self._size = self._next, 0

    def leave(self, cursor: Cursor) -> None:
        """Forget a listener; a second time does nothing."""
        self._cursors.discard(cursor)
        # It refers to whom it calls, who has the cursor.
        cursor.on_lag = None

    def lag(self, cursor: Cursor) -> int:
        """Count the bytes that the listener hasn't read; at most ``size`` when it has lagged."""
        block = self._blocks.get(cursor.sequence)
        if block is not None:
            return self._end - block.start - (0 if cursor.cut is None else block.cuts[cursor.cut])
        return self._size if cursor.sequence < self._first else 0

    def read(self, cursor: Cursor, limit: int) -> list[tuple[bytes | memoryview, bytes]]:
        """Take what is there for a listener and move its cursor behind it.

        Args:
            cursor: of ``join``.
            limit: bytes after which no further block is begun; one block is always given, and its lead.

        Returns:
            Bytes and label of each block, and of the lead; empty when the listener has read all.

        Raises:
            LaggedError: the next block is gone.
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

    def _place(self, burst: int) -> tuple[int, int]:
        """Find the block and the index of the cut in it where such a burst begins."""
        sequence, wanted = self._next, self._end - burst
        while sequence > self._first and self._blocks[sequence - 1].start >= wanted:
            sequence -= 1
        if sequence == self._first or burst <= 0:
            return sequence, 0
        older = self._blocks[sequence - 1]
        cut = bisect_left(older.cuts, wanted - older.start)
        return (sequence - 1, cut) if cut < len(older.cuts) else (sequence, 0)
