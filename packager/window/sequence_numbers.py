"""Media sequence numbers over restarts: from the clock, and from a file where there is a data folder.

RFC 8216bis §6.2.2: a number means one segment for ever. A process that starts takes the wall clock divided by
the segment duration; so numbers of an earlier process must not lie beyond that. Two ways, each enough by
itself:

- A number isn't used more than ``MARGIN_SECONDS`` before its time, and a start reckons with that margin. A
  source that ends early and often must then wait for its next number's time, at most a segment duration. A
  source that comes long after the start needn't: the numbers of a moment ago are still free.
- With a file, numbers are reserved in it before they are used, and may run ahead of the clock. It also
  outlives a clock that was set back.

The file also has the last discontinuity sequence number, which never decreases either.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import structlog

from packager.safe_files import DataFolder, NotOursError
from packager.window.program_date_time import Instant

log = structlog.get_logger()

MARGIN_SECONDS = 0.5
"""How long before its time a number may be used."""

MOST_EARLY_NUMBERS = 10
"""By how many numbers windows may be ahead of the clock without a file; shorter segments give more."""

LEAD_SEGMENTS = 1
"""By how many segments' time the first number of a source may be behind the clock, so that it can be used at
once."""

SHORT_LEAD_SEGMENTS = 2
"""``LEAD_SEGMENTS`` of a source whose first segments may be short."""

RESERVED_AHEAD = 2
"""How many numbers beyond the next one are reserved, so that no segment waits for the disk."""

MAX_NUMBER = 10**11 - 1
"""The largest number that a file may hold: with segments of half a second it is reached after the year 3500.
Addresses have at most fifteen digits, so whatever a file says, numbers go on for ever."""

MAX_DISCONTINUITIES = 10**9
"""The largest discontinuity sequence number that a file may hold; one a second makes it in 31 years."""

MAX_FILE_BYTES = 64
"""Longest file that is read."""


NAME = "number"
"""The file in the channel's folder."""

MOST_NUMBERS_A_SECOND = 10
"""Most media sequence numbers that a channel uses in a second."""

MOST_UNEXPLAINED_NUMBERS = 10_000
"""How many more numbers than the elapsed time explains a file may have reserved."""

_WORDS = re.compile(rb"\s*([0-9]{1,15})(?:\s+([0-9]{1,15}))?\s*")


class SequenceNumbers:
    """The media sequence numbers of one channel: the first after a start, and when one may be used.

    Args:
        place: the folder of the file, or None for the clock alone.

    Attributes:
        reserved: the largest number that the file reserves; -1 without a file.
        discontinuity_sequence: discontinuity sequence number of new windows, beyond all published before.
    """

    def __init__(self, place: Path | DataFolder | None = None) -> None:
        self._place = None if place is None else DataFolder.at(place)
        self._start = Instant.now()
        self._used_until = self._start.monotonic
        self._is_ours = True
        self._beyond = 0
        self.reserved = -1
        self.discontinuity_sequence = 0

    def now(self) -> float:
        """Return the wall clock's time at the start plus the time since by the monotonic clock."""
        return self._start.wall + Instant.now().monotonic - self._start.monotonic

    def first_number(
        self, segment_duration: Fraction, began: float | None = None, lead: int = SHORT_LEAD_SEGMENTS
    ) -> int:
        """Return a number that no earlier process used.

        Args:
            segment_duration: the channel's, in seconds.
            began: when the source came, by the monotonic clock. The number can be used since then, unless
                those of that time may be used already (``note_use``). None: count from now.
            lead: segments by whose time the number may be behind that.
        """
        if began is None:
            now = self.now()
        else:
            free_since = max(began - lead * float(segment_duration), self._used_until)
            now = self._start.wall + free_since - self._start.monotonic
        by_clock = math.floor(Fraction(now + MARGIN_SECONDS) / segment_duration) + 1
        return max(by_clock + self._beyond, self.reserved + 1)

    def go_on(
        self,
        used: int,
        segment_duration: Fraction,
        began: float | None = None,
        lead: int = SHORT_LEAD_SEGMENTS,
    ) -> int:
        """Return a number for new windows, behind the earlier windows of this process.

        After shorter segments, the clock alone would reach the same numbers only after weeks.

        Args:
            used: the last number that was used; -1 for none.
            segment_duration, began, lead: as for ``first_number``.
        """
        if used >= 0:
            # Empty windows have no last number when the next ones are planned.
            self.note_use()
        first = self.first_number(segment_duration, began, lead)
        if self._place is None and used - first > MOST_EARLY_NUMBERS:
            self._beyond += used + 1 - first
        return max(first, used + 1)

    def note_use(self) -> None:
        """Note that the numbers up to this moment may be used: by another process, or by earlier windows."""
        self._used_until = Instant.now().monotonic

    def wait(self, number: int, segment_duration: Fraction) -> float:
        """Return the seconds until a number may be used; 0 when it may."""
        return max(-self.slack(number, segment_duration), 0.0)

    def slack(self, number: int, segment_duration: Fraction) -> float:
        """Return the seconds that have passed since a number might be used; negative before that."""
        if number <= self.reserved:
            return math.inf
        return self.now() - (number - self._beyond) * float(segment_duration)

    def behind(self, number: int, segment_duration: Fraction, moment: float) -> int:
        """Return by how many whole segments a number is behind the clock; 0 where it is ahead.

        Args:
            segment_duration: the channel's, in seconds.
            moment: by the monotonic clock.
        """
        wall = self._start.wall + moment - self._start.monotonic
        seconds = wall - (number - self._beyond) * float(segment_duration)
        return max(math.floor(seconds / segment_duration), 0)

    def usable_since(self, number: int, segment_duration: Fraction) -> float:
        """Return the monotonic clock's time from which on a number may be used; minus infinity: always."""
        return Instant.now().monotonic - self.slack(number, segment_duration) - MARGIN_SECONDS

    def may_use(self, number: int, segment_duration: Fraction) -> bool:
        """Return whether a number may be used now."""
        return self.wait(number, segment_duration) <= MARGIN_SECONDS

    def load(self) -> None:
        """Make the folder and read the file, which blocks; a file that isn't ours is set aside.

        Raises:
            OSError: the folder can't be made or the file can't be read.
        """
        if self._place is None:
            return
        with self._place.open(make=True) as folder:
            try:
                data = folder.read(NAME, MAX_FILE_BYTES)
                if not data:
                    return
                found = _WORDS.fullmatch(data)
            except FileNotFoundError:
                return
            except NotOursError:
                found = None
            reserved, sequence = (-1, -1) if found is None else (int(found[1]), int(found[2] or 0))
            if found is None or reserved > MAX_NUMBER or sequence > MAX_DISCONTINUITIES:
                self._is_ours = False
                aside = folder.set_aside([NAME])
                self._is_ours = True
                log.warning("reserved sequence numbers can't be read", folder=str(self._place), aside=aside)
                return
            folder.make_private()  # with the DVR and the recordings that are in it
        self.reserved = max(self.reserved, reserved)
        # A version before this one wrote the number alone.
        self.discontinuity_sequence = sequence

    def check_reserved(self, used: int, until: float) -> bool:
        """Discard the file's reservation where it is larger than numbers can have been used.

        Args:
            used: the last number that is known to be published.
            until: when it was published, in seconds since the epoch.

        Returns:
            Whether the reservation was discarded.
        """
        passed = max(self.now() - until, 0.0)
        if self.reserved <= max(used, 0) + MOST_NUMBERS_A_SECOND * passed + MOST_UNEXPLAINED_NUMBERS:
            return False
        log.warning(
            "reserved sequence numbers aren't plausible, and are ignored",
            folder=str(self._place),
            reserved=self.reserved,
        )
        self.reserved = -1
        return True

    def needs_reservation(self, next_number: int) -> bool:
        """Return whether numbers should be reserved before this one is followed by another."""
        return self._place is not None and next_number + 1 > self.reserved

    def reserve(self, next_number: int, discontinuity_sequence: int = 0) -> None:
        """Write that this number and the next ones may be in use; it blocks.

        Raises:
            OSError: it can't be written; the clock then binds.
        """
        if self._place is None:
            return
        reserved = next_number + RESERVED_AHEAD
        # Each of the segments that are reserved here may begin behind a discontinuity, and so does a start.
        beyond = discontinuity_sequence + RESERVED_AHEAD + 2
        with self._place.open() as folder:
            if not self._is_ours:
                raise NotOursError(
                    folder.place_of(NAME), "the server didn't write what lies here; move it away"
                )
            folder.write_whole(NAME, f"{reserved} {beyond}\n".encode(), synchronized=False)
        self.reserved, self.discontinuity_sequence = max(self.reserved, reserved), beyond
