"""Reads lists of channels in M3U, by the rules of Kodi's IPTV client."""

from __future__ import annotations

import itertools
import re

ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
"""An attribute, as pvr.iptvsimple and Dispatcharr find it: in any order, without quotes inside."""


def entries(text: str) -> list[tuple[dict[str, str], str, str]]:
    """Return the attributes, the name and the URL of each entry; a name stands behind the last attribute."""
    lines = text.splitlines()
    found = []
    for line, url in itertools.pairwise(lines):
        if line.startswith("#EXTINF:-1 "):
            end = line.rindex('"') + 1
            found.append((dict(ATTRIBUTE.findall(line[:end])), line[end:].removeprefix(","), url))
    return found
