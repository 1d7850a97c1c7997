"""The blocks of a ring by number, of which the older ones are bytes, many to a piece.

A small block takes several times the memory of its bytes as an object, and more once readers have had it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

LOOSE_BLOCKS = 512
LOOSE_BYTES = 1 << 20
"""From how many blocks, or bytes of them, on the oldest are packed."""

PIECE_BLOCKS = 128
PIECE_BYTES = 64 << 10
"""Blocks of a piece, and bytes from which on it has no further ones; unpacking takes some 0.1 ms."""


def _first_number(piece: tuple[range, bytes]) -> int:
    return piece[0].start


class SizedBlock(Protocol):
    """A block that knows its length."""

    @property
    def size(self) -> int:
        """Length of the block in bytes."""
        ...


BlockT = TypeVar("BlockT", bound=SizedBlock)


class PackedBlocks(ABC, Generic[BlockT]):
    """Blocks with consecutive numbers, which come at both ends and go at the first.

    Rings use it as a dictionary.
    """

    __slots__ = ("_bytes", "_loose", "_pieces", "_unpacked")

    def __init__(self) -> None:
        self._loose: dict[int, BlockT] = {}
        self._bytes = 0
        # Pieces in order: the numbers of their blocks, and these.
        self._pieces: list[tuple[range, bytes]] = []
        # The blocks of the oldest piece, as these go one by one, and of the other piece that was read last.
        self._unpacked: dict[bool, tuple[int, Sequence[BlockT]]] = {}

    @abstractmethod
    def pack(self, blocks: Sequence[BlockT]) -> bytes:
        """Return blocks as bytes."""

    @abstractmethod
    def unpack(self, data: bytes) -> Sequence[BlockT]:
        """Return the blocks of a piece."""

    def get(self, number: int) -> BlockT | None:
        """Return the block with a number; None if there is none."""
        block = self._loose.get(number)
        if block is not None or not (at := bisect_right(self._pieces, number, key=_first_number)):
            return block
        numbers, data = self._pieces[at - 1]
        if number not in numbers:
            return None
        unpacked = self._unpacked.get(at == 1)
        if unpacked is None or unpacked[0] != numbers.start:
            unpacked = self._unpacked[at == 1] = numbers.start, self.unpack(data)
        return unpacked[1][number - numbers.start]

    def __getitem__(self, number: int) -> BlockT:
        """Return the block with a number, which there is."""
        block = self.get(number)
        if block is None:
            raise KeyError(number)
        return block

    def __setitem__(self, number: int, block: BlockT) -> None:
        """Add a block at either end."""
        if self._pieces and number in (numbers := self._pieces[0][0]):
            # The first blocks of this piece have gone, and others come in their place.
            blocks = self.unpack(self._pieces.pop(0)[1])[number + 1 - numbers.start :]
            self._loose.update(enumerate(blocks, number + 1))
            self._bytes += sum(later.size for later in blocks)
            self._unpacked.clear()
        self._loose[number] = block
        self._bytes += block.size
        if len(self._loose) >= LOOSE_BLOCKS + PIECE_BLOCKS or self._bytes >= LOOSE_BYTES + PIECE_BYTES:
            self._pack()

    def _pack(self) -> None:
        """Pack the oldest loose blocks that follow each other; the newest block stays."""
        first, size = min(self._loose), 0
        packed: list[BlockT] = []
        while len(self._loose) > 1 and len(packed) < PIECE_BLOCKS and size < PIECE_BYTES:
            block = self._loose.pop(first + len(packed), None)
            if block is None:
                break
            packed.append(block)
            size += block.size
        if packed:
            self._bytes -= size
            numbers = range(first, first + len(packed))
            insort(self._pieces, (numbers, self.pack(packed)), key=_first_number)

    def pop(self, number: int) -> BlockT:
        """Remove the oldest block, and return it."""
        block = self._loose.pop(number, None)
        if block is not None:
            self._bytes -= block.size
            return block
        block = self[number]
        if number == self._pieces[0][0].stop - 1:
            del self._pieces[0]
            self._unpacked.clear()
        return block

    def clear(self) -> None:
        """Remove all blocks."""
        self._loose.clear()
        self._bytes = 0
        self._pieces.clear()
        self._unpacked.clear()
