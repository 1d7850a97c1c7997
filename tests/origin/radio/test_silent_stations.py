"""Options of what a station's listeners get while its source sends nothing, at a real server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.packager import films
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

PASSWORD = "a-source-password"
BURST = 16_000
"""Bytes of a second at 128 kbit/s."""

CONFIG = f"""
[server]
port = 0
data = "data"

[[radio]]
name = "sent.mp3"
source = "publish"
source_password = "{PASSWORD}"

[limits]
burst_bytes = {BURST}
hold_seconds = 1
event_history = 3
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=tmp_path) as server:
        yield server


def is_played(server: ServerProcess) -> bool:
    return httpx.head(f"{server.url}/radio/sent.mp3", timeout=CLIENT_SECONDS).status_code == 200


@pytest.mark.promise(
    "/events/radio/NAME", "limits.hold_seconds", "limits.event_history", "limits.burst_bytes"
)
def test_a_silent_stations_listener_gets_the_burst_and_goes_after_the_configured_time(
    server: ServerProcess, tmp_path: Path
) -> None:
    words = "-f lavfi -i sine=duration=1 -ac 2 -b:a 128k"
    films.run_ffmpeg(*words.split(), tmp_path / "sent.mp3")
    audio = (tmp_path / "sent.mp3").read_bytes()
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    auth = httpx.BasicAuth("source", PASSWORD).auth_flow(httpx.Request("PUT", server.url))
    head = f"SOURCE /radio/sent.mp3 HTTP/1.0\r\n{'Authorization: ' + next(auth).headers['authorization']}\r\n"

    def titles() -> list[str]:
        answer = httpx.get(f"{server.url}/events/radio/sent.mp3?since=", timeout=CLIENT_SECONDS)
        events = answer.json() if answer.status_code == 200 else []
        return [json.loads(event["data"])["title"] for event in events]

    with socket.create_connection((host, int(port)), CLIENT_SECONDS) as source:
        source.sendall(f"{head}Content-Type: audio/mpeg\r\n\r\n".encode())
        assert source.recv(12).endswith(b"200")
        source.sendall(audio)
        wait_for(lambda: is_played(server), "the station")
        for number in range(4):
            song = f"song {number}"
            query = {"mode": "updinfo", "mount": "/radio/sent.mp3", "song": song}
            httpx.get(f"{server.url}/admin/metadata", params=query, headers=BEARER).raise_for_status()
            source.sendall(audio)
            wait_for(lambda song=song: titles()[-1:] == [song], "the title")  # type: ignore[misc]
        assert titles() == [f"song {number}" for number in (1, 2, 3)]
        with httpx.stream("GET", f"{server.url}/radio/sent.mp3", timeout=CLIENT_SECONDS) as answer:
            assert answer.status_code == 200
            source.close()
            began = time.monotonic()
            burst = b"".join(answer.iter_raw())
            # By default it would be 30 seconds.
            assert time.monotonic() - began < 20
    # Five seconds were sent; by default four of them would come at once. The burst begins where a block does.
    assert BURST / 2 < len(burst) < 3 * BURST
