"""The date ranges of a channel's DVR, on disk or in S3: EXT-X-DATERANGE tags as they came, in a few files.

Each process that stores has files of its own, of which the newest is replaced with each tag until it is
full. Their names are in the order in which they were begun. All of this blocks.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import structlog
from msgspec import Struct

from media.errors import MediaError
from media.hls.date_range import DateRange, read_date_range
from packager.blocking_calls import ThreadFlights, in_parallel
from packager.dvr.stores.file_stores import BucketStore, FileStore, FolderStore
from packager.past.stored_ranges import MAX_BYTES, RangeTable, StoredRanges
from packager.reader_guard import ReaderGuard
from packager.safe_files import DataFolder
from packager.window.model import STORERS

if TYPE_CHECKING:
    from packager.s3.client import S3Client

log = structlog.get_logger()

FOLDER = "date-ranges"
"""The folder of the objects in S3, beside those of the renditions, and the only file of earlier versions."""

DISK_FOLDER = "ranges"
"""The folder of the files on disk."""

TAGS_BEGIN = b"#EXT-X-DATERANGE:"

FILE_LINES = 50
"""Lines of an earlier version's file that come into one of ours."""

TAGS_TYPE = "text/plain; charset=utf-8"
"""Media type of an object."""

FULL_BYTES = 64 << 10
"""Length of an object from which on further tags come into another one."""

MAX_OBJECT_BYTES = 1 << 20
"""Longest object that is read: a single tag may be longer than a full object."""

MAX_OBJECTS = 1000
"""Most objects that are read, the newest: each start of a server with date ranges begins one."""

READS_AT_ONCE = 16
"""Most objects that are read at once."""

LOOK_SECONDS = 5.0
"""Between two looks for new objects in S3."""

_NAME = re.compile(r"([0-9]{15})-([1-9][0-9]{0,9})")


class RangesName(Struct, frozen=True, order=True):
    """The name of an object.

    Attributes:
        begun: when it was begun, in milliseconds since the epoch.
        stored_by: the number of the process that writes it.
        size: its bytes.
    """

    begun: int
    stored_by: int
    size: int = 0

    def __str__(self) -> str:
        """Return the last part of its key."""
        return f"{self.begun:015d}-{self.stored_by}"

    @classmethod
    def read(cls, name: str, size: int) -> RangesName | None:
        """Read a name; None where it isn't that of an object with date ranges."""
        found = _NAME.fullmatch(name)
        if found is None or not 0 < size <= MAX_OBJECT_BYTES:
            return None
        return cls(int(found[1]), int(found[2]), size)


class _ReadTags(NamedTuple):
    """An object that was read.

    Attributes:
        tags: each with its line of the object.
        is_whole: whether the object has nothing but tags.
    """

    size: int
    tags: Sequence[tuple[DateRange, str]]
    is_whole: bool

    @classmethod
    def of(cls, data: bytes) -> _ReadTags:
        """Read the tags of an object; lines that aren't any are passed over."""
        lines = data.decode(errors="replace").split("\n")
        tags = []
        for line in lines[:-1]:
            try:
                with ReaderGuard("a date range"):
                    tags.append((read_date_range(line), line))
            except MediaError:
                continue
        return cls(len(data), tags, len(tags) == len(lines) - 1 and not lines[-1])


class DateRangeObjects:
    """The date ranges of one channel.

    Args:
        files: the store of their files.
        look_seconds: how long the list of files holds; the ranges of a span may change for a minute behind
            its end.
        clock: seconds.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        files: FileStore,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = files
        self._look_seconds = look_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._stored_by = 1 + secrets.randbelow(STORERS - 1)
        # The objects and their table are replaced together; the lock isn't held while S3 is asked.
        self._replacing = Lock()
        self._looks = ThreadFlights[str, Mapping[str, _ReadTags]]()
        self._looked = -float("inf")
        self._objects: Mapping[str, _ReadTags] | None = None
        self._table = RangeTable()
        self._own = ""
        self._before_first_look: Callable[[], None] = lambda: None

    @classmethod
    def in_bucket(cls, client: S3Client, key: str) -> DateRangeObjects:
        """Return the date ranges of the DVR that has a key, without a slash at its end."""
        return cls(BucketStore(client, f"{key}/{FOLDER}", TAGS_TYPE))

    @classmethod
    def on_disk(cls, place: Path | DataFolder) -> DateRangeObjects:
        """Return the date ranges in the folder of a DVR."""
        dvr = DataFolder.at(place)
        found = cls(FolderStore(dvr / DISK_FOLDER, TAGS_BEGIN), 0.0)
        found._before_first_look = partial(_divide_file, dvr, found._files)
        return found

    def within(self, begin: Fraction, end: Fraction) -> StoredRanges:
        """Return the ranges that touch a span, whose bounds are in seconds since the epoch.

        Raises:
            OSError: S3 can't be reached, and nothing is known yet.
        """
        self._catch_up()
        return self._table.within(begin, end)

    def going_on(self) -> Sequence[DateRange]:
        """Return the ranges whose end isn't known; raises as ``within``."""
        self._catch_up()
        return self._table.going_on()

    def add(self, tags: Sequence[DateRange], before: Fraction) -> None:
        """Store tags.

        Args:
            before: date in seconds since the epoch; ranges that ended earlier may go.

        Raises:
            OSError: S3 can't take them now.
        """
        objects = self._looks.do("", self._look)
        lines = self._table.new_lines(tags)
        if not lines:
            return
        own = objects.get(self._own)
        known = () if own is None else [line for _, line in own.tags]
        data = _written((*known, *lines))
        is_new = own is None or (len(data) > FULL_BYTES and bool(known))
        if is_new:
            # Also behind those of a clock that was ahead.
            newest = max((int(name.partition("-")[0]) for name in objects), default=0)
            begun = max(int(1000 * self._wall_clock()), newest + 1)
            self._own, data = str(RangesName(begun, self._stored_by)), _written(lines)
        if is_new:
            self._files.tidy()
        self._files.put(self._own, data)
        with self._replacing:
            newest_objects = objects if self._objects is None else self._objects
            self._note({**newest_objects, self._own: _ReadTags.of(data)})
        if is_new:
            removed = self._removed(objects, before)
            with self._replacing:
                left = {name: one for name, one in newest_objects.items() if name not in removed}
                self._note({**left, self._own: _ReadTags.of(data)})

    def _catch_up(self) -> None:
        """Find what was stored lately; while S3 is away or asked, what is known is still good."""
        if self._objects is None:
            self._looks.do("", self._look)
        elif self._clock() - self._looked >= self._look_seconds and not len(self._looks):
            with contextlib.suppress(OSError):
                self._looks.do("", self._look)

    def _look(self) -> Mapping[str, _ReadTags]:
        """Return the objects as they are now, or were a moment ago."""
        known = self._objects
        if known is not None and self._clock() - self._looked < self._look_seconds:
            return known
        if known is None:
            self._before_first_look()
        self._looked = self._clock()
        listed = self._listed()
        changed = [str(one) for one in listed if known is None or not _is_read(known.get(str(one)), one)]
        read = dict(zip(changed, in_parallel(self._read, changed, READS_AT_ONCE), strict=True))
        found = {
            name: one
            for name in map(str, listed)
            if (one := read[name] if name in read else (known or {})[name]) is not None
        }
        with self._replacing:
            # Unless tags were stored meanwhile, which the next look finds, too.
            if self._objects is known and (known is None or changed or found.keys() != known.keys()):
                self._note(found)
            return found if self._objects is None else self._objects

    def _note(self, objects: Mapping[str, _ReadTags]) -> None:
        table = RangeTable()
        for tag, line in chain.from_iterable(objects[name].tags for name in sorted(objects)):
            table.note_tag(tag, line)
        self._objects, self._table = objects, table

    def _listed(self) -> Sequence[RangesName]:
        """List the newest objects, in the order in which they were begun."""
        found: list[RangesName] = []
        for page in self._files.list():
            names = (RangesName.read(*one) for one in page)
            found = [*found, *(name for name in names if name is not None)][-MAX_OBJECTS:]
        size = 0
        for at, one in enumerate(reversed(found)):
            size += one.size
            if size > 2 * MAX_BYTES:
                return found[len(found) - at :]
        return found

    def _read(self, name: str) -> _ReadTags | None:
        data = self._files.get(name, MAX_OBJECT_BYTES)
        return _ReadTags.of(data) if data else None

    def _over(self, objects: Mapping[str, _ReadTags], before: Fraction) -> Iterator[str]:
        """Yield the names of the objects that may go: those of over ranges, and the oldest of too many."""
        size = sum(one.size for one in objects.values())
        for count, (name, one) in enumerate(sorted(objects.items())):
            has_too_much = size > MAX_BYTES - FULL_BYTES or len(objects) - count >= MAX_OBJECTS
            if has_too_much or self._table.are_over((tag.id for tag, _ in one.tags), before):
                size -= one.size
                yield name

    def _removed(self, objects: Mapping[str, _ReadTags], before: Fraction) -> Collection[str]:
        """Remove objects that may go, unless they have anything but tags; return their names."""
        removed = set[str]()
        try:
            for name in self._over(objects, before):
                one = objects[name]
                if one.is_whole and self._files.delete(name, one.size):
                    removed.add(name)
        except OSError as error:
            log.warning(
                "date ranges that are over can't be removed", place=self._files.address, reason=str(error)
            )
        return removed


def _divide_file(dvr: DataFolder, files: FileStore) -> None:
    """Put the lines of an earlier version's file into files of their own, unless they can't be put now."""
    with contextlib.suppress(OSError), dvr.open() as folder:
        lines = folder.read(FOLDER, 2 * MAX_BYTES).splitlines(keepends=True)
        # The last one may be cut off.
        lines = [one for one in lines if one.startswith(TAGS_BEGIN) and one.endswith(b"\n")]
        for number, begin in enumerate(range(0, len(lines), FILE_LINES)):
            files.put(str(RangesName(number, 1)), b"".join(lines[begin : begin + FILE_LINES]))
        folder.remove(FOLDER)


def _is_read(known: _ReadTags | None, listed: RangesName) -> bool:
    return known is not None and known.size == listed.size


def _written(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
