"""Chapters in the comments of Ogg files: ``CHAPTER001=00:00:10.000`` and ``CHAPTER001NAME=Title``.

That is the form of ffmpeg, mkvmerge and Xiph's wiki ("Chapter Extension").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from media.mp4.text.chapters import printable
from media.ogg.headers import read_comments

_COMMENTS = ((b"OpusTags", 8), (b"\x03vorbis", 7), (b"\x81theora", 7), (b"\x04", 4), (b"\x84", 4))
"""How headers with comments begin, and where the comments are: the last two are Ogg FLAC's."""

_TIME = re.compile(rb"CHAPTER([0-9]{3})=(\d{1,4}):([0-5]?\d):([0-5]?\d)(?:\.(\d{1,9}))?", re.IGNORECASE)
_NAME = re.compile(rb"CHAPTER([0-9]{3})NAME=(.*)", re.IGNORECASE | re.DOTALL)


def comment_chapters(headers: Sequence[bytes]) -> tuple[tuple[int, str], ...]:
    """Return start in milliseconds and title of each chapter that a stream's headers list, in their order.

    Args:
        headers: the stream's header packets, in order.
    """
    begins: dict[bytes, int] = {}
    titles: dict[bytes, str] = {}
    for header in headers[1:]:
        place = next((place for magic, place in _COMMENTS if header.startswith(magic)), None)
        if place is None:
            continue
        for comment in read_comments(header[place:])[0]:
            if (time := _TIME.fullmatch(comment)) is not None:
                hours, minutes, seconds = (int(one) for one in time.group(2, 3, 4))
                fraction = (time[5] or b"").ljust(3, b"0")[:3]
                begins[time[1]] = ((hours * 60 + minutes) * 60 + seconds) * 1000 + int(fraction)
            elif (name := _NAME.fullmatch(comment)) is not None:
                titles[name[1]] = printable(name[2].decode("utf-8", "replace"))
    return tuple(sorted((begin, titles.get(number, "")) for number, begin in begins.items()))
