"""A check reads as many segments as it may, and shows in a terminal what it judges."""

from __future__ import annotations

import http.server
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fork_server import HEADWATER, run_headwater
from tests.packager.films import run_ffmpeg
from tests.patience import CLIENT_SECONDS

MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.42c01e",RESOLUTION=64x36
short/media.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.42c01e",RESOLUTION=64x36
long/media.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.42c01e",RESOLUTION=64x36
longer/media.m3u8
"""
COUNTS = {"short": 3, "long": 12, "longer": 24}
"""How many segments each playlist has."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uneven")
    for name, count in COUNTS.items():
        (folder / name).mkdir()
        length = 24 // count
        words = f"-f lavfi -i testsrc=s=64x36:r=5:d=24 -c:v libx264 -g 5 -hls_time {length} -hls_list_size 0"
        run_ffmpeg(*words.split(), folder / name / "media.m3u8")
    (folder / "master.m3u8").write_text(MASTER)
    return folder


@pytest.mark.parametrize(("most", "read"), [(20, 20), (100, 39)])
def test_as_many_segments_are_read_as_there_may_be(most: int, read: int, package: Path) -> None:
    done = run_headwater("check", package, "--most", most)
    assert f"{read} of 39 segments were looked at" in done.stdout


class SlowFiles(http.server.SimpleHTTPRequestHandler):
    """Serves files; a segment's head comes only when the test allows it."""

    is_shown = threading.Event()

    def do_HEAD(self) -> None:
        self.is_shown.wait(CLIENT_SECONDS)
        super().do_HEAD()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow(package: Path) -> Iterator[str]:
    handler = partial(SlowFiles, directory=package)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_terminal_shows_what_is_judged_while_a_server_takes_its_time(slow: str) -> None:
    """The server answers for the first segment only once the terminal shows it."""
    own, other = pty.openpty()
    command = [str(HEADWATER), "check", f"{slow}/short/media.m3u8"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=other) as process:
        os.close(other)
        seen = b""
        while b"short/media0.ts" not in seen:
            seen += os.read(own, 1024)
        SlowFiles.is_shown.set()
        while b"3 of 3 segments" not in seen:
            seen += os.read(own, 1024)
        assert process.wait(CLIENT_SECONDS) in (0, 1)
    os.close(own)
