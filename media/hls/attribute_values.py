"""Writes the values of HLS attributes (RFC 8216bis §4.2): decimals, dates, quoted strings, lists."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import lcm

RATIOS_KEPT = 256
"""Cached part durations."""

DATES_KEPT = 64
"""Cached minutes."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNQUOTABLE = '"\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff'
"""Characters that a quoted-string can't have, as a class: double quotes, CR, LF (§4.2), other control
characters (§4.1), Unicode line separators, and lone surrogates. Tabs are allowed: §4.4.5.2 separates names by
them.
"""

_UNQUOTABLE = re.compile(f"[{UNQUOTABLE}]")


def quotable(text: str) -> str:
    """Return a text as a quoted-string can have it: with single quotes, and spaces for what it can't have."""
    return _UNQUOTABLE.sub(lambda found: "'" if found[0] == '"' else " ", text)


def decimal(seconds: Fraction | int, places: int = 5) -> str:
    """Write seconds as decimal-floating-point (§4.2), rounded to the nearest.

    Args:
        seconds: not negative.
        places: digits behind the point.
    """
    scaled = _scaled(seconds, 10**places)
    return f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"


def adding_up(durations: Iterable[Fraction], places: int = 5) -> Iterator[Fraction]:
    """Round consecutive durations so that their sum is right, since players add them up.

    Args:
        durations: in seconds.
        places: digits behind the point.
    """
    # Integers and cached results, for speed: this runs for each part of each playlist.
    scale, total, denominator, written = 10**places, 0, 1, 0
    for duration in durations:
        common = (
            denominator if duration.denominator == denominator else lcm(denominator, duration.denominator)
        )
        total = total * (common // denominator) + duration.numerator * (common // duration.denominator)
        denominator = common
        end = _rounded(total * scale, denominator)
        yield _ratio(end - written, scale)
        written = end


@functools.lru_cache(maxsize=RATIOS_KEPT)
def _ratio(numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator)


def date_time(seconds: Fraction) -> str:
    """Write seconds since the epoch as ISO 8601 (§4.4.4.6), to the millisecond."""
    minute, rest = divmod(_scaled(seconds, 1000), 60_000)
    return f"{_minute(minute)}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@functools.lru_cache(maxsize=DATES_KEPT)
def _minute(minutes: int) -> str:
    """Write minutes since the epoch; cached, since segments share them."""
    return (EPOCH + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M")


def text(lines: Iterable[str]) -> bytes:
    """Join lines, each with LF."""
    return "".join(f"{line}\n" for line in lines).encode()


def _scaled(seconds: Fraction | int, scale: int) -> int:
    """Compute ``round(seconds * scale)`` by integers, which is faster."""
    return _rounded(seconds.numerator * scale, seconds.denominator)


def _rounded(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    # Round half to even.
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def quoted(value: str) -> str:
    """Write a quoted-string (§4.2), which has no escapes.

    Raises:
        ValueError: the value has an ``UNQUOTABLE`` character.
    """
    if _UNQUOTABLE.search(value):
        raise ValueError(f"not possible in a quoted-string: {value!r}")
    return f'"{value}"'


def attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    """Write the attributes that have a value as ``NAME=value,NAME=value`` (§4.2)."""
    return ",".join(f"{name}={value}" for name, value in pairs if value is not None)


def yes(flag: bool) -> str | None:
    """Return YES, or None for an attribute that is only written if it is true."""
    return "YES" if flag else None
