"""The times of cues in subtitle files, which people and many programs write; without I/O."""

from __future__ import annotations

from collections.abc import Sequence

MAX_SECONDS = 1000 * 3600 - 1
"""Latest second of a cue."""

_NUMBER = "([0-9]{1,100})"
TIME = rf"(-?)(?:{_NUMBER}[ \t]*:[ \t]*)?{_NUMBER}[ \t]*:[ \t]*{_NUMBER}(?:[ \t]*[.,:;][ \t]*{_NUMBER})?"
"""Pattern of a time of any number of digits; its groups: a sign, hours, minutes, seconds and a fraction."""


def milliseconds(groups: Sequence[str | None]) -> int:
    """Return the milliseconds of a time, from the groups of its pattern; times below 0 are 0."""
    sign, *whole, fraction = groups
    hours, minutes, seconds = (int(group or 0) for group in whole)
    since = min((hours * 60 + minutes) * 60 + seconds, MAX_SECONDS)
    return 0 if sign else since * 1000 + int((fraction or "0")[:3].ljust(3, "0"))
