"""Hostile input to HTTP: framing, heads, protocols that this isn't."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tests.conformance.conftest import Running, serving


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def echoing(media_library: Path) -> Iterator[Running]:
    with serving(echo, media_library, "uvloop") as running:
        yield running


SECOND = "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.clause(
    "RFC 9112 §5.1",
    "RFC 9112 §5.2",
    "RFC 9112 §6.1",
    "RFC 9112 §6.3",
    "CWE-444",
    "RFC 9110 §8.6",
    "RFC 9112 §2.2",
    "RFC 9112 §5",
)
@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 18446744073709551616",
        "Content-Length: 5, 5",
        "Content-Length : 4",
        "X: a\r\n folded",
        "X: a\rb",
        "X: a\0b",
        "X y: a",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_answered(
    echoing: Running, fields: str, method: str
) -> None:
    with echoing.connect() as client:
        client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SECOND}")
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §6.1", "CWE-444")
def test_a_transfer_coding_that_is_not_known_is_501(echoing: Running) -> None:
    with echoing.connect() as client:
        client.send(
            f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{SECOND}"
        )
        assert client.answer().status == 501
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §2.2", "RFC 9112 §5")
@pytest.mark.parametrize(
    "request_head",
    [
        "GET /media/film.mp4 HTTP/1.1\nHost: a\n\n",
        "GET /media/film.mp4 HTTP/1.1\r\nHost: a\n\n",
        "PUT /radio/x HTTP/1.1\nHost: a\n\n",
    ],
)
def test_lines_end_with_crlf(origin: Running, request_head: str) -> None:
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        client.send(request_head)
        assert client.answer().status == 400


@pytest.mark.clause("RFC 9112 §7.1", "CVE-2025-43859")
@pytest.mark.parametrize(
    "chunks",
    ["0x5\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "5\nhello\n", "5\r\nhelloXX", "fffffffffffffffff\r\n"],
)
def test_a_chunk_that_is_none_never_becomes_a_body(echoing: Running, chunks: str) -> None:
    with echoing.connect() as client:
        client.send(
            f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n{SECOND}"
        )
        answer = client.answer()
        assert (answer.status, answer["connection"]) == (400, "close")
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §7.1.1", "RFC 9112 §7.1", "CVE-2025-43859")
def test_what_stands_around_chunks_is_limited(echoing: Running) -> None:
    """One endless chunk extension; many small chunks are a body like any other."""
    post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with echoing.connect() as client:
        client.send(f"{post}5;{'x' * 40_000}")
        assert client.answer().status == 400
        assert client.is_closed()
    with echoing.connect() as client:
        client.send(post + "1;a=b\r\nx\r\n" * 20_000 + "0\r\n\r\n")
        assert client.answer().body == b"x" * 20_000
        assert client.ask("/").status == 200


@pytest.mark.clause("RFC 9112 §8", "RFC 9112 §9.3.2", "RFC 9112 §7.1", "CVE-2025-43859")
def test_a_faulty_body_is_answered_once_and_in_its_turn(origin: Running) -> None:
    """Behind the answers before it, and not again where its request has its own."""
    post = "POST /media/film.mp4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = "GET /media/small.mp3 HTTP/1.1\r\nHost: a\r\n\r\n"
    with origin.connect() as client:
        client.send(f"{first}{post}zz\r\n{SECOND}")
        assert [client.answer().status for _ in range(2)] == [200, 400]
        assert client.is_closed()
    with origin.connect() as client:
        client.send(post)
        assert client.answer().status == 405
        client.send(f"zz\r\n{SECOND}")
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §3.2", "RFC 9112 §2.2", "RFC 9112 §5", "RFC 9112 §2.3")
@pytest.mark.parametrize(
    "head",
    [
        "GET {} HTTP/1.1\r\nRange: bytes=0-1\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: [::\r\n\r\n",
        "GET {}\r\n\r\n",
        "GET {} HTTP/0.9\r\nHost: a\r\n\r\n",
        "GET {} HTTP/1.9\r\nHost: a\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    ],
)
def test_a_faulty_head_for_a_file_that_is_open_is_refused_like_any_other(origin: Running, head: str) -> None:
    with origin.connect() as client:
        assert client.ask("/media/film.mp4", method="HEAD").status == 200
        client.send(head.format("/media/film.mp4"))
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §2.3")
@pytest.mark.parametrize(
    "data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
)
def test_another_protocol_is_refused_at_once(
    origin: Running, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An HTTP/2 preface, and a TLS ClientHello on the plain port."""
    with origin.connect() as client:
        client.send(data)
        assert client.rest()[:9] in (b"HTTP/1.1 ", b"")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.clause("CVE-2023-44487", "CVE-2024-27316", "CVE-2025-8671")
@pytest.mark.parametrize(
    "frames",
    [
        # RFC 9113 §4.1: 24 bits of length, type, flags, stream. HEADERS and RST_STREAM of 1,000 streams.
        b"".join(
            b"\0\0\1\1\5" + stream + b"\x82" + b"\0\0\4\3\0" + stream + b"\0\0\0\x08"
            for stream in (number.to_bytes(4, "big") for number in range(1, 2001, 2))
        ),
        # HEADERS without their end, and CONTINUATION after CONTINUATION.
        b"\0\0\1\1\1\0\0\0\1\x82" + b"\0\x10\0\x09\0\0\0\0\1" * 64 + bytes(4096) * 64,
        # WINDOW_UPDATE of nothing, by which a server is made to reset its own streams.
        b"\0\0\1\1\5\0\0\0\1\x82" + b"\0\0\4\x08\0\0\0\0\1\0\0\0\0" * 2000,
    ],
    ids=["rapid reset", "continuation flood", "made you reset"],
)
def test_frames_of_http_2_are_refused_once_and_never_read(origin: Running, frames: bytes) -> None:
    """Who speaks no HTTP/2 has no streams to be reset."""
    with origin.connect() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        with contextlib.suppress(ConnectionError):
            client.send(frames)
        said = client.rest()
        assert said.count(b"HTTP/1.1 ") <= 1
        assert said[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 505 ", b"")


@pytest.mark.clause("RFC 9110 §7.8", "CVE-2023-44487", "CVE-2024-27316", "CVE-2025-8671")
def test_an_upgrade_to_http_2_is_not_taken(origin: Running) -> None:
    """It is answered in HTTP/1.1, and what follows as HTTP/2 isn't read."""
    with origin.connect() as client:
        answer = client.ask(
            "/media/small.mp3",
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        )
        assert (answer.status, answer.body) == (200, b"0123456789")
        assert "upgrade" not in answer
        with contextlib.suppress(ConnectionError):
            client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.is_closed()


@pytest.mark.clause("RFC 6585 §5", "RFC 9110 §15.5.15")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * (1 << 20), 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "X: 12345\r\n" * 20_000, 431),
        ("GET /" + "x" * (64 << 10), 414),
        ("GET /" + "x" * (1 << 20), 414),
    ],
)
def test_heads_beyond_the_limits_are_refused_while_they_come(origin: Running, head: str, status: int) -> None:
    with origin.connect() as client:
        sender = threading.Thread(target=_send_what_goes, args=(client.socket, head.encode()))
        sender.start()
        assert client.answer().status == status
        client.socket.close()
        sender.join()


def _send_what_goes(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


@pytest.mark.clause("RFC 9110 §7.8")
def test_what_follows_an_upgrade_is_no_second_request(origin: Running) -> None:
    with origin.connect() as client:
        client.send(
            "GET /media/small.mp3 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Content-Length: {len(SECOND)}\r\n\r\n{SECOND}{SECOND}"
        )
        assert client.answer().body == b"0123456789"
        assert client.is_closed()
