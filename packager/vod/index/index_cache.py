"""The indexes of a library's films, each made once for all requests, and kept until others need room."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import structlog

from media.errors import MediaError
from packager.blocking_calls import awaited, may_be_repeated, without_waits
from packager.library.storage_interface import FileChangedError, Identity, LibraryFile
from packager.reader_guard import ReaderGuard
from packager.threads import ThreadLimits, Threads
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.index.index_builder import read_beginning, read_index
from packager.vod.index.index_memory_budget import IndexMemory
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.versioned_addresses import version_of

log = structlog.get_logger()

EncodedTracks = Callable[[FileIndex], tuple[OfferedTrack, ...]]
"""Returns the renditions of an indexed film that are encoded on request."""

REFUSAL_BYTES = 1024
"""Memory of a refusal that is kept in place of an index."""


class IndexCache:
    """Indexes by the identity of their files; the least recently used one is evicted first.

    Methods may block on the disk, and be called from several threads at once. A call that lacks an index
    leaves its thread to others; see :class:`LackingError`.

    Args:
        limits: how many indexes are kept, and limits of each.
        open_file: opens a file by its name.
        encoded: returns the renditions of an indexed film that are encoded on request.

    Attributes:
        threads: the threads in which indexes are made, for clients in turn.
    """

    def __init__(
        self,
        limits: IndexCacheLimits,
        open_file: Callable[[str], LibraryFile],
        encoded: EncodedTracks = lambda _: (),
    ) -> None:
        self._encoded = encoded
        self._open = open_file
        self._limits = limits
        self._lock = threading.Lock()
        self._memory = IndexMemory(limits.index_bytes, limits, self._free)
        self._indexes: OrderedDict[Identity, FileIndex | MediaError] = OrderedDict()
        self.threads = Threads(
            ThreadLimits(
                threads=limits.made_at_once,
                waiting=limits.awaited,
                wait_seconds=limits.wait_seconds,
            ),
            "index",
        )

    def __len__(self) -> int:
        """Return the number of indexes and refusals."""
        return len(self._indexes)

    def known(self, identity: Identity) -> FileIndex | None:
        """Return a file's index if it is cached, without waiting; None where it isn't, or was refused."""
        index = self._find(identity)
        return None if isinstance(index, MediaError) else index

    def index(self, file: LibraryFile, *, played: bool = True) -> FileIndex:
        """Return a file's index from memory, or once it is made.

        Args:
            played: whether the index is needed to play the film. Else it is the first to be evicted; and
                where the whole file would have to be read, it covers only the file's beginning, and isn't
                kept.

        Raises:
            MediaError: the file can't be packaged; the text says in one line why.
            OSError: the file can't be read.
            LackingError: the index has to be waited for.
        """
        index = self._find(file.identity, played=played)
        if index is None:
            key = "index", file.identity, played
            begin = partial(self._begin, key, file.name, file.identity, played)
            index = awaited(key, begin) if may_be_repeated() else self._make(file, played=played)
        if isinstance(index, MediaError):
            raise type(index)(*index.args)  # a new one: an exception that is kept keeps every traceback
        return index

    def _find(self, identity: Identity, *, played: bool = True) -> FileIndex | MediaError | None:
        with self._lock:
            index = self._indexes.get(identity)
            if index is not None and played:
                self._indexes.move_to_end(identity)
        return index

    def _begin(
        self, key: object, name: str, identity: Identity, played: bool, client: str
    ) -> asyncio.Future[FileIndex | MediaError]:
        """Have an index made in the turn of a client, once for all who wait for it."""
        return self.threads.of(client, key).submit(self._made, name, identity, played)

    def _made(self, name: str, identity: Identity, played: bool) -> FileIndex | MediaError:
        index = self._find(identity, played=played)
        if index is not None:
            return index
        with self._open(name) as file:
            if file.identity != identity:
                raise FileChangedError(file.path)
            return self._make(file, played=played)

    def _make(self, file: LibraryFile, *, played: bool) -> FileIndex | MediaError:
        """Make an index and keep it; a refusal, too, which costs as much to find again."""
        index: FileIndex | MediaError
        try:
            if not played and (beginning := self._read_beginning(file)) is not None:
                return beginning
            index = self._read(file)
        except MediaError as error:
            index = type(error)(*error.args)
        with self._lock:
            self._indexes[file.identity] = index
            self._indexes.move_to_end(file.identity, last=played)
        self._forget()
        return index

    def _read_beginning(self, file: LibraryFile) -> FileIndex | None:
        with ReaderGuard(file.path), self._memory.reading(without_waits(file.pread)) as read:
            index = read_beginning(read, file.size, self._limits, read.reserve)
        return None if index is None else index.with_encoded(self._encoded(index))

    def _read(self, file: LibraryFile) -> FileIndex:
        with ReaderGuard(file.path), self._memory.reading(without_waits(file.pread)) as read:
            index = read_index(read, file.size, self._limits, read.reserve)
            index = index.with_version(version_of(file.identity))
            index = index.with_encoded(self._encoded(index))
            self._memory.add(index)
        for line in (*index.left_out, *index.text_left_out):
            log.warning("a part of a film was left out", file=str(file.path), reason=line)
        return index

    def _free(self, wanted: int) -> None:
        """Drop what wasn't used for longest, until so many bytes are free or nothing is left."""
        with self._lock:
            while wanted > 0 and self._indexes:
                wanted -= _nbytes(self._indexes.popitem(last=False)[1])

    def _forget(self) -> None:
        """Drop what wasn't used for longest until the rest is within the limits; the newest always stays."""
        limits = self._limits
        with self._lock:
            total = sum(map(_nbytes, self._indexes.values()))
            while len(self._indexes) > 1 and (
                total > limits.index_bytes or len(self._indexes) > limits.indexes
            ):
                total -= _nbytes(self._indexes.popitem(last=False)[1])


def _nbytes(index: FileIndex | MediaError) -> int:
    """Return the memory of an index; little for a refusal."""
    return REFUSAL_BYTES if isinstance(index, MediaError) else index.nbytes
