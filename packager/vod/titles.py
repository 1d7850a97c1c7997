"""The library as VOD: names resolved to files and titles, indexes made once and kept within a limit.

Everything here blocks on the disk and may be called from several threads at once.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import structlog

from media.errors import MediaError, UnsupportedError
from packager.file_listing import MAX_RENDITIONS, RENDITION
from packager.storage import Library, LocalFile, NotFoundError, is_served
from packager.vod.index import FileIndex, OfferedTrack, read_index
from packager.vod.manifest import manifest
from packager.vod.playlists import Files, media_playlist, multivariant_playlist, title_files
from packager.vod.segment import Segment, make_segment

log = structlog.get_logger()

MAX_INDEX_BYTES = 256 << 20
"""Memory for all indexes together; that of a film of two hours takes 25 MB."""

MAX_INDEXES = 1024
MAX_FOLDER_FILES = 10_000
"""How many names of a folder are looked at for a title's renditions."""

MAX_SECONDS = 60.0
"""How long a request waits while another one makes the same index."""

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment and the file that its data are read from, which the holder closes."""

    file: LocalFile
    track: OfferedTrack
    segment: Segment

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.segment.size

    def read(self, offset: int, length: int) -> bytes:
        """Read a range of it; ShortReadError when the file has become shorter."""
        return self.segment.read(self.file.pread, offset, length)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Titles:
    """VOD of a library.

    Args:
        library: where the files are.
        max_index_bytes: memory for indexes; the one that wasn't used for longest goes first.
    """

    def __init__(self, library: Library, max_index_bytes: int = MAX_INDEX_BYTES) -> None:
        self._library = library
        self._max_bytes = max_index_bytes
        self._lock = threading.Lock()
        self._indexes: OrderedDict[Identity, Future[FileIndex | MediaError]] = OrderedDict()

    @property
    def index_count(self) -> int:
        """How many indexes are in memory."""
        return len(self._indexes)

    def multivariant_playlist(self, name: str) -> str:
        """Write the multivariant playlist of a file, or of the title that has this name.

        Args:
            name: relative to the library; the file's, or the renditions' common part.

        Raises:
            NotFoundError: there is neither.
            MediaError: it can't be packaged; the text says in one line why.
            OSError: it can't be read.
        """
        return multivariant_playlist(self._files(name)).render()

    def manifest(self, name: str) -> bytes:
        """Write the DASH manifest likewise; raises as :meth:`multivariant_playlist`."""
        return manifest(self._files(name)).render()

    def media_playlist(self, name: str, track: str) -> str:
        """Write the media playlist of a file's track; raises as :meth:`multivariant_playlist`."""
        return media_playlist(self.track(name, track)).render()

    def track(self, name: str, track: str) -> OfferedTrack:
        """Find a file's track; raises as :meth:`multivariant_playlist`."""
        with self._library.open(name) as file:
            return self._track(self._index(file), name, track)

    def open_segment(self, name: str, track: str, number: int) -> OpenSegment:
        """Open the file for one segment; raises as :meth:`multivariant_playlist`."""
        file = self._library.open(name)
        try:
            index = self._index(file)
            offered = self._track(index, name, track)
            segment = make_segment(index, offered, number)
            if segment is None:
                raise NotFoundError(f"{name}: {track} has no segment {number}")
            return OpenSegment(file, offered, segment)
        except BaseException:
            file.close()
            raise

    @staticmethod
    def _track(index: FileIndex, name: str, track: str) -> OfferedTrack:
        offered = index.track(track)
        if offered is None:
            raise NotFoundError(f"{name} has no track {track}")
        return offered

    def _files(self, name: str) -> Files:
        """Resolve a name to address prefixes and indexes: of one file, or of a title's."""
        try:
            with self._library.open(name) as file:
                return [("", self._index(file))]
        except NotFoundError:
            return title_files(self._renditions(name))

    def _renditions(self, name: str) -> list[tuple[str, FileIndex]]:
        """Index a title's files, the smallest picture first, without those that can't be packaged."""
        found: list[tuple[str, FileIndex]] = []
        failed: MediaError | None = None
        folder, _, title = name.rpartition("/")
        for file_name in self._rendition_names(folder, title):
            try:
                with self._library.open(f"{folder}/{file_name}".removeprefix("/")) as file:
                    found.append((file_name, self._index(file)))
            except NotFoundError:
                continue
            except MediaError as error:
                failed = error
                log.warning("rendition_left_out", title=name, file=file_name, reason=str(error))
        if failed is not None and not found:
            raise failed
        if not found:
            raise NotFoundError(name)
        return found

    def _rendition_names(self, folder: str, title: str) -> list[str]:
        parts = [*filter(None, folder.split("/")), title]
        if not all(map(is_served, parts)):
            raise NotFoundError(title)
        names: list[tuple[int, str]] = []
        try:
            with os.scandir(self._library.root / folder) as entries:
                for _, entry in zip(range(MAX_FOLDER_FILES), entries, strict=False):
                    match = RENDITION.fullmatch(entry.name)
                    if match is not None and match["title"] == title:
                        names.append((int(match["height"]), entry.name))
        except (OSError, ValueError):
            raise NotFoundError(title) from None
        if len(names) > MAX_RENDITIONS:
            raise UnsupportedError(f"{len(names)} renditions of one title: more than {MAX_RENDITIONS}")
        return [file_name for _, file_name in sorted(names)]

    def _index(self, file: LocalFile) -> FileIndex:
        """Take a file's index from memory, wait for it, or make it."""
        with self._lock:
            future = self._indexes.get(file.identity)
            mine = future is None
            if future is None:
                future = self._indexes[file.identity] = Future()
            self._indexes.move_to_end(file.identity)
        if mine:
            self._make(file, future)
        try:
            index = future.result(MAX_SECONDS)
        except CancelledError:  # who was making it failed to read the file: see what comes of one's own try
            return self._index(file)
        if isinstance(index, MediaError):
            raise type(index)(*index.args)  # a new one: an exception that is kept keeps every traceback
        return index

    def _make(self, file: LocalFile, future: Future[FileIndex | MediaError]) -> None:
        try:
            future.set_result(read_index(file.pread, file.size))
        except MediaError as error:
            # A refusal is kept like an index: it costs as much to find, and the file stays what it is.
            future.set_result(type(error)(*error.args))
        finally:
            if not future.done():
                with self._lock:
                    self._indexes.pop(file.identity, None)
                future.cancel()
        self._forget()

    def _forget(self) -> None:
        """Drop what wasn't used for longest until the rest is within the limits; the newest always stays."""
        with self._lock:
            sizes = {identity: _nbytes(future) for identity, future in self._indexes.items()}
            total = sum(sizes.values())
            for identity in list(self._indexes)[:-1]:
                if total <= self._max_bytes and len(self._indexes) <= MAX_INDEXES:
                    break
                total -= sizes[identity]
                del self._indexes[identity]


def _nbytes(future: Future[FileIndex | MediaError]) -> int:
    """Say what an index takes; nothing while it is being made, next to nothing when it was refused."""
    if not future.done():
        return 0
    index = future.result()
    return 0 if isinstance(index, MediaError) else index.nbytes
