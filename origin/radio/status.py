"""``/status-json.xsl``: Icecast's statistics, for its players, directories and monitors."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from origin.radio.mount import Mount

_STARTED = time.time()


def status(mounts: Mapping[str, Mount], base: str, only: str | None = None) -> str:
    """Write the JSON of Icecast 2.4, except that ``source`` always is a list.

    Args:
        mounts: by name.
        base: the server's own address without a trailing slash.
        only: path of the one station that is asked for, such as ``/radio/demo.mp3``; None for all.

    Returns:
        ASCII, safe inside HTML too; stations that are not live are left out.
    """
    host = base.partition("://")[2]
    facts = {
        "admin": "",
        "host": host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host,
        "location": "",
        "server_id": "Headwater",
        **_moment("server_start", _STARTED),
        "source": [
            _describe(mount, base)
            for mount in mounts.values()
            if mount.state == "live" and only in (None, f"/radio/{mount.name}")
        ],
    }
    return json.dumps({"icestats": facts}).replace("<", "\\u003c")


def _describe(mount: Mount, base: str) -> dict[str, object]:
    description = mount.description
    return {
        "audio_info": f"bitrate={mount.bitrate}",
        "bitrate": mount.bitrate,
        "genre": description.genre,
        "ice-bitrate": mount.bitrate,
        "listener_peak": mount.peak,
        "listeners": mount.listeners,
        "listenurl": f"{base}/radio/{mount.name}",
        "server_description": description.description,
        "server_name": description.name,
        "server_type": mount.media_type,
        "server_url": description.url,
        **_moment("stream_start", mount.started),
        "title": mount.title,
        "dummy": None,
    }


def _moment(key: str, seconds: float) -> dict[str, str]:
    """Write a time in both of Icecast's formats."""
    moment = datetime.fromtimestamp(seconds, UTC)
    iso = f"{moment:%Y-%m-%dT%H:%M:%S%z}"
    return {key: format_datetime(moment), f"{key}_iso8601": iso}
