"""Conditional requests (RFC 9110 §13): whether a request's preconditions hold. Pure functions."""

from __future__ import annotations

import calendar
import enum
import functools
import re
import time
from collections.abc import Mapping
from datetime import date
from email.utils import formatdate
from typing import NamedTuple

DATES_KEPT = 256
"""Most written dates that are cached."""

# RFC 9110 §8.8.3: opaque-tag = DQUOTE *etagc DQUOTE; the weakness mark is case-sensitive.
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
# RFC 9110 §5.6.1.2: a list may have whitespace around commas, and empty elements.
_TAGS = re.compile(rf"{_TAG.pattern}(?:[ \t]*(?:,[ \t]*)+{_TAG.pattern})*")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_SHORT_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_TIME = "(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
# RFC 9110 §5.6.7: one format is sent, and two obsolete ones are understood.
_DATES = (
    re.compile(f"{_SHORT_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(f"{_SHORT_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_LONGEST_DATE = len("Wednesday, 06-Nov-94 08:49:37 GMT")


class PreconditionOutcome(enum.Enum):
    """The result of evaluating a request's preconditions."""

    PROCEED = "answer as if there were no conditions"
    NOT_MODIFIED = "304"
    FAILED = "412"


class Validators(NamedTuple):
    """The entity-tag and date that identify a version of a representation.

    Attributes:
        etag: the entity-tag with its quotes, or None.
        last_modified: seconds since the epoch, or None.
        date_is_strong: whether no other version can have that date (RFC 9110 §8.8.2.2).
    """

    etag: str | None = None
    last_modified: int | None = None
    date_is_strong: bool = False


def evaluate(
    method: str, fields: Mapping[str, str], validators: Validators, now: float
) -> PreconditionOutcome:
    """Evaluate the preconditions of a request, in the order of RFC 9110 §13.2.2, but for If-Range.

    Args:
        fields: its header fields by lower-case name; several lines of one name joined by commas.
        now: seconds since the epoch.
    """
    reading = method in ("GET", "HEAD")
    # RFC 9110 §13.2.2: If-Match wins over If-Unmodified-Since, If-None-Match over If-Modified-Since.
    if (value := fields.get("if-match")) is not None:
        holds = _if_match(value, validators)
    else:
        holds = _unmodified_since(fields.get("if-unmodified-since"), validators, now)
    if not holds:
        return PreconditionOutcome.FAILED
    if (value := fields.get("if-none-match")) is not None:
        if not _if_none_match(value, validators):
            return PreconditionOutcome.NOT_MODIFIED if reading else PreconditionOutcome.FAILED
    elif reading and not _modified_since(fields.get("if-modified-since"), validators, now):
        return PreconditionOutcome.NOT_MODIFIED
    return PreconditionOutcome.PROCEED


def range_applies(if_range: str | None, validators: Validators, now: float) -> bool:
    """Return whether a Range field counts under If-Range, if there is one (RFC 9110 §13.1.5)."""
    if if_range is None:
        return True
    value = if_range.strip(" \t")
    if _TAG.fullmatch(value):
        # RFC 9110 §13.1.5: the comparison is strong, so weak tags never match.
        return validators.etag is not None and not _is_weak(value) and value == validators.etag
    moment = parse_date(value, now)
    # RFC 9110 §13.1.5: the date must equal Last-Modified, and that must be a strong validator.
    return moment is not None and validators.date_is_strong and moment == validators.last_modified


def parse_tags(field: str) -> list[str] | None:
    """Parse the entity-tags of If-Match or If-None-Match (RFC 9110 §8.8.3, §5.6.1); ``*`` isn't one.

    None means that the value isn't a list of entity-tags.
    """
    text = field.strip(" \t,")
    return _TAG.findall(text) if _TAGS.fullmatch(text) else None


def parse_date(text: str, now: float) -> int | None:
    """Parse an HTTP-date in any of its three formats (RFC 9110 §5.6.7) to seconds since the epoch.

    A year of two digits lies at most fifty years after `now`. None means that the date isn't valid.
    """
    text = text.strip(" \t")
    if len(text) > _LONGEST_DATE:
        return None
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            year = int(match["year"])
            if len(match["year"]) == 2:
                year = _century(year, now)
            try:
                day = date(year, _MONTHS.index(match["month"]) + 1, int(match["day"]))
            except ValueError:
                return None
            clock = (int(match["hour"]), int(match["minute"]), int(match["second"]))
            return calendar.timegm((day.year, day.month, day.day, *clock))
    return None


@functools.lru_cache(maxsize=DATES_KEPT)
def format_date(moment: float) -> str:
    """Write seconds since the epoch as an IMF-fixdate (RFC 9110 §5.6.7)."""
    return formatdate(int(moment), usegmt=True)


def _century(year: int, now: float) -> int:
    this_year = time.gmtime(now).tm_year
    year += this_year - this_year % 100
    # RFC 9110 §5.6.7: a year that seems more than fifty years ahead is the last one with those digits.
    return year - 100 if year > this_year + 50 else year


def _is_weak(tag: str) -> bool:
    return tag.startswith("W/")


def _if_match(field: str, validators: Validators) -> bool:
    if field.strip(" \t") == "*":
        return True
    tags = parse_tags(field)
    # RFC 9110 §13.1.1: the comparison is strong; a value that is no list of entity-tags is false (step 3).
    if tags is None or validators.etag is None:
        return False
    return not _is_weak(validators.etag) and validators.etag in tags


def _if_none_match(field: str, validators: Validators) -> bool:
    if field.strip(" \t") == "*":
        return False
    tags = parse_tags(field)
    # RFC 9110 §13.1.2: the comparison is weak; a value that is no list of entity-tags is true (step 3).
    if tags is None or validators.etag is None:
        return True
    opaque = validators.etag.removeprefix("W/")
    return all(tag.removeprefix("W/") != opaque for tag in tags)


def _unmodified_since(field: str | None, validators: Validators, now: float) -> bool:
    moment = None if field is None else parse_date(field, now)
    # RFC 9110 §13.1.4: the field is ignored if its date is invalid, or the resource has none.
    return moment is None or validators.last_modified is None or validators.last_modified <= moment


def _modified_since(field: str | None, validators: Validators, now: float) -> bool:
    moment = None if field is None else parse_date(field, now)
    if moment is None or validators.last_modified is None or moment > now:
        # RFC 9110 §13.1.3: the field is ignored; a future date can't say which version its sender has.
        return True
    return validators.last_modified > moment
