"""What a listener is told before its audio, as Icecast and its players have it."""

from __future__ import annotations

from dataclasses import dataclass

from origin.radio.options import MountOptions
from packager.radio.station_info import Announcement


@dataclass(frozen=True, slots=True)
class StationDescription:
    """How a station presents itself.

    Attributes:
        name: its name.
        genre: in its own words.
        url: the address of its page, "" for none.
        description: a line about it, else its name.
        public: whether directories may list it.
    """

    name: str
    genre: str
    url: str
    description: str
    public: bool


def appearance(mount: str, options: MountOptions, said: Announcement) -> StationDescription:
    """Decide how a station presents itself.

    Args:
        mount: the mount's name.
        options: as configured; they come first.
        said: what the source says of itself.
    """
    name = options.title or said.name or mount
    return StationDescription(
        name,
        options.genre or said.genre or "various",
        options.url or said.url,
        said.description or name,
        options.public or said.public,
    )


def greeting(
    media_type: str, shown: StationDescription, bitrate: int, metaint: int | None
) -> list[tuple[bytes, bytes]]:
    """Write the header fields of a listener's response.

    Args:
        media_type: such as ``audio/mpeg``.
        shown: how the station presents itself.
        bitrate: in kbit/s.
        metaint: bytes of audio between two metadata blocks; None for a listener without them.
    """
    values = [
        ("content-type", media_type),
        ("cache-control", "no-cache, no-store"),
        ("x-accel-buffering", "no"),
        ("icy-name", shown.name),
        ("icy-genre", shown.genre),
        ("icy-url", shown.url),
        ("icy-description", shown.description),
        ("icy-br", str(bitrate)),
        ("icy-pub", str(int(shown.public))),
        ("connection", "close"),
    ]
    if metaint is not None:
        values.append(("icy-metaint", str(metaint)))
    # In UTF-8, as Icecast and its players have it.
    return [(name.encode("ascii"), one_line(value).encode("utf-8", "replace")) for name, value in values]


def one_line(value: str) -> str:
    """Leave out of a text what would end its line, or can't be seen."""
    return "".join(filter(str.isprintable, value))
