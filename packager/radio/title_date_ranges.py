"""A station's titles as EXT-X-DATERANGE tags of its live channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from media.hls.date_range import DateRange
from packager.window.program_date_time import Instant

TITLE_CLASS = "headwater.title"
"""CLASS of these ranges; the title is in their X-TITLE attribute."""

MAX_TITLE = 1024
"""Most characters of a title."""


class TitleDateRanges:
    """Adds a date range for each title of one channel; each ends where the next begins.

    Args:
        add: takes a date range of the channel.
    """

    def __init__(self, add: Callable[[DateRange], None]) -> None:
        self._add = add
        self._title = ""
        self._open: DateRange | None = None
        self._count = 0

    def change(self, title: str, date: Fraction) -> bool:
        """End the current title at a date, and begin another one.

        Args:
            title: "" for none.
            date: seconds since the epoch.

        Returns:
            Whether it differs from the current title.

        Raises:
            DateRangeError: there are too many ranges.
        """
        title = as_quoted_string(title)
        if title == self._title:
            return False
        if self._open is not None:
            self._add(_ended(self._open, date))
        self._open, self._title = None, title
        if title:
            tag = self._new(date)
            self._add(tag)
            self._open = tag
        return True

    def behind(self, tags: Sequence[DateRange]) -> list[DateRange]:
        """Return the date ranges that continue the titles of another packager of the same station.

        Returns:
            The date ranges to publish now: the ends of former titles that are over, and the current title.
        """
        # The last tag of a range has the most attributes.
        known = {tag.id: tag for tag in tags if tag.class_ == TITLE_CLASS}
        going_on = [tag for tag in known.values() if tag.duration is None]
        mine = self._open
        if mine is not None and mine.id not in {tag.id for tag in going_on}:
            same = (tag for tag in going_on if tag.client_attributes.get("X-TITLE") == self._title)
            self._open = next(same, mine if mine.id not in known else self._new(mine.start_date))
        date = Fraction(round(Instant.now().wall * 1000), 1000) if mine is None else mine.start_date
        told = [_ended(tag, date) for tag in going_on if self._open is None or tag.id != self._open.id]
        is_told = self._open is None or self._open.id in known
        return told if is_told or self._open is None else [*told, self._open]

    def _new(self, date: Fraction) -> DateRange:
        self._count += 1
        name = f"title-{round(date * 1000)}-{self._count}"
        return DateRange(name, date, TITLE_CLASS, client_attributes={"X-TITLE": self._title})


def _ended(tag: DateRange, date: Fraction) -> DateRange:
    # RFC 8216bis §4.4.5.1: a second tag with the same ID may add attributes, here the duration.
    return replace(tag, duration=max(date - tag.start_date, Fraction(0)), client_attributes={})


def id3_frames_of(title: str) -> list[tuple[str, str]]:
    """Make the ID3 frames of a title, which stations write as "artist - title" by custom."""
    artist, dash, song = title.partition(" - ")
    return [("TPE1", artist), ("TIT2", song)] if dash else [("TIT2", title)]


def as_quoted_string(title: str) -> str:
    """Reduce a title to what a quoted-string may hold (RFC 8216bis §4.2): one line without double quotes."""
    text = "".join(char if char.isprintable() else " " for char in title.replace('"', "'"))
    return text.strip()[:MAX_TITLE]
