"""Names of event channels that are made at run time, and patterns that stand for many of them. Pure.

A name is one to four segments with slashes between them, such as ``room/lobby``. A pattern is a name, or a
name whose last segment is ``*``, which stands for any one segment: ``room/*``, or ``*`` alone.
"""

from __future__ import annotations

import re

SEGMENT = r"(?!\.+(?:/|\Z))[A-Za-z0-9._-]{1,64}"
"""A segment of a name, which isn't made of dots alone."""

MOST_CHARACTERS = 128
"""Most characters of a name."""

ANY = "*"
"""The last segment of a pattern that stands for many names."""

ALLOWED = f"1 to 4 segments of 1 to 64 letters, digits, '.', '_', '-', together {MOST_CHARACTERS} at most"

RESERVED = "radio/"
"""Beginning of names that aren't given: the events of stations are at these addresses."""

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


def folder_of(name: str) -> str:
    """Return what is before the last segment of a name or a pattern; empty for nothing."""
    return name.rpartition("/")[0]


def template_of(name: str) -> str:
    """Return the only pattern that stands for a name and others."""
    return f"{name[: len(name) - len(name.rpartition('/')[2])]}{ANY}"


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern stands for a name, or is the name."""
    return pattern in (name, template_of(name))
