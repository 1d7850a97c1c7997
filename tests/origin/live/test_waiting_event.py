"""An event that is ended while nobody publishes to its channel, on a real server that was started anew."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from packager.dvr import stored_cadence
from packager.dvr.disk_archive import CADENCE
from packager.window.cadence import cadence
from tests.conformance.handfed import Track
from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.packager.stored_segments import make_segments, store
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

SEGMENTS = 3
RATE = 30
"""Pictures a second of the material, as the channel's cadence has it."""


@pytest.fixture
def server(tmp_path: Path, material: dict[str, Track]) -> Iterator[ServerProcess]:
    """A server with what an earlier one stored of a channel to which nobody publishes now."""
    dvr, number = tmp_path / "data" / "live" / "talk" / "dvr", int(time.time()) - 10
    for name in ("240p", "audio"):
        store(dvr / name, make_segments(material[name], SEGMENTS, first=number))
    (dvr / CADENCE).write_bytes(stored_cadence.encode(cadence(Fraction(RATE), 1.0, 0.25)))
    (tmp_path / "library").mkdir()
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "{tmp_path / "data"}"\n[library]\npath = "{tmp_path / "library"}"\n'
        '[[live]]\nname = "talk"\nsource = "publish"\npublish_key = "key"\nladder = ["240p"]\ndvr = "1h"\n'
        "segment_duration = 1.0\npart_duration = 0.25\n"
    )
    with start_server("--config", str(tmp_path / "headwater.toml"), program=patient_server()) as server:
        yield server


def is_recorded(answer: httpx.Response) -> dict[str, Any]:
    """Give what the answer to an event's end tells, once the recording is there."""
    return answer.json() if answer.status_code == 200 else {}


@pytest.mark.promise("POST /live/CHANNEL/end", "/live/CHANNEL/start")
def test_an_event_ends_is_recorded_and_the_next_one_begins_though_nobody_publishes(
    server: ServerProcess,
) -> None:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS, headers=BEARER) as client:

        def playlist() -> str:
            answer = client.get("/live/talk/240p/media.m3u8")
            return answer.text if answer.status_code == 200 else ""

        def state() -> str:
            (channel,) = client.get("/api/live").json()
            return str(channel["state"])

        wait_for(playlist, "what is on disk")
        assert state() == "idle"
        first = client.post("/live/talk/end")
        assert first.json()["state"] == "ended"
        # Who ends it once more hears the same, or of the recording, where the disk took its time.
        again = [
            wait_for(lambda: is_recorded(client.post("/live/talk/end")), "the recording") for _ in range(2)
        ]
        assert again[0] == again[1]
        assert first.json() == again[0] or first.status_code == 202
        recording = again[0]["recording"]
        assert recording["duration"] == SEGMENTS
        assert playlist().endswith("#EXT-X-ENDLIST\n")
        assert state() == "ended"
        recorded = client.get(recording["hls"].replace("master", "240p/media")).text
        assert len(re.findall(r"^\d+\.m4s$", recorded, re.MULTILINE)) == SEGMENTS
        begun = client.post("/live/talk/start")
        assert (begun.status_code, begun.json()) == (202, {"state": "starting"})
        wait_for(lambda: state() == "idle", "the next event")
        assert client.post("/live/talk/start").status_code == 409, "it is on air"
        wait_for(lambda: client.post("/live/talk/end").status_code == 409, "nothing is on air")
