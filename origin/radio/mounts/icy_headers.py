"""Reads and writes header fields that describe a station: Content-Type and Icecast's (``ice-``, ``icy-``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from origin.radio.mounts.options import MountOptions
from packager.radio.audio_source import StationInfo
from packager.radio.ogg_block_reader import MEDIA_TYPE as OGG_MEDIA_TYPE

SOURCE_TYPES = {
    "audio/mpeg": "audio/mpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/aac": "audio/aac",
    "audio/aacp": "audio/aac",
    "audio/x-aac": "audio/aac",
    "application/ogg": OGG_MEDIA_TYPE,
    "application/x-ogg": OGG_MEDIA_TYPE,
    "audio/ogg": OGG_MEDIA_TYPE,
    "audio/opus": OGG_MEDIA_TYPE,
    "audio/vorbis": OGG_MEDIA_TYPE,
}
"""The accepted Content-Types of a source or a relay, with the media type for listeners."""

STATION_INFO_CHARS = 200
"""Longest name, genre, address or description that is accepted from a source."""

_BITRATE = re.compile(r"(?:^|;)\s*(?:ice-)?bitrate=([0-9]{1,4})\s*(?:;|$)")
"""In Ice-Audio-Info: libshout writes ``bitrate=128``, butt ``ice-bitrate=128``."""


@dataclass(frozen=True, slots=True)
class StationDescription:
    """A station's description, as listeners get it in header fields.

    Attributes:
        url: of its page, "" for none.
        description: a line about it, else its name.
        public: whether directories may list it.
    """

    name: str
    genre: str
    url: str
    description: str
    public: bool


def describe_station(mount: str, options: MountOptions, info: StationInfo) -> StationDescription:
    """Merge what the configuration and the source say of a station.

    Args:
        mount: the mount's name, used without any other.
        options: the configuration, which takes precedence.
    """
    name = options.title or info.name or mount
    return StationDescription(
        name,
        options.genre or info.genre or "various",
        options.url or info.url,
        info.description or name,
        options.public or info.public,
    )


def listener_headers(
    media_type: str, description: StationDescription, bitrate: int, metaint: int | None
) -> list[tuple[bytes, bytes]]:
    """Write the header fields of a listener's response.

    Args:
        media_type: such as ``audio/mpeg``.
        bitrate: in kbit/s.
        metaint: bytes of audio between two metadata blocks; None for a listener without metadata.
    """
    values = [
        ("content-type", media_type),
        ("cache-control", "no-cache, no-store"),
        ("x-accel-buffering", "no"),
        ("icy-name", description.name),
        ("icy-genre", description.genre),
        ("icy-url", description.url),
        ("icy-description", description.description),
        ("icy-br", str(bitrate)),
        ("icy-pub", str(int(description.public))),
        ("connection", "close"),
    ]
    if metaint is not None:
        values.append(("icy-metaint", str(metaint)))
    # Icecast and its players use UTF-8 here.
    return [(name.encode("ascii"), one_line(value).encode("utf-8", "replace")) for name, value in values]


def one_line(value: str) -> str:
    """Remove unprintable characters, line breaks among them."""
    return "".join(filter(str.isprintable, value))


def station_info_of(fields: Mapping[str, str]) -> StationInfo:
    """Read what a source says of its station: source clients in ``ice-`` fields, servers in ``icy-`` fields.

    Args:
        fields: header fields in Latin-1, by case-insensitive name.
    """
    name, genre, url, description = (_text(fields, key) for key in ("name", "genre", "url", "description"))
    public = "1" in (fields.get("ice-public"), fields.get("icy-pub"))
    return StationInfo(name, genre, url, description, public)


def announced_bitrate(fields: Mapping[str, str]) -> int:
    """Read the bitrate that a source declares, in kbit/s; 0 for none."""
    for value in (fields.get("ice-bitrate", ""), fields.get("icy-br", "")):
        if value.isascii() and value.isdecimal() and len(value) < 5:
            return int(value)
    found = _BITRATE.search(fields.get("ice-audio-info", ""))
    return int(found[1]) if found else 0


def _text(fields: Mapping[str, str], key: str) -> str:
    """Read a field as UTF-8, which most clients write, else as Latin-1."""
    raw = (fields.get(f"ice-{key}") or fields.get(f"icy-{key}") or "").encode("latin-1", "replace")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text[:STATION_INFO_CHARS]
