"""Icecast's statistics: ``/status-json.xsl`` and ``/status.xsl``, and what ``/admin/stats`` adds to them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from urllib.parse import urlsplit

from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.icy_headers import one_line
from origin.radio.mounts.mount import Mount

_STARTED = time.time()


def status(mounts: Mapping[str, Mount], base: str) -> str:
    """Write the JSON of Icecast 2.4, except that ``source`` always is a list.

    Args:
        mounts: by address, such as ``/radio/demo.mp3``; a station with aliases is listed by each.
        base: the server's own address without a trailing slash.

    Returns:
        ASCII, safe inside HTML too; stations that are not live are left out.
    """
    facts = {
        **_describe_host(base),
        **_moment("server_start", _STARTED),
        "source": [
            _describe(mount, f"{base}{address}") for address, mount in mounts.items() if mount.state == "live"
        ],
    }
    return json.dumps({"icestats": facts}).replace("<", "\\u003c")


def describe_server(
    base: str, live: Collection[Mount], counts: ConnectionCounts, elsewhere: int = 0
) -> dict[str, object]:
    """Return the server's part of ``/admin/stats``, by Icecast's names.

    Args:
        base: the server's own address without a trailing slash.
        elsewhere: how many others of listeners there were in other processes.
    """
    all_listeners = counts.listeners + elsewhere
    listeners = sum(mount.listeners for mount in live)
    sources = sum(mount.source_client is not None for mount in live)
    return {
        **_describe_host(base),
        **_moment("server_start", counts.started),
        "client_connections": all_listeners + counts.sources,
        "clients": listeners + sources,
        "connections": all_listeners + counts.sources,
        "file_connections": 0,
        "listener_connections": all_listeners,
        "listeners": listeners,
        "source_client_connections": counts.sources,
        "source_relay_connections": 0,
        "source_total_connections": counts.sources,
        "sources": len(live),
        "stats": 0,
        "stats_connections": 0,
    }


def describe_source(mount: Mount, url: str) -> dict[str, object]:
    """Return a station's part of ``/admin/stats``, by Icecast's names; the administrator sees who sends."""
    client = mount.source_client
    public = {key: value for key, value in _describe(mount, url).items() if key != "dummy"}
    return {
        **public,
        "max_listeners": mount.options.max_listeners,
        "public": int(mount.description.public),
        "slow_listeners": mount.dropped,
        "source_ip": "" if client is None else client.address,
        "total_bytes_read": mount.read_bytes,
        "total_bytes_sent": mount.sent_bytes,
        "user_agent": "" if client is None else client.agent,
    }


def status_page(mounts: Mapping[str, Mount]) -> str:
    """Write ``/status.xsl``: the stations on air as HTML, in the words of Icecast's page."""
    stations = [_as_table(mount) for mount in mounts.values() if mount.state == "live"]
    return _PAGE.format(style=STYLE, stations="\n".join(stations) or "<p>No station is on air.</p>")


def _as_table(mount: Mount) -> str:
    description, address = mount.description, escape(f"/radio/{mount.name}")
    rows = {
        "Stream Name": description.name,
        "Stream Description": description.description,
        "Content Type": mount.media_type,
        "Stream started": _moment("at", mount.started)["at"],
        "Bitrate": mount.bitrate,
        "Listeners (current)": mount.listeners,
        "Listeners (peak)": mount.peak,
        "Genre": description.genre,
        "Stream URL": description.url,
        "Currently playing": mount.title,
    }
    cells = "".join(
        f'<tr><td>{name}:</td><td class="streamstats">{escape(one_line(str(value)))}</td></tr>\n'
        for name, value in rows.items()
        if value != "" or name == "Currently playing"
    )
    links = " ".join(
        f'<a href="{address}.{ending}">{ending.upper()}</a>' for ending in ("m3u", "xspf", "pls")
    )
    return f'<h3 class="mount">Mount Point {address}</h3>\n<p>{links}</p>\n<table>\n{cells}</table>'


STYLE = """:root { color-scheme: light dark; font-family: sans-serif } body { overflow-wrap: anywhere }
td { padding-right: 1em; vertical-align: top } td:first-child { overflow-wrap: break-word }
input, select, button { max-width: 100%; font: inherit }"""
"""The style of the pages about stations, whose names and titles may be longer than a telephone is wide."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stations</title>
<style>{style}</style>
</head>
<body>
<h1>Stations</h1>
{stations}
</body>
</html>
"""


def _describe_host(base: str) -> dict[str, str]:
    host = urlsplit(base).netloc
    return {
        "admin": "",
        "host": host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host,
        "location": "",
        "server_id": "Headwater",
    }


def _describe(mount: Mount, url: str) -> dict[str, object]:
    description = mount.description
    return {
        "audio_info": f"bitrate={mount.bitrate}",
        "bitrate": mount.bitrate,
        "genre": description.genre,
        "ice-bitrate": mount.bitrate,
        "listener_peak": mount.peak,
        "listeners": mount.listeners,
        "listenurl": url,
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
