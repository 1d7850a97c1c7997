"""An event that is ended and the publication that it consists of are one recording."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx

from tests.conftest import start_server
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN, recordings
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0
data = "data"

[[live]]
name = "p"
source = "publish"
publish_key = "a-key-of-publishers"
ladder = ["source"]
record = "publications"
segment_duration = 1.0
"""

STREAM = (
    "ffmpeg -nostdin -v error -re -f lavfi -i testsrc2=size=320x180:rate=12 -f lavfi -i sine -t 4"
    " -c:v libx264 -preset ultrafast -g 12 -pix_fmt yuv420p -c:a aac -f mpegts -method PUT"
)


def test_the_end_of_an_event_lists_no_second_recording_of_its_only_publication(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(CONFIG)
    with start_server(cwd=tmp_path) as server:
        url = f"{server.url}/live/p/ingest?key=a-key-of-publishers"
        subprocess.run([*STREAM.split(), url], check=True, timeout=CLIENT_SECONDS)
        (publication,) = wait_for(lambda: recordings(server, "p"), "the publication's recording", seconds=90)

        def ended() -> dict[str, object] | None:
            answer = httpx.post(f"{server.url}/live/p/end", headers=ADMIN, timeout=CLIENT_SECONDS)
            recording: dict[str, object] | None = answer.json()["recording"]
            return recording

        assert wait_for(ended, "the event's recording") == publication
        assert recordings(server, "p") == [publication]
