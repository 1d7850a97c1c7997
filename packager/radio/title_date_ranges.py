"""What a station plays, told on its channel's time: a date range for each title."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from media.hls.date_range import DateRange

TITLE_CLASS = "headwater.title"
"""CLASS of these ranges; the title is their attribute X-TITLE."""

MAX_TITLE = 1024
"""Most characters of a title."""


class TitleRanges:
    """The titles of one channel; each is heard until the next one begins.

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
            title: what it is; "" for none.
            date: seconds since the epoch.

        Returns:
            Whether it is another one than before.

        Raises:
            DateRangeError: there are too many ranges.
        """
        title = quotable(title)
        if title == self._title:
            return False
        if self._open is not None:
            # A tag of the same ID that says what the first one didn't (RFC 8216bis §4.4.5.1).
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


def frames_of(title: str) -> list[tuple[str, str]]:
    """Give the frames of an ID3 tag for a title, by the custom of stations to say "artist - title"."""
    artist, dash, song = title.partition(" - ")
    return [("TPE1", artist), ("TIT2", song)] if dash else [("TIT2", title)]


def quotable(title: str) -> str:
    """Make of a title what a quoted-string can hold (RFC 8216bis §4.2): one line without double quotes."""
    text = "".join(char if char.isprintable() else " " for char in title.replace('"', "'"))
    return text.strip()[:MAX_TITLE]
