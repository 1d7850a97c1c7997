"""Reads the chapters of MP4 files: Nero's list (``chpl``), and samples of QuickTime's tracks of chapters."""

from __future__ import annotations

from dataclasses import dataclass

from media.mp4.text.tx3g import plain_text

TICKS = 10_000
"""Nero's clock, ticks in a millisecond."""

MAX_TITLE = 255
"""Longest title of a chapter in characters; of longer ones the rest is left out."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of a film that has a title.

    Attributes:
        start: milliseconds.
        end: milliseconds.
    """

    start: int
    end: int
    title: str


def parse_chapter_list(payload: bytes) -> list[tuple[int, str]]:
    """Read a ``chpl``: each chapter's start in milliseconds, and its title; truncated ones are left out."""
    at = 9 if payload[:1] != b"\0" else 5  # version 1 has four more bytes
    found: list[tuple[int, str]] = []
    for _ in range(payload[at - 1] if len(payload) >= at else 0):
        end = at + 9 + (payload[at + 8] if len(payload) > at + 8 else 0)
        if end > len(payload):
            break
        start = int.from_bytes(payload[at : at + 8], "big") // TICKS
        found.append((start, printable(payload[at + 9 : end].decode("utf-8", "replace"))))
        at = end
    return found


def chapter_title(sample: bytes) -> str:
    """Read a sample of a track of chapters.

    Raises:
        MalformedError: it is cut off.
    """
    return printable(plain_text(sample))


def printable(title: str) -> str:
    """Remove control characters from a title."""
    return "".join(one for one in title if one.isprintable())[:MAX_TITLE].strip()
