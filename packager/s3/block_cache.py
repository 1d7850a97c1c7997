"""Blocks of objects that were fetched of late, in one file on disk that has no name.

The file goes with the process that made it, so nothing of it has to be trusted after a restart. A block is
found by what identifies one version of one object: another version's bytes are other blocks.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from packager.bounded_dict import SizedDict
from packager.library.storage_interface import Identity
from packager.s3.limits import S3Limits

log = structlog.get_logger()

BlockKey = tuple[Identity, int]
"""A version of an object, and the number of a block in it."""

DISK_SECONDS = 10.0
"""Seconds for which a full disk isn't tried again."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place for one block in the cache's file.

    Attributes:
        length: bytes of the block there.
        writing: number of the writing that put it there: equal only for the same.
    """

    number: int
    length: int
    writing: int


class BlockCache:
    """Keeps blocks; the one that wasn't asked for for longest goes first. Several threads may use it at once.

    Args:
        folder: where the file is made.
        clock: seconds.
    """

    def __init__(self, folder: Path, limits: S3Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._slots: OrderedDict[BlockKey, _Slot] = OrderedDict()
        self._free: list[int] = []
        self._used = 0
        self._writings = 0
        self._disk_from = 0.0
        self._memory = SizedDict[BlockKey, bytes](None, limits.memory_bytes, len)

    @property
    def disk_blocks(self) -> int:
        """How many blocks are on disk."""
        return len(self._slots)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all blocks, on disk and in memory."""
        with self._lock:
            return sum(slot.length for slot in self._slots.values()) + self._memory.nbytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of the blocks that are in memory."""
        return self._memory.nbytes

    def read(self, key: BlockKey, start: int, stop: int) -> bytes | None:
        """Read a range of a block; None where the block isn't kept."""
        with self._lock:
            if (data := self._memory.use(key)) is not None:
                return data[start:stop]
            slot = self._slots.get(key)
            if slot is None or self._file is None:
                return None
            self._slots.move_to_end(key)
            descriptor = self._file.fileno()
        stop = min(stop, slot.length)
        place = slot.number * self._limits.block_bytes
        try:
            data = os.pread(descriptor, max(0, stop - start), place + start)
        except OSError as error:
            log.warning("the cache of S3 can't be read", reason=error.strerror)
            data = b""
        with self._lock:
            # If another block took the place during the read, the data belongs to that block, wholly or
            # partly.
            if self._slots.get(key) is not slot:
                return None
            if len(data) == max(0, stop - start):
                return data
            del self._slots[key]
            self._free.append(slot.number)
        return None

    def keep(self, key: BlockKey, data: bytes) -> None:
        """Cache a block, on disk if that is possible."""
        if not self._write(key, data):
            self._remember(key, data)

    def close(self) -> None:
        """Free the disk space."""
        with self._lock:
            self._slots.clear()
            self._memory.clear()
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, key: BlockKey, data: bytes) -> bool:
        with self._lock:
            if key in self._slots:
                return True
            place = self._place() if self._clock() >= self._disk_from else None
            if place is None:
                return False
            self._writings += 1
            writing = self._writings
        try:
            descriptor = self._opened()
            written = os.pwrite(descriptor, data, place * self._limits.block_bytes)
            if written < len(data):
                raise OSError(0, "the disk is full")
        except OSError as error:
            with self._lock:
                self._free.append(place)
                self._disk_from = self._clock() + DISK_SECONDS
            log.warning("the cache of S3 can't be written", reason=error.strerror, again_in=DISK_SECONDS)
            return False
        with self._lock:
            if (former := self._slots.pop(key, None)) is not None:
                self._free.append(former.number)
            self._slots[key] = _Slot(place, len(data), writing)
        return True

    def _place(self) -> int | None:
        """Find a place for a block, for which another may have to go."""
        if self._free:
            return self._free.pop()
        if (self._used + 1) * self._limits.block_bytes <= self._limits.disk_bytes:
            self._used += 1
            return self._used - 1
        if not self._slots:
            return None
        return self._slots.popitem(last=False)[1].number

    def _opened(self) -> int:
        with self._lock:
            if self._file is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  # closed in ``close``
            return self._file.fileno()

    def _remember(self, key: BlockKey, data: bytes) -> None:
        with self._lock:
            if key in self._memory or len(data) > self._limits.memory_bytes:
                return
            self._memory[key] = data
