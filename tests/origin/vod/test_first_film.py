"""The first film that a process opens waits for nothing that the process could have done at its start."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server
from tests.waiting import wait_for

ADDRESSES = (
    "master.m3u8",
    "video/media.m3u8",
    "video/init.mp4",
    "video/0.m4s",
    "manifest.mpd",
    "thumbnails.vtt",
)


@pytest.mark.slow
def test_no_module_is_imported_for_the_first_film(library: Path, tmp_path: Path) -> None:
    server = start_server(
        "--library",
        str(library),
        "--port",
        "0",
        cwd=tmp_path,
        env={"PYTHONPROFILEIMPORTTIME": "1"},
        fresh=True,
    )
    try:
        wait_for(lambda: httpx.get(f"{server.url}/health").status_code == 200, "the server to be ready")
        assert "import time:" in server.text()
        begin = len(server.text())
        for address in ADDRESSES:
            answer = httpx.get(f"{server.url}/vod/bframes.mp4/{address}", timeout=60)
            assert answer.status_code == 200, address
    finally:
        server.stop()
    imported = [line for line in server.text()[begin:].splitlines() if line.startswith("import time:")]
    assert imported == []
