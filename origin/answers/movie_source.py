"""The MP4 of segments as the source of a reply: a head, then the segments' files one behind the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from origin.answers.byte_sources import ThreadSource
from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Reply
from origin.answers.representation_replies import RepresentationReplies, with_first_bytes
from origin.answers.request import Request
from origin.http.representation import RepresentationMetadata
from packager.library.local_storage import NotFoundError
from packager.past.progressive_mp4 import MovieLayout, MoviePiece
from packager.threads import SHARED_THREADS, ClientThreads


class ReadableFile(Protocol):
    """An open file, or bytes that take its place. Its methods block."""

    @property
    def path(self) -> str:
        """The path of the file, for logs."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def pread(self, offset: int, length: int) -> bytes:
        """Read bytes by position: fewer than asked only where the file ends."""

    def close(self) -> None:
        """Close the file."""


class MemoryFile:
    """Bytes in memory as a file."""

    path = "memory"

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._data)

    def pread(self, offset: int, length: int) -> bytes:
        """Read bytes by position."""
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        """Nothing to close."""


OpenFile = Callable[[], ReadableFile]
"""Opens a file. It blocks, and raises NotFoundError where there is none any more."""

LocatePiece = Callable[[MoviePiece], OpenFile]
"""Finds a segment's file, in the event loop, and returns what opens the file in a thread."""


class MovieSource(ThreadSource):
    """The MP4 of segments: its head, then the segments' files one behind the other.

    Args:
        head: owned and closed by the source.
        locate: finds the files behind the head.
        on_closed: called when the files are closed.
        threads: where the files are opened and read.
        note: called with the number of bytes of each read, in the thread.
    """

    def __init__(
        self,
        movie: tuple[ReadableFile, MovieLayout],
        locate: LocatePiece,
        on_closed: Callable[[], None] = lambda: None,
        threads: ClientThreads = SHARED_THREADS,
        note: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(self._read_at, self._close_files, threads)
        self._head, self._layout = movie
        self._locate = locate
        self._on_closed = on_closed
        self._note = note
        # The piece of which is read next, what opens its file, and the open file.
        self._piece: MoviePiece | None = None
        self._open: OpenFile | None = None
        self._file: ReadableFile | None = None

    async def read(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` in a thread; b"" beyond the end."""
        behind, piece = offset - self._head.size, self._piece
        is_within = piece is not None and piece.begin <= behind < piece.end
        if 0 <= behind < self._layout.size and not is_within:
            self._piece = self._layout.at(behind)
            self._open = self._locate(self._piece)
        return await super().read(offset, length)

    def _read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset`, of one file."""
        data = self._read_of_file(offset, length)
        self._note(len(data))
        return data

    def _read_of_file(self, offset: int, length: int) -> bytes:
        if offset < self._head.size:
            return self._head.pread(offset, min(length, self._head.size - offset))
        offset -= self._head.size
        piece = self._piece
        if piece is None or offset >= self._layout.size:
            return b""
        file = self._opened(piece)
        return file.pread(offset - piece.begin, min(length, piece.end - offset))

    def _opened(self, piece: MoviePiece) -> ReadableFile:
        """Open the file of a piece, or return the open one."""
        open_file, self._open = self._open, None
        if open_file is not None:
            self._close_piece()
            try:
                file = open_file()
            except NotFoundError as error:
                raise TruncatedFileError(f"{error} was removed") from None
            if file.size != piece.end - piece.begin:
                file.close()
                raise TruncatedFileError(f"{file.path} has {file.size} bytes, not {piece.end - piece.begin}")
            self._file = file
        if self._file is None:
            raise TruncatedFileError(f"segment {piece.number} couldn't be opened")
        return self._file

    def _close_piece(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _close_files(self) -> None:
        self._head.close()
        self._close_piece()
        self._on_closed()


async def movie_reply(
    request: Request, source: MovieSource, metadata: RepresentationMetadata, caching: str, file_name: str
) -> Reply:
    """Return the reply with an MP4 of segments.

    Args:
        caching: the Cache-Control field.
        file_name: the name under which browsers save the file.

    Raises:
        OSError: its first bytes can't be read.
    """
    # The name of a channel may have a slash.
    attachment = f'attachment; filename="{file_name.replace("/", "-")}"'
    headers = (
        (b"cache-control", caching.encode("latin-1")),
        (b"content-disposition", attachment.encode("latin-1")),
    )
    return await with_first_bytes(
        RepresentationReplies(metadata, headers, time.time()).reply(request, source)
    )
