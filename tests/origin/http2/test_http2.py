"""HTTP/2 as clients use it: streams side by side, windows, priorities, bodies, WebSocket, and the end."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from origin.http1 import websocket
from origin.http_streams.priority import Priority, goes_first, read_priority
from tests.conftest import ServerProcess, start_server
from tests.http2_client import Answer, Http2Client
from tests.http2_frames import frame
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

TOKEN = "who-publishes-events-5b1f"
CONFIG = f"""
[server]
port = 0

[limits]
stalled_seconds = 2
body_seconds = 2

[[events]]
name = "news"
publish_token = "{TOKEN}"
"""
BIG = 3_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = started(tmp_path_factory.mktemp("http2"), CONFIG)
    yield server
    server.stop()


def started(folder: Path, configuration: str) -> ServerProcess:
    (folder / "library").mkdir()
    (folder / "library" / "big.bin").write_bytes(random.Random(5).randbytes(BIG))
    (folder / "library" / "short.txt").write_text("short\n")
    (folder / "headwater.toml").write_text(configuration)
    return start_server("--config", "headwater.toml", "--library", "library", cwd=folder)


def readers(server: ServerProcess) -> int:
    found = httpx.get(f"{server.url}/metrics").text
    line = next(one for one in found.splitlines() if one.startswith("headwater_events_readers{"))
    return int(float(line.split()[-1]))


def test_the_preface_may_come_byte_by_byte(server: ServerProcess) -> None:
    with Http2Client(server.url, is_slow=True) as client:
        answer = client.get("/media/short.txt")
        assert bytes(answer.body) == b"short\n"
        assert answer.headers["content-length"] == "6"


def test_a_hundred_readers_and_a_download_share_a_connection(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        streams = [client.request("/events/news", accept="text/event-stream") for _ in range(100)]
        client.until(lambda: all(client.answers[one].body for one in streams))
        assert readers(server) == 100
        assert bytes(client.get("/media/big.bin").body) == random.Random(5).randbytes(BIG)
        assert client.get("/api/library").status == 200
        published = httpx.post(
            f"{server.url}/events/news", json={"data": "to all"}, headers={"authorization": f"Bearer {TOKEN}"}
        )
        assert published.status_code == 200
        client.until(lambda: all(b"to all" in client.answers[one].body for one in streams))
        for number in streams[:60]:
            client.h2.reset_stream(number, 8)
        client.flush()
        wait_for(lambda: readers(server) == 40, "the end of those that were cancelled")
    wait_for(lambda: readers(server) == 0, "the end of the others")


def update_of(number: int, value: bytes) -> bytes:
    """Return a PRIORITY_UPDATE frame (RFC 9218 §7.1)."""
    return frame(0x10, 0, number.to_bytes(4) + value)


@pytest.mark.clause("RFC 9218 §4")
def test_what_is_urgent_goes_before_a_download(server: ServerProcess) -> None:
    with Http2Client(server.url, opens=False) as client:
        big = client.request("/media/big.bin", priority="u=3")
        # All that the connection's window allows.
        client.until(lambda: len(client.answers[big].body) == 65_535)
        late, urgent, later = (
            client.request("/media/short.txt", priority=priority) for priority in ("u=7", "u=1", "u=5")
        )
        playlist = client.request("/api/library", priority="u=3, i")
        client.until(lambda: all(client.answers[one].headers for one in (late, urgent, later, playlist)))
        client.h2.increment_flow_control_window(10_000_000)
        client.flush()
        client.until(lambda: all(client.answers[one].is_over for one in (big, late, urgent, later, playlist)))
        first = {number: client.answers[number].order for number in (late, urgent, later, playlist)}
        behind = next(one for one in client.answers[big].order if one > 4)
        assert max(first[urgent]) < max(first[playlist]) < behind
        assert max(client.answers[big].order) < min(first[later]) < min(first[late])


def test_a_priority_is_changed_while_the_answer_waits(server: ServerProcess) -> None:
    with Http2Client(server.url, opens=False) as client:
        first, second = (client.request("/media/big.bin") for _ in range(2))
        client.until(lambda: len(client.answers[first].body) == 65_535)
        client.send(update_of(second, b"u=0"))
        client.h2.increment_flow_control_window(BIG)
        client.flush()
        client.until(lambda: client.answers[second].is_over)
        assert len(client.answers[first].body) < BIG // 2


def test_a_priority_may_come_before_its_request(server: ServerProcess) -> None:
    with Http2Client(server.url, opens=False) as client:
        client.send(b"".join(update_of(number, b"u=0") for number in (3, *range(101, 201, 2))))
        first = client.request("/media/big.bin", priority="u=1")
        client.until(lambda: len(client.answers[first].body) == 65_535)
        second = client.request("/media/big.bin", priority="u=2")
        client.until(lambda: client.answers[second].headers)
        client.h2.increment_flow_control_window(BIG)
        client.flush()
        client.until(lambda: client.answers[second].is_over)
        assert len(client.answers[first].body) < BIG // 2


def test_incremental_answers_take_turns(server: ServerProcess) -> None:
    with Http2Client(server.url, opens=False) as client:
        streams = [client.request("/media/big.bin", priority="i") for _ in range(3)]
        client.until(lambda: all(client.answers[one].headers for one in streams))
        client.until(lambda: sum(len(client.answers[one].body) for one in streams) == 65_535)
        client.h2.increment_flow_control_window(BIG)
        client.flush()
        client.until(lambda: sum(len(client.answers[one].body) for one in streams) == 65_535 + BIG)
        lengths = [len(client.answers[one].body) for one in streams]
        assert max(lengths) - min(lengths) <= 3 * 65_536


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"", Priority(3, is_incremental=False)),
        (b"u=1, i", Priority(1, is_incremental=True)),
        (b"i;x=1,u=0;y", Priority(0, is_incremental=True)),
        (b"i=?0, u=7", Priority(7, is_incremental=False)),
        (b"u=9, i=2, other=(1 2)", Priority(3, is_incremental=False)),
        (b"u=2, u=5", Priority(5, is_incremental=False)),
        (b",,=u=" * 500, Priority(3, is_incremental=False)),
    ],
)
def test_priorities_are_read(value: bytes, priority: Priority) -> None:
    assert read_priority(value) == priority


def test_parts_and_playlists_go_before_segments() -> None:
    assert goes_first(b"/live/demo/720p/17.3.m4s", b"video/mp4")
    assert goes_first(b"/live/demo/720p/media.m3u8", b"application/vnd.apple.mpegurl")
    assert not goes_first(b"/live/demo/720p/17.m4s", b"video/mp4")


@pytest.mark.promise("limits.stalled_seconds")
@pytest.mark.clause("RFC 9113 §5")
def test_a_window_that_stays_shut_ends_the_stream_alone(server: ServerProcess) -> None:
    with Http2Client(server.url, window=0, opens=False) as client:
        shut = client.request("/media/big.bin")
        other = client.request("/media/short.txt", method="HEAD")
        client.until(lambda: client.answers[shut].is_over)
        assert client.answers[shut].reset == 8
        assert client.answers[other].status == 200
        assert not client.is_closed


@pytest.mark.promise("limits.slow_seconds")
@pytest.mark.clause("RFC 9113 §5")
def test_a_window_that_hardly_opens_ends_the_stream_alone(tmp_path: Path) -> None:
    """The client allows a byte for each moment, and too few for the time over which it is judged."""
    server = started(tmp_path, "[server]\nport = 0\n\n[limits]\nslow_seconds = 3\n")
    with Http2Client(server.url, window=1, opens=False) as client:
        slow = client.request("/media/big.bin")
        client.until(lambda: client.answers[slow].status)
        client.socket.settimeout(0.05)

        def is_over() -> bool:
            if not client.answers[slow].is_over:
                client.h2.increment_flow_control_window(1, slow)
                client.flush()
                with contextlib.suppress(TimeoutError):
                    client.read()
            return client.answers[slow].is_over or client.is_closed

        wait_for(is_over, "the stream to be ended")
        assert client.answers[slow].reset == 8
        assert not client.is_closed
    server.stop()


def test_a_body_is_read_within_the_windows(server: ServerProcess) -> None:
    text = "x" * 60_000
    with Http2Client(server.url) as client:
        body = json.dumps({"data": text}).encode()
        number = client.request(
            "/events/news", "POST", authorization=f"Bearer {TOKEN}", content_type="application/json"
        )
        for start in range(0, len(body), 10_000):
            client.h2.send_data(number, body[start : start + 10_000])
            client.flush()
        client.h2.end_stream(number)
        client.flush()
        client.until(lambda: client.answers[number].is_over)
        assert client.answers[number].status == 200
        refused = client.request("/events/news", "POST", body=b"{}", authorization="Bearer wrong")
        client.until(lambda: client.answers[refused].is_over)
        assert client.answers[refused].status == 401


def test_a_body_that_does_not_come_is_answered(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        number = client.request("/events/news", "POST", authorization=f"Bearer {TOKEN}")
        client.until(lambda: client.answers[number].is_over)
        assert client.answers[number].status == 408
        # RFC 9113 §8.1: the rest isn't wanted, and the connection goes on.
        assert client.get("/media/short.txt").status == 200


@pytest.mark.clause("RFC 8441 §4")
@pytest.mark.parametrize("key", [[], [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]], ids=["", "key"])
def test_a_websocket_is_opened_by_extended_connect(server: ServerProcess, key: list[tuple[str, str]]) -> None:
    with Http2Client(server.url) as client:
        client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
        number = client.h2.get_next_available_stream_id()
        headers = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")]
        headers += [(":authority", client.authority), (":path", "/events/news")]
        headers += [("sec-websocket-version", "13"), ("authorization", f"Bearer {TOKEN}")]
        client.h2.send_headers(number, headers + key)
        client.flush()
        answer = client.answers.setdefault(number, Answer())
        client.until(lambda: answer.status)
        assert answer.status == 200
        assert "sec-websocket-accept" not in answer.headers
        assert "upgrade" not in answer.headers
        text = json.dumps({"data": "by a socket"}).encode()
        mask = b"\x01\x02\x03\x04"
        frame = bytes((0x81, 0x80 | len(text))) + mask + websocket.unmasked(text, mask)
        client.h2.send_data(number, frame)
        client.flush()
        client.until(lambda: b"by a socket" in answer.body)
        wait_for(lambda: readers(server) == 1, "a reader")
        client.h2.end_stream(number)
        client.flush()
        wait_for(lambda: readers(server) == 0, "the reader's end")


@pytest.mark.promise("POST /api/sign")
def test_what_needs_a_token_needs_it_here_too(tmp_path: Path) -> None:
    library = '[library]\naccess = "signed"\n[limits]'
    server = started(tmp_path, CONFIG.replace("[limits]", library, 1))
    try:
        with Http2Client(server.url) as client:
            wanted = {"path": "/media/short.txt", "for": "1h"}
            fields = {"authorization": f"Bearer {ADMIN_TOKEN}"}
            made = httpx.post(f"{server.url}/api/sign", json=wanted, headers=fields)
            assert made.status_code == 200, made.text
            token = made.json()["token"]
            for _ in range(2):
                assert client.get("/media/short.txt").status == 403
                assert bytes(client.get(f"/t/{token}/media/short.txt").body) == b"short\n"
                assert client.get(f"/t/{token}x/media/short.txt").status == 403
                assert client.get(f"/t/{token}/media/big.bin").status == 403
                assert client.get("/media/%73hort.txt").status == 403
    finally:
        server.stop()


CURL = ("curl", "-sS", "--http2-prior-knowledge", "-w", "%{stderr}%{http_version}")


@pytest.mark.promise("library.path")
def test_curl_seeks_and_reads(server: ServerProcess) -> None:
    command = [*CURL, "-r", "100-2000099", f"{server.url}/media/big.bin"]
    done = subprocess.run(command, capture_output=True, timeout=CLIENT_SECONDS, check=True)
    assert done.stdout == random.Random(5).randbytes(BIG)[100:2_000_100]
    assert done.stderr == b"2"


@pytest.mark.promise("limits.shutdown_seconds")
def test_the_servers_end_lets_a_download_end(tmp_path: Path) -> None:
    server = started(tmp_path, CONFIG.replace("[limits]", "[limits]\nshutdown_seconds = 60"))
    command = [*CURL, "--limit-rate", "1M", f"{server.url}/media/big.bin"]
    try:
        with (
            Http2Client(server.url) as idle,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl,
        ):
            assert curl.stdout is not None
            begun = curl.stdout.read(65_536)
            assert idle.get("/media/short.txt").status == 200
            server.process.send_signal(signal.SIGTERM)
            idle.until(lambda: idle.is_closed)
            assert idle.goaway == 0
            rest, _ = curl.communicate(timeout=CLIENT_SECONDS)
            assert begun + rest == random.Random(5).randbytes(BIG)
            assert curl.returncode == 0
        assert server.process.wait(CLIENT_SECONDS) == 0
    finally:
        server.stop()


def test_a_worker_answers_and_relays_what_the_started_process_answers(tmp_path: Path) -> None:
    server = started(tmp_path, CONFIG.replace("port = 0", "port = 0\nworkers = 2"))
    try:
        for _ in range(4):
            with Http2Client(server.url) as client:
                assert bytes(client.get("/media/short.txt").body) == b"short\n"
                assert client.get("/api/library").status == 200
    finally:
        server.stop()
