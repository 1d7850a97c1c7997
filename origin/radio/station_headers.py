"""What source clients and other servers say of their stations in header fields, as Icecast's have it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from packager.radio.station_info import Announcement

ANNOUNCED_CHARS = 200
"""Longest name, genre, address or description that is taken from a source."""

_BITRATE = re.compile(r"(?:^|;)\s*(?:ice-)?bitrate=([0-9]{1,4})\s*(?:;|$)")
"""In Ice-Audio-Info: libshout writes ``bitrate=128``, butt ``ice-bitrate=128``."""


def announcement_of(fields: Mapping[str, str]) -> Announcement:
    """Read what a source says of its station: clients in fields of ``ice-``, servers in those of ``icy-``.

    Args:
        fields: header fields in Latin-1, as HTTP has them, by their names in any case.
    """
    name, genre, url, description = (_text(fields, key) for key in ("name", "genre", "url", "description"))
    public = "1" in (fields.get("ice-public"), fields.get("icy-pub"))
    return Announcement(name, genre, url, description, public)


def announced_bitrate(fields: Mapping[str, str]) -> int:
    """Read the bitrate that a source says that it will send, in kbit/s; 0 when it doesn't say.

    Args:
        fields: as above.
    """
    for value in (fields.get("ice-bitrate", ""), fields.get("icy-br", "")):
        if value.isascii() and value.isdecimal() and len(value) < 5:
            return int(value)
    found = _BITRATE.search(fields.get("ice-audio-info", ""))
    return int(found[1]) if found else 0


def _text(fields: Mapping[str, str], key: str) -> str:
    """Fields are Latin-1 to HTTP, and UTF-8 to most who write names into them."""
    raw = (fields.get(f"ice-{key}") or fields.get(f"icy-{key}") or "").encode("latin-1", "replace")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text[:ANNOUNCED_CHARS]
