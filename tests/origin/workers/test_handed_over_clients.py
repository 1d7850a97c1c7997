"""Clients whose connections are handed over, many and hostile ones, leave nothing behind in any process."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ServerProcess
from tests.descriptors import descriptors
from tests.origin.workers.asking import (
    CLIENT_SECONDS,
    address_of,
    exchange,
    health,
    metric,
    workers_of,
)
from tests.origin.workers.conftest import started
from tests.waiting import wait_for

CLIENTS, AT_ONCE = 2000, 50
HOST = b"Host: localhost\r\n"
LIMITS = """
[limits]
stalled_seconds = 1
header_seconds = 1
body_seconds = 1
connections = 500
"""
POST = b"POST /events/news HTTP/1.1\r\n" + HOST + b"Authorization: Bearer token\r\n"
POST += b"Content-Type: text/plain\r\nContent-Length: 5\r\n"
DOWNLOAD = b"GET /media/big.bin HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def server(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    one = started(tmp_path_factory.mktemp("hasty"), library, 2, LIMITS)
    yield one
    assert one.stop() == 0


def open_in_each(server: ServerProcess) -> list[int]:
    """Count the open descriptors of the started process and of each worker."""
    pids = (server.process.pid, *workers_of(server))
    return [descriptors(pid) for pid in pids]


@pytest.fixture
def before(server: ServerProcess) -> list[int]:
    """How many are open at rest, once files that are kept open are."""
    exchange(server, POST + b"Connection: close\r\n\r\nhello")
    health(server)
    return open_in_each(server)


def nothing_is_left(server: ServerProcess, before: list[int]) -> None:
    # A file may be kept open, and another request is being answered.
    wait_for(
        lambda: all(now <= then + 3 for now, then in zip(open_in_each(server), before, strict=True)),
        f"descriptors as before, {before}",
    )
    assert metric(server, "headwater_worker_restarts_total") == 0


def test_many_clients_are_handed_over_and_leave(server: ServerProcess, before: list[int]) -> None:
    handed_over = metric(server, "headwater_handed_over_connections_total")
    ends = (b"hello", b"he", b"")  # whole, within the body, and before it
    for _ in range(CLIENTS // AT_ONCE):
        clients = [socket.create_connection(address_of(server), CLIENT_SECONDS) for _ in range(AT_ONCE)]
        for number, client in enumerate(clients):
            client.sendall(POST + b"\r\n" + ends[number % len(ends)])
        for number, client in enumerate(clients):
            if number % len(ends) == 0:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            else:
                # A reset rather than an end, while the connection may be on its way.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    nothing_is_left(server, before)
    # One that was reset before it was read may not have been handed over.
    wanted = handed_over + CLIENTS // len(ends)
    wait_for(
        lambda: metric(server, "headwater_handed_over_connections_total") >= wanted, "the last connections"
    )


def test_who_takes_nothing_of_the_answer_before_is_dropped_and_not_handed_over(
    server: ServerProcess, before: list[int]
) -> None:
    with socket.create_connection(address_of(server), CLIENT_SECONDS) as client:
        client.sendall(DOWNLOAD + POST + b"\r\nhello")
        nothing_is_left(server, before)


def test_a_head_that_never_ends_and_a_body_that_never_comes_have_their_limits(
    server: ServerProcess, before: list[int]
) -> None:
    assert exchange(server, POST[:40]).startswith(b"HTTP/1.1 408")
    got = exchange(server, POST + b"\r\nhe")
    assert got.startswith(b"HTTP/1.1 408")
    nothing_is_left(server, before)


def test_much_that_was_read_behind_the_head_goes_along(server: ServerProcess) -> None:
    """What comes in one read is longer than a packet between the processes."""
    request = b"GET /nothing HTTP/1.1\r\n" + HOST
    got = exchange(server, (request + b"\r\n") * 4000 + request + b"Connection: close\r\n\r\n")
    assert got.count(b"HTTP/1.1 404") == 4001


def test_a_client_that_ends_its_side_has_its_answer(server: ServerProcess) -> None:
    with socket.create_connection(address_of(server), CLIENT_SECONDS) as client:
        client.sendall(POST + b"\r\nhello")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_limits_of_all_connections_hold_in_the_started_process_too(server: ServerProcess) -> None:
    """Those that are handed over count there: the request is in its middle, and the next ones get 503."""
    head = POST.replace(b"Content-Length: 5", b"Content-Length: 500000") + b"\r\n"
    with socket.create_connection(address_of(server), CLIENT_SECONDS) as client:
        client.sendall(head)
        clients = []
        for _ in range(600):
            clients.append(socket.create_connection(address_of(server), CLIENT_SECONDS))
            # At once: a refused client that asks for nothing is cut without an answer after two seconds.
            clients[-1].sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        answers = {one.recv(12) for one in clients}
        for one in clients:
            one.close()
    assert b"HTTP/1.1 200" in answers
    assert b"HTTP/1.1 503" in answers
    wait_for(
        lambda: exchange(server, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"), "room again"
    )
