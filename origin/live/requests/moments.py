"""Moments in addresses: a date, seconds since 1970, or a while before now (RFC 3339)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

LONGEST = 64
"""Most characters of a moment."""

LATEST = 4_102_444_800
"""The year 2100 in seconds since the epoch: no moment is later."""

EXAMPLES = "2026-11-26T20:14:03Z, 1795723200, now-90m or -3600"

_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
_BEFORE_NOW = re.compile(r"now|(?:now)?-(?:([0-9]{1,9}(?:\.[0-9]{1,3})?)|((?:[0-9]{1,6}[dhms]){1,4}))")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)
_PART = re.compile(r"([0-9]{1,6})([dhms])")
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class MomentError(ValueError):
    """A text names no moment; the error says what would."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment in an address.

    Attributes:
        seconds: since the epoch, or behind now, which is negative for what is past.
        is_relative: whether it counts from now.
    """

    seconds: Fraction
    is_relative: bool = False

    def at(self, now: Fraction) -> Fraction:
        """Return the moment in seconds since the epoch."""
        return now + self.seconds if self.is_relative else self.seconds


def read_moment(text: str) -> Moment:
    """Read a moment.

    Raises:
        MomentError: it is none.
    """
    moment = _read(text) if len(text) <= LONGEST else None
    if moment is None or moment.seconds > LATEST:
        raise MomentError(f"no time; allowed: {EXAMPLES}")
    return moment


def read_delay(text: str) -> Fraction:
    """Read a while, such as ``1h30m`` or ``5400``, in seconds.

    Raises:
        MomentError: it is none.
    """
    moment = None if text[:1] in ("n", "-") else _read(f"-{text}") if len(text) < LONGEST else None
    if moment is None:
        raise MomentError("no time; allowed: 90m, 1h30m or 5400")
    return -moment.seconds


def _read(text: str) -> Moment | None:
    if _SECONDS.fullmatch(text):
        return Moment(Fraction(text))
    if found := _BEFORE_NOW.fullmatch(text):
        seconds, spans = found.groups()
        if spans is None:
            return Moment(-Fraction(seconds or 0), is_relative=True)
        parts = _PART.findall(spans)
        return Moment(-Fraction(sum(int(count) * _UNITS[unit] for count, unit in parts)), is_relative=True)
    if found := _DATE.fullmatch(text):
        day, time, fraction, offset = found.groups()
        # In a query that isn't percent-encoded, a plus sign is a space.
        zone = "+00:00" if offset in "Zz" else offset.replace(" ", "+")
        # RFC 3339 §5.7: a leap second, which POSIX counts as the one after it.
        leap = time.endswith(":60")
        time = f"{time[:-2]}59" if leap else time
        try:
            whole = datetime.fromisoformat(f"{day}T{time}{zone}").timestamp() + leap
        except (ValueError, OverflowError):
            return None
        return None if whole < 0 else Moment(Fraction(round(whole)) + Fraction(f"0{fraction or '.0'}"))
    return None
