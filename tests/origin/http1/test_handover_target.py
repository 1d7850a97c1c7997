"""A connection goes to another process whole: at the head of a request, with all that was read behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol, http_protocol
from tests.origin.http1.wire import Wire, sizes
from tests.waiting import until

GET = b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /here HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
ELSEWHERE = b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /here HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
SOURCE = b"SOURCE /elsewhere HTTP/1.0\nAuthorization: Basic x\n\nsound"


class Other:
    """A process that answers what isn't below /here, and keeps what it is given."""

    def __init__(self) -> None:
        self.has_room = True
        self.taken: list[bytes] = []

    async def relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nothing is relayed without TLS")

    def answers(self, scope: Scope, *, upgrading: bool) -> bool:
        return bool(scope["path"] != "/here") or upgrading

    def hand_over(self, descriptor: int, data: bytes) -> None:
        assert descriptor == 7
        self.taken.append(data)


class Sock:
    """A socket that has a number alone."""

    def fileno(self) -> int:
        return 7


class Client(Wire):
    """A client's end whose bytes the kernel takes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.is_gone = False
        self.sock: Sock | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else super().get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.is_gone

    def abort(self) -> None:
        self.is_gone = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass


class Connected:
    """A connection of a worker, with its two other ends."""

    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.other = Other()
        protocol = http_protocol(limits or HttpLimits(), other_process=self.other)
        config = uvicorn.Config(sizes, http=protocol, log_config=None)
        config.load()
        self.protocol = protocol(config, ServerState(), app_state={})
        self.client = Client()
        self.protocol.connection_made(self.client)
        # Not before: files would go past the transport.
        self.client.sock = Sock()

    @property
    def answers(self) -> int:
        return self.client.written.count(b"HTTP/1.1 200")


@pytest.mark.parametrize("request_", [POST + b"hello", ELSEWHERE, UPGRADE + b"\x81\0", SOURCE])
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_what_another_process_answers_goes_there_to_the_byte(request_: bytes, step: int) -> None:
    one = Connected()
    for start in range(0, len(request_), step):
        if not one.client.is_gone:
            one.protocol.data_received(request_[start : start + step])
    assert one.client.is_gone
    assert one.client.written == b""
    # What the client sends later comes to the process that goes on.
    (taken,) = one.other.taken
    assert request_.startswith(taken)
    assert taken == request_ or step < len(request_)
    one.protocol.connection_lost(None)


async def test_requests_behind_it_go_along_and_those_before_it_are_answered_here() -> None:
    one = Connected()
    one.protocol.data_received(GET * 2 + POST + b"hello" + GET)
    await until(lambda: one.other.taken)
    assert one.answers == 2
    assert one.other.taken == [POST + b"hello" + GET]
    one.protocol.connection_lost(None)


async def test_it_waits_until_the_kernel_has_the_answer_before() -> None:
    one = Connected()
    one.client.waiting = 1
    one.protocol.data_received(GET + ELSEWHERE)
    await until(lambda: one.answers == 1)
    await asyncio.sleep(0)
    assert one.other.taken == []
    assert one.client.paused
    one.client.waiting = 0
    one.protocol.resume_writing()
    assert one.other.taken == [ELSEWHERE]
    one.protocol.connection_lost(None)


async def test_a_client_that_never_takes_the_answer_before_is_dropped() -> None:
    limits = HttpLimits(stalled_seconds=0.1, header_seconds=0.1)
    one = Connected(limits)
    one.client.waiting = 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("origin.http1.timeouts.unconfirmed_bytes", lambda _: 0)
        one.protocol.data_received(GET + ELSEWHERE)
        await until(lambda: one.client.is_gone)
    assert one.other.taken == []
    one.protocol.connection_lost(None)


async def test_without_room_the_request_is_answered_with_503() -> None:
    one = Connected()
    one.other.has_room = False
    one.protocol.data_received(POST)
    await until(lambda: b"503" in one.client.written)
    assert b"connection: close" in one.client.written
    assert one.other.taken == []
    one.protocol.connection_lost(None)


@pytest.mark.parametrize(
    "bad", [b"GET\r\n\r\n", b"POST /elsewhere HTTP/1.1\r\n\r\n", b"POST / HTTP/7.0\r\nHost: a\r\n\r\n"]
)
async def test_a_faulty_head_is_refused_here(bad: bytes) -> None:
    one = Connected()
    one.protocol.data_received(bad)
    await until(lambda: one.client.written)
    assert one.client.written.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
    assert one.other.taken == []
    one.protocol.connection_lost(None)


@pytest.mark.parametrize("ends", [False, True])
async def test_the_process_that_goes_on_answers_all_that_came_along(ends: bool) -> None:
    config = uvicorn.Config(sizes, http=http_protocol(HttpLimits()), log_config=None)
    config.load()
    protocol = config.http_protocol_class(config, ServerState(), app_state={})  # type: ignore[call-arg]
    assert isinstance(protocol, HttpProtocol)
    protocol.take_over(POST + b"hel")
    client = Client()
    protocol.connection_made(client)
    protocol.data_received(b"lo" + GET)
    if ends:
        protocol.eof_received()
    await until(lambda: client.written.count(b"HTTP/1.1 200") == 2)
    assert b"5 bytes" in client.written
    protocol.connection_lost(None)
