"""Media sequence numbers over restarts: from the clock, and from a file where there is a data folder.

RFC 8216bis §6.2.2: a number means one segment for ever. A process that starts takes the wall clock divided by
the segment duration; so what an earlier one used must not lie beyond that. Two ways, each enough by itself:

- A number isn't used more than ``MARGIN_SECONDS`` before its time, and a start reckons with that margin. A
  source that ends early and often must then wait for its next number's time, at most a segment duration.
- With a file, numbers are reserved in it before they are used, and may run ahead of the clock. It also
  outlives a clock that was set back.

The file also tells how far discontinuity sequence numbers were, which never decrease either.
"""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

from packager.live.wallclock import Instant

MARGIN_SECONDS = 0.5
"""How long before its time a number may be used."""

RESERVED_AHEAD = 2
"""How many numbers beyond the next one are reserved, so that no segment waits for the disk."""

MAX_NUMBER = 10**15 - 1
"""The largest number that a file may hold; addresses have at most fifteen digits."""


class Numbers:
    """The numbers of one channel.

    Args:
        path: the file, or None for the clock alone.

    Attributes:
        reserved: up to which number the file vouches; -1 without one.
        discontinuity_sequence: with which windows begin that take up nothing: beyond what was said before.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._began = Instant.now()
        self.reserved = -1
        self.discontinuity_sequence = 0

    def steady(self) -> float:
        """The wall clock as it was at the start, gone on evenly: setting the clock doesn't move it."""
        return self._began.wall + Instant.now().monotonic - self._began.monotonic

    def first(self, segment_duration: Fraction) -> int:
        """Give a number that no earlier process used."""
        by_clock = math.floor(Fraction(self.steady() + MARGIN_SECONDS) / segment_duration) + 1
        return max(by_clock, self.reserved + 1)

    def wait(self, number: int, segment_duration: Fraction) -> float:
        """Give the seconds until a number may be used; 0 when it may."""
        return max(-self.slack(number, segment_duration), 0.0)

    def slack(self, number: int, segment_duration: Fraction) -> float:
        """Give the seconds that have passed since a number might be used; negative before that."""
        if number <= self.reserved:
            return math.inf
        return self.steady() - number * float(segment_duration)

    def may_use(self, number: int, segment_duration: Fraction) -> bool:
        """Tell whether a number may be used now."""
        return self.wait(number, segment_duration) <= MARGIN_SECONDS

    def load(self) -> None:
        """Make the folder and read the file; it blocks. One that isn't there or isn't ours counts as none.

        Raises:
            OSError: the folder can't be made or the file can't be read.
        """
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            words = self._path.read_text("ascii").split()
        except (FileNotFoundError, UnicodeDecodeError):
            return
        digits = len(str(MAX_NUMBER))
        if len(words) in (1, 2) and all(word.isdecimal() and len(word) <= digits for word in words):
            self.reserved = max(self.reserved, int(words[0]))
            # A version before this one wrote the number alone.
            self.discontinuity_sequence = int(words[1]) if len(words) > 1 else 0

    def wants(self, next_number: int) -> bool:
        """Tell whether numbers should be reserved before this one is followed by another."""
        return self._path is not None and next_number + 1 > self.reserved

    def reserve(self, next_number: int, discontinuity_sequence: int = 0) -> None:
        """Write that this number and the next ones may be in use; it blocks.

        Args:
            next_number: the number.
            discontinuity_sequence: of the newest segment.

        Raises:
            OSError: it can't be written; the clock then binds.
        """
        if self._path is None:
            return
        reserved = next_number + RESERVED_AHEAD
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        # Each of the segments that are reserved here may begin behind a discontinuity, and so does a start.
        beyond = discontinuity_sequence + RESERVED_AHEAD + 2
        temporary.write_text(f"{reserved} {beyond}\n", "ascii")
        temporary.replace(self._path)
        self.reserved, self.discontinuity_sequence = max(self.reserved, reserved), beyond
