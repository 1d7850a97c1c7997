"""A station's titles as EXT-X-DATERANGE tags of its live channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from media.hls.date_range import DateRange

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
        """Let a title be heard from a date on.

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
            # RFC 8216bis §4.4.5.1: a second tag with the same ID may add attributes, here the duration.
            over = max(date - self._open.start_date, Fraction(0))
            self._add(replace(self._open, duration=over, client_attributes={}))
        self._open, self._title = None, title
        if title:
            self._count += 1
            name = f"title-{round(date * 1000)}-{self._count}"
            tag = DateRange(name, date, TITLE_CLASS, client_attributes={"X-TITLE": title})
            self._add(tag)
            self._open = tag
        return True


def id3_frames_of(title: str) -> list[tuple[str, str]]:
    """Make the ID3 frames of a title, which stations write as "artist - title" by custom."""
    artist, dash, song = title.partition(" - ")
    return [("TPE1", artist), ("TIT2", song)] if dash else [("TIT2", title)]


def as_quoted_string(title: str) -> str:
    """Reduce a title to what a quoted-string may hold (RFC 8216bis §4.2): one line without double quotes."""
    text = "".join(char if char.isprintable() else " " for char in title.replace('"', "'"))
    return text.strip()[:MAX_TITLE]
