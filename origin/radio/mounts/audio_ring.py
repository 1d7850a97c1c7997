"""The ring buffer of a mount's audio: blocks and cursors carry media times, and readers begin at frames."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from fractions import Fraction

from msgspec import Struct

from origin.fan_out.ring import Cursor, LaggedError, Ring


class MountBlock(Struct, frozen=True, gc=False, tag="block"):
    """Bytes that were appended at once; also the entry of a station's log with them.

    Attributes:
        label: goes along with them, such as an ICY metadata block.
        cuts: ascending offsets in ``data`` where a reader may begin, at equal distances in media time. Bytes
            before the first are only for readers that had the previous block.
        lead: headers for a reader that begins in this block.
        link: identifies the headers: a reader that had them once doesn't need them again; 0 for none.
        begins: media time of the first byte, in seconds.
        ends: media time behind the last byte.
        start: offset of the first byte since the ring was made, which is each process's own.
    """

    data: bytes
    label: bytes = b""
    cuts: tuple[int, ...] = (0,)
    begins: Fraction = Fraction(0)
    ends: Fraction = Fraction(0)
    lead: bytes = b""
    link: int = 0
    start: int = 0

    @property
    def size(self) -> int:
        """Length of the audio in bytes."""
        return len(self.data)

    def time_at(self, cut: int) -> Fraction:
        """Return the media time of a cut, by its index."""
        return self.begins + (self.ends - self.begins) * cut / len(self.cuts)


class AudioCursor(Cursor):
    """The position of one listener: the number of its next block, and the cut where it begins there.

    Attributes:
        media_time: of its next byte, in seconds, even if that was evicted.
        cut: index of the cut where it begins; None once it has begun, and reads whole blocks.
        link: of the newest block that it read, 0 for none.
    """

    __slots__ = ("cut", "link", "media_time")

    def __init__(
        self,
        sequence: int,
        cut: int = 0,
        on_lag: Callable[[], None] | None = None,
        media_time: Fraction = Fraction(0),
        link: int = 0,
    ) -> None:
        super().__init__(sequence, on_lag)
        self.cut: int | None = cut
        self.media_time = media_time
        self.link = link

    def move_behind(self, block: MountBlock) -> None:
        """Advance behind a block."""
        self.sequence += 1
        self.cut = None
        self.media_time, self.link = block.ends, block.link


class AudioRing(Ring[MountBlock, AudioCursor]):
    """The newest audio, at most ``capacity`` bytes.

    Args:
        capacity: bytes.

    Attributes:
        media_time: behind the newest byte, in seconds since the ring was made.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.media_time = Fraction(0)

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
            cuts: offsets where a reader may begin.
            duration: of the block, in seconds.
            lead: headers for a reader that begins in it.

        Raises:
            ValueError: the block is empty or larger than the ring.
        """
        begins, ends = self.media_time, self.media_time + duration
        if 0 < len(data) <= self.capacity:
            self.media_time = ends
        self.put(MountBlock(data, label, cuts, begins, ends, lead, link, self.end))

    def join(self, burst: int = 0, on_lag: Callable[[], None] | None = None, link: int = 0) -> AudioCursor:
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
        cursor = AudioCursor(sequence, cut, on_lag, self.media_time, link)
        if block is not None:
            cursor.media_time = block.time_at(cut)
        self.enter(cursor)
        return cursor

    def fork(self, cursor: AudioCursor, on_lag: Callable[[], None] | None = None) -> AudioCursor:
        """Add a reader at another cursor's position."""
        own = AudioCursor(cursor.sequence, 0, on_lag, cursor.media_time, cursor.link)
        own.cut = cursor.cut
        self.enter(own)
        return own

    def lag(self, cursor: AudioCursor) -> int:
        """Count the bytes that a listener has not read; at most ``size`` if it lags."""
        block = self._blocks.get(cursor.sequence)
        skipped = 0 if block is None or cursor.cut is None else block.cuts[cursor.cut]
        return super().lag(cursor) - skipped

    def read(self, cursor: AudioCursor, limit: int) -> list[tuple[bytes | memoryview, bytes]]:
        """Read blocks and advance the cursor.

        Args:
            limit: bytes after which no further block is read; one block and its lead are always returned.

        Returns:
            Bytes and label of each block or lead; empty at the end.

        Raises:
            LaggedError: the next block was evicted.
        """
        if cursor.sequence < self.first_sequence:
            raise LaggedError
        taken: list[tuple[bytes | memoryview, bytes]] = []
        size = 0
        while cursor.sequence < self.next_sequence:
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
        sequence, wanted = self.next_sequence, self.end - burst
        while sequence > self.first_sequence and self._blocks[sequence - 1].start >= wanted:
            sequence -= 1
        if sequence == self.first_sequence or burst <= 0:
            return sequence, 0
        older = self._blocks[sequence - 1]
        cut = bisect_left(older.cuts, wanted - older.start)
        return (sequence - 1, cut) if cut < len(older.cuts) else (sequence, 0)
