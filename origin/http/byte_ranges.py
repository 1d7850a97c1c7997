"""Byte ranges: which bytes of a representation a Range field asks for (RFC 9110 §14), without any I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAXIMUM_FIELD = 16 * 1024
"""Length of a Range field in characters, above which it is ignored."""

MAXIMUM_RANGES = 64
"""Ranges in one field, above which it is ignored."""

_UNIT_AND_SET = re.compile(r"bytes=(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
# RFC 9110 §14.1.1: first-pos "-" [ last-pos ] or "-" suffix-length. \d would know other scripts' digits.
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Digits that always fit the largest file offset (2^63 - 1); any longer number is beyond every file's end.
_SAFE_DIGITS = 18
_BEYOND: int = 10**_SAFE_DIGITS
_ZERO = ord("0")


class ByteRange(NamedTuple):
    """Bytes first to last, both included, as Content-Range says them."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1


Span = tuple[int, int | None]
"""First and last position of one range as a client asks for it; None: to the end."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The Range field has no effect: 200."""


class Partial(NamedTuple):
    """206 with these ranges, which don't overlap; more than one make a multipart body."""

    ranges: tuple[ByteRange, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416: the field is right, but no byte that it asks for exists."""


Selection = Whole | Partial | Unsatisfiable

WHOLE = Whole()
UNSATISFIABLE = Unsatisfiable()


def plain_span(value: bytes) -> Span | None:
    """Read what nearly all players and CDNs put behind ``bytes=``: one range with a first position.

    Returns:
        The positions, or None where `select` has to read the field.
    """
    first, dash, last = value.partition(b"-")
    if not dash or not first.isdigit() or len(value) > 2 * _SAFE_DIGITS + 1:
        return None
    if last:
        return (int(first), int(last)) if last.isdigit() else None
    return int(first), None


def select_span(span: Span, size: int) -> ByteRange | None:
    """Decide what one range with a first position selects, as `select` would in a longer way.

    Returns:
        The range; None where nothing or the whole representation is selected, and `select` knows which.
    """
    first, last = span
    if first >= size or (last is not None and last < first):
        return None
    return ByteRange(first, size - 1 if last is None or last >= size else last)


def verbatim_range(value: bytes, size: int) -> tuple[int, int] | None:
    """Read a range whose text `content_range` would repeat to the byte: most of those that a player repeats.

    Args:
        value: What stands behind ``bytes=``.
        size: Length of the representation in bytes.

    Returns:
        The first and the last position, as `plain_span` and `select_span` would give them in a longer way;
        None where they, or `select`, have to.
    """
    first_digits, _, last_digits = value.partition(b"-")
    if not (first_digits.isdigit() and last_digits.isdigit()) or len(value) > 2 * _SAFE_DIGITS + 1:
        return None
    first, last = int(first_digits), int(last_digits)
    # A number that begins with a zero may be written shorter in the answer.
    if first_digits[0] == _ZERO or not first <= last < size or last_digits[0] == _ZERO:
        return None
    return first, last


def select(field: str, size: int, part_overhead: int = 0) -> Selection:
    """Decide what a Range field selects.

    Args:
        field: The field's value; several field lines joined by commas.
        size: Length of the representation in bytes.
        part_overhead: What one more part costs in a multipart body, in bytes: ranges closer to each other
            than that are sent as one.

    Returns:
        `WHOLE` for a field that is to be ignored. The time is linear in the field's length.
    """
    if field.startswith("bytes=") and (span := plain_span(field[6:].encode("ascii", "replace"))):
        part = select_span(span, size)
        if part is not None:
            return Partial((part,))
    specs = _specs(field)
    if specs is None:
        return WHOLE
    satisfiable = [found for found in (_resolve(spec, size) for spec in specs) if found is not None]
    if not satisfiable:
        if size == 0 and any(not first and _number(last) for first, last in specs):
            # RFC 9110 §14.1.2: a suffix that isn't zero is satisfiable even of an empty representation,
            # but there is no Content-Range that could say "no bytes".
            return WHOLE
        # RFC 9110 §14.1.2: only a set without any satisfiable range is unsatisfiable.
        return UNSATISFIABLE
    # RFC 9110 §17.15: overlapping or many ranges must not make an answer larger than the file itself.
    if sum(found.length for found in satisfiable) > size:
        return WHOLE
    return Partial(_coalesce(satisfiable, part_overhead))


def _specs(field: str) -> list[tuple[str, str]] | None:
    """The range-specs as pairs of digits, or None for a field that isn't a valid set of byte ranges."""
    if len(field) > MAXIMUM_FIELD:
        return None
    # RFC 9110 §14.1: range units are case-insensitive, and an unknown one is ignored.
    match = _UNIT_AND_SET.fullmatch(field.strip(" \t"))
    if match is None:
        return None
    specs = []
    for index, element in enumerate(match[1].split(",")):
        # RFC 9110 §5.6.1.2: whitespace around commas and empty elements; none right after "=".
        text = element.strip(" \t")
        if not text:
            continue
        spec = _SPEC.fullmatch(text if index else element.rstrip(" \t"))
        if spec is None or not _is_valid(spec[1], spec[2]):
            return None
        specs.append((spec[1], spec[2]))
    if not specs or len(specs) > MAXIMUM_RANGES:
        return None
    return specs


def _is_valid(first: str, last: str) -> bool:
    if not first or not last:
        return bool(first or last)
    # RFC 9110 §14.1.1: an int-range whose last-pos is less than its first-pos is invalid. Compared as text,
    # because the numbers may have any number of digits.
    first, last = first.lstrip("0"), last.lstrip("0")
    return (len(first), first) <= (len(last), last)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _SAFE_DIGITS else _BEYOND


def _resolve(spec: tuple[str, str], size: int) -> ByteRange | None:
    """The bytes of one range-spec, or None when it is unsatisfiable."""
    first, last = spec
    if not first:
        # RFC 9110 §14.1.2: the last n bytes, all of them when there are fewer; "-0" is unsatisfiable.
        suffix = min(_number(last), size)
        return ByteRange(size - suffix, size - 1) if suffix else None
    start = _number(first)
    if start >= size:
        return None
    # RFC 9110 §14.1.1: no last-pos, or one beyond the end, means the end.
    return ByteRange(start, min(_number(last), size - 1) if last else size - 1)


def _coalesce(ranges: Sequence[ByteRange], part_overhead: int) -> tuple[ByteRange, ...]:
    """Join what overlaps or lies close together (RFC 9110 §15.3.7.2), each where its first member stood."""
    if len(ranges) == 1:
        return tuple(ranges)
    joined: list[tuple[int, ByteRange]] = []
    for order, part in sorted(enumerate(ranges), key=lambda item: item[1].first):
        if joined and part.first - joined[-1][1].last - 1 < max(part_overhead, 1):
            earlier, before = joined[-1]
            joined[-1] = (min(earlier, order), ByteRange(before.first, max(before.last, part.last)))
        else:
            joined.append((order, part))
    # RFC 9110 §14.2: a client that asks for ranges out of order may need them so.
    joined.sort(key=lambda item: item[0])
    return tuple([part for _, part in joined])


def content_range(part: ByteRange, size: int) -> str:
    """A Content-Range field (RFC 9110 §14.4) for a range of a representation of `size` bytes."""
    return f"bytes {part.first}-{part.last}/{size}"


def unsatisfied_range(size: int) -> str:
    """The Content-Range field of a 416 answer (RFC 9110 §15.5.17)."""
    return f"bytes */{size}"


def part_header(part: ByteRange, size: int, media_type: str, boundary: str) -> bytes:
    """What stands before a part's bytes in a multipart/byteranges body (RFC 9110 §14.6).

    Args:
        part: The part's range.
        size: Length of the whole representation in bytes.
        media_type: Its Content-Type.
        boundary: A string that isn't in the data.

    Returns:
        The delimiter, with the line end that belongs to it before the first part too (some clients wait for
        it), and the part's header fields.
    """
    fields = f"Content-Type: {media_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n"
    return f"\r\n--{boundary}\r\n{fields}".encode("latin-1")


def closing(boundary: str) -> bytes:
    """What stands behind the last part of a multipart body."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")
