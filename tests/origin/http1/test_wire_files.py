"""Files on the wire while things go wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from pathlib import Path

import pytest
import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from origin.answers.asgi import ZERO_COPY
from origin.files.handler import FileHandler, file_routes
from origin.http1.limits import HttpLimits
from packager.library.local_storage import Library
from tests.certificates import self_signed
from tests.conformance.conftest import FILM, Loop, Running, serving
from tests.origin.conftest import BIG, HASTY, make_big
from tests.waiting import wait_for


@pytest.mark.clause("A file's bytes are sent in bounded steps, past whatever waits before them")
@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
def test_file_bytes_and_other_bytes_keep_their_order(library: Path, loop: Loop, announced: bool) -> None:
    """Whatever is still in the transport's buffer goes first, for a slow reader too."""
    before, after = b"<" * 3_000_000, b">" * 1_000_000

    async def mixed(scope: Scope, receive: Receive, send: Send) -> None:
        headers = []
        if announced:
            length = len(before) + 2 * len(FILM) - 1000 + len(after)
            headers = [(b"content-length", str(length).encode())]
        file = await asyncio.to_thread(os.open, library / "film.mp4", os.O_RDONLY)
        part = {"type": ZERO_COPY, "file": file, "more_body": True}
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": before, "more_body": True})
        await send({**part, "offset": 1000, "count": len(FILM) - 1000})
        await send({**part, "offset": 0, "count": len(FILM)})
        await send({"type": "http.response.body", "body": after})
        os.close(file)

    with serving(mixed, library, loop) as running, running.connect(receive_buffer=8192) as client:
        for _ in range(2):
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().body == before + FILM[1000:] + FILM + after


def test_ranges_that_touch_any_number_of_pages_are_whole(origin: Running) -> None:
    """A packet has room for 17 pages, the header's among them: ranges around that leave in several calls."""
    data = os.urandom(300_000)
    (origin.library / "pages.mp4").write_bytes(data)
    with origin.connect() as client:
        for offset in (0, 1, 2048, 4095, 4096, 12_345):
            for length in (1, 4096, 4097, 16_384, 61_440, 65_535, 65_536, 65_537, 131_072, 135_168, 200_000):
                answer = client.ask("/media/pages.mp4", f"Range: bytes={offset}-{offset + length - 1}")
                assert (answer.status, answer.body) == (206, data[offset : offset + length])


def test_a_range_is_cut_where_the_file_ends_between_its_packets(library: Path, loop: Loop) -> None:
    """The file has become shorter: what there is goes out, and the connection ends short of its promise."""
    (library / "shrinking.mp4").write_bytes(bytes(200_000))

    async def promise_more(scope: Scope, receive: Receive, send: Send) -> None:
        file = await asyncio.to_thread(os.open, library / "shrinking.mp4", os.O_RDONLY)
        os.truncate(library / "shrinking.mp4", 20_000)
        part = {"type": ZERO_COPY, "file": file, "offset": 5, "count": 65_536}
        await send({"type": "http.response.start", "status": 206, "headers": [(b"content-length", b"65536")]})
        try:
            await send(part)
        finally:
            os.close(file)

    with serving(promise_more, library, loop) as running, running.connect() as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head, _, body = client.rest().partition(b"\r\n\r\n")
        assert b"content-length: 65536" in head
        assert body == bytes(20_000 - 5)


@pytest.mark.clause(
    "A file's bytes are sent in bounded steps, past whatever waits before them",
    "A slow reader costs little and holds nobody up",
)
def test_a_slow_reader_of_a_large_file_holds_nobody_up(origin: Running) -> None:
    """Others are answered while its bytes wait."""
    with origin.connect(receive_buffer=4096) as slow, origin.connect() as other:
        slow.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert slow.socket.recv(100)
        for _ in range(20):
            assert other.ask("/media/film.mp4").body == FILM


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
def test_a_client_that_takes_nothing_is_dropped(hasty: Running) -> None:
    """After the named time without progress, and its file is closed."""
    with hasty.connect(receive_buffer=4096) as client:
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)
        wait_for(lambda: hasty.open_files() == 0, "the file to be closed")
        assert len(client.rest()) < BIG


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
def test_a_client_that_takes_little_is_not_dropped(library: Path, loop: Loop) -> None:
    """Slow isn't stalled, also over more than the named time."""
    limits = HttpLimits(stalled_seconds=5.0)
    app = Starlette(routes=file_routes(FileHandler(Library(library))))
    with serving(app, library, loop, limits) as running, running.connect() as client:
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-33554431\r\n\r\n")
        deadline = time.monotonic() + 1.5 * limits.stalled_seconds
        client.take(100_000)
        while time.monotonic() < deadline:
            assert len(client.take(100_000)) == 100_000
            time.sleep(0.1)
        assert len(client.take(20_000_000)) == 20_000_000


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
def test_a_client_that_takes_nothing_from_memory_is_dropped(library: Path, loop: Loop) -> None:
    """For bytes that wait in the transport's buffer."""

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while running.server.server_state.connections:
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})

    with serving(endless, library, loop, HASTY) as running, running.connect(receive_buffer=4096) as client:
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)
        wait_for(lambda: not running.server.server_state.tasks, "the answer to end")


@pytest.mark.clause("RFC 9112 §8")
def test_a_file_that_shrinks_ends_the_connection_short(
    origin: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Never padding; one log line, and no traceback."""
    path = origin.library / "shrinks.mp4"
    make_big(path)
    with structlog.testing.capture_logs() as logs, origin.connect(receive_buffer=4096) as client:
        client.send("GET /media/shrinks.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)
        os.truncate(path, 0)
        assert len(client.rest()) < BIG
        wait_for(lambda: origin.open_files() == 0, "the file to be closed")
    assert [entry["event"] for entry in logs] == ["file ended while it was sent"]
    assert logs[0]["path"] == "/media/shrinks.mp4"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.clause("A file that changes while it is sent is never mixed with another")
def test_a_file_that_is_replaced_is_sent_to_its_end(origin: Running) -> None:
    """The old bytes to those who have begun with them, the new to the next."""
    path = origin.library / "replaced.mp4"
    path.write_bytes(FILM * 16)
    wait_for(lambda: origin.open_files() == 0, "the files of others to be closed")
    with origin.connect(receive_buffer=4096) as client:
        client.send("GET /media/replaced.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: origin.open_files() == 1, "the file to be open")
        new = path.with_name("new.mp4")
        new.write_bytes(b"new")
        new.rename(path)
        assert client.answer().body == FILM * 16
        assert client.ask("/media/replaced.mp4").body == b"new"


@pytest.mark.clause("A client that goes away leaves nothing open")
def test_a_client_that_goes_in_mid_body_leaves_nothing_behind(
    origin: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """The file closed at once, no traceback."""
    for _ in range(10):
        with origin.connect(receive_buffer=4096) as client:
            client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.socket.recv(100)
    wait_for(lambda: origin.open_files() == 0, "all files to be closed")
    wait_for(lambda: not origin.server.server_state.tasks, "all tasks to end")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_end_of_the_server_lets_a_download_finish(library: Path, loop: Loop) -> None:
    """A running answer has its grace; idle connections are closed at once."""
    app = Starlette(routes=file_routes(FileHandler(Library(library))))
    with (
        serving(app, library, loop, grace=30) as running,
        running.connect() as idle,
        running.connect(receive_buffer=4096) as busy,
    ):
        assert idle.ask("/media/small.mp3").status == 200
        busy.send("GET /media/long.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: running.open_files() == 1, "the file to be open")
        running.server.should_exit = True
        assert idle.is_closed()
        assert busy.answer().body == FILM * 16
        assert busy.is_closed()


def test_the_end_of_the_grace_cuts_a_download_without_noise(
    library: Path, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback, no open file."""
    app = Starlette(routes=file_routes(FileHandler(Library(library))))
    with serving(app, library, loop) as running, running.connect(receive_buffer=4096) as client:
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.socket.recv(100)
        running.server.should_exit = True
        wait_for(lambda: running.open_files() == 0, "the file to be closed")
        assert len(client.rest()) < BIG
    assert not [record for record in caplog.records if record.exc_info]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = self_signed(tmp_path_factory.mktemp("tls"))
    return made.key, made.chain


@pytest.mark.clause("A file's bytes are sent in bounded steps, past whatever waits before them")
def test_files_are_copied_where_sendfile_cannot_go(
    library: Path, loop: Loop, certificate: tuple[Path, Path]
) -> None:
    """Over TLS the same bytes, by a bounded copy."""
    extensions: list[bool] = []
    inner: ASGIApp = Starlette(routes=file_routes(FileHandler(Library(library))))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        extensions.append(ZERO_COPY in scope.get("extensions", {}))
        await inner(scope, receive, send)

    with serving(app, library, loop, certificate=certificate) as running, running.connect() as client:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.socket = context.wrap_socket(client.socket)
        assert client.ask("/media/film.mp4").body == FILM
        answer = client.ask("/media/film.mp4", "Range: bytes=300000-899999")
        assert (answer.status, answer.body) == (206, FILM[300000:900000])
        assert client.ask("/media/film.mp4", "Range: bytes=0-9,500000-500009").status == 206
        wait_for(lambda: running.open_files() == 0, "all files to be closed")
        client.socket.close()
    assert extensions == [False] * 3


@pytest.mark.clause("RFC 9112 §9.6")
@pytest.mark.parametrize("field", ["close", "Close", "keep-alive"])
def test_a_reply_by_a_handler_closes_where_the_client_wants_that(origin: Running, field: str) -> None:
    with origin.connect() as client:
        first = client.ask("/media/film.mp4", "Range: bytes=0-99999", f"Connection: {field}")
        assert (first.status, first.body) == (206, FILM[:100_000])
        closes = field != "keep-alive"
        assert ("connection" in first) is closes
        if closes:
            assert first["connection"] == "close"
            assert client.rest() == b""
        else:
            assert client.ask("/media/film.mp4").body == FILM
