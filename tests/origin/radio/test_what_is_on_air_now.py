"""The status of a station says what is on air now: the format of the newest source, and since when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS, patient_server
from tests.station_source import sending
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0

[[radio]]
name = "fm"
source = "publish"
source_password = "sesame"
bitrate = 96
"""
NOISE = "anoisesrc=a=0.3"
AAC = ["-c:a", "aac", "-b:a", "48k", "-content_type", "audio/aac", "-f", "adts"]
MP3 = ["-c:a", "libmp3lame", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    process = start_server(cwd=tmp_path, program=patient_server())
    yield process
    assert process.stop() == 0


def status(server: ServerProcess) -> dict[str, Any]:
    stats = httpx.get(f"{server.url}/status-json.xsl", timeout=CLIENT_SECONDS).json()["icestats"]
    sources = stats.get("source", [])
    found: dict[str, Any] = sources[0] if sources else {}
    return found


def test_the_status_names_format_and_start_of_the_source_that_sends_now(server: ServerProcess) -> None:
    with sending(server, "fm", NOISE, AAC):
        wait_for(lambda: status(server).get("server_type") == "audio/aac", "a source of AAC")
        first = status(server)
        # Frames of AAC say no bitrate, and the source none either.
        wait_for(lambda: abs(status(server)["bitrate"] - 48) <= 8, "the bitrate of the source")
    between = time.time()
    with sending(server, "fm", NOISE, MP3):
        wait_for(lambda: status(server).get("server_type") == "audio/mpeg", "a source of MP3")
        wait_for(lambda: status(server)["bitrate"] == 64, "the bitrate of the source")
        second = status(server)
    begun = datetime.fromisoformat(second["stream_start_iso8601"]).timestamp()
    assert datetime.fromisoformat(first["stream_start_iso8601"]).timestamp() <= between
    # The status has whole seconds.
    assert begun >= int(between)
