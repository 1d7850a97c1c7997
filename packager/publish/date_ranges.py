"""The date ranges of a live channel: which ones its playlists have, and which they lost lately."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction

from media.hls.attribute_values import EPOCH, date_time
from media.hls.date_range import SPLICE_IN, DateRange
from packager.bounded_dict import BoundedDict
from packager.window.limits import DEFAULT_LIMITS, PublishLimits
from packager.window.snapshot import DateRangesEntry

MOST_DISTANT_SECONDS = 366 * 86_400
"""How far from now a date may be that somebody publishes: beyond a year it is a mistake."""

LONGEST_SECONDS = 366 * 86_400
"""How long a range may be."""

MAX_DATE_RANGES = 500
"""Most tags of date ranges at once; they are in every playlist."""

MAX_DATE_RANGE_BYTES = 256 << 10
"""Most bytes of the tags of date ranges."""

ADDED = "X-ADDED"
"""Attribute of a tag that came late: when it came, as a date."""

LATE_SECONDS = 30
"""A tag is late that comes so long after what it says: spans of that time are about to be kept by caches."""

_TIMES = re.compile(r'START-DATE="([^"]+)",DURATION=([0-9]+\.[0-9]{3})')
"""Times in the line of a range that has ended."""

_ADDED = re.compile(rf',{ADDED}="([0-9][^"]+Z)"')
"""When a tag came, in its line; no attribute's text has a double quote."""


class DateRangeError(Exception):
    """A date range that is refused; the text says why."""


class ImplausibleDateError(DateRangeError):
    """A range with a date, a duration or a text that can't be meant."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A tag, when it came, and its line, which is written once for all playlists."""

    tag: DateRange
    added: float
    line: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", _written(self.tag))


class DateRanges:
    """The date ranges that publishers have put on a channel's time.

    Args:
        limits: how much of it is kept.

    Attributes:
        version: another number after every change.
    """

    def __init__(self, limits: PublishLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self.version = 0
        self._listed: list[_Listed] = []
        self._bytes = 0
        # By ID, what is known of the ranges that are listed.
        self._known: dict[str, DateRange] = {}
        # Of the IDs that were used before; as digests, since they may be long.
        self._used = BoundedDict[bytes, None](limits.used_ids)
        self._removed: deque[tuple[float, str]] = deque()
        # For which oldest date, and which version, it is known that nothing goes.
        self._looked: tuple[Fraction, int] = (Fraction(-1), -1)

    def add(self, tag: DateRange, now: float) -> None:
        """Add a range, or the actual end of a planned one; a refused one changes nothing.

        Args:
            now: seconds of a clock that never goes back.

        Raises:
            ImplausibleDateError: it can't be written, or never is over.
            DateRangeError: its ID was used for another one, or there are too many.
        """
        listed = _Listed(tag, now)
        self.check_id(tag)
        if len(self._listed) >= MAX_DATE_RANGES:
            raise DateRangeError(f"there are {MAX_DATE_RANGES} date ranges already")
        size = len(listed.line.encode())
        if self._bytes + size > MAX_DATE_RANGE_BYTES:
            raise DateRangeError(f"there are {MAX_DATE_RANGE_BYTES} bytes of date ranges already")
        self._bytes += size
        self._known[tag.id] = tag
        self._listed.append(listed)
        self.version += 1

    def check_id(self, tag: DateRange) -> None:
        """Check that no other range has had the ID of a tag.

        Raises:
            DateRangeError: one has.
        """
        if not self._is_possible(tag, self._known.get(tag.id)):
            raise DateRangeError(f"the ID {tag.id!r} is used already")

    def _is_possible(self, tag: DateRange, known: DateRange | None) -> bool:
        # RFC 8216bis §6.2.1: no ID is used again; §4.4.5.1: a range's tags don't contradict each other.
        return _digest(tag.id) not in self._used if known is None else _ends(tag, known)

    def new_of(self, tags: Iterable[DateRange]) -> list[DateRange]:
        """Return the tags of another log that say something new here: new ranges, and ends of listed ones."""
        known, found = dict(self._known), []
        for tag in tags:
            if self._is_possible(tag, known.get(tag.id)):
                known[tag.id] = tag
                found.append(tag)
        return found

    def arrived(self, tag: DateRange, now: Fraction) -> DateRange:
        """Return a tag that has just come; see `with_arrival`.

        Args:
            now: seconds since the epoch.
        """
        is_end = tag.id in self._known
        return with_arrival(tag, now, tag.start_date + (tag.duration or 0) if is_end else tag.start_date)

    def state(self, now: float) -> DateRangesEntry:
        """Return a snapshot of the date ranges, from which another process continues."""
        return DateRangesEntry(
            tuple((one.tag, now - one.added) for one in self._listed),
            tuple(self._used),
            tuple((name, now - since) for since, name in self._removed),
        )

    def begin_from(self, entry: DateRangesEntry, now: float) -> None:
        """Continue from another process's state."""
        self._listed = [_Listed(tag, now - age) for tag, age in entry.listed]
        self._bytes = sum(len(one.line.encode()) for one in self._listed)
        # The last tag of a range has the most attributes.
        self._known = {one.tag.id: one.tag for one in self._listed}
        self._used.clear()
        self._used.update(dict.fromkeys(entry.used))
        self._removed = deque((now - age, name) for name, age in entry.removed)
        self.version += 1

    def evict(self, oldest: Fraction, now: float, kept: float) -> None:
        """Remove the ranges that no listed segment touches any more (§6.2.1).

        Args:
            oldest: date of the oldest listed segment.
            now: seconds of a clock that never goes back.
            kept: for how many seconds the IDs of removed ranges are given.
        """
        while self._removed and self._removed[0][0] < now - kept:
            self._removed.popleft()
        if self._looked == (oldest, self.version):
            return
        gone = self._over(oldest)
        if not gone:
            self._looked = oldest, self.version
            return
        self._listed = [one for one in self._listed if one.tag.id not in gone]
        self._bytes = sum(len(one.line.encode()) for one in self._listed)
        for name in sorted(gone):
            del self._known[name]
            self._used[_digest(name)] = None
            self._removed.append((now, name))
        self.version += 1

    def tags(self) -> Sequence[DateRange]:
        """Return the tags in the order in which they came."""
        return [one.tag for one in self._listed]

    def whole(self) -> Sequence[DateRange]:
        """Return the ranges, each as all its tags together describe it."""
        return merged(one.tag for one in self._listed) if self._listed else ()

    def lines(self, since: float = float("-inf")) -> list[str]:
        """Return the lines of the tags that were added since a moment, in the order in which they came."""
        return [one.line for one in self._listed if one.added >= since]

    def lines_within(self, begin: Fraction, end: Fraction) -> list[str]:
        """Return the lines of ranges that touch a span, in the order in which they came."""
        gone = self._over(begin)
        return [one.line for one in self._listed if one.tag.start_date < end and one.tag.id not in gone]

    def _over(self, oldest: Fraction) -> set[str]:
        """Return the IDs of the ranges that spans from a date on don't have."""
        seen, ended = set[str](), set[str]()
        for one in self._listed:
            (ended if one.tag.id in seen else seen).add(one.tag.id)
        reached = ((name, reach(tag, is_end=name in ended)) for name, tag in self._known.items())
        return {name for name, end in reached if end is not None and end < oldest}

    def start_of(self, name: str) -> Fraction | None:
        """Return the start of a range that is listed in seconds since the epoch."""
        known = self._known.get(name)
        return None if known is None else known.start_date

    @property
    def removed(self) -> Sequence[str]:
        """IDs of the ranges that were removed lately."""
        return [name for _, name in self._removed]


def merged(tags: Iterable[DateRange]) -> Sequence[DateRange]:
    """Return ranges, each as all its tags together describe it (RFC 8216bis §4.4.5.1).

    Args:
        tags: in the order in which they came: a range's later one has only what its end says.
    """
    found: dict[str, DateRange] = {}
    for tag in tags:
        known = found.get(tag.id)
        if known is None:
            found[tag.id] = tag
            continue
        returns = {name: value for name, value in tag.client_attributes.items() if name == SPLICE_IN}
        attributes = {**known.client_attributes, **returns} if returns else known.client_attributes
        found[tag.id] = replace(known, duration=tag.duration, client_attributes=attributes)
    return tuple(found.values())


def with_arrival(tag: DateRange, now: Fraction, said: Fraction) -> DateRange:
    """Return a tag that has just come; a late one says when that was.

    Spans that were over by then have been given to caches without it, and never have it.

    Args:
        now: seconds since the epoch.
        said: date of what it says, in seconds since the epoch.
    """
    if ADDED in tag.client_attributes or now - said <= LATE_SECONDS:
        return tag
    return replace(tag, client_attributes={**tag.client_attributes, ADDED: date_time(now)})


def reach(tag: DateRange, *, is_end: bool) -> Fraction | None:
    """Return up to when spans may have a range: to its end, or until that was known; None while it isn't.

    Args:
        tag: the range's last one.
        is_end: whether it ended a range that was known.

    Returns:
        Seconds since the epoch.
    """
    if tag.duration is None:
        # Such a range may still go on.
        return None
    end, added = tag.start_date + tag.duration, tag.client_attributes.get(ADDED)
    if added is None or not is_end:
        return end
    # Anybody may have written what is read of a file.
    with contextlib.suppress(ValueError, TypeError):
        end = max(end, Fraction(_milliseconds(str(added)), 1000))
    return end


def lines_until(lines: Iterable[str], end: Fraction) -> list[str]:
    """Return the lines of tags that had come by the time at which caches may keep a span that ends at a date.

    Those aren't among them with which their ranges ended behind that date.

    Args:
        lines: in the order in which they came: a range's later one has only its duration.
        end: seconds since the epoch.
    """
    seen, found, end_ms = set[str](), list[str](), end * 1000
    for line in lines:
        name = line.partition('ID="')[2].partition('"')[0]
        # A day has a thousand: reading each as a tag takes ten times as long.
        ended = _TIMES.search(line) if name in seen else None
        if ended and _milliseconds(ended[1]) + int(ended[2].replace(".", "")) > end_ms:
            continue
        if ADDED in line and _added_ms(line) > end_ms + LATE_SECONDS * 1000:
            continue
        seen.add(name)
        found.append(line)
    return found


def _added_ms(line: str) -> int:
    """Return when a tag came that was late, in milliseconds since the epoch; 0 for one that wasn't."""
    found = _ADDED.search(line)
    with contextlib.suppress(ValueError, TypeError):
        return 0 if found is None else _milliseconds(found[1])
    return 0


def _milliseconds(date: str) -> int:
    return (datetime.fromisoformat(date) - EPOCH) // timedelta(milliseconds=1)


def check_date(date: datetime, now: Fraction) -> Fraction:
    """Check a date that a publisher sends.

    Args:
        now: about this moment, in seconds since the epoch.

    Returns:
        Seconds since the epoch, in whole milliseconds.

    Raises:
        ImplausibleDateError: it has no zone, or lies too far from now.
    """
    if date.tzinfo is None:
        raise ImplausibleDateError("start: a date with a zone")
    # By differences alone: at the ends of the calendar a date can't be converted to another zone.
    seconds = (date - EPOCH).total_seconds()
    if abs(seconds - now) > MOST_DISTANT_SECONDS:
        raise ImplausibleDateError(f"start: a date within {MOST_DISTANT_SECONDS // 86_400} days of now")
    return Fraction(round(seconds * 1000), 1000)


def _written(tag: DateRange) -> str:
    """Write a tag.

    Raises:
        ImplausibleDateError: it can't be written.
    """
    for seconds in (tag.duration, tag.planned_duration):
        if seconds is not None and not 0 <= seconds <= LONGEST_SECONDS:
            raise ImplausibleDateError(f"a duration must be 0 to {LONGEST_SECONDS} seconds")
    try:
        return str(tag)
    except (ValueError, OverflowError) as error:
        raise ImplausibleDateError(f"the date range can't be written: {error}") from error


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _ends(tag: DateRange, known: DateRange) -> bool:
    """Return whether a tag says nothing new of a range but its duration, and the splice back at its end."""
    return (
        known.duration is None
        and tag.duration is not None
        and tag.start_date == known.start_date
        and tag.class_ in (None, known.class_)
        and tag.client_attributes.keys() <= {ADDED, SPLICE_IN}
    )
