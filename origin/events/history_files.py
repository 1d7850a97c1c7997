"""The files in which a channel's events survive a restart. Blocks.

A file holds events of one epoch of the channel: a head that names the channel, the epoch and the number
before the first event, then a line of JSON for each event. A new epoch begins a new file, so that nothing is
ever appended to what a killed server left; its last line may be cut off. Whatever isn't written so from its
first line on is somebody else's: it is neither read nor removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from origin.events.event_log import EPOCH, Event, Past, PastEpoch, size_of
from origin.events.limits import EventLimits
from packager.safe_files import DataFolder, NotOursError, OpenFolder, write_all

NAME = re.compile(r"([1-9][0-9]{0,14})\.events")

_HEAD_BYTES = 1024
_CONTROLS = re.compile(r"[\0-\x1f\x7f]")
_Offset = Annotated[int, Meta(ge=0, lt=10**15)]
_WHOLE, _BROKEN = b'"whole":true }', b'"whole":false}'


class _Head(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file of events, which says whose they are.

    Attributes:
        offset: number of the event before the first one here.
        whole: whether nothing is missing behind the last one; written over when the disk takes no more.
    """

    channel: str
    epoch: str
    offset: _Offset
    whole: bool = True


class _Line(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file behind the first: an event as JSON."""

    offset: _Offset
    time: float
    event: str
    data: str


_HEADS, _LINES = msgspec.json.Decoder(_Head), msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True)
class _HistoryFile:
    """A file that was written here, or read and found to be ours.

    Attributes:
        inode: by which it is recognised, together with its size.
        size: in bytes.
        newest: when it was written to last, in seconds since the epoch of Unix.
    """

    name: str
    inode: int
    size: int
    newest: float
    head: _Head


class HistoryRoom:
    """Counts the bytes of all histories in a folder, which many channels share. Any thread may call.

    Args:
        folder: the folder whose folders are histories.
        most: bytes of all files.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._used: int | None = None
        self._lock = threading.Lock()

    def reserve(self, nbytes: int) -> None:
        """Reserve room for bytes that are to be written.

        Raises:
            OSError: there is none, until older events have been removed.
        """
        with self._lock:
            used = self._measured()
            if used + nbytes > self._most:
                raise OSError(errno.EDQUOT, "limits.created_history_bytes: so many bytes of events are there")
            self._used = used + nbytes

    def release(self, nbytes: int) -> None:
        """Release the room of bytes that were removed, or weren't written."""
        with self._lock:
            self._used = max(self._measured() - nbytes, 0)

    def _measured(self) -> int:
        """Return the bytes in use; those of earlier starts are counted once."""
        if self._used is None:
            files = (file.lstat() for file in self._folder.rglob("*"))
            self._used = sum(one.st_size for one in files if stat.S_ISREG(one.st_mode))
        return self._used


class HistoryFiles:
    """Reads, writes and removes the files in which the events of one channel survive a restart.

    Args:
        epoch: the one whose events are written.
        clock: seconds since the epoch of Unix.
        room: which other channels' files share; None where there is no such limit.
    """

    def __init__(
        self,
        channel: str,
        epoch: str,
        place: DataFolder,
        limits: EventLimits,
        clock: Callable[[], float] = time.time,
        room: HistoryRoom | None = None,
    ) -> None:
        self._room = room
        self._channel, self._epoch, self._place = channel, epoch, place
        self._limits = limits
        self._clock = clock
        # The oldest first; the last one is written to while the descriptor is open.
        self._files: list[_HistoryFile] = []
        self._descriptor = -1
        self._oldest: float | None = None
        self._next_number = 1
        self._last = 0

    def read(self) -> Past:
        """Read what earlier epochs have left, and begin a file where that is nothing.

        Raises:
            OSError: the folder can't be read or made.
        """
        past = _Joined(self._clock() - self._limits.history_seconds, self._limits.disk_bytes)
        # Files that were found before the disk failed are found again.
        self._files.clear()
        with self._place.open(make=True) as folder:
            found = (NAME.fullmatch(entry.name) for entry in folder.entries())
            numbers = sorted((int(name[1]) for name in found if name is not None), reverse=True)
            self._next_number = numbers[0] + 1 if numbers else 1
            for number in numbers[: self._limits.history_files]:
                ours = self._read_file(folder, f"{number}.events")
                if ours is not None:
                    self._files.insert(0, ours[0])
                    past.add(*ours)
            if self._files:
                folder.make_private()
            if not past.epochs:
                # An id may be given out before there is an event.
                self._begin(folder, 0)
        return past.past()

    def _read_file(self, folder: OpenFolder, name: str) -> tuple[_HistoryFile, list[Event]] | None:
        """Read a file; None if it isn't ours."""
        try:
            data = folder.read(name, self._limits.disk_bytes)
        except (NotOursError, FileNotFoundError):
            return None
        status = folder.status(name)
        first, *lines = data.split(b"\n")[:-1] or [b""]
        try:
            head = _HEADS.decode(first)
            if head.channel != self._channel or not EPOCH.fullmatch(head.epoch) or status is None:
                return None
            events = [_event_of(head, place, line) for place, line in enumerate(lines, 1)]
        except ValueError:
            return None
        return _HistoryFile(name, status.st_ino, len(data), status.st_mtime, head), events

    def append(self, events: Sequence[Event]) -> None:
        """Write events.

        Raises:
            OSError: the events can't be written; they are lost, which later readers of the files will see.
        """
        lines = bytearray()
        try:
            for event in events:
                is_full = self._descriptor < 0 or self._file.size + len(lines) >= self._limits.file_bytes
                if is_full or event.offset != self._last + 1:
                    self._write(bytes(lines))
                    lines.clear()
                    with self._place.open(make=True) as folder:
                        self._begin(folder, event.offset - 1)
                if self._oldest is None:
                    self._oldest = event.time
                lines += msgspec.json.encode(_Line(event.offset, event.time, event.name, event.data)) + b"\n"
                self._last = event.offset
            self._write(bytes(lines))
        except OSError:
            self._last = -1  # the next event begins a file of its own
            with contextlib.suppress(OSError):
                self._mark_gap()
            raise

    def _reserve(self, nbytes: int) -> None:
        if self._room is not None:
            self._room.reserve(nbytes)

    def _release(self, nbytes: int) -> None:
        if self._room is not None:
            self._room.release(nbytes)

    @property
    def _file(self) -> _HistoryFile:
        return self._files[-1]

    def _write(self, lines: bytes) -> None:
        if not lines:
            return
        size = self._file.size
        self._reserve(len(lines))
        try:
            write_all(self._descriptor, lines)
        except OSError:
            self._release(len(lines))
            os.ftruncate(self._descriptor, size)
            raise
        self._files[-1] = replace(self._file, size=size + len(lines), newest=self._clock())

    def _begin(self, folder: OpenFolder, offset: int) -> None:
        """Begin a file behind an event, and close the one before."""
        head = _Head(self._channel, self._epoch, offset)
        data = msgspec.json.encode(head).replace(b'"whole":true}', _WHOLE) + b"\n"
        name = f"{self._next_number}.events"
        self._reserve(len(data))
        self._next_number += 1
        try:
            folder.write_whole(name, data, replaces=False, synchronized=False)
        except OSError:
            self._release(len(data))
            raise
        descriptor = folder.open_to_append(name)
        self.close()
        self._descriptor, self._oldest = descriptor, None
        self._files.append(_HistoryFile(name, os.fstat(descriptor).st_ino, len(data), self._clock(), head))

    def _mark_gap(self) -> None:
        """Write into the newest file that events are missing behind its last one: that takes no room."""
        self.close()
        if not self._files:
            return
        with self._place.open() as folder:
            if not _is_there(folder, self._file):
                return
            descriptor = folder.open_to_append(self._file.name)
            try:
                place = os.pread(descriptor, _HEAD_BYTES, 0).index(_WHOLE)
                # Otherwise pwrite(2) appends, whatever its offset is.
                fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~os.O_APPEND)
                os.pwrite(descriptor, _BROKEN, place)
            except ValueError:
                return
            finally:
                os.close(descriptor)

    def remove_old(self) -> None:
        """Remove what is older than is to be kept, or more.

        Raises:
            OSError: the disk takes no new file, or lets nothing be removed.
        """
        now, seconds = self._clock(), self._limits.history_seconds
        with self._place.open(make=True) as folder:
            is_old = self._descriptor >= 0 and self._oldest is not None and self._oldest < now - seconds / 8
            if is_old or (self._files and self._is_past(self._file, now - seconds)):
                self._begin(folder, max(self._last, 0))
            size = sum(one.size for one in self._files)
            # The newest file shows where an epoch ended, even if its events are too old.
            for one in self._files[:-1]:
                if one.newest > now - seconds and size <= self._limits.disk_bytes:
                    break
                if _is_there(folder, one):
                    folder.remove(one.name, one.size)
                    self._release(one.size)
                self._files.remove(one)
                size -= one.size

    def _is_past(self, file: _HistoryFile, since: float) -> bool:
        """Whether a file is of an earlier epoch, and has no event that is still to be kept."""
        return file.head.epoch != self._epoch and file.newest <= since

    def remove_all(self) -> None:
        """Remove all files of the channel, and the folder where nothing else is in it.

        Raises:
            OSError: the disk lets nothing be removed.
        """
        self.close()
        self._files.clear()
        with contextlib.suppress(FileNotFoundError), self._place.open() as folder:
            for name in [one.name for one in folder.entries() if NAME.fullmatch(one.name)]:
                ours = self._read_file(folder, name)
                if ours is not None:
                    folder.remove(name, ours[0].size)
                    self._release(ours[0].size)
        *names, last = self._place.names
        with (
            contextlib.suppress(FileNotFoundError),
            replace(self._place, names=tuple(names)).open() as parent,
        ):
            parent.remove_folder(last)

    def close(self) -> None:
        """Close the file that is being written; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _Joined:
    """Puts files together from the newest on, as far back as nothing is missing between them.

    Args:
        since: time of the oldest event that is wanted.
        most_bytes: of all events together, at most.
    """

    def __init__(self, since: float, most_bytes: int) -> None:
        self._since = since
        self._left = most_bytes
        self._newer: _Head | None = None
        self._is_broken = False
        self._events: list[Event] = []
        self.epochs: list[PastEpoch] = []

    def add(self, file: _HistoryFile, events: list[Event]) -> None:
        """Add a file, older than those that were added before."""
        head, newer = file.head, self._newer
        last = head.offset + len(events)
        if newer is not None and newer.epoch == head.epoch:
            self._is_broken = self._is_broken or last != newer.offset
        else:
            # Of another epoch all must be there, from its first event to its last.
            self._is_broken = self._is_broken or not head.whole or (newer is not None and newer.offset > 0)
            if not self._is_broken:
                self.epochs.append(PastEpoch(head.epoch, last))
        self._newer = head
        for event in () if self._is_broken else reversed(events):
            self._left -= event.size
            if self._left < 0 or event.time < self._since:
                self._since = math.inf
                return
            self._events.append(event)

    def past(self) -> Past:
        """Return the epochs and events that were read, the oldest first."""
        return Past(tuple(reversed(self.epochs)), tuple(reversed(self._events)))


def _event_of(head: _Head, place: int, line: bytes) -> Event:
    """Read the event in a line of a file.

    Raises:
        ValueError: there is none, or another one.
    """
    read = _LINES.decode(line)
    if read.offset != head.offset + place or not math.isfinite(read.time) or _CONTROLS.search(read.event):
        raise ValueError
    size = size_of(read.event, read.data.encode("utf-8", "replace"))
    return Event(head.epoch, read.offset, read.event, read.data, read.time, 0, size)


def _is_there(folder: OpenFolder, file: _HistoryFile) -> bool:
    """Whether a file is still the one that was read or written."""
    status = folder.status(file.name)
    return status is not None and (status.st_ino, status.st_size) == (file.inode, file.size)
