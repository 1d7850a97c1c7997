"""The order of names as people count: without regard to case, and with numbers by their value."""

from __future__ import annotations

import re
import unicodedata

_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "æ": "ae", "œ": "oe"})
"""Letters with strokes and ligatures, which Unicode doesn't take apart."""

_DIGITS = re.compile(r"[0-9]+")


def folded(text: str) -> str:
    """Return a key for the comparison of texts without regard to case and to how accents are encoded."""
    if text.isascii():
        return text.lower()
    # Unicode 3.13, D145: names from a Mac have their accents behind the letters; keyboards write both as one.
    return unicodedata.normalize("NFD", text.casefold())


def search_key(text: str) -> str:
    """Return a key for the search in a text without regard to case and accents."""
    key = folded(text)
    if key.isascii():
        return key
    return "".join(letter for letter in key if not unicodedata.combining(letter)).translate(_LETTERS)


def natural_key(name: str) -> str:
    """Return a key for the order of names: without regard to case, and with numbers by their value."""
    return _DIGITS.sub(_by_value, folded(name))


def _by_value(digits: re.Match[str]) -> str:
    """Write a number so that texts with it are in the order of its value: more digits come later."""
    # No name has the first character, so a number comes before whatever else may stand in its place.
    significant = digits[0].lstrip("0")
    return f"\0{chr(len(significant))}{significant}"
