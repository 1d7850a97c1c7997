"""Outlines of several renditions and blocks in one file, in columns of as few bytes as they need. Pure.

Nearly all columns are one number, or rise evenly: only sizes take bytes for each segment. A column is decoded
whenever somebody reads it, of all blocks at once, so that a file may stay in memory as it is, and most of it
is never touched. Lines and init segments that several renditions share are in a file once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from media.hls.precompressed_text import PackedText
from packager.past.outlines import (
    BLOCK_SEGMENTS,
    MAX_PIECE_BYTES,
    NO_TIMELINE,
    PIECE_SEGMENTS,
    RECORD,
    Columns,
    Outline,
    checked,
    with_checksum,
)
from packager.window.model import Timeline
from packager.window.rendition import extension_of

T = TypeVar("T")

Numbers = npt.NDArray[np.int64]

MOST_BLOCKS = 99
"""Most blocks that columns are of."""

MOST_OUTLINES = 1 << 12
"""Most outlines that are read of a file."""

MOST_TIMELINES = BLOCK_SEGMENTS
"""Most timelines that columns are of."""

OUTLINES_BEGIN = b"outlines "

_MAGIC = OUTLINES_BEGIN + b"2\n"
"""The first line of a file, which names its form."""

_COLUMNS = {
    "date": (0, 1),
    "duration": (2, 3),
    "shown": (4, 5),
    "timeline": (6,),
    "size": (7,),
    "key_frame_end": (8,),
    "flags": (9,),
}
"""The places of each field's columns: of seconds, those of the numerators and of the denominators."""

_DURATIONS, _ = _COLUMNS["duration"]
_DENOMINATORS = tuple(places[1] for places in _COLUMNS.values() if len(places) > 1)
_MOST = [(_COLUMNS[field][0], np.iinfo(RECORD[field]).max) for field in ("size", "key_frame_end", "flags")]
"""The largest number of columns that don't go up to 64 bits."""

_COUNT = 10

_HEAD = struct.Struct("<BBHqq")

_RUN_BYTES = 12
"""Of each run a number, and the position behind its end."""

_MOST_RUNS = (1 << 16) - 1

_WIDEST = 8

_LARGEST = 1 << 62
"""Above all numbers of which sums are certain to fit."""

_OBJECT_BYTES = 1 << 10
"""Memory of the objects of an outline, about."""

_PIECES = BLOCK_SEGMENTS // PIECE_SEGMENTS


class _ColumnHead(NamedTuple):
    """The head of a column, of which the numbers or their differences are stored.

    Attributes:
        differs: whether differences are stored, the first of which counts for nothing.
        width: bytes of each number, from which ``smallest`` was subtracted.
        runs: how many runs of one number are stored in place of each number; 0: none are.
        smallest: the lowest of the numbers that are stored, or a lower one.
        first: the first number.
    """

    differs: int
    width: int
    runs: int
    smallest: int
    first: int

    def size(self, count: int) -> int:
        """Return the bytes of the numbers, of which there are so many."""
        return _RUN_BYTES * self.runs if self.runs else self.width * count

    def is_within_bounds(self, count: int) -> bool:
        """Return whether so many numbers fit, if they rise evenly."""
        rises = self.is_bare and self.differs
        return not rises or abs(self.first) + count * abs(self.smallest) < _LARGEST

    @property
    def is_bare(self) -> bool:
        """Whether no bytes are stored: it is one number, or rises evenly."""
        return not (self.width or self.runs)


class CodedColumns:
    """The facts of consecutive numbers, as `RECORD` has them.

    Args:
        data: as `encoded` returns it.
        count: how many numbers there are.

    Raises:
        ValueError: it can't be that.
    """

    __slots__ = ("_data", "_heads", "_places", "_runs", "count")

    def __init__(self, data: bytes | memoryview, count: int) -> None:
        begin = _COUNT * _HEAD.size
        if len(data) < begin:
            raise ValueError("too short")
        self._data = data
        self.count = count
        self._heads = [_ColumnHead(*one) for one in _HEAD.iter_unpack(data[:begin])]
        self._places = list(accumulate((one.size(count) for one in self._heads), initial=begin))
        if self._places[-1] != len(data) or any(one.width > _WIDEST for one in self._heads):
            raise ValueError("of another length than it says")
        self._runs = {at: self._read_runs(at) for at, head in enumerate(self._heads) if head.runs}
        for _, lengths in self._runs.values():
            if lengths.min() <= 0 or lengths.sum() != count:
                raise ValueError("runs of other lengths")

    def copy_to(self, field: str, begin: int, target: npt.NDArray[Any]) -> None:
        """Write one fact of some consecutive numbers into an array.

        Args:
            begin: position of the first one.
            target: an array of as many as are wanted.
        """
        places = _COLUMNS[field]
        sides = (target,) if len(places) == 1 else (target[:, 0], target[:, 1])
        for at, side in zip(places, sides, strict=True):
            head = self._heads[at]
            if head.is_bare and not head.differs:
                side.fill(head.smallest)
            else:
                side[:] = self._column(at, begin, len(target))

    def same_seconds(self, field: str) -> tuple[int, int] | None:
        """Return the seconds of all numbers if they are the same, as numerator and denominator; else None."""
        heads = [self._heads[at] for at in _COLUMNS[field]]
        if any(one.differs or not one.is_bare for one in heads):
            return None
        numerators, denominators = heads
        return numerators.smallest, denominators.smallest

    def seconds(self, field: str, position: int) -> tuple[int, int]:
        """Return seconds of a number, as numerator and denominator."""
        numerators, denominators = _COLUMNS[field]
        return self._number(numerators, position), self._number(denominators, position)

    @property
    def even_dates(self) -> tuple[int, int, int] | None:
        """The first date, the time between two, and the denominator of both; None where that differs."""
        dates, denominators = (self._heads[at] for at in _COLUMNS["date"])
        is_even = dates.is_bare and denominators.is_bare and dates.differs and not denominators.differs
        if not is_even or dates.smallest <= 0:
            return None
        return dates.first, dates.smallest, denominators.smallest

    @property
    def timelines(self) -> set[int]:
        """The numbers of all timelines."""
        (at,) = _COLUMNS["timeline"]
        head = self._heads[at]
        if head.differs or head.width:
            found = set(self._column(at).tolist())
        else:
            found = set(self._runs[at][0].tolist()) if head.runs else {head.smallest}
        return found - {NO_TIMELINE}

    @property
    def is_possible(self) -> bool:
        """Whether playlists can count with these numbers."""
        if any(not one.is_within_bounds(self.count) for one in self._heads):
            return False
        if any(self._lowest(at) <= 0 for at in _DENOMINATORS):
            return False
        # A column of one number is filled with it, which NumPy refuses where it doesn't fit.
        if any(
            not 0 <= self._heads[at].smallest <= most for at, most in _MOST if not self._heads[at].differs
        ):
            return False
        if self._lowest(_DURATIONS) > 0:
            return True
        flags = np.empty(self.count, RECORD["flags"])
        self.copy_to("flags", 0, flags)
        return bool((self._column(_DURATIONS)[flags > 0] > 0).all())

    def _lowest(self, at: int) -> int:
        """Return a number that none of a column is below."""
        head = self._heads[at]
        is_certain = not (head.differs or head.runs or head.width >= _WIDEST or abs(head.smallest) > _LARGEST)
        return head.smallest if is_certain else int(self._column(at).min())

    def _number(self, at: int, position: int) -> int:
        head = self._heads[at]
        if not head.is_bare:
            return int(self._column(at, position, 1)[0])
        return head.first + position * head.smallest if head.differs else head.smallest

    def _column(self, at: int, begin: int = 0, count: int = -1) -> Numbers:
        """Decode some consecutive numbers of a column, or all of them."""
        head, count = self._heads[at], self.count if count < 0 else count
        if not head.differs:
            return self._stored(at, begin, count)
        if head.is_bare:
            return head.first + head.smallest * np.arange(begin, begin + count)
        sums = np.cumsum(self._stored(at, 0, self.count))
        found: Numbers = sums[begin : begin + count] - sums[0] + head.first
        return found

    def _stored(self, at: int, begin: int, count: int) -> Numbers:
        head = self._heads[at]
        if head.is_bare:
            return np.full(count, head.smallest)
        if head.runs:
            return np.repeat(*self._runs[at])[begin : begin + count]
        place, width = self._places[at], head.width
        digits = np.frombuffer(self._data, np.uint8, width * count, place + width * begin)
        wide = np.zeros((count, _WIDEST), np.uint8)
        wide[:, :width] = digits.reshape(count, width)
        found: Numbers = wide.view("<i8")[:, 0] + head.smallest
        return found

    def _read_runs(self, at: int) -> tuple[Numbers, Numbers]:
        """Return the numbers of runs, and how long these are."""
        place, runs = self._places[at], self._heads[at].runs
        numbers = np.frombuffer(self._data, "<i8", runs, place)
        lengths = np.frombuffer(self._data, "<u4", runs, place + 8 * runs).astype(np.int64)
        lengths[1:] -= lengths[:-1].copy()
        return numbers, lengths


class BlockColumns:
    """The part of coded columns that is of one block; see `DecodedColumns`.

    Attributes:
        columns: the facts of several blocks, this one among them.
        begin: the position of this one's first number.
    """

    __slots__ = ("begin", "columns")

    def __init__(self, columns: CodedColumns, begin: int) -> None:
        self.columns = columns
        self.begin = begin

    def __getitem__(self, field: str) -> npt.NDArray[Any]:
        found = np.empty(BLOCK_SEGMENTS, RECORD[field])
        self.copy_to(field, found)
        return found

    def copy_to(self, field: str, target: npt.NDArray[Any]) -> None:
        """Write one fact of as many numbers as an array has, behind the block too."""
        self.columns.copy_to(field, self.begin, target)

    def seconds(self, field: str, at: int) -> tuple[int, int]:
        """Return seconds of a number, as numerator and denominator."""
        return self.columns.seconds(field, self.begin + at)

    @property
    def even_dates(self) -> tuple[int, int, int] | None:
        """The first date, the time between two, and the denominator of both; None where that differs."""
        even = self.columns.even_dates
        return None if even is None else (even[0] + self.begin * even[1], *even[1:])


def encoded(blocks: Sequence[Columns]) -> bytes:
    """Write the facts of consecutive blocks for `CodedColumns`, seconds with common denominators."""
    columns: list[Numbers] = []
    for field, places in _COLUMNS.items():
        numbers = np.concatenate([one[field] for one in blocks]).astype(np.int64)
        columns += _common(numbers) if len(places) > 1 else [numbers]
    coded = [min(_coded(one), _coded(one, differs=True), key=_length) for one in columns]
    return b"".join((*(_HEAD.pack(*head) for head, _ in coded), *(data for _, data in coded)))


def _length(coded: tuple[_ColumnHead, bytes]) -> int:
    return len(coded[1])


def _coded(numbers: Numbers, *, differs: bool = False) -> tuple[_ColumnHead, bytes]:
    """Write a column as its numbers, or as their differences; sums go round beyond 64 bits."""
    stored = np.diff(numbers, prepend=2 * numbers[:1] - numbers[1:2]) if differs else numbers
    smallest, first = stored.min(), int(numbers[0])
    digits = (stored - smallest).astype("<i8").view("<u8")
    width = (int(digits.max()).bit_length() + 7) // 8
    begins = np.flatnonzero(np.diff(stored, prepend=stored[:1] + 1))
    if len(begins) <= _MOST_RUNS and _RUN_BYTES * len(begins) < width * len(stored):
        ends = np.append(begins[1:], len(stored))
        data = stored[begins].astype("<i8").tobytes() + ends.astype("<u4").tobytes()
        return _ColumnHead(differs, 0, len(begins), int(smallest), first), data
    data = digits.view(np.uint8).reshape(-1, _WIDEST)[:, :width].tobytes()
    return _ColumnHead(differs, width, 0, int(smallest), first), data


def _common(ratios: Numbers) -> list[Numbers]:
    """Return seconds with one denominator, which makes them rise evenly, unless that is too large."""
    numerators, denominators = ratios.T
    common = math.lcm(*np.unique(denominators).tolist())
    if common < 1 << 31:
        factors = common // denominators
        if (abs(numerators) < _LARGEST // factors).all():
            return [numerators * factors, np.full(len(ratios), common)]
    return [numerators, denominators]


class _Shared(Generic[T]):
    """Things of which equal ones are there once."""

    def __init__(self) -> None:
        self._places: dict[T, int] = {}

    def place(self, one: T) -> int:
        """Return the place of a thing, which is added where it isn't there."""
        return self._places.setdefault(one, len(self._places))

    @property
    def all(self) -> tuple[T, ...]:
        """All things in the order of their places."""
        return tuple(self._places)


class NotedOutline(NamedTuple):
    """An outline of a rendition's block, and what says of what it was made."""

    digest: int
    outline: Outline


class _CodedBlocks(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive blocks of a rendition.

    Attributes:
        first: their first number.
        digests: one of each block's pieces, which says of which it was made.
        lines: places of their lines among all.
        timelines: by number, the place of each one's init segment among all.
    """

    first: int
    digests: Annotated[tuple[int, ...], Meta(max_length=MOST_BLOCKS)]
    columns: memoryview
    lines: Annotated[tuple[int, ...], Meta(max_length=MOST_BLOCKS * _PIECES)]
    timelines: Annotated[dict[int, int], Meta(max_length=MOST_TIMELINES)]


class _GroupFile(msgspec.Struct, frozen=True, array_like=True):
    """The content of a file behind its checksum.

    Attributes:
        lines: pieces of them, each as compressed data, CRC-32 and length, and its digest.
    """

    first: int
    lines: Annotated[tuple[PackedText, ...], Meta(max_length=MOST_OUTLINES * _PIECES)]
    inits: Annotated[tuple[bytes, ...], Meta(max_length=MOST_OUTLINES)]
    renditions: Annotated[
        dict[str, Annotated[tuple[_CodedBlocks, ...], Meta(max_length=MOST_OUTLINES)]],
        Meta(max_length=MOST_OUTLINES),
    ]


_DECODER = msgspec.msgpack.Decoder(_GroupFile)


class _ReadBlocks(NamedTuple):
    """Consecutive blocks of a rendition that were checked."""

    columns: CodedColumns
    lines: Sequence[PackedText]
    timelines: Mapping[int, Timeline]


class OutlineGroup:
    """The outlines of a file.

    Args:
        read_timeline: makes a timeline of its number and its init segment, if that can be one.

    Attributes:
        nbytes: bytes of memory, about.
    """

    def __init__(
        self, file: _GroupFile, size: int, read_timeline: Callable[[int, bytes], Timeline | None]
    ) -> None:
        self._read_timeline = read_timeline
        self._inits = file.inits
        self._lines = file.lines
        self._blocks = {
            (name, one.first + at * BLOCK_SEGMENTS): (one, at)
            for name, own in file.renditions.items()
            for one in own
            for at in range(len(one.digests))
        }
        self._read: dict[tuple[str, int], _ReadBlocks | None] = {}
        self._outlines: dict[tuple[str, int], Outline] = {}
        copied = sum(map(len, file.inits)) + sum(len(one.deflated.data) for one in file.lines)
        self.nbytes = size + copied + _OBJECT_BYTES * (len(self._blocks) + len(file.lines) // _PIECES)

    @classmethod
    def decode(
        cls, data: bytes, first: int, read_timeline: Callable[[int, bytes], Timeline | None]
    ) -> OutlineGroup | None:
        """Read a file; None where it is damaged, has another form, or other numbers.

        Args:
            first: its first number.
            read_timeline: makes a timeline of its number and its init segment, if that can be one.
        """
        file = _file_of(data, first)
        return None if file is None else cls(file, len(data), read_timeline)

    @staticmethod
    def encode(first: int, renditions: Mapping[str, Iterable[NotedOutline]]) -> bytes:
        """Write a file.

        Args:
            first: its first number.
            renditions: by name, in ascending order of the blocks.
        """
        lines = _Shared[PackedText]()
        inits = _Shared[bytes]()
        blocks = {
            name: tuple(
                _CodedBlocks(
                    some[0].outline.first,
                    tuple(one.digest for one in some),
                    memoryview(encoded([one.outline.records for one in some])),
                    tuple(lines.place(piece) for one in some for piece in one.outline.pieces),
                    {number: inits.place(each.init) for number, each in _timelines(some).items()},
                )
                for some in _consecutive(own)
            )
            for name, own in renditions.items()
        }
        file = _GroupFile(first, lines.all, inits.all, blocks)
        return with_checksum(_MAGIC, msgspec.msgpack.encode(file))

    @property
    def digests(self) -> frozenset[tuple[str, int, int]]:
        """The rendition and the first number of each outline, and what says of what it was made."""
        return frozenset((*key, one.digests[at]) for key, (one, at) in self._blocks.items())

    def outline(self, rendition: str, first: int, digest: int) -> Outline | None:
        """Return the outline of a block; None where it isn't there, or made of something else.

        Args:
            first: its first number.
            digest: says of what it is to be made.
        """
        blocks, at = self._blocks.get((rendition, first), (None, 0))
        if blocks is None or blocks.digests[at] != digest:
            return None
        known = self._outlines.get((rendition, first))
        if known is None and (read := self._checked(rendition, blocks)) is not None:
            columns = BlockColumns(read.columns, at * BLOCK_SEGMENTS)
            lines = read.lines[at * _PIECES : (at + 1) * _PIECES]
            known = Outline(first, columns, extension_of(rendition), read.timelines, lines)
            self._outlines[rendition, first] = known
        return known

    def _checked(self, rendition: str, blocks: _CodedBlocks) -> _ReadBlocks | None:
        """Check blocks before anything is counted with them; None where nobody can."""
        key = rendition, blocks.first
        if key not in self._read:
            try:
                self._read[key] = self._read_blocks(blocks)
            except (ValueError, IndexError):
                self._read[key] = None
        return self._read[key]

    def _read_blocks(self, blocks: _CodedBlocks) -> _ReadBlocks | None:
        count = len(blocks.digests)
        columns = CodedColumns(blocks.columns, count * BLOCK_SEGMENTS)
        if len(blocks.lines) != count * _PIECES or columns.timelines != blocks.timelines.keys():
            return None
        lines = [self._lines[at] for at in blocks.lines]
        if not columns.is_possible or not all(0 <= one.size <= MAX_PIECE_BYTES for one in lines):
            return None
        timelines: dict[int, Timeline] = {}
        for number, at in blocks.timelines.items():
            if (timeline := self._read_timeline(number, self._inits[at])) is None:
                return None
            timelines[number] = timeline
        return _ReadBlocks(columns, lines, timelines)


def is_outline_group(data: bytes, first: int) -> bool:
    """Return whether a file was written whole, and begins with a number."""
    return _file_of(data, first) is not None


def _file_of(data: bytes, first: int) -> _GroupFile | None:
    content = checked(_MAGIC, data)
    try:
        found = None if content is None else _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if found is None or found.first != first:
        return None
    count = sum(len(one.digests) for own in found.renditions.values() for one in own)
    return found if count <= MOST_OUTLINES else None


def _consecutive(outlines: Iterable[NotedOutline]) -> Iterator[Sequence[NotedOutline]]:
    """Divide a rendition's blocks into consecutive ones in which timelines of one number are the same."""
    some: list[NotedOutline] = []
    for one in outlines:
        known, outline = _timelines(some), one.outline
        is_next = bool(some) and some[-1].outline.first + BLOCK_SEGMENTS == outline.first
        is_few = len(some) < MOST_BLOCKS and len({*known, *outline.timelines}) <= MOST_TIMELINES
        is_same = all(known.get(number, each) == each for number, each in outline.timelines.items())
        if some and not (is_next and is_few and is_same):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _timelines(some: Iterable[NotedOutline]) -> dict[int, Timeline]:
    return {number: each for one in some for number, each in one.outline.timelines.items()}
