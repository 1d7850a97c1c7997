"""Byte ranges (RFC 9110 §14): which bytes of a representation a Range field selects. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAXIMUM_FIELD = 16 * 1024
"""Longest Range field in characters; a longer one is ignored."""

MAXIMUM_RANGES = 64
"""Most ranges in one field; a field with more is ignored."""

_UNIT_AND_SET = re.compile(r"bytes=(.*)", re.ASCII | re.IGNORECASE | re.DOTALL)
# RFC 9110 §14.1.1: first-pos "-" [ last-pos ] or "-" suffix-length. \d would match digits of other scripts.
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Numbers of so many digits fit into a file offset (2^63 - 1); longer ones are beyond the end of every file.
_SAFE_DIGITS = 18
_BEYOND: int = 10**_SAFE_DIGITS
_ZERO = ord("0")


class SelectedRange(NamedTuple):
    """A range of bytes from first to last, both included, as in Content-Range."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.last - self.first + 1


Span = tuple[int, int | None]
"""First and last position of one range as the client asks for it; None: to the end."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The Range field is ignored, and the answer is 200 with the whole representation."""


class Partial(NamedTuple):
    """The answer is 206 with these ranges, which don't overlap; several make a multipart body."""

    ranges: tuple[SelectedRange, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The answer is 416: the field is valid, but none of the bytes that it asks for exists."""


Selection = Whole | Partial | Unsatisfiable

WHOLE = Whole()
UNSATISFIABLE = Unsatisfiable()


def plain_span(value: bytes) -> Span | None:
    """Read what nearly all players and CDNs send behind ``bytes=``: one range with a first position.

    None means that `select` has to read the field.
    """
    first, dash, last = value.partition(b"-")
    if not dash or not first.isdigit() or len(value) > 2 * _SAFE_DIGITS + 1:
        return None
    if last:
        return (int(first), int(last)) if last.isdigit() else None
    return int(first), None


def select_span(span: Span, size: int) -> SelectedRange | None:
    """Decide what one range with a first position selects, as `select` would, but faster.

    None means that `select` has to decide between the whole representation and nothing.
    """
    first, last = span
    if first >= size or (last is not None and last < first):
        return None
    return SelectedRange(first, size - 1 if last is None or last >= size else last)


def verbatim_range(value: bytes, size: int) -> tuple[int, int] | None:
    """Read a range whose text Content-Range would repeat to the byte, as most ranges of players are.

    The result is that of `plain_span` and `select_span`, but faster; None means that they have to decide.
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
    """Decide what a Range field selects, in time linear in the field's length.

    Args:
        field: the field's value; several field lines joined by commas.
        size: length of the representation in bytes.
        part_overhead: bytes that each part adds to a multipart body: ranges closer to each other are sent as
            one.

    Returns:
        The selection; `WHOLE` if the field is to be ignored.
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
    """Return the range-specs as pairs of digits; None if the field isn't a valid set of byte ranges."""
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


def _resolve(spec: tuple[str, str], size: int) -> SelectedRange | None:
    """Return the bytes of one range-spec; None if it is unsatisfiable."""
    first, last = spec
    if not first:
        # RFC 9110 §14.1.2: the last n bytes, all of them when there are fewer; "-0" is unsatisfiable.
        suffix = min(_number(last), size)
        return SelectedRange(size - suffix, size - 1) if suffix else None
    start = _number(first)
    if start >= size:
        return None
    # RFC 9110 §14.1.1: no last-pos, or one beyond the end, means the end.
    return SelectedRange(start, min(_number(last), size - 1) if last else size - 1)


def _coalesce(ranges: Sequence[SelectedRange], part_overhead: int) -> tuple[SelectedRange, ...]:
    """Join ranges that overlap or are close together (RFC 9110 §15.3.7.2), each where its first one stood."""
    if len(ranges) == 1:
        return tuple(ranges)
    joined: list[tuple[int, SelectedRange]] = []
    for order, part in sorted(enumerate(ranges), key=lambda item: item[1].first):
        if joined and part.first - joined[-1][1].last - 1 < max(part_overhead, 1):
            earlier, before = joined[-1]
            joined[-1] = (min(earlier, order), SelectedRange(before.first, max(before.last, part.last)))
        else:
            joined.append((order, part))
    # RFC 9110 §14.2: a client that asks for ranges out of order may need them so.
    joined.sort(key=lambda item: item[0])
    return tuple([part for _, part in joined])


def content_range(part: SelectedRange, size: int) -> str:
    """Write the Content-Range (RFC 9110 §14.4) of a range of a representation of `size` bytes."""
    return f"bytes {part.first}-{part.last}/{size}"


def unsatisfied_range(size: int) -> str:
    """Write the Content-Range of a 416 response (RFC 9110 §15.5.17)."""
    return f"bytes */{size}"
