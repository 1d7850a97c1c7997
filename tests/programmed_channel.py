"""A channel with programmes: its configuration, its playlists, and requests of tests about it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx
import m3u8

from tests.conftest import ServerProcess
from tests.copied_channel import copied_channel
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


def configure(folder: Path, *lines: str, server: str = "") -> None:
    """Write the configuration of a server with one channel, whose DVR is short."""
    head = f'[server]\nport = 0\ndata = "data"\n{server}'
    times = ("segment_duration = 1.0", "part_duration = 0.25")
    (folder / "headwater.toml").write_text(head + copied_channel("a", *times, *lines))


def address(server: ServerProcess, name: str = "") -> str:
    return f"{server.url}/live/a/{name}"


def live(server: ServerProcess) -> m3u8.M3U8:
    answer = httpx.get(address(server, "source/media.m3u8"), timeout=60)
    return m3u8.loads(answer.text) if answer.status_code == 200 else m3u8.loads("#EXTM3U\n")


def put(server: ServerProcess, programmes: Any, **fields: str) -> httpx.Response:
    headers = {**ADMIN, **fields}
    return httpx.put(address(server, "programmes"), json=programmes, headers=headers, timeout=60)


def playlist(server: ServerProcess, name: str, rendition: str = "source") -> m3u8.M3U8 | None:
    answer = httpx.get(
        address(server, f"{rendition}/media.m3u8?programme={name}"), timeout=60, follow_redirects=True
    )
    return m3u8.loads(answer.text) if answer.status_code == 200 else None


def date_of(server: ServerProcess, index: int) -> float:
    date = live(server).segments[index].program_date_time
    assert date is not None
    return float(date.timestamp())


def pictures(url: str) -> int:
    """Count the pictures that ffprobe reads at an address."""
    shown = "-v error -count_packets -select_streams v -show_entries stream=nb_read_packets -of csv=p=0"
    done = subprocess.run(
        ["ffprobe", *shown.split(), url], check=True, capture_output=True, text=True, timeout=CLIENT_SECONDS
    )
    return int(done.stdout.strip().split("\n")[0].strip(","))


def recordings(server: ServerProcess, channel: str = "a") -> list[dict[str, Any]]:
    channels = httpx.get(f"{server.url}/api/live", timeout=60).json()
    found: list[dict[str, Any]] = next(one["recordings"] for one in channels if one["name"] == channel)
    return found


def keep(server: ServerProcess, start: float, end: float, title: str = "") -> httpx.Response:
    body = {"start": start, "end": end, "title": title}
    return httpx.post(f"{server.url}/live/a/recordings", json=body, headers=ADMIN, timeout=60)


def dates(server: ServerProcess) -> list[float]:
    found = [one.program_date_time for one in live(server).segments]
    return [one.timestamp() for one in found if one is not None]


def numbers(found: m3u8.M3U8 | None) -> list[int]:
    return [] if found is None else [int(str(one.uri).partition(".")[0]) for one in found.segments if one.uri]


def kill(server: ServerProcess) -> None:
    server.process.kill()
    server.process.wait()


def keep_span(server: ServerProcess, channel: str) -> str:
    """Make a recording of some seconds; return its name."""

    def kept() -> str:
        span = {"start": "now-8s", "end": "now-2s", "title": "Kept"}
        whole = f"{server.url}/live/{channel}/recordings"
        answer = httpx.post(whole, json=span, headers=ADMIN, timeout=CLIENT_SECONDS)
        made = answer.json()["recording"] if answer.status_code == 201 else {"duration": 0}
        return str(made["id"]) if made["duration"] > 5 else ""

    return wait_for(kept, "a recording")
