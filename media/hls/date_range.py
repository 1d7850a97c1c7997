"""The EXT-X-DATERANGE tag (RFC 8216bis §4.4.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

from media.errors import MalformedError
from media.hls.attribute_values import EPOCH, attributes, date_time, decimal, quoted
from media.hls.playlist_reader import written_attributes

TAG = "#EXT-X-DATERANGE:"

SPLICE_OUT, SPLICE_IN, SPLICE_COMMAND = "SCTE35-OUT", "SCTE35-IN", "SCTE35-CMD"
"""Attributes whose value is a splice_info_section of SCTE 35 as a hexadecimal-sequence (§4.4.5.1.1)."""

CUE = "CUE"
"""Attribute of an interstitial that says when it is played (§4.4.5.1)."""

FURTHER_ATTRIBUTE = re.compile(r"X-[A-Z0-9-]{1,64}|CUE|SCTE35-(?:OUT|IN|CMD)", re.ASCII)
"""Names of the attributes that publishers choose (§4.4.5.1)."""

MAX_VALUE = 1e15
"""Largest number of an attribute, up to which a float is exact."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,15}\.[0-9]{3}", re.ASCII)
_HEXADECIMAL = re.compile(r"0x(?:[0-9A-F]{2}){1,4096}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DateRange:
    """A range of dates with attributes.

    Attributes:
        id: of the range; tags with the same ID describe the same range.
        start_date: seconds since the epoch.
        class_: ranges of a class have attributes of the same meaning; or None.
        duration: seconds; None while unknown.
        planned_duration: expected seconds, or None.
        client_attributes: by name; numbers are written as decimal, text as quoted-string, and sections of
            SCTE 35, such as ``0xFC30…``, as they are.
    """

    id: str
    start_date: Fraction
    class_: str | None = None
    duration: Fraction | None = None
    planned_duration: Fraction | None = None
    client_attributes: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str | float]:
        """The values of the attributes by their names, as JSON may have them."""
        found: dict[str, str | float | None] = {
            "ID": self.id,
            "CLASS": self.class_,
            "START-DATE": date_time(self.start_date),
            "DURATION": None if self.duration is None else float(self.duration),
            "PLANNED-DURATION": None if self.planned_duration is None else float(self.planned_duration),
            **dict(sorted(self.client_attributes.items())),
        }
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        """Write the tag.

        Raises:
            ValueError: a text has characters that a quoted-string can't have, a number is out of range, or
                an attribute of the standard has another value than it says.
        """
        return TAG + attributes(
            (
                ("ID", quoted(self.id)),
                ("CLASS", None if self.class_ is None else quoted(self.class_)),
                ("START-DATE", quoted(date_time(self.start_date))),
                ("DURATION", None if self.duration is None else decimal(self.duration, 3)),
                (
                    "PLANNED-DURATION",
                    None if self.planned_duration is None else decimal(self.planned_duration, 3),
                ),
                *((name, _value(name, value)) for name, value in sorted(self.client_attributes.items())),
            )
        )


def is_splice(name: str) -> bool:
    """Return whether an attribute has a section of SCTE 35."""
    return name.startswith("SCTE35-")


def _value(name: str, value: str | float) -> str:
    if is_splice(name):
        if not isinstance(value, str) or not _HEXADECIMAL.fullmatch(value):
            raise ValueError(f"{name}: bytes in hexadecimal, such as 0xFC30")
        return value
    if name == CUE and (isinstance(value, float | int) or not _are_cues(value.split(","))):
        raise ValueError("CUE: PRE or POST, ONCE, or ONCE and one of these, with a comma between them")
    if isinstance(value, str):
        return quoted(value)
    if not abs(value) <= MAX_VALUE:
        raise ValueError(f"not possible as an attribute's number: {value}")
    # §4.2: a signed-decimal-floating-point has no exponent.
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _are_cues(found: list[str]) -> bool:
    """Return whether trigger identifiers may stand together: not both PRE and POST (§4.4.5.1)."""
    return {*found} in ({"PRE"}, {"POST"}, {"ONCE"}, {"PRE", "ONCE"}, {"POST", "ONCE"}) and len(found) < 3


def read_date_range(line: str) -> DateRange:
    """Read a tag that ``DateRange`` has written; the same line is written of what is read.

    Raises:
        MalformedError: it is no such tag.
    """
    if not line.startswith(TAG):
        raise MalformedError("no tag of a date range")
    found = written_attributes(line.removeprefix(TAG))
    start = _text_of(found.pop("START-DATE", ""))
    if not _DATE.fullmatch(start):
        raise MalformedError("a date range without a date")
    try:
        since = datetime.fromisoformat(start) - EPOCH
    except ValueError as error:
        raise MalformedError("a date range with an impossible date") from error
    name, class_ = _text_of(found.pop("ID", "")), found.pop("CLASS", None)
    duration, planned = (_seconds_of(found.pop(key, None)) for key in ("DURATION", "PLANNED-DURATION"))
    if not all(map(FURTHER_ATTRIBUTE.fullmatch, found)):
        raise MalformedError("a date range with attributes that aren't its own")
    return DateRange(
        name,
        Fraction(since // timedelta(milliseconds=1), 1000),
        None if class_ is None else _text_of(class_),
        duration,
        planned,
        {key: _value_of(value) for key, value in found.items()},
    )


def _text_of(value: str) -> str:
    if len(value) < 2 or not value.startswith('"'):
        raise MalformedError("a date range with an attribute that isn't quoted")
    return value[1:-1]


def _seconds_of(value: str | None) -> Fraction | None:
    if value is None:
        return None
    if not _SECONDS.fullmatch(value):
        raise MalformedError("a date range with an impossible duration")
    return Fraction(value)


def _value_of(value: str) -> str | float:
    if value.startswith('"'):
        return _text_of(value)
    if _HEXADECIMAL.fullmatch(value):
        return value
    if not _NUMBER.fullmatch(value):
        raise MalformedError("a date range with an impossible number")
    return float(value)
