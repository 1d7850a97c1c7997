"""Replies of handlers that are held until something happens, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from origin.answers.heads import PlainHead
from origin.answers.reply import Pending, Reply, ReplyReceiver
from origin.answers.request import Request
from origin.http1.access_log import AccessLog, RequestCounters
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from tests.conformance.conftest import Loop, Running, serving
from tests.conformance.raw import PATIENCE, Client
from tests.waiting import wait_for

BODY = bytes(100_000)


class Held(Pending):
    """A reply that waits until its handler releases it."""

    def __init__(self, handler: HoldingHandler) -> None:
        self.handler = handler
        self.receiver: ReplyReceiver | None = None

    def start(self, receiver: ReplyReceiver) -> None:
        self.receiver = receiver
        self.handler.waiting.append(self)

    def cancel(self) -> None:
        self.handler.left.append(self)
        self.handler.waiting.remove(self)


class Ends(AccessLog):
    """Keeps how requests have ended: the status, and the bytes of the body that were sent."""

    def __init__(self, traffic: RequestCounters) -> None:
        super().__init__(traffic, log_requests=False)
        self.ends: list[tuple[int, int]] = []

    def count(self, area: str, status: int, count: int) -> None:
        super().count(area, status, count)
        self.ends.append((status, count))


class HoldingHandler:
    """A handler that holds all replies until it is told to release them."""

    def __init__(self) -> None:
        self.traffic = RequestCounters()
        self.log = Ends(self.traffic)
        self.waiting: list[Held] = []
        self.left: list[Held] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def ends(self) -> list[tuple[int, int]]:
        return self.log.ends

    def handle(self, request: Request) -> Held:
        self.loop = asyncio.get_running_loop()
        return Held(self)

    def absent(self, request: Request) -> Reply:
        raise AssertionError("all is here")

    def release(self) -> None:
        """Reply to all, in one pass."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for held in waiting:
            assert held.receiver is not None
            held.receiver.reply(Reply(PlainHead(200, ((b"content-length", b"100000"),)), (BODY,)))


@pytest.fixture
def services() -> HoldingHandler:
    return HoldingHandler()


@pytest.fixture
def limits() -> HttpLimits:
    """Patient, but for tests that say another: who is only late is nobody's subject."""
    return HttpLimits()


@pytest.fixture(params=["asyncio", "uvloop"])
def origin(
    services: HoldingHandler, tmp_path: Path, limits: HttpLimits, request: pytest.FixtureRequest
) -> Iterator[Running]:
    loop: Loop = request.param
    app = PlainTextResponse("by the application")
    with serving(
        app, tmp_path, loop, limits, fast_path=FastPath({"held": services}, services.log)
    ) as running:
        yield running


def ask(client: Client, target: str = "/held/x", count: int = 1) -> None:
    client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n" * count)


def test_held_answers_are_released_together(origin: Running, services: HoldingHandler) -> None:
    """None of them by the application; each connection is good for another request."""
    clients = [origin.connect() for _ in range(50)]
    for _ in range(2):
        for client in clients:
            ask(client)
        wait_for(lambda: len(services.waiting) == len(clients), "all to wait")
        assert not origin.server.server_state.tasks
        services.release()
        for client in clients:
            answer = client.answer()
            assert (answer.status, answer.body) == (200, BODY)
            assert "date" in answer
    wait_for(lambda: len(services.ends) == 2 * len(clients), "the ends")
    assert set(services.ends) == {(200, len(BODY))}
    assert services.traffic.requests["held", 200] == 2 * len(clients)
    for client in clients:
        client.socket.close()


@pytest.mark.clause("RFC 9110 §6.6.1")
def test_date_is_the_answers_own_where_the_server_is_late_with_it(
    origin: Running, services: HoldingHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both ways to answer; else a file may be younger than its answer (§8.8.2.1)."""

    ticks = 0

    async def late(_: int) -> bool:
        nonlocal ticks
        ticks += 1
        return origin.server.should_exit

    monkeypatch.setattr(origin.server, "on_tick", late)
    # The server's own thread may still be at its last one, which sets the header fields.
    wait_for(lambda: ticks, "a late tick")
    origin.server.server_state.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"x-a", b"b")]
    with origin.connect() as client:
        for target in ("/held/x", "/other"):
            asked = time.time() // 1
            ask(client, target)
            if target == "/held/x":
                wait_for(lambda: len(services.waiting) == 1, "it to wait")
                services.release()
            answer = client.answer()
            assert asked <= parsedate_to_datetime(answer["date"]).timestamp() <= time.time()
            assert answer["x-a"] == "b"


@pytest.mark.slow
@pytest.mark.clause("RFC 9112 §9.3.2")
@pytest.mark.parametrize("limits", [HttpLimits(header_seconds=5.0)])
def test_requests_behind_a_held_answer_wait_for_it(
    origin: Running, services: HoldingHandler, limits: HttpLimits
) -> None:
    """In order, whoever answers them; longer than a head may take, too."""
    with origin.connect() as client:
        ask(client)
        wait_for(lambda: len(services.waiting) == 1, "the first")
        ask(client, "/other")
        ask(client, count=2)
        client.send("GET /other HTTP/1.1\r\n")
        client.socket.settimeout(limits.header_seconds + 0.5)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(PATIENCE)
        services.release()
        assert client.answer().body == BODY
        assert client.answer().body == b"by the application"
        for _ in range(2):
            wait_for(lambda: len(services.waiting) == 1, "the next")
            services.release()
            assert client.answer().body == BODY
        client.send("Host: a\r\n\r\n")
        assert client.answer().body == b"by the application"


def test_a_client_that_has_gone_waits_no_more(origin: Running, services: HoldingHandler) -> None:
    """Its answer is told once and counted once; a reply that comes too late is nobody's."""
    with origin.connect() as client:
        ask(client)
        wait_for(lambda: len(services.waiting) == 1, "the request")
        answer = services.waiting[0]
        # A mere end of its side might be of one who still reads.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: not services.waiting, "the client's going to be noticed")
    assert services.left == [answer]
    assert services.ends == [(0, 0)]
    assert services.traffic.requests["held", 0] == 1
    services.waiting.append(answer)
    services.release()
    with origin.connect() as client:
        assert client.ask("/other").status == 200
    assert services.ends == [(0, 0)]


@pytest.mark.clause("RFC 9112 §9.6")
def test_a_client_that_ends_its_side_still_gets_its_answer(origin: Running, services: HoldingHandler) -> None:
    with origin.connect() as client:
        ask(client)
        wait_for(lambda: len(services.waiting) == 1, "the request")
        client.socket.shutdown(socket.SHUT_WR)
        with origin.connect() as other:
            assert other.ask("/other").status == 200
        services.release()
        assert client.answer().body == BODY
        assert client.is_closed()


@pytest.mark.slow
@pytest.mark.parametrize("limits", [HttpLimits(stalled_seconds=1.0)])
def test_a_client_that_takes_nothing_is_dropped(origin: Running, services: HoldingHandler) -> None:
    """The bytes that the client didn't take aren't counted."""
    with origin.connect(receive_buffer=4096) as client:
        small = client.socket
        ask(client)
        wait_for(lambda: len(services.waiting) == 1, "the request")
        assert services.loop is not None
        connection = next(iter(origin.server.server_state.connections))
        sock: socket.socket = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        services.release()
        wait_for(lambda: services.ends != [], "the client to be dropped")
        status, sent = services.ends[0]
        assert status == 200
        assert sent < len(BODY)
        small.close()


@pytest.mark.clause("RFC 9112 §9.6")
def test_the_end_of_the_server_lets_held_answers_end(origin: Running, services: HoldingHandler) -> None:
    """They say that the connection closes."""
    with origin.connect() as client, origin.connect() as idle:
        assert idle.ask("/other").status == 200
        ask(client)
        wait_for(lambda: len(services.waiting) == 1, "the request")
        origin.server.should_exit = True
        assert idle.is_closed()
        services.release()
        answer = client.answer()
        assert (answer["connection"], answer.body) == ("close", BODY)
        assert client.is_closed()
