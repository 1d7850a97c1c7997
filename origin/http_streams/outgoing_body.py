"""The body of an answer on a stream, as far as it isn't sent: bytes, and ranges of a file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable

from origin.answers.memfd_cache import MemfdCopy
from origin.answers.pieces import LazyPieces, Piece, TruncatedFileError
from origin.answers.reply import ByteSource
from origin.answers.vectored_read import FileRuns
from origin.http.byte_ranges import SelectedRange


class OutgoingBody:
    """Pieces of a body in their order.

    Attributes:
        file: descriptor of the file to which ranges among the pieces refer; -1 where there are none.
        buffered: how many bytes lie in memory.
        is_complete: whether nothing is added any more.
    """

    __slots__ = ("_pieces", "buffered", "file", "is_complete")

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self.file = -1
        self.buffered = 0
        self.is_complete = False

    def __bool__(self) -> bool:
        """Return whether there is anything to send."""
        return bool(self._pieces)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Add pieces at the end."""
        for piece in pieces:
            if isinstance(piece, bytes | memoryview):
                self.buffered += len(piece)
            if isinstance(piece, SelectedRange) or len(piece):
                self._pieces.append(piece)

    def add_all(self, pieces: Iterable[Piece], source: ByteSource | None) -> None:
        """Add the body of a reply, whose source has a descriptor if there is one; nothing is added later.

        Where the source's bytes are in memory, they are sent from there.
        """
        if isinstance(source, MemfdCopy) and source.data is not None:
            data = memoryview(source.data)
            pieces = [
                data[piece.first : piece.last + 1] if isinstance(piece, SelectedRange) else piece
                for piece in pieces
            ]
        elif source is not None:
            self.file = source.descriptor() or -1
        self.add(pieces)
        self.is_complete = True

    @property
    def is_in_memory(self) -> bool:
        """Whether all that is left of the body is known, and lies in memory."""
        return self.is_complete and all(isinstance(one, bytes | memoryview) for one in self._pieces)

    def clear(self) -> None:
        """Drop what isn't sent."""
        self._pieces.clear()
        self.buffered = 0
        self.is_complete = True

    def read(self, most: int) -> bytes | memoryview:
        """Return the next bytes, from one to `most` of them, and fewer only at the end of a piece.

        Raises:
            TruncatedFileError: the file is shorter than the answer has said.
            OSError: the file can't be read.
        """
        while isinstance(piece := self._pieces[0], LazyPieces):
            made = piece.make()
            if made:
                self._pieces.extendleft(reversed(made))
                self.buffered += sum(len(one) for one in made if isinstance(one, bytes))
            else:
                self._pieces.popleft()
                if not self._pieces:
                    return b""
        if isinstance(piece, bytes | memoryview):
            return self._read_bytes(piece, most)
        return self._read_file(piece, most)

    def _read_bytes(self, piece: bytes | memoryview, most: int) -> bytes | memoryview:
        if len(piece) <= most:
            self._pieces.popleft()
            self.buffered -= len(piece)
            return piece
        view = memoryview(piece)
        self._pieces[0] = view[most:]
        self.buffered -= most
        return view[:most]

    def _read_file(self, piece: SelectedRange | FileRuns, most: int) -> bytes | memoryview:
        data: bytes | memoryview
        if isinstance(piece, FileRuns):
            # The next reader uses the same memory.
            data = bytes(piece.read(self.file, min(most, len(piece))))
            piece.skip(len(data))
            is_over = not len(piece)
        else:
            data = os.pread(self.file, min(most, piece.length), piece.first)
            rest = SelectedRange(piece.first + len(data), piece.last)
            self._pieces[0] = rest
            is_over = rest.first > rest.last
        if not data:
            raise TruncatedFileError("the file ends before the bytes that were promised")
        if is_over:
            self._pieces.popleft()
        return data
