"""Names of channels that are made at run time, and patterns that stand for many of them. Pure.

A name is one to four segments with slashes between them, such as ``room/lobby``. A pattern is a name, or a
name whose last segment is ``*``, which stands for any one segment: ``room/*``, or ``*`` alone. A live channel
has a name of one segment, or of two if a pattern such as ``room/*`` makes it.
"""

from __future__ import annotations

import re
from collections.abc import Container

SEGMENT = r"(?!\.+(?:/|\Z))[A-Za-z0-9._-]{1,64}"
"""A segment of a name, which isn't made of dots alone."""

MOST_CHARACTERS = 128
"""Most characters of a name."""

ANY = "*"
"""The last segment of a pattern that stands for many names."""

ALLOWED = f"1 to 4 segments of 1 to 64 letters, digits, '.', '_', '-', together {MOST_CHARACTERS} at most"

RESERVED = "radio/"
"""Beginning of names that aren't given: the events of stations are at these addresses."""

_OF_CHANNELS = "captions|ingest|recordings"
"""Segments that follow a live channel's name in addresses, which no channel of a pattern has as its own."""

LIVE_NAME = rf"[^/]+(?:/(?!(?:{_OF_CHANNELS})(?:/|\Z))[^/]+)?"
"""The name of a live channel in an address, whether there is such a channel or not."""

_MADE_LIVE = re.compile(rf"{SEGMENT}/(?!(?:{_OF_CHANNELS})\Z){SEGMENT}")

_NAME = re.compile(rf"{SEGMENT}(?:/{SEGMENT}){{0,3}}")
_TEMPLATE = re.compile(rf"(?:{SEGMENT}/){{0,3}}\*")


def is_name(text: str) -> bool:
    """Return whether a text is the name of a channel."""
    is_short = len(text) <= MOST_CHARACTERS and not text.startswith(RESERVED)
    return is_short and _NAME.fullmatch(text) is not None


def is_template(text: str) -> bool:
    """Return whether a text is a pattern that stands for many names."""
    is_short = len(text) <= MOST_CHARACTERS and not text.startswith(RESERVED)
    return is_short and _TEMPLATE.fullmatch(text) is not None


def is_made_live_name(text: str) -> bool:
    """Return whether a text is the name of a live channel that a pattern may make."""
    return len(text) <= MOST_CHARACTERS and _MADE_LIVE.fullmatch(text) is not None


def own_name(path: str, channels: Container[str]) -> tuple[str, str]:
    """Return the name of a live channel with which a path begins, and what is below it.

    Args:
        channels: the names of the channels that there are, or the patterns of those that may come.
    """
    first, _, below = path.partition("/")
    second, _, rest = below.partition("/")
    name = f"{first}/{second}"
    is_made = name in channels or (is_made_live_name(name) and template_of(name) in channels)
    return (name, rest) if is_made else (first, below)


def folder_of(name: str) -> str:
    """Return what is before the last segment of a name or a pattern; empty for nothing."""
    return name.rpartition("/")[0]


def template_of(name: str) -> str:
    """Return the only pattern that stands for a name and others."""
    return f"{name[: len(name) - len(name.rpartition('/')[2])]}{ANY}"


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern stands for a name, or is the name."""
    return pattern in (name, template_of(name))
