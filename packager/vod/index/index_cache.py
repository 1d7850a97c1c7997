"""The indexes of a library's films, each made once for all requests, and kept until others need room."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from media.errors import MediaError
from packager.library.storage_interface import Identity, LibraryFile
from packager.reader_guard import ReaderGuard
from packager.vod.index.file_index import FileIndex, OfferedTrack
from packager.vod.index.index_builder import LIMITS, IndexLimits, read_beginning, read_index
from packager.vod.index.index_memory_budget import IndexMemory, IndexMemoryLimits, IndexReading
from packager.vod.movie.versioned_addresses import version_of

log = structlog.get_logger()

EncodedTracks = Callable[[FileIndex], tuple[OfferedTrack, ...]]
"""Returns the renditions of an indexed film that are encoded on request."""

REFUSAL_BYTES = 1024
"""Memory of a refusal that is kept in place of an index."""


@dataclass(frozen=True, slots=True)
class IndexCacheLimits:
    """The limits of the indexes of a library: memory, number, and the making of new ones.

    Attributes:
        index_bytes: memory for all indexes together; the index of a film of two hours takes 8 MB.
        index_memory: shares of that memory.
        indexes: most indexes that are kept.
        index: limits of the index of one file.
        made_at_once: indexes that are made at the same time; each reads a whole ``moov`` into memory.
        wait_seconds: longest wait of a request for an index, or for anything else that another request makes.
    """

    index_bytes: int = 256 << 20
    index_memory: IndexMemoryLimits = field(default_factory=IndexMemoryLimits)
    indexes: int = 1024
    index: IndexLimits = LIMITS
    made_at_once: int = 2
    wait_seconds: float = 60.0


class IndexCache:
    """Indexes by the identity of their files; the least recently used one is evicted first.

    Methods block, and may be called from several threads at once.

    Args:
        limits: how many indexes are kept, and limits of each.
        encoded: returns the renditions of an indexed film that are encoded on request.
    """

    def __init__(self, limits: IndexCacheLimits, encoded: EncodedTracks = lambda _: ()) -> None:
        self._encoded = encoded
        self._limits = limits
        self._lock = threading.Lock()
        self._making = threading.BoundedSemaphore(limits.made_at_once)
        self._memory = IndexMemory(limits.index_bytes, limits.index_memory, self._free)
        self._indexes: OrderedDict[Identity, Future[FileIndex | MediaError]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of indexes, with those that are being made and refusals."""
        return len(self._indexes)

    def known(self, identity: Identity) -> FileIndex | None:
        """Return a file's index if it is cached, without waiting; None where it isn't, or was refused."""
        with self._lock:
            future = self._indexes.get(identity)
            if future is None or not future.done() or future.cancelled():
                return None
            self._indexes.move_to_end(identity)
        index = future.result()
        return None if isinstance(index, MediaError) else index

    def index(self, file: LibraryFile, *, played: bool = True) -> FileIndex:
        """Return a file's index from memory, wait for the thread that makes it, or make it.

        Args:
            played: whether the index is needed to play the film. Else it is the first to be evicted; and
                where the whole file would have to be read, it covers only the file's beginning, and isn't
                kept.

        Raises:
            MediaError: the file can't be packaged; the text says in one line why.
            OSError: the file can't be read, or another thread takes too long.
        """
        deadline = time.monotonic() + self._limits.wait_seconds
        index = None
        while index is None:
            index = self._try(file, deadline, played=played)
        if isinstance(index, MediaError):
            raise type(index)(*index.args)  # a new one: an exception that is kept keeps every traceback
        return index

    def _try(self, file: LibraryFile, deadline: float, *, played: bool) -> FileIndex | MediaError | None:
        """Find or make a file's index, or the refusal; None where another thread failed to read the file.

        The waiting thread then tries itself, but not for longer than a request may wait.
        """
        if not played and file.identity not in self._indexes:
            with self._turn(file, deadline) as read:
                beginning = read_beginning(read, file.size, self._limits.index, read.reserve)
            if beginning is not None:
                return beginning.with_encoded(self._encoded(beginning))
        with self._lock:
            future = self._indexes.get(file.identity)
            mine = future is None
            if future is None:
                future = self._indexes[file.identity] = Future()
            if mine or played:
                self._indexes.move_to_end(file.identity, last=played)
        if mine:
            self._make(file, future, deadline)
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except CancelledError:
            return None

    @contextmanager
    def _turn(self, file: LibraryFile, deadline: float) -> Iterator[IndexReading]:
        """Wait, at most to the deadline, until an index may be made, and yield a reader of its file.

        The number of indexes that are made at the same time is limited, and so is the memory for their
        reading.
        """
        if not self._making.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"{file.path} waits for others to be indexed")
        try:
            with ReaderGuard(file.path), self._memory.reading(file.pread) as read:
                yield read
        finally:
            self._making.release()

    def _make(self, file: LibraryFile, future: Future[FileIndex | MediaError], deadline: float) -> None:
        try:
            with self._turn(file, deadline) as read:
                index = read_index(read, file.size, self._limits.index, read.reserve)
                index = index.with_version(version_of(file.identity))
                index = index.with_encoded(self._encoded(index))
                self._memory.add(index)
            for line in (*index.left_out, *index.text_left_out):
                log.warning("a part of a film was left out", file=str(file.path), reason=line)
            future.set_result(index)
        except MediaError as error:
            # A refusal is kept like an index: it costs as much to find, and the file doesn't change.
            future.set_result(type(error)(*error.args))
        finally:
            if not future.done():
                with self._lock:
                    self._indexes.pop(file.identity, None)
                future.cancel()
        self._forget()

    def _free(self, wanted: int) -> None:
        """Drop what wasn't used for longest, until so many bytes are free or nothing is left."""
        with self._lock:
            for identity, future in list(self._indexes.items()):
                if wanted <= 0:
                    break
                if future.done():
                    wanted -= _nbytes(future)
                    del self._indexes[identity]

    def _forget(self) -> None:
        """Drop what wasn't used for longest until the rest is within the limits; the newest always stays."""
        limits = self._limits
        with self._lock:
            sizes = {identity: _nbytes(future) for identity, future in self._indexes.items()}
            total = sum(sizes.values())
            for identity in list(self._indexes)[:-1]:
                if total <= limits.index_bytes and len(self._indexes) <= limits.indexes:
                    break
                total -= sizes[identity]
                del self._indexes[identity]


def _nbytes(future: Future[FileIndex | MediaError]) -> int:
    """Return the memory of an index; 0 while it is being made, little for a refusal."""
    if not future.done():
        return 0
    index = future.result()
    return REFUSAL_BYTES if isinstance(index, MediaError) else index.nbytes
