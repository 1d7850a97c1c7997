"""Times in DASH manifests (ISO/IEC 23009-1), in whole milliseconds."""

from __future__ import annotations

import math
from fractions import Fraction

SHORTEST_LAST = Fraction(1)
"""Seconds that the last period of a presentation needs: dash.js takes the period before a shorter one for the
last, and ends the media there, or waits for ever.
"""


def duration(seconds: Fraction | int) -> str:
    """Write seconds as an xs:duration, rounded to the nearest millisecond."""
    return f"PT{decimal(seconds)}S"


def decimal(seconds: Fraction | int) -> str:
    """Write seconds as an xs:double, rounded to the nearest millisecond."""
    milliseconds = round(Fraction(seconds) * 1000)
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def rounded_down(seconds: Fraction) -> Fraction:
    """Round seconds down to whole milliseconds, which a manifest can express exactly."""
    return Fraction(math.floor(seconds * 1000), 1000)


def rounded_up(seconds: Fraction) -> Fraction:
    """Round seconds up to whole milliseconds."""
    return Fraction(math.ceil(seconds * 1000), 1000)
