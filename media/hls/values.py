"""How values stand in HLS playlists (RFC 8216bis §4.2): decimal seconds, dates, quoted strings, lists."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import lcm

RATIOS_KEPT = 256
"""How many durations of parts are kept."""

DATES_KEPT = 64
"""How many minutes' texts are kept."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNQUOTABLE = '"\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff'
"""What no quoted-string may have, as a regular expression's set has it: double quotes, CR, LF (§4.2), other
control characters (§4.1) such as NEL, what else may be taken for the end of a line, and halves of characters,
which have no UTF-8. Tabs are what §4.4.5.2 separates names by."""

_UNQUOTABLE = re.compile(f"[{UNQUOTABLE}]")


def decimal(seconds: Fraction | int, places: int = 5) -> str:
    """Write seconds as a decimal-floating-point of §4.2, rounded to the nearest.

    Args:
        seconds: an exact duration, not negative.
        places: digits behind the point; more digits than the timescale has say nothing more.
    """
    scaled = _scaled(seconds, 10**places)
    return f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"


def adding_up(durations: Iterable[Fraction], places: int = 5) -> Iterator[Fraction]:
    """Round durations in a row so that they add up to their rounded sum: players add what is written.

    Args:
        durations: seconds, exact.
        places: digits behind the point.
    """
    # By integers, and the few results once: this is done for each part of each playlist.
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
    """Write seconds since the epoch as the ISO 8601 text of EXT-X-PROGRAM-DATE-TIME (§4.4.4.6), to the ms."""
    minute, rest = divmod(_scaled(seconds, 1000), 60_000)
    return f"{_minute(minute)}:{rest // 1000:02d}.{rest % 1000:03d}Z"


@functools.lru_cache(maxsize=DATES_KEPT)
def _minute(minutes: int) -> str:
    """Write minutes since the epoch, up to the minute; the segments of one share it."""
    return (EPOCH + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M")


def text(lines: Iterable[str]) -> bytes:
    """Write lines, each with its LF."""
    return "".join(f"{line}\n" for line in lines).encode()


def _scaled(seconds: Fraction | int, scale: int) -> int:
    """Give ``round(seconds * scale)``, by integers: playlists of hours have a hundred thousand of them."""
    return _rounded(seconds.numerator * scale, seconds.denominator)


def _rounded(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    # Halves to the even one, as everywhere.
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def quoted(value: str) -> str:
    """Make a quoted-string of §4.2, which has no escapes: see ``UNQUOTABLE`` for what can't be in one.

    Raises:
        ValueError: the value has some of it.
    """
    if _UNQUOTABLE.search(value):
        raise ValueError(f"not possible in a quoted-string: {value!r}")
    return f'"{value}"'


def attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    """Join the attributes that have a value: ``NAME=value,NAME=value`` (§4.2)."""
    return ",".join(f"{name}={value}" for name, value in pairs if value is not None)


def yes(flag: bool) -> str | None:
    """Give the value of an attribute that is there only where it is so."""
    return "YES" if flag else None
