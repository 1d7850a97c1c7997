"""The histories of channels that are made at run time have a bound on disk, at a real server."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

BOUND = 1 << 20
EVENT = "x" * 300_000
CHANNELS = 6

CONFIG = f"""
[server]
port = 0
data = "data"

[[events]]
name = "news"

[limits]
created_history_bytes = {BOUND}
"""


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.promise("limits.created_history_bytes")
def test_events_beyond_the_bound_are_published_and_not_stored(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    server = start_server(cwd=tmp_path)
    with httpx.Client(base_url=server.url, headers=BEARER, timeout=CLIENT_SECONDS) as client:
        for number in range(CHANNELS):
            made = client.post("/events", json={"name": f"room/{number}", "history": "1h"})
            assert made.status_code == 201, made.text
        for number in range(CHANNELS):
            text = {"content-type": "text/plain"}
            assert client.post(f"/events/room/{number}", content=EVENT, headers=text).status_code == 200
        wait_for(lambda: stored_bytes(tmp_path / "data") > len(EVENT), "an event on disk")
        for number in range(CHANNELS):
            (event,) = client.get(f"/events/room/{number}?since=").json()
            assert event["data"] == EVENT
    assert server.stop() == 0
    # Beside the events there are the channels' records.
    assert len(EVENT) < stored_bytes(tmp_path / "data") < BOUND + 100_000
