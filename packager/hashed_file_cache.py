"""A cache of what was made of films, in memory and in a folder of the server's data; its methods block.

A file's name has a hash of its content: no other file is used as an item of the cache, or removed. The files
of pinned keys aren't removed to make room for others.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

import structlog

from packager.bounded_dict import SizedDict
from packager.safe_files import TEMPORARY, DataFolder, OpenFolder

log = structlog.get_logger()

_UNFINISHED = rf"\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}"

Place = tuple[str, int]
"""Key of what an item belongs to, 32 hexadecimal digits, and the item's number."""

PINNED_SHARE = 0.9
"""Share of the limits of files and their bytes that pinned items may take; the rest is for all others."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """The kind of the files of a cache.

    Attributes:
        items: name of the items in the log, such as ``thumbnails``.
        suffix: end of the files' names, such as ``.jpg``.
        begin: the bytes that every item begins with.
        most_bytes: size of the largest item.
    """

    items: str
    suffix: str
    begin: bytes
    most_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedFileLimits:
    """How many items are kept; the least recently requested ones go first.

    Attributes:
        disk_bytes: most bytes of all files.
        disk_files: most files, and most entries of the folder that are read.
        memory_bytes: most bytes in memory.
    """

    disk_bytes: int = 1 << 30
    disk_files: int = 20_000
    memory_bytes: int = 16 << 20


class HashedFileCache:
    """Keeps items in memory and on disk.

    Args:
        folder: where the files are; None: there are none.
    """

    def __init__(self, kind: FileKind, folder: DataFolder | None, limits: HashedFileLimits) -> None:
        self._kind = kind
        self._name = re.compile(
            rf"([0-9a-f]{{32}})-([0-9]{{1,5}})-([0-9a-f]{{32}}){re.escape(kind.suffix)}({_UNFINISHED})?"
        )
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._memory = SizedDict[Place, bytes](None, limits.memory_bytes, len)
        self._is_listed = False
        # Name and size of each file, the one first that wasn't asked for for longest; pinned ones are apart,
        # by their keys and numbers.
        self._files: OrderedDict[Place, tuple[str, int]] = OrderedDict()
        self._pinned: dict[str, dict[int, tuple[str, int]]] = {}

    def find(self, place: Place) -> bytes | None:
        """Return an item, or None where there is none."""
        with self._lock:
            if (data := self._memory.use(place)) is not None:
                return data
            file = self._file(place)
            if self._folder is None or file is None:
                return None
            self._put(place, file)
            try:
                with self._folder.open() as folder:
                    data = folder.read(file[0], self._kind.most_bytes)
            except OSError:
                data = b""
            if not self._is_ours(file[0], data):
                self._files.pop(place, None)
                self._pinned.get(place[0], {}).pop(place[1], None)
                return None
            self._remember(place, data)
            return data

    def has(self, place: Place) -> bool:
        """Return whether an item is cached."""
        with self._lock:
            return place in self._memory or self._file(place) is not None

    def remember(self, place: Place, data: bytes) -> None:
        """Cache an item in memory alone."""
        with self._lock:
            self._remember(place, data)

    def keep(self, place: Place, data: bytes) -> None:
        """Cache an item; if it can't be written to disk, only in memory, and the log says why."""
        try:
            self.store(place, data)
        except OSError as error:
            log.error(
                "a file can't be stored",
                items=self._kind.items,
                folder=str(self._folder),
                error=str(error),
            )

    def store(self, place: Place, data: bytes) -> None:
        """Cache an item, on disk too unless it is there already; OSError if it can't be written."""
        file = f"{place[0]}-{place[1]}-{_digest(data)}{self._kind.suffix}", len(data)
        with self._lock:
            self._remember(place, data)
            if self._folder is None or self._file(place) == file:
                return
            with self._folder.open(make=True) as folder:
                folder.write_whole(file[0], data)
                self._put(place, file)
                self._shrink(folder)

    def pin(self, keys: AbstractSet[str]) -> None:
        """Never remove the files of some keys to make room, whether they are there yet or not."""
        with self._lock:
            for key in keys:
                self._pinned.setdefault(key, {})
            for place in [place for place in self._files if place[0] in keys]:
                self._put(place, self._files.pop(place))

    def unpin(self, keys: AbstractSet[str]) -> None:
        """Let the files of some keys be removed to make room, as those that were just asked for."""
        with self._lock:
            for key in keys:
                for number, file in self._pinned.pop(key, {}).items():
                    self._put((key, number), file)

    def pinned_sizes(self, key: str) -> dict[int, int]:
        """Return the sizes of the files of a pinned key, by their numbers."""
        with self._lock:
            self._list()
            return {number: size for number, (_, size) in self._pinned.get(key, {}).items()}

    def forget_removed(self) -> None:
        """Forget the files that somebody else has removed."""
        most = 2 * self._limits.disk_files
        with self._lock:
            self._list()
            if self._folder is None:
                return
            try:
                with self._folder.open() as folder:
                    names = {entry.name for entry in islice(folder.entries(), most)}
            except FileNotFoundError:
                names = set()
            if len(names) == most:
                return
            for place in [place for place, (name, _) in self._files.items() if name not in names]:
                del self._files[place]
            for files in self._pinned.values():
                for number in [number for number, (name, _) in files.items() if name not in names]:
                    del files[number]

    def has_room(self, size: int) -> bool:
        """Return whether one more pinned item may have so many bytes."""
        with self._lock:
            self._list()
            count, total = self._count_pinned()
        limits = self._limits
        is_within = total + size <= PINNED_SHARE * limits.disk_bytes
        return is_within and count < PINNED_SHARE * limits.disk_files

    def _remember(self, place: Place, data: bytes) -> None:
        self._memory[place] = data

    def _file(self, place: Place) -> tuple[str, int] | None:
        """Return the name and the size of an item's file; None without one."""
        self._list()
        key, number = place
        return self._pinned[key].get(number) if key in self._pinned else self._files.get(place)

    def _put(self, place: Place, file: tuple[str, int]) -> None:
        """Note an item's file, as the one that was asked for last."""
        key, number = place
        if key in self._pinned:
            self._pinned[key][number] = file
        else:
            self._files[place] = file
            self._files.move_to_end(place)

    def _count_pinned(self) -> tuple[int, int]:
        """Return the number of pinned files and their bytes."""
        sizes = [size for files in self._pinned.values() for _, size in files.values()]
        return len(sizes), sum(sizes)

    def _list(self) -> None:
        """Note the cached files; the first call reads the folder, and removes unfinished files."""
        if self._is_listed or self._folder is None:
            return
        self._is_listed = True
        found: list[tuple[float, Place, tuple[str, int]]] = []
        try:
            with self._folder.open() as folder:
                for entry in islice(folder.entries(), 2 * self._limits.disk_files):
                    if (name := self._name.fullmatch(entry.name)) is None:
                        continue
                    if name[4] is not None:
                        self._remove_unfinished(folder, entry.name)
                    elif (status := folder.status(entry.name)) is not None:
                        place = name[1], int(name[2])
                        found.append((status.st_mtime, place, (entry.name, status.st_size)))
                if found:
                    folder.make_private()
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error(
                "stored files can't be read",
                items=self._kind.items,
                folder=str(self._folder),
                error=str(error),
            )
        for _, place, file in sorted(found):
            self._put(place, file)

    def _shrink(self, folder: OpenFolder) -> None:
        """Remove the files that weren't asked for for longest, until the rest is within the limits."""
        limits, files = self._limits, self._files
        count, total = self._count_pinned()
        total += sum(size for _, size in files.values())
        while len(files) > 1 and (total > limits.disk_bytes or count + len(files) > limits.disk_files):
            _, (name, size) = files.popitem(last=False)
            total -= size
            with contextlib.suppress(FileNotFoundError):
                if self._is_ours(name, folder.read(name, self._kind.most_bytes)):
                    folder.remove(name, size)

    def _is_ours(self, name: str, data: bytes) -> bool:
        """Return whether a file's content has the hash in its name."""
        found = self._name.fullmatch(name)
        return found is not None and found[3] == _digest(data)

    def _remove_unfinished(self, folder: OpenFolder, name: str) -> None:
        """Remove what is left of an item that was being written when the server ended."""
        begin = self._kind.begin
        if folder.read_head(name, len(begin)) in (b"", begin):
            folder.remove(name)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
