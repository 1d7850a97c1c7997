"""Keeps sprites that were made, in memory and in a folder of the server's data. It blocks.

A file's name has a hash of its content: nothing else is taken for a sprite of ours, and nothing else removed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

import structlog

from packager.safe_files import TEMPORARY, DataFolder, OpenFolder

log = structlog.get_logger()

_UNFINISHED = rf"\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}"
_NAME = re.compile(rf"([0-9a-f]{{32}})-([0-9]{{1,5}})-([0-9a-f]{{32}})\.jpg({_UNFINISHED})?")
JPEG_BEGIN = b"\xff\xd8\xff"

Place = tuple[str, int]
"""Key of a storyboard, and number of one of its sprites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpriteCacheLimits:
    """How many sprites are kept; those that weren't asked for for longest go first.

    Attributes:
        disk_bytes: most bytes of all files.
        disk_files: most files; and how many entries of the folder are looked at.
        memory_bytes: most bytes in memory.
        sprite_bytes: size of the largest sprite that is kept.
    """

    disk_bytes: int = 1 << 30
    disk_files: int = 20_000
    memory_bytes: int = 16 << 20
    sprite_bytes: int = 8 << 20


class SpriteCache:
    """Keeps sprites in memory and on disk.

    Args:
        folder: where the files are; None: there are none.
    """

    def __init__(self, folder: DataFolder | None, limits: SpriteCacheLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._lock = threading.Lock()
        self._memory: OrderedDict[Place, bytes] = OrderedDict()
        # Name and size of each file, the one first that wasn't asked for for longest; None: not looked yet.
        self._files: OrderedDict[Place, tuple[str, int]] | None = None

    def find(self, place: Place) -> bytes | None:
        """Return a sprite, or None where there is none."""
        with self._lock:
            if place in self._memory:
                self._memory.move_to_end(place)
                return self._memory[place]
            files = self._listed()
            if self._folder is None or place not in files:
                return None
            files.move_to_end(place)
            try:
                with self._folder.open() as folder:
                    data = folder.read(files[place][0], self._limits.sprite_bytes)
            except OSError:
                data = b""
            if not _is_ours(files[place][0], data):
                del files[place]
                return None
            self._remember(place, data)
            return data

    def has(self, place: Place) -> bool:
        """Say whether there is a sprite."""
        with self._lock:
            return place in self._memory or place in self._listed()

    def keep(self, place: Place, data: bytes) -> None:
        """Keep a sprite; where the disk doesn't take it, only in memory, and the log says why."""
        with self._lock:
            self._remember(place, data)
            files = self._listed()
            if self._folder is None:
                return
            name = f"{place[0]}-{place[1]}-{_digest(data)}.jpg"
            try:
                with self._folder.open(make=True) as folder:
                    folder.write_whole(name, data)
                    files[place] = (name, len(data))
                    self._shrink(folder, files)
            except OSError as error:
                log.error("thumbnails_not_kept", folder=str(self._folder), error=str(error))

    def _remember(self, place: Place, data: bytes) -> None:
        self._memory[place] = data
        self._memory.move_to_end(place)
        while len(self._memory) > 1 and sum(map(len, self._memory.values())) > self._limits.memory_bytes:
            self._memory.popitem(last=False)

    def _listed(self) -> OrderedDict[Place, tuple[str, int]]:
        """Look at what the folder has, the first time, and remove what is left of unfinished sprites."""
        if self._files is not None:
            return self._files
        found: list[tuple[float, Place, tuple[str, int]]] = []
        try:
            if self._folder is not None:
                with self._folder.open() as folder:
                    for entry in islice(folder.entries(), 2 * self._limits.disk_files):
                        if (name := _NAME.fullmatch(entry.name)) is None:
                            continue
                        if name[4] is not None:
                            _remove_unfinished(folder, entry.name)
                        elif (status := folder.status(entry.name)) is not None:
                            place = name[1], int(name[2])
                            found.append((status.st_mtime, place, (entry.name, status.st_size)))
                    if found:
                        folder.make_private()
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("thumbnails_unreadable", folder=str(self._folder), error=str(error))
        self._files = OrderedDict((place, file) for _, place, file in sorted(found))
        return self._files

    def _shrink(self, folder: OpenFolder, files: OrderedDict[Place, tuple[str, int]]) -> None:
        """Remove the files that weren't asked for for longest, until the rest is within the limits."""
        limits, total = self._limits, sum(size for _, size in files.values())
        while len(files) > 1 and (total > limits.disk_bytes or len(files) > limits.disk_files):
            _, (name, size) = files.popitem(last=False)
            total -= size
            if _is_ours(name, folder.read(name, limits.sprite_bytes)):
                folder.remove(name, size)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _is_ours(name: str, data: bytes) -> bool:
    """Say whether a file has what its name says."""
    found = _NAME.fullmatch(name)
    return found is not None and found[3] == _digest(data)


def _remove_unfinished(folder: OpenFolder, name: str) -> None:
    """Remove what is left of a sprite that was being written when the server ended."""
    if folder.read_head(name, len(JPEG_BEGIN)) in (b"", JPEG_BEGIN):
        folder.remove(name)
