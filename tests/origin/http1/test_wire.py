"""The protocol class, asked over real sockets: heads, limits, framing, and applications that fail."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tests.conformance.conftest import FILM, Loop, Running, serving


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's body, without saying how long that is."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


# Heads that are refused


@pytest.mark.clause(
    "RFC 9112 §2.2",
    "RFC 9112 §3",
    "RFC 9112 §3.2",
    "RFC 9112 §5.2",
    "RFC 9112 §6.1",
    "RFC 9112 §6.3",
    "RFC 6585 §5",
    "CWE-444",
    "RFC 9112 §2.3",
)
@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400),
        ("GET /\r\n", 400),
        ("GET /\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/0.9\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("GET http:///small.mp3 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a:b/small.mp3 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (f"GET /{'x' * 8192} HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX: {'x' * 32768}\r\n\r\n", 431),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX: {'x' * 32768}", 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 100 + "\r\n", 431),
    ],
)
def test_a_faulty_head_is_refused_and_the_connection_closed(
    origin: Running, request_text: str, status: int
) -> None:
    with origin.connect() as client:
        client.send(request_text)
        answer = client.answer()
        assert answer.status == status
        assert answer["connection"] == "close"
        assert client.is_closed()


@pytest.mark.clause("RFC 9110 §7.2")
@pytest.mark.parametrize("host", ["a", "a:80", "127.0.0.1:80", "[::1]:80", "[::f:1.2.3.4]", "[v1.f]", ""])
def test_a_right_host_is_accepted(origin: Running, host: str) -> None:
    with origin.connect() as client:
        client.send(f"GET /media/small.mp3 HTTP/1.1\r\nHost: {host} \r\n\r\n")
        assert client.answer().status == 200


@pytest.mark.clause("RFC 9112 §3")
def test_the_largest_allowed_head_is_accepted_in_any_cutting(origin: Running) -> None:
    """Limits are limits of the head, not of how it arrives."""
    fields = "".join(f"X-{number}: {'y' * 310}\r\n" for number in range(98))
    request = f"GET /media/small.mp3?{'q' * 8000} HTTP/1.1\r\nHost: a\r\n{fields[:22000]}\r\n\r\n"
    with origin.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 997):
            client.send(request[start : start + 997])
        assert client.answer().status == 200


@pytest.mark.clause("RFC 6585 §5")
def test_a_field_without_end_is_refused_while_it_comes(origin: Running) -> None:
    """Long before its end, which need never come."""
    with origin.connect() as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
        sent = 0
        with contextlib.suppress(ConnectionError):  # of a client that noticed late
            while not select.select([client.socket], [], [], 0.01)[0]:
                sent += client.socket.send(b"x" * 16384)
        assert client.answer().status == 431
        # What the limit lets through, and what lay in the buffers when it was reached.
        assert sent < 2 * 1024 * 1024


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_a_refusal_waits_for_the_answers_before_it(origin: Running) -> None:
    """Also when the bad request arrives while a file is being sent."""
    with origin.connect() as client:
        client.send("GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + "GET / HTTP/1.1\r\n\r\n")
        assert client.answer().body == FILM
        assert client.answer().body == FILM
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §2.2", "CWE-444")
@pytest.mark.parametrize("field", ["Content-Length: 0\r\n", ""])
def test_behind_a_source_no_head_with_bare_line_feeds_is_a_request(origin: Running, field: str) -> None:
    """The parser is lenient with source clients; a proxy in front may see other requests there than we do."""
    smuggled = "GET /media/small.mp3 HTTP/1.1\nHost: a\n\n"
    with origin.connect() as client:
        client.send(f"SOURCE /media/film.mp4 HTTP/1.1\r\nHost: a\r\n{field}\r\n{smuggled}{smuggled}")
        assert client.answer().status in (400, 404, 405)
        assert client.is_closed()


@pytest.mark.clause("RFC 9112 §9.3.2", "RFC 9112 §9.6")
def test_pipelined_requests_of_a_client_that_ends_its_side_are_all_answered(origin: Running) -> None:
    """As ``printf … | nc`` asks; also behind a body, and cut anywhere."""
    requests = (
        b"GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n\r\n\r\nbody\n"
        + b"GET /media/small.mp3 HTTP/1.1\r\nHost: a\r\n\r\n" * 3
    )
    for size in (1, 50, 64, len(requests)):
        with origin.connect() as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(requests), size):
                client.send(requests[start : start + size])
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().body == FILM
            assert [client.answer().body for _ in range(3)] == [b"0123456789"] * 3
            assert client.is_closed()


# Times


@pytest.mark.clause("RFC 9110 §15.5.9")
def test_a_head_that_does_not_come_to_its_end_is_timed_out(hasty: Running) -> None:
    """However steadily its bytes drip."""
    with hasty.connect() as client:
        client.send("GET / HTTP/1.1\r\n")
        stop = threading.Event()

        def drip() -> None:
            try:
                while not stop.wait(0.05):
                    client.send("X: y\r\n")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert client.answer().status == 408
        finally:
            stop.set()
            thread.join()


@pytest.mark.clause("RFC 9112 §9.5", "A connection without a request is closed")
def test_a_connection_without_a_request_is_closed_without_a_word(hasty: Running) -> None:
    """Browsers open connections before they need them."""
    with hasty.connect() as client:
        assert client.rest() == b""


@pytest.mark.clause("RFC 9112 §9.5")
def test_an_idle_connection_is_closed(library: Path, loop: Loop) -> None:
    """Empty lines don't keep it open."""
    with serving(echo, library, loop, keep_alive=1) as running, running.connect() as client:
        assert client.ask("/").status == 200
        client.send("\r\n")
        assert client.is_closed()


# Framing


@pytest.mark.clause("RFC 9112 §7.1")
def test_a_body_of_unknown_length_is_chunked_for_http_1_1(library: Path, loop: Loop) -> None:
    with serving(echo, library, loop) as running, running.connect() as client:
        for _ in range(2):
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            answer = client.answer()
            assert (answer["transfer-encoding"], answer.body) == ("chunked", b"hello")


@pytest.mark.clause("RFC 9112 §6.1", "RFC 9112 §6.3")
def test_a_body_of_unknown_length_ends_with_the_connection_for_http_1_0(library: Path, loop: Loop) -> None:
    with serving(echo, library, loop) as running, running.connect() as client:
        client.send("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
        answer = client.answer()
        assert "transfer-encoding" not in answer
        assert answer["connection"] == "close"
        assert answer.body == b"hello"


@pytest.mark.clause("RFC 9110 §10.1.1")
def test_a_client_that_waits_for_leave_to_send_gets_it(library: Path, loop: Loop) -> None:
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    with serving(patient, library, loop) as running, running.connect() as client:
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send("hello")
        assert client.answer().body == b"hello"


@pytest.mark.clause("RFC 9110 §7.8")
def test_an_upgrade_that_is_not_taken_is_an_ordinary_request(origin: Running) -> None:
    """As curl --http2 asks. Nothing after it would be understood, and the answer says so."""
    with origin.connect() as client:
        answer = client.ask("/media/small.mp3", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
        assert (answer.status, answer["connection"], answer.body) == (200, "close", b"0123456789")
        assert client.is_closed()


@pytest.mark.clause("RFC 9110 §6.5.1")
def test_trailer_fields_are_not_header_fields(library: Path, loop: Loop) -> None:
    async def names(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        body = b",".join(name for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with serving(names, library, loop) as running, running.connect() as client:
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSecret: x\r\n\r\n")
        assert client.answer().body == b"host,transfer-encoding"


@pytest.mark.clause("RFC 9112 §7.1")
def test_a_body_that_stops_making_sense_ends_the_connection(library: Path, loop: Loop) -> None:
    """The application isn't left waiting."""
    seen: list[str] = []

    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
        seen.append("disconnect")
        await send({"type": "http.response.start", "status": 400, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    with serving(reader, library, loop) as running, running.connect() as client:
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert client.answer().status == 400
        assert client.is_closed()
    assert seen == ["disconnect"]


@pytest.mark.parametrize("half", [True, False])
def test_an_application_that_waits_hears_that_its_client_has_gone(
    library: Path, loop: Loop, half: bool
) -> None:
    """ASGI: http.disconnect, also for a client that has only ended its side."""
    waiting, gone = threading.Event(), threading.Event()

    async def waiter(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        waiting.set()
        assert (await receive())["type"] == "http.disconnect"
        gone.set()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serving(waiter, library, loop) as running, running.connect() as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert waiting.wait(20)
        if half:
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer().status == 204
        else:
            client.socket.close()
        assert gone.wait(20)


def test_an_application_that_answers_nobody_who_left_is_no_error(
    library: Path, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever ends its side while the answer is awaited is told nothing, and leaves no line in the log."""
    waiting = threading.Event()

    async def waiter(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        waiting.set()
        assert (await receive())["type"] == "http.disconnect"

    with serving(waiter, library, loop) as running, running.connect() as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert waiting.wait(20)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.clause("RFC 9110 §15.6.1")
def test_a_failing_application_is_a_500_and_one_log_line(
    library: Path, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    with serving(broken, library, loop) as running, running.connect() as client:
        answer = client.ask("/")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert (answer["cache-control"], answer["connection"]) == ("no-store", "close")
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "Exception in ASGI application\n"
    ]


@pytest.mark.clause("RFC 9110 §5.5", "CWE-113")
def test_a_header_field_cannot_be_split(library: Path, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """CR, LF and NUL in a value are a server's fault, never two fields."""

    async def careless(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"x", b"a\r\nset-cookie: b")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})

    with serving(careless, library, loop) as running, running.connect() as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"set-cookie" not in client.rest()
