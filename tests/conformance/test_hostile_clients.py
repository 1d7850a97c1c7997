"""Clients that are slow, many, or gone."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from origin.http1.limits import HttpLimits
from origin.system.binding import bind
from tests.conformance.conftest import FILM, Running, served_files, serving
from tests.conformance.raw import PATIENCE
from tests.waiting import wait_for

HASTY = HttpLimits(header_seconds=1.0, stalled_seconds=2.0, linger_seconds=0.2, connections=450)
SLOW_CLIENTS = 400


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with little patience, and a file that no socket's buffers can hold."""
    library = tmp_path_factory.mktemp("library")
    (library / "film.mp4").write_bytes(FILM)
    with (library / "big.mp4").open("wb") as file:
        file.truncate(4 << 30)
    for path in library.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    served = served_files(library)
    with serving(
        served.app, library, "uvloop", HASTY, fast_path=served.fast_path, at_end=served.close
    ) as running:
        yield running


@pytest.mark.slow
@pytest.mark.clause("CVE-2007-6750", "A connection without a request is closed")
def test_slow_heads_are_timed_out_and_others_are_served_meanwhile(hasty: Running) -> None:
    """Some send a line now and then, some nothing at all."""
    slow = [socket.create_connection(hasty.address) for _ in range(SLOW_CLIENTS)]
    try:
        for sock in slow[::2]:
            sock.send(b"GET / HTTP/1.1\r\n")
        with hasty.connect() as other:
            deadline = time.monotonic() + 3 * HASTY.header_seconds
            while time.monotonic() < deadline:
                assert other.ask("/media/film.mp4", "Range: bytes=0-9").body == FILM[:10]
                # The first one reads its answer, which the kernel drops where more comes than was read.
                for sock in slow[2::2]:
                    with contextlib.suppress(OSError):
                        sock.sendall(b"X: y\r\n")
                time.sleep(0.2)
        wait_for(lambda: not hasty.server.server_state.connections, "all slow clients to be gone")
        slow[0].settimeout(5)
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")
    finally:
        for sock in slow:
            sock.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.clause(
    "A slow reader costs little and holds nobody up", "Connections have a limit, in all and for each client"
)
def test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up(hasty: Running) -> None:
    """Of 4 GiB each; who takes nothing is dropped."""
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


@pytest.mark.clause("RFC 9112 §9.3.2")
def test_a_thousand_pipelined_requests_are_answered_in_order_and_cost_no_memory(origin: Running) -> None:
    """While their client doesn't read, those behind wait unread, and it isn't read from either."""
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


@pytest.mark.clause("Connections have a limit, in all and for each client")
def test_connections_beyond_the_limit_are_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    """503, then room again as soon as one leaves."""
    (tmp_path / "film.mp4").write_bytes(FILM)
    served = served_files(tmp_path)
    limits = HttpLimits(connections=3)
    with serving(
        served.app, tmp_path, "uvloop", limits, fast_path=served.fast_path, at_end=served.close
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


@pytest.mark.clause("A client that vanished is noticed")
def test_connections_to_a_vanished_client_are_noticed_by_the_kernel() -> None:
    """Every connection inherits it from the listening socket."""
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


@pytest.mark.slow
@pytest.mark.clause("A client that takes nothing is dropped, and one that takes little isn't")
def test_a_client_of_a_kilobyte_a_second_makes_progress(tmp_path: Path) -> None:
    """Though the kernel's buffer asks for nothing for minutes."""
    with (tmp_path / "big.mp4").open("wb") as file:
        file.truncate(1 << 30)
    served = served_files(tmp_path)
    limits = HttpLimits(stalled_seconds=5.0, header_seconds=5.0)
    with (
        structlog.testing.capture_logs() as logs,
        serving(
            served.app, tmp_path, "uvloop", limits, fast_path=served.fast_path, at_end=served.close
        ) as running,
        running.connect(receive_buffer=4096) as client,
    ):
        client.send("GET /media/big.mp4 HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + 2 * limits.stalled_seconds
        while time.monotonic() < deadline:
            assert client.socket.recv(2000)
            time.sleep(0.1)
    assert not logs
