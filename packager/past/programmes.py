"""Programmes: spans of a channel's time with a name and an address. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Annotated

from msgspec import Meta, Struct

MOST_PROGRAMMES = 20_000
"""Most programmes of a channel: a month of five-minute ones has 9,000."""

LONGEST_SECONDS = 31 * 86_400
"""Longest programme."""

LATEST = 4_102_444_800_000
"""The year 2100 in milliseconds since the epoch."""

MOST_TITLE = 300
"""Most characters of a title."""

MOST_DESCRIPTION = 2000
"""Most characters of a description."""

MOST_CATEGORIES = 8
"""Most categories of a programme."""

ID = re.compile(r"[A-Za-z0-9._~:+-]{1,100}")
"""Names of programmes, which need no escapes in a path; in a query a plus sign does."""

_Milliseconds = Annotated[int, Meta(ge=0, le=LATEST)]


class Programme(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A span of a channel's time with a name.

    Attributes:
        start_ms: milliseconds since the epoch.
        end_ms: milliseconds since the epoch, behind the start.
        title: text of one line, as the further texts are; it may be empty.
        categories: such as ``News``.
    """

    id: Annotated[str, Meta(pattern=rf"^{ID.pattern}\Z")]
    start_ms: _Milliseconds
    end_ms: _Milliseconds
    title: Annotated[str, Meta(max_length=MOST_TITLE)] = ""
    subtitle: Annotated[str, Meta(max_length=MOST_TITLE)] = ""
    description: Annotated[str, Meta(max_length=MOST_DESCRIPTION)] = ""
    categories: Annotated[
        tuple[Annotated[str, Meta(max_length=MOST_TITLE)], ...], Meta(max_length=MOST_CATEGORIES)
    ] = ()

    @property
    def start(self) -> Fraction:
        """Seconds since the epoch."""
        return Fraction(self.start_ms, 1000)

    @property
    def end(self) -> Fraction:
        """Seconds since the epoch."""
        return Fraction(self.end_ms, 1000)

    @property
    def fault(self) -> str:
        """Why the span can't be; empty where it can."""
        if self.end_ms <= self.start_ms:
            return "end: a time behind start"
        if self.end_ms - self.start_ms > LONGEST_SECONDS * 1000:
            return f"end: at most {LONGEST_SECONDS // 86_400} days behind start"
        return ""


class Schedule:
    """The programmes of a channel, in the order of their beginnings; they may overlap.

    Args:
        programmes: in any order; no two have the same name.
    """

    def __init__(self, programmes: Iterable[Programme] = ()) -> None:
        self._listed = sorted(programmes, key=_begin)
        self.by_id = {one.id: one for one in self._listed}
        # The latest end of each programme and of those before it: where it is early, none of them matters.
        self._latest_ends = list(accumulate((one.end_ms for one in self._listed), max))

    def __iter__(self) -> Iterator[Programme]:
        """Iterate over them, the earliest first."""
        return iter(self._listed)

    def __len__(self) -> int:
        """Return the number of programmes."""
        return len(self._listed)

    def get(self, name: str) -> Programme | None:
        """Find a programme by its name."""
        return self.by_id.get(name)

    def touching(self, begin_ms: int, end_ms: int) -> Sequence[Programme]:
        """Return the programmes that have a part of a span, the earliest first.

        Args:
            begin_ms: milliseconds since the epoch.
            end_ms: milliseconds since the epoch.
        """
        behind = bisect_left(self._listed, end_ms, key=_begin)
        first = bisect_right(self._latest_ends, begin_ms, hi=behind)
        return [one for one in self._listed[first:behind] if one.end_ms > begin_ms]


def _begin(programme: Programme) -> int:
    return programme.start_ms
