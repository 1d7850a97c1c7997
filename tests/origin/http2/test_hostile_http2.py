"""HTTP/2 of hostile clients: each flood ends its own connection, and others are answered meanwhile."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from origin.http2.connection import SUSPECT_SECONDS
from origin.http2.frames import QUICK_FRAMES, RESET_FRAMES, FrameBudget, FrameHead
from tests import http2_frames
from tests.conftest import ServerProcess, start_server
from tests.http2_client import Answer, Http2Client
from tests.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    frame,
    literal,
    settings,
)
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

CONFIG = """
[server]
port = 0

[limits]
header_seconds = 1

[[events]]
name = "news"
"""
NO_ERROR, CALM, PROTOCOL, COMPRESSION, FRAME_SIZE = 0x0, 0xB, 0x1, 0x9, 0x6
PING = frame(http2_frames.PING, 0, b"12345678")
SETTINGS = frame(http2_frames.SETTINGS)
PRIORITY = frame(http2_frames.PRIORITY, 1, bytes(4) + b"\x01")
UPDATE = frame(0x10, 0, (1).to_bytes(4) + b"i")
UNKNOWN = frame(0x77)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "library").mkdir()
    (folder / "library" / "short.txt").write_text("short\n")
    (folder / "headwater.toml").write_text(CONFIG)
    server = start_server("--config", "headwater.toml", "--library", "library", cwd=folder)
    yield server
    assert httpx.get(f"{server.url}/media/short.txt").text == "short\n"
    server.stop()


def header_frame(number: int, block: bytes, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, number, block, flags)


# :method GET, :scheme http, :path /, of HPACK's own table; :authority is a literal.
PLAIN = b"\x82\x86\x84\x41\x01a"


def ended(client: Http2Client) -> int | None:
    """Give the code by which the server has ended the connection."""
    client.until(lambda: client.goaway is not None or client.is_closed)
    return client.goaway


@pytest.mark.parametrize(
    "flood",
    [PING, SETTINGS, PRIORITY, UPDATE, UNKNOWN],
    ids=["ping", "settings", "priority", "update", "unknown"],
)
def test_a_flood_of_frames_that_carry_nothing(server: ServerProcess, flood: bytes) -> None:
    with Http2Client(server.url) as client:
        assert client.get("/media/short.txt").status == 200
        client.send(flood * 5_000)
        assert ended(client) == CALM


def test_a_flood_of_empty_bodies(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        number = client.request("/events/news", "POST")
        client.send(frame(DATA, number) * 5_000)
        client.until(lambda: client.goaway is not None or client.is_closed)
        assert client.goaway in (CALM, None)
        wait_for(lambda: _is_cut(client), "the end of the connection")


def _is_cut(client: Http2Client) -> bool:
    client.send(PING)
    return client.is_closed


@pytest.mark.clause("CVE-2023-44487")
def test_requests_that_are_cancelled_at_once(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 128)
        pairs = b""
        for number in range(1, 6_001, 2):
            cancel = frame(RST_STREAM, number, (8).to_bytes(4))
            pairs += header_frame(number, b"\x82\x86\x41\x01a\x44\x0c/events/news") + cancel
        client.send(pairs)
        assert ended(client) == CALM
    assert _readers(server) == 0


def _readers(server: ServerProcess) -> int:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return int(float(next(one for one in lines if one.startswith("headwater_events_readers{")).split()[-1]))


def test_a_player_that_seeks_is_no_flood(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        for _ in range(150):
            number = client.request("/events/news")
            client.h2.reset_stream(number, 8)
        client.flush()
        assert client.get("/media/short.txt").status == 200


def test_more_requests_than_are_allowed_at_once(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.send(
            b"".join(
                header_frame(number, b"\x82\x86\x41\x01a\x44\x0c/events/news") for number in range(1, 600, 2)
            )
        )
        assert ended(client) is not None
    wait_for(lambda: _readers(server) == 0, "the end of all readers")


@pytest.mark.clause("CVE-2024-27316")
def test_a_head_without_an_end(server: ServerProcess) -> None:
    """CONTINUATION frames that never end a block of header fields."""
    with Http2Client(server.url) as client:
        client.send(
            header_frame(1, PLAIN, END_STREAM) + frame(CONTINUATION, 1, b"\x40\x01a\x01b" * 100) * 2_000
        )
        assert ended(client) in (CALM, PROTOCOL)
    with Http2Client(server.url) as client:
        client.is_mute = True
        client.send(header_frame(1, PLAIN, END_STREAM))
        assert ended(client) == 0


def test_a_bomb_of_header_fields(server: ServerProcess) -> None:
    """One long field in the table, and thousands of references to it."""
    with Http2Client(server.url) as client:
        field = b"\x40\x01a\x7f\x81\x1e" + b"b" * 4_000
        client.send(header_frame(1, PLAIN + field + b"\xbe" * 10_000))
        assert ended(client) in (CALM, COMPRESSION, PROTOCOL)


def test_a_table_that_the_client_wants_to_be_huge(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.h2.update_settings({1: 2**32 - 1})
        client.flush()
        for _ in range(3):
            assert client.get("/media/short.txt", range="bytes=0-1").status == 206


def test_settings_that_nobody_knows(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.send(settings(*((number, 0) for number in range(100, 2_100))))
        assert ended(client) == CALM


def test_a_frame_that_comes_too_slowly(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        number = client.request("/events/news")
        client.until(lambda: client.answers[number].headers)
        client.is_mute = True
        client.send(header_frame(3, PLAIN)[:5])
        assert ended(client) == CALM
    with Http2Client(server.url) as client:
        assert ended(client) == 0


def test_frames_that_are_too_long(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.send(b"\x00\x40\x01\x00\x00" + (1).to_bytes(4) + bytes(100))
        assert ended(client) == FRAME_SIZE


@pytest.mark.parametrize(
    "block",
    [
        b"\x82\x86\x84\x41\x01a\x40\x01A\x01b",
        b"\x82\x86\x41\x01a",
        b"\x82\x82\x86\x84\x41\x01a",
        b"\x40\x01a\x01b\x82\x86\x84\x41\x01a",
        PLAIN + b"\x40\x0aconnection\x05close",
        PLAIN + b"\x40\x11transfer-encoding\x07chunked",
        PLAIN + b"\x40\x01a\x03b\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x86\x44\x00\x41\x01a",
    ],
)
def test_heads_that_break_the_rules(server: ServerProcess, block: bytes) -> None:
    with Http2Client(server.url) as client:
        client.send(header_frame(1, block))
        assert ended(client) in (PROTOCOL, COMPRESSION)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"\x82\x86\x84\x41\x03a b", "400"),
        (b"\x82\x86\x44\x05media\x41\x01a", "400"),
        (b"\x82\x86\x44\x03/\xc3\xa4\x41\x01a", "400"),
        (b"\x82\x86\x44\x03/ a\x41\x01a", "400"),
        (b"\x42\x03G T\x86\x84\x41\x01a", "400"),
        (b"\x42\x03G\xc3T\x86\x84\x41\x01a", "400"),
        (b"\x42\x07OPTIONS\x86\x44\x01*\x41\x01a", "204"),
        (b"\x42\x07CONNECT\x41\x03a:1", "501"),
        (b"\x82\x86\x41\x01a\x44\x7f\xa2\x45/" + b"x" * 8_992, "414"),
        (PLAIN + b"\x40\x01a\x01b" + b"\xbe" * 200, "431"),
        (PLAIN + literal(b"a", b"b\x01", 0), "400"),
        (PLAIN + literal(b"a", b"b\x7f", 0), "400"),
        (PLAIN + literal(b"a(b", b"c", 0), "400"),
        (PLAIN + literal(b"content-length", b"5", 0), "400"),
        (PLAIN + literal(b"content-length", b"0", 0) * 2, "400"),
        (PLAIN + literal(b"content-length", b"0" * 19, 0), "400"),
    ],
)
def test_requests_that_are_refused(server: ServerProcess, block: bytes, status: str) -> None:
    with Http2Client(server.url) as client:
        client.get("/media/short.txt")
        answer = client.answers[3] = Answer()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
        client.h2.send_headers(3, fields, end_stream=True)
        client.h2.data_to_send()
        client.send(header_frame(3, block))
        client.until(lambda: answer.is_over)
        assert answer.headers[":status"] == status


def test_others_are_answered_while_a_client_floods(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.send(PING * 500)
        assert httpx.get(f"{server.url}/media/short.txt").text == "short\n"


@pytest.mark.parametrize(
    ("kind", "count"), [(http2_frames.PING, QUICK_FRAMES), (RST_STREAM, QUICK_FRAMES // RESET_FRAMES)]
)
def test_a_connection_with_many_frames_that_carry_nothing_has_to_wait(kind: int, count: int) -> None:
    budget = FrameBudget(1_000, lambda: 0.0)
    head = FrameHead(8, kind, 0, 0)
    assert all(budget.admits(head) and not budget.is_hasty for _ in range(count))
    assert budget.admits(head)
    assert budget.is_hasty
    # Those that open windows for what the server has sent are none of them.
    budget.sent(QUICK_FRAMES)
    assert budget.admits(head)
    assert not budget.is_hasty


def _connection(server: ServerProcess, source: str) -> Http2Client:
    host, port = server.url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), CLIENT_SECONDS, (source, 0))
    return Http2Client(server.url, sock=made)


def _seconds_of_an_answer(server: ServerProcess, source: str) -> float:
    began = time.monotonic()
    with _connection(server, source) as client:
        assert bytes(client.get("/media/short.txt").body) == b"short\n"
        return time.monotonic() - began


def test_the_next_connection_of_a_client_that_has_flooded_is_answered_later(server: ServerProcess) -> None:
    def seconds_behind_a_flood() -> float:
        with _connection(server, "127.2.0.1") as client:
            client.send(PING * 5_000)
            # Even where the server comes to the end of the time for a request before that of the flood.
            assert ended(client) == CALM
        return _seconds_of_an_answer(server, "127.2.0.1")

    # A timer may be early by the clock's resolution; a client isn't suspect for ever.
    wait_for(lambda: seconds_behind_a_flood() > 0.9 * SUSPECT_SECONDS, "an answer that is late")
    assert httpx.get(f"{server.url}/media/short.txt").text == "short\n"


def test_the_next_connection_of_a_client_that_has_asked_for_nothing_is_answered_at_once(
    server: ServerProcess,
) -> None:
    def seconds_behind_a_pause() -> float:
        with _connection(server, "127.2.1.1") as client:
            assert ended(client) == NO_ERROR
        return _seconds_of_an_answer(server, "127.2.1.1")

    # A slow machine takes so long now and then, but not each time.
    wait_for(lambda: seconds_behind_a_pause() < 0.9 * SUSPECT_SECONDS, "an answer that isn't late")


def test_a_connection_that_has_to_wait_is_answered_all_the_same(server: ServerProcess) -> None:
    with Http2Client(server.url) as client:
        client.send(PING * 3 * QUICK_FRAMES)
        assert bytes(client.get("/media/short.txt").body) == b"short\n"
