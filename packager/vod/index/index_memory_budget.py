"""Bounds the memory of all indexes together, whether kept, in use or about to be read.

`packager.vod.index.index_cache` decides which indexes are evicted where there is no room.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self
from weakref import WeakValueDictionary

from packager.blocking_calls import LackingError, may_be_repeated, result_of_wait
from packager.vod.index.file_index import FileIndex
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.movie_reader import Read


class AwaitedRoom(NamedTuple):
    """Room for which a reading has waited, and whether it doesn't wait any more for those who use indexes."""

    nbytes: int
    is_impatient: bool


class IndexMemory:
    """Shares memory among the indexes that are kept, in use or about to be read.

    Args:
        most: bytes of all of them together.
        drop: forgets indexes that are kept until so many bytes are free, as far as that goes; called in any
            thread.
    """

    def __init__(self, most: int, limits: IndexCacheLimits, drop: Callable[[int], None]) -> None:
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

    def reserve(self, count: int, own: int = 0, *, is_impatient: bool = False) -> None:
        """Reserve room for bytes that are about to be read.

        Args:
            own: how many bytes the same reading has reserved before.
            is_impatient: whether it has waited for those who use indexes.

        Raises:
            LackingError: there is no room yet; the call frees its reservation, and waits for the sum.
            TimeoutError: there is no room, and the call can't wait.
        """
        if not self._has_room(count, own, is_impatient=is_impatient or not may_be_repeated(), reserve=True):
            if may_be_repeated():
                raise LackingError(self, partial(self._room, own + count))
            raise self._crowded(count)

    def _room(self, count: int, _: str) -> asyncio.Future[AwaitedRoom]:
        """Return a future of room for a reading that has reserved nothing."""
        limits, loop = self._limits, asyncio.get_running_loop()
        room: asyncio.Future[AwaitedRoom] = loop.create_future()
        began = loop.time()

        def look() -> None:
            waited = loop.time() - began
            is_impatient = waited >= limits.memory_patience_seconds
            if room.done():
                return
            if self._has_room(count, 0, is_impatient=is_impatient):
                room.set_result(AwaitedRoom(count, is_impatient))
            elif waited >= limits.memory_wait_seconds:
                room.set_exception(self._crowded(count))
            else:
                loop.call_later(limits.memory_look_seconds, look)

        look()
        return room

    def _crowded(self, count: int) -> TimeoutError:
        return TimeoutError(f"no room for an index of {count} bytes beside those that are being read")

    def _has_room(self, count: int, own: int, *, is_impatient: bool, reserve: bool = False) -> bool:
        """Return whether there is room, or waiting is of no use; reserve it then if that is wanted."""
        with self._lock:
            wanted = self.used + self._reserved + count - self._most
        if wanted > 0:
            self._drop(wanted)
        with self._lock:
            used, others = self.used, self._reserved - own
            fits = used + self._reserved + count <= self._most
            # Waiting is of no use where nobody else reads or uses an index.
            if not fits and (others or (used and not is_impatient)):
                return False
            self._reserved += count if reserve else 0
            return True

    def give_back(self, count: int) -> None:
        """Free the reservation: the index counts by itself, or wasn't made."""
        with self._lock:
            self._reserved -= count


class IndexReading:
    """Reads a file for its index, and holds the room for what was read until the end.

    Where there isn't room for all of it, its call frees what it holds, waits, and is made again. Then the sum
    is reserved as a whole: of two readings that wait for each other's room, the first one gets all of it.

    Args:
        read: reads from the file.
        small_read: bytes of a reading that isn't counted.
    """

    def __init__(self, read: Read, memory: IndexMemory, small_read: int) -> None:
        self._read = read
        self._memory = memory
        self._small_read = small_read
        self._reserved = self._taken = 0

    def __call__(self, offset: int, length: int) -> bytes:
        """Read bytes of the file, once there is room for them."""
        if length > self._small_read:
            self.reserve(length)
        return self._read(offset, length)

    def reserve(self, count: int) -> None:
        """Reserve room for bytes that aren't in the file but are about to be taken; hold it to the end."""
        self._taken += count
        if (lacking := self._taken - self._reserved) > 0:
            self._memory.reserve(lacking, self._reserved)
            self._reserved = self._taken

    def __enter__(self) -> Self:
        room: AwaitedRoom | None = result_of_wait(self._memory)
        if room is not None:
            self._memory.reserve(room.nbytes, is_impatient=room.is_impatient)
            self._reserved = room.nbytes
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self._reserved)
