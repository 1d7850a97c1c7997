"""The date ranges of a live channel: which ones its playlists have, and which they lost lately."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.daterange import DateRange

MAX_RANGES = 500
"""Most tags of a channel at once; they are in every playlist."""

MAX_IDS = 10_000
"""How many names are remembered, so that none is used again."""


class DateRangeError(Exception):
    """A range that can't be taken; the text says why."""


@dataclass(frozen=True, slots=True)
class _Listed:
    tag: DateRange
    added: float


class DateRanges:
    """What publishers said about a channel's time.

    Attributes:
        version: another number after every change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._listed: list[_Listed] = []
        self._known: OrderedDict[str, DateRange] = OrderedDict()
        self._removed: deque[tuple[float, str]] = deque()

    def add(self, tag: DateRange, now: float) -> None:
        """Take a range, or the actual end of a planned one.

        Args:
            tag: it; ``str`` of it must be possible.
            now: seconds of a clock that never goes back.

        Raises:
            DateRangeError: its ID was used for another one, or there are too many.
        """
        known = self._known.get(tag.id)
        if known is not None and not _ends(tag, known):
            # RFC 8216bis §6.2.1: no ID is used again; §4.4.5.1: a range's tags don't contradict each other.
            raise DateRangeError(f"the ID {tag.id!r} is used already")
        if len(self._listed) >= MAX_RANGES:
            raise DateRangeError(f"there are {MAX_RANGES} date ranges already")
        self._known[tag.id] = tag
        self._listed.append(_Listed(tag, now))
        while len(self._known) > MAX_IDS:
            self._known.popitem(last=False)
        self.version += 1

    def evict(self, oldest: Fraction, now: float, kept: float) -> None:
        """Let go what no listed segment touches any more (§6.2.1).

        Args:
            oldest: date of the oldest listed segment.
            now: seconds of a clock that never goes back.
            kept: for how many seconds it is told what went.
        """
        while self._removed and self._removed[0][0] < now - kept:
            self._removed.popleft()
        gone = {name for name in {one.tag.id for one in self._listed} if self._is_over(name, oldest)}
        if gone:
            self._listed = [one for one in self._listed if one.tag.id not in gone]
            self._removed.extend((now, name) for name in sorted(gone))
            self.version += 1

    def _is_over(self, name: str, oldest: Fraction) -> bool:
        tag = self._known[name]
        # A range whose end nobody told may still go on.
        return tag.duration is not None and tag.start_date + tag.duration < oldest

    def tags(self, since: float = float("-inf")) -> Sequence[DateRange]:
        """Give the tags that were added since a moment, in the order in which they came."""
        return [one.tag for one in self._listed if one.added >= since]

    def start_of(self, name: str) -> Fraction | None:
        """Give the start of a known range in seconds since the epoch."""
        known = self._known.get(name)
        return None if known is None else known.start_date

    @property
    def removed(self) -> Sequence[str]:
        """IDs of the ranges that went lately."""
        return [name for _, name in self._removed]


def _ends(tag: DateRange, known: DateRange) -> bool:
    """Tell whether a tag says nothing new of a range but its duration."""
    return (
        known.duration is None
        and tag.duration is not None
        and tag.start_date == known.start_date
        and tag.class_ in (None, known.class_)
        and not tag.client_attributes
    )
