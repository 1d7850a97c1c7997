"""The EXT-X-DATERANGE tag (RFC 8216bis §4.4.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from media.hls.attribute_values import attributes, date_time, decimal, quoted

CLIENT_ATTRIBUTE = re.compile(r"X-[A-Z0-9-]{1,64}", re.ASCII)
"""Names of client-defined attributes (§4.4.5.1)."""

MAX_VALUE = 1e15
"""Largest number of an attribute, up to which a float is exact."""


@dataclass(frozen=True, slots=True)
class DateRange:
    """A range of dates with attributes.

    Attributes:
        id: of the range; tags with the same ID describe the same range.
        start_date: seconds since the epoch.
        class_: ranges of a class have attributes of the same meaning; or None.
        duration: seconds; None while unknown.
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
        """Write the tag.

        Raises:
            ValueError: a text has characters that a quoted-string can't have, or a number is out of range.
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
