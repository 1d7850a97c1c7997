"""Sections of SCTE 35 (ANSI/SCTE 35 §9), by which a stream says where breaks begin and end."""

from __future__ import annotations

import enum
from typing import NamedTuple

from media.errors import MalformedError, UnsupportedError
from media.ts.tables import checksum
from media.ts.timestamps import CLOCK_WRAP

TABLE_ID = 0xFC

_HEADER = 14
"""Bytes of a section up to the command (§9.6)."""

_NULL, _INSERT, _TIME_SIGNAL, _BANDWIDTH = 0x00, 0x05, 0x06, 0x07
"""Types of commands (§9.6.1, table 7)."""

_SEGMENTATION, _IDENTIFIER = 0x02, b"CUEI"
"""Tag and identifier of a segmentation descriptor (§10.3.3)."""

_OUT_TYPES = frozenset((0x22, *range(0x30, 0x40, 2), 0x44, 0x46))
"""Types of segmentation that lead out of the programme (§10.3.3.1); the next number leads back."""


class SpliceKind(enum.Enum):
    """The kinds of sections, for each of which RFC 8216bis §4.4.5.1.1 has an attribute."""

    OUT = enum.auto()
    IN = enum.auto()
    COMMAND = enum.auto()


class Splice(NamedTuple):
    """The meaning of a section.

    Attributes:
        name: of the break; its two sections have the same one.
        pts: when it happens, in ticks of 90 kHz modulo 2^33; None: at once.
        duration: of the break in these ticks; None where it isn't said.
        returns: whether the break is over by itself after that.
    """

    kind: SpliceKind
    name: str = ""
    pts: int | None = None
    duration: int | None = None
    returns: bool = False


def read_splice(section: bytes) -> Splice | None:
    """Read a section; None where it says nothing of the stream, as one that is only sent to be heard of.

    Raises:
        MalformedError: it is none, or damaged.
        UnsupportedError: it is encrypted.
    """
    if len(section) < _HEADER + 6 or section[0] != TABLE_ID or checksum(section):
        raise MalformedError("no section of SCTE 35")
    if section[4] & 0x80:
        raise UnsupportedError("an encrypted section of SCTE 35")
    fields = _SectionFields(section, _HEADER)
    adjustment, kind = int.from_bytes(section[4:9], "big") & CLOCK_WRAP - 1, section[13]
    if kind in (_NULL, _BANDWIDTH):
        return None
    found = Splice(SpliceKind.COMMAND)
    if kind == _INSERT:
        found = _insert(fields)
    elif kind == _TIME_SIGNAL:
        pts = fields.time()
        found = _segmentation(fields)._replace(pts=pts)
    return found if found.pts is None else found._replace(pts=(found.pts + adjustment) % CLOCK_WRAP)


class _SectionFields:
    """The fields of a section, in their order."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def number(self, nbytes: int) -> int:
        """Return the next bytes as a number."""
        return int.from_bytes(self.bytes(nbytes), "big")

    def bytes(self, nbytes: int) -> bytes:
        """Return the next bytes."""
        found = self._data[self._at : self._at + nbytes]
        if len(found) < nbytes:
            raise MalformedError("a section of SCTE 35 that is cut short")
        self._at += nbytes
        return found

    def time(self) -> int | None:
        """Return a splice_time (§9.8.1)."""
        first = self.number(1)
        return (first & 1) << 32 | self.number(4) if first & 0x80 else None


def _insert(fields: _SectionFields) -> Splice:
    """Read a splice_insert (§9.7.3)."""
    name = f"insert-{fields.number(4)}"
    if fields.number(1) & 0x80:  # canceled
        return Splice(SpliceKind.COMMAND)
    flags = fields.number(1)
    is_out, is_program, has_duration, is_immediate = (bool(flags & bit) for bit in (0x80, 0x40, 0x20, 0x10))
    times = list[int | None]()
    if is_program and not is_immediate:
        times.append(fields.time())
    for _ in range(0 if is_program else fields.number(1)):
        fields.number(1)
        times.append(None if is_immediate else fields.time())
    duration, returns = None, False
    if has_duration:
        told = fields.number(5)
        duration, returns = told & CLOCK_WRAP - 1, bool(told >> 39)
    kind = SpliceKind.OUT if is_out else SpliceKind.IN
    return Splice(kind, name, next(iter(times), None), duration if is_out else None, returns)


def _segmentation(fields: _SectionFields) -> Splice:
    """Read the descriptors behind a time_signal; the first one that leads out or back is what it says."""
    descriptors = _SectionFields(fields.bytes(fields.number(2)), 0)
    while True:
        try:
            tag, data = descriptors.number(1), descriptors.bytes(descriptors.number(1))
        except MalformedError:
            return Splice(SpliceKind.COMMAND)
        if tag != _SEGMENTATION or data[:4] != _IDENTIFIER:
            continue
        one = _SectionFields(data, 4)
        event = one.number(4)
        if one.number(1) & 0x80:  # canceled
            continue
        flags = one.number(1)
        one.bytes(0 if flags & 0x80 else 6 * one.number(1))
        duration = one.number(5) if flags & 0x40 else None
        one.number(1)
        one.bytes(one.number(1))
        kind = one.number(1)
        if kind in _OUT_TYPES:
            return Splice(SpliceKind.OUT, f"segmentation-{event}-{kind}", None, duration)
        if kind - 1 in _OUT_TYPES:
            return Splice(SpliceKind.IN, f"segmentation-{event}-{kind - 1}")
