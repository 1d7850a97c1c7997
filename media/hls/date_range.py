"""EXT-X-DATERANGE (RFC 8216bis §4.4.5.1): a stretch of the program's time with a name and attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from media.hls.values import attributes, date_time, decimal, quoted

CLIENT_ATTRIBUTE = re.compile(r"X-[A-Z0-9-]{1,64}", re.ASCII)
"""Names that publishers may define (§4.4.5.1): they begin with ``X-``."""

MAX_VALUE = 1e15
"""Largest number of an attribute, up to which the decimal digits of a float are its own."""


@dataclass(frozen=True, slots=True)
class DateRange:
    """An EXT-X-DATERANGE tag: a time on the presentation and what is said of it.

    Attributes:
        id: names the range; tags with the same one describe the same range.
        start_date: seconds since the epoch.
        class_: ranges of one class have the same attributes' meaning; or None.
        duration: seconds, or None while it isn't known.
        planned_duration: expected seconds, or None.
        client_attributes: by name; numbers are written as decimal, text as quoted-string.
    """

    id: str
    start_date: Fraction
    class_: str | None = None
    duration: Fraction | None = None
    planned_duration: Fraction | None = None
    client_attributes: Mapping[str, str | float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Render the tag.

        Raises:
            ValueError: a text has what no quoted-string can have, or a number or a date can't be written.
        """
        return "#EXT-X-DATERANGE:" + attributes(
            (
                ("ID", quoted(self.id)),
                ("CLASS", None if self.class_ is None else quoted(self.class_)),
                ("START-DATE", quoted(date_time(self.start_date))),
                ("DURATION", None if self.duration is None else decimal(self.duration, 3)),
                (
                    "PLANNED-DURATION",
                    None if self.planned_duration is None else decimal(self.planned_duration, 3),
                ),
                *((name, _value(value)) for name, value in sorted(self.client_attributes.items())),
            )
        )


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return quoted(value)
    if not abs(value) <= MAX_VALUE:
        raise ValueError(f"not possible as an attribute's number: {value}")
    # §4.2: a signed-decimal-floating-point has no exponent.
    return f"{value:.6f}".rstrip("0").rstrip(".")
