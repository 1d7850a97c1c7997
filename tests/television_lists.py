"""Reads lists of channels in M3U, by the rules of Kodi's IPTV client and of Jellyfin."""

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


def by_jellyfin(text: str) -> list[tuple[str, str, str]]:
    """Return the id, the name and the URL of each entry; the name is what is left behind the last comma."""
    found, described = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#EXTINF:"):
            described = line.removeprefix("#EXTINF:").strip()
        elif described and line and not line.startswith("#"):
            pairs = re.findall(r'([a-z0-9_-]+)="([^"]+)"', described, re.IGNORECASE)
            rest = described
            for key, value in pairs:
                rest = rest.replace(f'{key}="{value}"', "")
            found.append((dict(pairs)["tvg-id"], rest.split(",")[-1].strip(), line))
            described = ""
    return found
