"""Writes lists of channels and stations in M3U, as Kodi, TiviMate and Jellyfin read them.

No standard has the attributes; they are those of Kodi's IPTV Simple Client (its README, "Supported M3U and
XMLTV elements"), which the others have taken over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MEDIA_TYPE = "audio/x-mpegurl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedChannel:
    """A channel or station of a list.

    Attributes:
        id: by which the guide names it.
        url: of its playlist or stream.
        group: the heading under which apps list it.
        logo: URL of a picture; empty for none.
        number: on the remote control; 0 for none.
        is_radio: whether it has no picture.
        catchup_days: for how many days back it can be played; 0 for not at all.
        catchup_url: where it plays a past span, with ``{utc}`` and ``{utcend}`` for its bounds.
    """

    id: str
    name: str
    url: str
    group: str
    logo: str = ""
    number: int = 0
    is_radio: bool = False
    catchup_days: int = 0
    catchup_url: str = ""


def write_playlist(channels: Iterable[ListedChannel], guide_url: str) -> str:
    """Write a list.

    Args:
        guide_url: where the guide of these channels is.
    """
    guide = _quoted(guide_url)
    lines = [f'#EXTM3U url-tvg="{guide}" x-tvg-url="{guide}"']
    for one in channels:
        attributes = {"tvg-id": one.id, "tvg-name": one.name}
        attributes |= {"tvg-chno": str(one.number)} if one.number else {}
        attributes |= {"tvg-logo": one.logo} if one.logo else {}
        attributes["group-title"] = one.group
        attributes |= {"radio": "true"} if one.is_radio else {}
        if one.catchup_days:
            attributes |= {
                "catchup": "default",
                "catchup-days": str(one.catchup_days),
                "catchup-source": one.catchup_url,
            }
        written = " ".join(f'{name}="{_quoted(value)}"' for name, value in attributes.items())
        lines += [f"#EXTINF:-1 {written},{_in_line(one.name)}", one.url]
    return "\n".join([*lines, ""])


def _quoted(value: str) -> str:
    """Return a value of an attribute: readers know no escapes, so it has no quotes."""
    return _in_line(value).replace('"', "'")


def _in_line(text: str) -> str:
    return " ".join(text.split())
