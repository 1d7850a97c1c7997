"""Hostile input to HTTP and to files, group by group; each test names its rows of `hostile.py`."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from starlette.types import Receive, Scope, Send

from origin.byteranges import WHOLE, select
from origin.server import bind
from origin.wire import WireLimits
from tests.conformance.conftest import FILM, Running, files_wing, serving
from tests.conformance.raw import PATIENCE, wait_for

HASTY = WireLimits(header_seconds=1.0, stalled_seconds=2.0, linger_seconds=0.2, connections=450)
SLOW_CLIENTS = 400


@pytest.fixture(scope="module", params=["application", "shortcut"])
def origin(request: pytest.FixtureRequest, media_library: Path) -> Iterator[Running]:
    wing = files_wing(media_library)
    shortcuts = wing.shortcuts if request.param == "shortcut" else None
    with serving(wing.app, media_library, "uvloop", shortcuts=shortcuts, at_end=wing.close) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with little patience, and a file that no socket's buffers can hold."""
    library = tmp_path_factory.mktemp("library")
    (library / "film.mp4").write_bytes(FILM)
    with (library / "big.mp4").open("wb") as file:
        file.truncate(4 << 30)
    for path in library.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    wing = files_wing(library)
    with serving(wing.app, library, "uvloop", HASTY, shortcuts=wing.shortcuts, at_end=wing.close) as running:
        yield running


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
    """A1 to A3, A5; RFC 9112 §5.1, §5.2, §6.1, §6.3."""
    with echoing.connect() as client:
        client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SECOND}")
        assert client.answer().status == 400
        assert client.is_closed()


def test_a_transfer_coding_that_is_not_known_is_501(echoing: Running) -> None:
    """A2; RFC 9112 §6.1."""
    with echoing.connect() as client:
        client.send(
            f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{SECOND}"
        )
        assert client.answer().status == 501
        assert client.is_closed()


@pytest.mark.parametrize(
    "request_head",
    ["GET /media/film.mp4 HTTP/1.1\nHost: a\n\n", "GET /media/film.mp4 HTTP/1.1\r\nHost: a\n\n"],
)
def test_lines_end_with_crlf(origin: Running, request_head: str) -> None:
    """A5; RFC 9112 §2.2."""
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        client.send(request_head)
        assert client.answer().status == 400


@pytest.mark.parametrize(
    "chunks",
    ["0x5\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "5\nhello\n", "5\r\nhelloXX", "fffffffffffffffff\r\n"],
)
def test_a_chunk_that_is_none_never_becomes_a_body(echoing: Running, chunks: str) -> None:
    """A4; RFC 9112 §7.1."""
    with echoing.connect() as client:
        client.send(
            f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n{SECOND}"
        )
        assert b"hello" not in client.rest()


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
    """A5 to A7; RFC 9112 §3.2."""
    with origin.connect() as client:
        assert client.ask("/media/film.mp4", method="HEAD").status == 200
        client.send(head.format("/media/film.mp4"))
        assert client.answer().status in (400, 505)
        assert client.is_closed()


@pytest.mark.parametrize(
    "data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
)
def test_another_protocol_is_refused_at_once(
    origin: Running, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A7: an HTTP/2 preface, and a TLS ClientHello on the plain port."""
    with origin.connect() as client:
        client.send(data)
        assert client.rest()[:9] in (b"HTTP/1.1 ", b"")
    assert not [record for record in caplog.records if record.exc_info]


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
    """A8; RFC 6585 §5, RFC 9110 §15.5.15."""
    with origin.connect() as client:
        sender = threading.Thread(target=_send_what_goes, args=(client.socket, head.encode()))
        sender.start()
        assert client.answer().status == status
        client.socket.close()
        sender.join()


def _send_what_goes(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


def test_slow_heads_are_timed_out_and_others_are_served_meanwhile(hasty: Running) -> None:
    """A9, A10: some send a line now and then, some nothing at all."""
    slow = [socket.create_connection(hasty.address) for _ in range(SLOW_CLIENTS)]
    try:
        for sock in slow[::2]:
            sock.send(b"GET / HTTP/1.1\r\n")
        with hasty.connect() as other:
            deadline = time.monotonic() + 3 * HASTY.header_seconds
            while time.monotonic() < deadline:
                assert other.ask("/media/film.mp4", "Range: bytes=0-9").body == FILM[:10]
                for sock in slow[::2]:
                    _send_what_goes(sock, b"X: y\r\n")
                time.sleep(0.2)
        wait_for(lambda: not hasty.server.server_state.connections, "all slow clients to be gone")
        slow[0].settimeout(5)
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")
    finally:
        for sock in slow:
            sock.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up(hasty: Running) -> None:
    """A12; line 20 and 23: of 4 GiB each; who takes nothing is dropped."""
    with hasty.connect() as other:
        assert other.ask("/media/film.mp4").body == FILM
        before = resident_bytes()
        slow = []
        for _ in range(SLOW_CLIENTS):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(hasty.address)
            sock.send(b"GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            slow.append(sock)
        try:
            assert other.ask("/media/film.mp4").body == FILM
            assert (resident_bytes() - before) / SLOW_CLIENTS < 64 << 10
            assert len(hasty.server.server_state.tasks) < SLOW_CLIENTS // 2
            other.socket.close()
            wait_for(lambda: not hasty.server.server_state.connections, "all slow readers to be gone")
            wait_for(lambda: hasty.open_files() == 0, "their files to be closed")
        finally:
            for sock in slow:
                sock.close()


def test_a_thousand_pipelined_requests_are_answered_in_order_and_cost_no_memory(origin: Running) -> None:
    """A13: while their client doesn't read, those behind wait unread, and it isn't read from either."""
    with origin.connect(receive_buffer=4096) as client:
        for target in ("film.mp4", "small.mp3"):
            client.ask(f"/media/{target}", method="HEAD")
        pair = b"".join(
            b"GET /media/%b HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in (b"film.mp4", b"small.mp3")
        )
        client.socket.setblocking(False)
        sent, before, quiet_since = 0, resident_bytes(), time.monotonic()
        while time.monotonic() - quiet_since < 1:
            try:
                sent += client.socket.send((pair * 500)[sent % len(pair) :])
                quiet_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert resident_bytes() - before < 8 << 20
        client.socket.settimeout(PATIENCE)
        for _ in range(20):
            assert client.answer().body == FILM
            assert client.answer().body == b"0123456789"


def test_what_follows_an_upgrade_is_no_second_request(origin: Running) -> None:
    """A15."""
    with origin.connect() as client:
        client.send(
            "GET /media/small.mp3 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Content-Length: {len(SECOND)}\r\n\r\n{SECOND}{SECOND}"
        )
        assert client.answer().body == b"0123456789"
        assert client.is_closed()


@pytest.mark.parametrize(
    "field", ["bytes=" + ",".join(f"{n}-{n}" for n in range(0, 18_000, 2)), "bytes=" + "0-," * 34_000]
)
def test_thousands_of_ranges_are_ignored_in_linear_time(field: str) -> None:
    """B1: ten times the ranges cost about ten times the time, and in all less than 5 ms."""
    started = time.process_time()
    for _ in range(10):
        assert select(field, 1 << 40) == WHOLE
    assert (time.process_time() - started) / 10 < 0.005


def test_overlapping_ranges_never_send_more_than_the_file(origin: Running) -> None:
    """B2: within the header's limit."""
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        answer = client.ask("/media/film.mp4", "Range: bytes=" + "0-," * 1000)
        assert (answer.status, len(answer.body)) == (200, len(FILM))


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("bytes=0-18446744073709551615", 206),
        (f"bytes=-{2**70}", 206),
        ("bytes=0-1_0", 200),
        ("bytes=\u0660-1", 200),
        ("bytes=0x1-2", 200),
        ("bytes= 1 - 2 ", 200),
        ("bytes= 0-1", 200),
    ],
)
def test_numbers_are_digits_of_any_length(origin: Running, field: str, status: int) -> None:
    """B3; RFC 9110 §14.1.1: the first range follows the "=" without a space."""
    with origin.connect() as client:
        client.ask("/media/film.mp4", method="HEAD")
        client.send(f"GET /media/film.mp4 HTTP/1.1\r\nHost: a\r\nRange: {field}\r\n\r\n".encode())
        answer = client.answer()
        assert (answer.status, answer.body) == (status, FILM)


def test_a_malformed_list_of_tags_neither_matches_nor_fails_the_request(origin: Running) -> None:
    """Line 15; RFC 9110 §13.1.1."""
    with origin.connect() as client:
        for field in ("If-Match: bad", 'If-Match: "a" "b"', "If-None-Match: bad", 'If-None-Match: "'):
            assert client.ask("/media/film.mp4", field).status == 200


def test_a_sibling_of_the_library_is_not_in_it(tmp_path: Path) -> None:
    """B6: CVE-2023-29159."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library-secret").mkdir()
    (tmp_path / "library-secret" / "x").write_bytes(b"secret")
    wing = files_wing(tmp_path / "library")
    with (
        serving(wing.app, tmp_path, "uvloop", shortcuts=wing.shortcuts, at_end=wing.close) as running,
        running.connect() as client,
    ):
        for path in ("../library-secret/x", "..%2flibrary-secret/x", "%2e%2e/library-secret/x", "-secret/x"):
            assert client.ask(f"/media/{path}").status == 404


def test_links_that_go_in_circles_and_files_of_others_are_not_there(tmp_path: Path) -> None:
    """B7, B8, B10."""
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "passwd.mp4").symlink_to("/etc/passwd")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket.mp4"))
        wing = files_wing(tmp_path)
        with (
            serving(wing.app, tmp_path, "uvloop", shortcuts=wing.shortcuts, at_end=wing.close) as running,
            running.connect() as client,
        ):
            for path in ("loop.mp4", "passwd.mp4", "device.mp4", "socket.mp4", ".git/config"):
                assert client.ask(f"/media/{path}").status == 404


@pytest.mark.parametrize("method", ["PROPFIND", "TRACE", "X" * 10_000])
def test_methods_that_no_file_has(origin: Running, method: str) -> None:
    """B11; RFC 9110 §9.3.8: nothing is echoed."""
    with origin.connect() as client:
        client.send(f"{method} /media/film.mp4 HTTP/1.1\r\nHost: a\r\nSecret: canary\r\n\r\n")
        answer = client.answer()
        assert answer.status in (400, 405, 501)
        assert b"canary" not in answer.body
        if answer.status == 405:
            assert answer["allow"] == "GET, HEAD, OPTIONS"


def test_a_file_larger_than_any_disk_has_its_last_bytes(tmp_path: Path) -> None:
    """B12; RFC 9110 §14.1.1: positions beyond 2^42."""
    size = 8 << 40
    path = tmp_path / "sparse.mp4"
    with path.open("wb") as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("no file of 8 TiB on this file system")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    wing = files_wing(tmp_path)
    with (
        serving(wing.app, tmp_path, "uvloop", shortcuts=wing.shortcuts, at_end=wing.close) as running,
        running.connect() as client,
    ):
        for _ in range(2):
            answer = client.ask("/media/sparse.mp4", "Range: bytes=-5")
            assert answer["content-range"] == f"bytes {size - 5}-{size - 1}/{size}"
            assert answer.body == bytes(5)


def test_connections_beyond_the_limit_are_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    """L1, L4: 503, then room again as soon as one leaves."""
    (tmp_path / "film.mp4").write_bytes(FILM)
    wing = files_wing(tmp_path)
    limits = WireLimits(connections=3)
    with serving(
        wing.app, tmp_path, "uvloop", limits, shortcuts=wing.shortcuts, at_end=wing.close
    ) as running:
        clients = [running.connect() for _ in range(3)]
        assert [client.ask("/media/film.mp4").status for client in clients] == [200] * 3
        with running.connect() as excess:
            assert excess.ask("/media/film.mp4").status == 503
            assert excess.is_closed()
        clients.pop().socket.close()
        wait_for(lambda: len(running.server.server_state.connections) == 2, "the client to be gone")
        with running.connect() as next_one:
            assert next_one.ask("/media/film.mp4").status == 200
        for client in clients:
            client.socket.close()


def test_connections_to_a_vanished_client_are_noticed_by_the_kernel() -> None:
    """L12: every connection inherits it from the listening socket."""
    (listening,) = bind("127.0.0.1", 0, unacknowledged_seconds=25)
    with listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            connection, _ = listening.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                idle, interval, count = (
                    connection.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
                assert idle + interval * count <= 40


def test_a_client_of_a_kilobyte_a_second_makes_progress(tmp_path: Path) -> None:
    """Lines 20 and 23: though the kernel's buffer asks for nothing for minutes."""
    with (tmp_path / "big.mp4").open("wb") as file:
        file.truncate(1 << 30)
    wing = files_wing(tmp_path)
    limits = WireLimits(stalled_seconds=1.0, header_seconds=0.5)
    with (
        structlog.testing.capture_logs() as logs,
        serving(wing.app, tmp_path, "uvloop", limits, shortcuts=wing.shortcuts, at_end=wing.close) as running,
        running.connect(receive_buffer=4096) as client,
    ):
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert client.socket.recv(2000)
            time.sleep(0.1)
    assert not logs
