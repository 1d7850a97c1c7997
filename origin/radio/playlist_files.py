"""``/radio/NAME.m3u`` and ``.xspf``: playlists of a station's one address, for programs that open files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

from origin.radio.icy_headers import one_line
from origin.radio.mount import Mount


def find(mounts: Mapping[str, Mount], name: str) -> tuple[Mount | None, str]:
    """Find what a name behind ``/radio/`` stands for.

    Args:
        mounts: by name.
        name: a station's, or that of its playlist.

    Returns:
        The station, None for none; and the ending of its playlist, where that is asked for.
    """
    if name in mounts:
        return mounts[name], ""
    base, _, ending = name.rpartition(".")
    return (mounts.get(base), ending) if ending in _WRITERS else (None, "")


def playlist(mount: Mount, ending: str, request: Request) -> Response:
    """Answer with a station's playlist.

    Args:
        mount: the station.
        ending: ``m3u`` or ``xspf``.
        request: whose own query, such as a listener's key, goes into the address.
    """
    write, media_type = _WRITERS[ending]
    query = f"?{request.url.query}" if request.url.query else ""
    address = f"{str(request.base_url).rstrip('/')}/radio/{mount.name}{query}"
    # Which name the server has is in the request, so that nobody may keep the answer for others.
    return Response(
        write(address, one_line(mount.shown.name)),
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


_WRITERS: Mapping[str, tuple[Callable[[str, str], str], str]] = {
    "m3u": (_m3u, "audio/x-mpegurl"),
    "xspf": (_xspf, "application/xspf+xml"),
}
"""By the address's ending, with the types that Icecast gives them."""
