"""Outlines of several renditions and blocks in one file, their columns in as few bytes as they need. Pure.

Nearly all columns of a block are one number, or rise evenly: only sizes take bytes for each segment. A column
is decoded whenever somebody reads it, so that a file may stay in memory as it is, and most of it is never
touched. Lines and init segments that several renditions share are in a file once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from media.hls.precompressed_text import Deflated, PackedText
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

_MAGIC = b"outlines 1\n"
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

_RATIOS = ("date", "duration", "shown")

_COUNT = 10

_HEAD = struct.Struct("<" + _COUNT * "BBqq")
"""Of each column whether it has differences, bytes of a number, the smallest number, and the first one."""

_WIDEST = 8

_LARGEST = 1 << 62
"""Above all numbers of which sums are certain to fit."""

_POSITIONS = np.arange(BLOCK_SEGMENTS, dtype=np.int64)

_OBJECT_BYTES = 3 << 10
"""Memory of the objects of an outline, about."""


class CodedRecords:
    """The facts of all numbers of a block, as `RECORD` has them; a field is decoded each time.

    Args:
        data: as `encoded` returns it.

    Raises:
        ValueError: it can't be that.
    """

    __slots__ = ("_data", "_heads")

    def __init__(self, data: bytes | memoryview) -> None:
        if len(data) < _HEAD.size:
            raise ValueError("too short")
        self._data = data
        self._heads = _HEAD.unpack_from(data)
        widths = self._heads[1::4]
        if max(widths) > _WIDEST or len(data) != _HEAD.size + BLOCK_SEGMENTS * sum(widths):
            raise ValueError("of another length than it says")

    def __getitem__(self, field: str) -> npt.NDArray[Any]:
        columns = _COLUMNS[field]
        if len(columns) == 1:
            return self._column(columns[0]).astype(RECORD[field], copy=False)
        found = np.empty((BLOCK_SEGMENTS, 2), np.int64)
        found[:, 0], found[:, 1] = map(self._column, columns)
        return found

    def distinct(self, field: str) -> set[int]:
        """Return the different numbers of a field that has one column."""
        (at,) = _COLUMNS[field]
        differs, width, smallest, _ = self._heads[4 * at : 4 * at + 4]
        return set(self._column(at).tolist()) if differs or width else {smallest}

    @property
    def is_possible(self) -> bool:
        """Whether playlists can count with these numbers."""
        if any(self._lowest(denominators) <= 0 for _, denominators in map(_COLUMNS.__getitem__, _RATIOS)):
            return False
        (durations, _) = _COLUMNS["duration"]
        return self._lowest(durations) > 0 or bool(
            (self._column(durations)[self["flags"] > 0] > 0).all(),
        )

    def _lowest(self, at: int) -> int:
        """Return a number that none of a column is below."""
        differs, width, smallest, _ = self._heads[4 * at : 4 * at + 4]
        is_certain = not differs and width < _WIDEST and abs(smallest) < _LARGEST
        return int(smallest if is_certain else self._column(at).min())

    def _column(self, at: int) -> Numbers:
        differs, width, smallest, first = self._heads[4 * at : 4 * at + 4]
        if not width:
            return first + smallest * _POSITIONS if differs else np.full(BLOCK_SEGMENTS, smallest, np.int64)
        begin = _HEAD.size + BLOCK_SEGMENTS * sum(self._heads[1 : 4 * at : 4])
        digits = np.frombuffer(self._data, np.uint8, BLOCK_SEGMENTS * width, begin)
        wide = np.zeros((BLOCK_SEGMENTS, _WIDEST), np.uint8)
        wide[:, :width] = digits.reshape(BLOCK_SEGMENTS, width)
        numbers: Numbers = wide.view("<i8")[:, 0] + smallest
        if differs:
            sums = np.cumsum(numbers)
            numbers = sums - sums[0] + first
        return numbers


def encoded(records: Columns) -> bytes:
    """Write the facts of all numbers of a block for `CodedRecords`, seconds with common denominators."""
    columns: list[Numbers] = []
    for field, places in _COLUMNS.items():
        numbers = records[field].astype(np.int64)
        columns += _common(numbers) if len(places) > 1 else [numbers]
    coded = [min(_coded(one), _coded(one, differs=True), key=_width) for one in columns]
    return _HEAD.pack(*(number for one in coded for number in one.head)) + b"".join(one.data for one in coded)


class _Coded(NamedTuple):
    head: tuple[bool, int, int, int]
    data: bytes


def _width(one: _Coded) -> int:
    return one.head[1]


def _coded(numbers: Numbers, *, differs: bool = False) -> _Coded:
    """Write a column as its numbers, or as their differences; sums go round beyond 64 bits."""
    told = np.diff(numbers, prepend=numbers[:1] - (numbers[1:2] - numbers[:1])) if differs else numbers
    smallest = told.min()
    digits = (told - smallest).astype("<i8").view("<u8")
    width = (int(digits.max()).bit_length() + 7) // 8
    data = digits.view(np.uint8).reshape(BLOCK_SEGMENTS, _WIDEST)[:, :width].tobytes()
    return _Coded((differs, width, int(smallest), int(numbers[0])), data)


def _common(ratios: Numbers) -> list[Numbers]:
    """Return seconds with one denominator, which makes them rise evenly, unless that is too large."""
    numerators, denominators = ratios.T
    common = math.lcm(*np.unique(denominators).tolist())
    if common < 1 << 31:
        factors = common // denominators
        if (abs(numerators) < _LARGEST // factors).all():
            return [numerators * factors, np.full(BLOCK_SEGMENTS, common, np.int64)]
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


class _CodedBlock(msgspec.Struct, frozen=True, array_like=True):
    """A block of a rendition.

    Attributes:
        first: its first number.
        lines: places of its lines among all.
        timelines: by number, the place of each one's init segment among all.
    """

    first: int
    digest: int
    records: memoryview
    lines: tuple[int, ...]
    timelines: dict[int, int]


class _GroupFile(msgspec.Struct, frozen=True, array_like=True):
    """The content of a file behind its checksum.

    Attributes:
        lines: pieces of them, each as compressed data, CRC-32, length and digest.
    """

    first: int
    lines: tuple[tuple[bytes, int, int, bytes], ...]
    inits: tuple[bytes, ...]
    renditions: dict[str, tuple[_CodedBlock, ...]]


_DECODER = msgspec.msgpack.Decoder(_GroupFile)


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
        self._lines = [PackedText(Deflated(*one[:3]), one[3]) for one in file.lines]
        self._blocks = {(name, one.first): one for name, own in file.renditions.items() for one in own}
        self._outlines: dict[tuple[str, int], Outline | None] = {}
        copied = sum(map(len, file.inits)) + sum(len(one[0]) for one in file.lines)
        self.nbytes = size + copied + _OBJECT_BYTES * len(self._blocks)

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
            renditions: by name.
        """
        lines = _Shared[tuple[bytes, int, int, bytes]]()
        inits = _Shared[bytes]()
        blocks = {
            name: tuple(
                _CodedBlock(
                    one.outline.first,
                    one.digest,
                    memoryview(encoded(one.outline.records)),
                    tuple(lines.place((*text.deflated, text.digest)) for text in one.outline.pieces),
                    {number: inits.place(each.init) for number, each in one.outline.timelines.items()},
                )
                for one in own
            )
            for name, own in renditions.items()
        }
        file = _GroupFile(first, lines.all, inits.all, blocks)
        return with_checksum(_MAGIC, msgspec.msgpack.encode(file))

    def outline(self, rendition: str, first: int, digest: int) -> Outline | None:
        """Return the outline of a block; None where it isn't there, or made of something else.

        Args:
            first: its first number.
            digest: says of what it is to be made.
        """
        block = self._blocks.get((rendition, first))
        if block is None or block.digest != digest:
            return None
        if (rendition, first) not in self._outlines:
            self._outlines[rendition, first] = self._made(rendition, block)
        return self._outlines[rendition, first]

    def _made(self, rendition: str, block: _CodedBlock) -> Outline | None:
        try:
            records = CodedRecords(block.records)
            pieces = [self._lines[at] for at in block.lines]
            inits = {number: self._inits[at] for number, at in block.timelines.items()}
        except (ValueError, IndexError):
            return None
        timelines = {number: self._read_timeline(number, init) for number, init in inits.items()}
        known = {number: one for number, one in timelines.items() if one is not None}
        is_whole = (
            len(pieces) == BLOCK_SEGMENTS // PIECE_SEGMENTS
            and all(0 <= one.size <= MAX_PIECE_BYTES for one in pieces)
            and records.distinct("timeline") - {NO_TIMELINE} == known.keys()
        )
        if not (is_whole and records.is_possible):
            return None
        return Outline(block.first, records, extension_of(rendition), known, pieces)


def is_outline_group(data: bytes, first: int) -> bool:
    """Return whether a file was written whole, and begins with a number."""
    return _file_of(data, first) is not None


def _file_of(data: bytes, first: int) -> _GroupFile | None:
    content = checked(_MAGIC, data)
    try:
        found = None if content is None else _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found is not None and found.first == first else None
