"""Bounds the memory of all indexes together, whether kept, in use or about to be read.

`packager.vod.index.index_cache` decides which indexes are evicted where there is no room.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from weakref import WeakValueDictionary

from packager.vod.index.file_index import FileIndex
from packager.vod.movie.movie_reader import Read


@dataclass(frozen=True, slots=True)
class IndexMemoryLimits:
    """How indexes share their memory.

    Attributes:
        small_read: bytes of a reading that isn't counted: a table has more.
        patience_seconds: how long a reading waits for the room of indexes in use, which it may be using
            itself.
        wait_seconds: how long a reading waits for other readings.
        look_seconds: between two checks whether indexes that were in use are gone.
    """

    small_read: int = 64 << 10
    patience_seconds: float = 0.5
    wait_seconds: float = 60.0
    look_seconds: float = 0.02


class IndexMemory:
    """Shares memory among the indexes that are kept, in use or about to be read.

    Args:
        most: bytes of all of them together.
        drop: forgets indexes that are kept until so many bytes are free, as far as that goes; called in any
            thread.
    """

    def __init__(self, most: int, limits: IndexMemoryLimits, drop: Callable[[int], None]) -> None:
        self._most = most
        self._limits = limits
        self._drop = drop
        self._lock = threading.Lock()
        # Indexes that somebody holds, be it for a moment.
        self._held: WeakValueDictionary[int, FileIndex] = WeakValueDictionary()
        self._numbers = itertools.count()
        self._reserved = 0

    @property
    def reserved(self) -> int:
        """Bytes that indexes take which are about to be read."""
        return self._reserved

    def add(self, index: FileIndex) -> None:
        """Count an index for as long as anybody holds it."""
        with self._lock:
            self._held[next(self._numbers)] = index

    @property
    def used(self) -> int:
        """Bytes that indexes take which somebody holds."""
        return sum(index.nbytes for index in list(self._held.values()))

    def reading(self, read: Read) -> IndexReading:
        """Return a reader of a file for its index, within the limit of memory.

        Args:
            read: reads from the file.
        """
        return IndexReading(read, self, self._limits.small_read)

    def reserve(self, count: int, own: int = 0) -> None:
        """Wait for room for bytes that are about to be read, and reserve it.

        Args:
            own: how many bytes the same reading has reserved before: readings that have some don't wait for
                each other.

        Raises:
            TimeoutError: other readings take too long.
        """
        limits = self._limits
        started = time.monotonic()
        while not self._try_reserve(count, own, time.monotonic() - started >= limits.patience_seconds):
            if time.monotonic() - started >= limits.wait_seconds:
                raise TimeoutError(f"no room for an index of {count} bytes beside those that are being read")
            time.sleep(limits.look_seconds)

    def _try_reserve(self, count: int, own: int, impatient: bool) -> bool:
        """Reserve room if there is some, or if waiting is of no use."""
        with self._lock:
            wanted = self.used + self._reserved + count - self._most
        if wanted > 0:
            self._drop(wanted)
        with self._lock:
            used, others = self.used, self._reserved - own
            fits = used + self._reserved + count <= self._most
            # Waiting is of no use where nobody else reads or uses an index.
            is_awaited = (others and not (own and impatient)) or (used and not impatient)
            if not fits and is_awaited:
                return False
            self._reserved += count
            return True

    def give_back(self, count: int) -> None:
        """Free the reservation: the index counts by itself, or wasn't made."""
        with self._lock:
            self._reserved -= count


class IndexReading:
    """Reads a file for its index, and holds the room for what was read until the end.

    Args:
        read: reads from the file.
        small_read: bytes of a reading that isn't counted.
    """

    def __init__(self, read: Read, memory: IndexMemory, small_read: int) -> None:
        self._read = read
        self._memory = memory
        self._small_read = small_read
        self._reserved = 0

    def __call__(self, offset: int, length: int) -> bytes:
        """Read bytes of the file, once there is room for them."""
        if length > self._small_read:
            self.reserve(length)
        return self._read(offset, length)

    def reserve(self, count: int) -> None:
        """Wait for room for bytes that aren't in the file but are about to be taken; hold it to the end."""
        self._memory.reserve(count, self._reserved)
        self._reserved += count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self._reserved)
