"""Playlist files ``/radio/NAME.m3u``, ``.xspf`` and ``.pls``, for players that open files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

from origin.radio.mounts.icy_headers import StationDescription, one_line
from origin.responses.base_url import base_url

StationT = TypeVar("StationT")


class DescribedStation(Protocol):
    """A station with a description."""

    @property
    def name(self) -> str:
        """The name of the station, as addresses have it."""

    @property
    def description(self) -> StationDescription:
        """The station's description for listeners and players."""


def find_station(mounts: Mapping[str, StationT], name: str) -> tuple[StationT | None, str]:
    """Find the station that a name behind ``/radio/`` refers to.

    Args:
        name: of a station or of its playlist file.

    Returns:
        The station, None for none; and the extension of its playlist, "" for the station itself.
    """
    if name in mounts:
        return mounts[name], ""
    base, _, ending = name.rpartition(".")
    return (mounts.get(base), ending) if ending in _WRITERS else (None, "")


def playlist(mount: DescribedStation, ending: str, request: Request) -> Response:
    """Answer with a station's playlist file.

    Args:
        ending: ``m3u``, ``xspf`` or ``pls``.
        request: its query, such as a listener's password, is copied into the address.
    """
    write, media_type = _WRITERS[ending]
    query = f"?{request.url.query}" if request.url.query else ""
    address = f"{base_url(request)}/radio/{mount.name}{query}"
    # The address depends on the request's Host, so the answer must not be cached.
    return Response(
        write(address, one_line(mount.description.name)),
        headers={"cache-control": "no-store", "content-type": media_type},
    )


def _m3u(address: str, name: str) -> str:
    return f"#EXTM3U\r\n#EXTINF:-1,{name}\r\n{address}\r\n"


def _xspf(address: str, name: str) -> str:
    track = f"<track><location>{escape(address)}</location><title>{escape(name)}</title></track>"
    playlist = (
        f'<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>{track}</trackList></playlist>'
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{playlist}\n'


def _pls(address: str, name: str) -> str:
    return f"[playlist]\nNumberOfEntries=1\nFile1={address}\nTitle1={name}\nLength1=-1\nVersion=2\n"


_WRITERS: Mapping[str, tuple[Callable[[str, str], str], str]] = {
    "m3u": (_m3u, "audio/x-mpegurl"),
    "xspf": (_xspf, "application/xspf+xml"),
    "pls": (_pls, "audio/x-scpls"),
}
"""By extension, with the media types that Icecast uses; of ``.pls``, that of SHOUTcast."""

ENDINGS = frozenset(_WRITERS)
"""Extensions of playlist files."""
