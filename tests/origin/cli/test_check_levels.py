"""``headwater check`` tells what breaks a MUST from what breaks a SHOULD, in HTTP's words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fork_server import run_headwater

FILM = bytes(5000)
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nvideo.m3u8\n"
VIDEO = "#EXTM3U\n#EXT-X-TARGETDURATION:{target}\n#EXTINF:4,\nfilm.bin\n#EXT-X-ENDLIST\n"


class PlainServer(BaseHTTPRequestHandler):
    """A server of playlists that ignores ranges, which RFC 9110 §14.2 allows."""

    def do_GET(self) -> None:  # the standard library's name
        texts = {"/master.m3u8": MASTER, "/video.m3u8": VIDEO.format(target=4)}
        texts["/long.m3u8"] = VIDEO.format(target=2)
        body = texts[self.path].encode() if self.path in texts else FILM
        self.send_response(200)
        self.send_header("content-type", "text/plain" if self.path in texts else "video/mp4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  # the standard library's name

    def log_message(self, *words: object) -> None:
        del words


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), PlainServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_breaks_a_should_alone_is_a_note_and_no_failure(url: str) -> None:
    done = run_headwater("check", f"{url}/film.bin")
    assert done.returncode == 0, done.stdout
    *lines, last = done.stdout.splitlines()
    assert lines
    assert all(line.startswith("note: ") for line in lines)
    assert last.endswith(f"{len(lines)} didn't, {len(lines)} of these are notes")
    assert "has no ETag header (RFC 9110 §8.8.3)" in done.stdout
    assert "answers a range with 200 (RFC 9110 §14.2)" in done.stdout
    assert "None" not in done.stdout
    assert run_headwater("check", f"{url}/film.bin", "--strict").returncode == 1


@pytest.mark.promise("headwater check")
def test_faults_come_first_and_decide_the_exit_status(url: str) -> None:
    done = run_headwater("check", f"{url}/long.m3u8")
    assert done.returncode == 1
    *lines, _ = done.stdout.splitlines()
    levels = [line.partition(":")[0] for line in lines if ":" in line]
    assert levels == sorted(levels)
    assert set(levels) == {"fault", "note"}
    written = json.loads(run_headwater("check", f"{url}/long.m3u8", "--json").stdout)
    assert any("more than the target duration 2" in fault for fault in written["faults"])
    assert any("has no Cache-Control" in note for note in written["notes"])
    assert any("has Content-Type text/plain" in note for note in written["notes"])
    assert written["passed"] > 0


def test_a_missing_codecs_attribute_is_a_note(url: str) -> None:
    written = json.loads(run_headwater("check", f"{url}/master.m3u8", "--json").stdout)
    assert any("has no CODECS" in note for note in written["notes"])
    assert not any("CODECS" in fault for fault in written["faults"])
