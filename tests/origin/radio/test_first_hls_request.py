"""The first request for a station's HLS is answered with what the station has just played."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import m3u8

from tests.conftest import start_server
from tests.origin.radio.listed_stations import write_tunes
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

CONFIG = '[server]\nport = 0\n[[radio]]\nname = "fm"\nfolder = "music"\nhls_bitrates = [64]\n'
HEARD_SECONDS = 10
"""For how long the station has played before: two segments, and the block that comes."""


def test_a_station_begins_in_hls_with_the_segments_before_the_first_request(tmp_path: Path) -> None:
    write_tunes(tmp_path)
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with (
        start_server(cwd=tmp_path, program=patient_server()) as server,
        httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client,
    ):
        with client.stream("GET", "/radio/fm") as heard:
            pieces = heard.iter_raw()
            began = time.time()
            wait_for(lambda: next(pieces) and time.time() - began > HEARD_SECONDS, "what the station plays")
        asked = time.time()
        assert client.get("/live/fm/master.m3u8").status_code == 200
        listed = m3u8.loads(client.get("/live/fm/64k/media.m3u8").text).segments
        assert listed[0].program_date_time.timestamp() < asked - listed[0].duration
