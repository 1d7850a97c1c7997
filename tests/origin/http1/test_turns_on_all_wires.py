"""However small the units are in which a client sends, others are answered between them, on each wire.

The time of a turn is 0 here: each has one unit, whatever the speed of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol, http_protocol
from origin.http1.shared_turns import SharedTurns, turns_of
from origin.http2.connection import Http2Connection
from origin.http3.certificates import QuicCertificates
from origin.http3.listener import Http3Listener
from origin.system.connection_acceptor import ConnectionAcceptor, SocketListener
from origin.tls.certificates import Certificates
from tests.certificates import CHAIN, KEY, self_signed
from tests.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, block, frame, settings
from tests.http3_client import Http3Protocol
from tests.waiting import until

pytestmark = pytest.mark.clause("CWE-400")

NEIGHBOUR = b"GET /neighbour HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /sink HTTP/1.1\r\nHost: a\r\n"
SHREDS = 6_000
REQUESTS = 100
HANDSHAKES = 12


@dataclass
class Sink:
    """An application that counts what reaches it."""

    requests: int = 0
    taken: int = 0
    neighbours: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/neighbour":
            self.neighbours += 1
        else:
            self.requests += 1
        while scope["path"] == "/sink":
            message = await receive()
            self.taken += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        await PlainTextResponse("done")(scope, receive, send)


@dataclass
class Wires:
    """One loop with a server on all wires, and clients of it on sockets that don't block."""

    sink: Sink
    plain: tuple[str, int]
    encrypted: tuple[str, int]
    folder: Path
    stack: AsyncExitStack
    opened: list[socket.socket] = field(default_factory=list)

    async def connected(self, address: tuple[str, int]) -> socket.socket:
        """Connect as a client of an address of its own."""
        client = socket.socket()
        client.setblocking(False)
        self.opened.append(client)
        client.bind((f"127.9.{len(self.opened)}.1", 0))
        await asyncio.get_running_loop().sock_connect(client, address)
        return client

    async def neighbour(self) -> socket.socket:
        """Return a connection of somebody else, who has been answered."""
        client = await self.connected(self.plain)
        client.send(NEIGHBOUR)
        await self.is_answered(client)
        return client

    async def is_answered(self, client: socket.socket) -> None:
        """Wait for an answer."""
        data = b""
        while not data.endswith(b"done"):
            data += await asyncio.get_running_loop().sock_recv(client, 4096)

    def tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / CHAIN)


@pytest.fixture
async def wires(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Wires]:
    limits: HttpLimits = getattr(request, "param", HttpLimits(turn_seconds=0.0))
    loop, sink = asyncio.get_running_loop(), Sink()
    turns_of(loop, 0.0)
    await asyncio.to_thread(self_signed, tmp_path)
    certificates = await asyncio.to_thread(
        Certificates, str(tmp_path / CHAIN), str(tmp_path / KEY), None, list[str]()
    )
    made = http_protocol(limits, http2=Http2Connection)
    config = uvicorn.Config(sink, http=made, log_config=None, lifespan="off")
    config.load()
    state = ServerState()

    def protocol() -> HttpProtocol:
        return made(config, state, {})

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(sockets[1].getsockname())
    listeners: list[ConnectionAcceptor] = [
        SocketListener(sockets[0], protocol),
        SocketListener(sockets[1], protocol, context=certificates.context),
        Http3Listener(datagrams, QuicCertificates(certificates, 30.0, bytes(32)), protocol),
    ]
    for listener in listeners:
        listener.start()
    wires = Wires(sink, sockets[0].getsockname(), sockets[1].getsockname(), tmp_path, AsyncExitStack())
    async with wires.stack:
        yield wires
    for client in wires.opened:
        client.close()
    for listener in listeners:
        await listener.close()
    connections: set[Any] = state.connections
    for connection in list(connections):
        connection.transport.abort()
    for sock in sockets:
        sock.close()
    await until(lambda: not state.connections, "the end of all connections")


class TlsClient:
    """TLS on a socket, whose records are made before they are sent."""

    def __init__(self, wires: Wires) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = wires.tls_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    def hello(self) -> bytes:
        """Return the first flight of a handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def shake_hands(self, client: socket.socket) -> None:
        """Complete the handshake."""
        client.send(self.hello())
        while True:
            self._incoming.write(await asyncio.get_running_loop().sock_recv(client, 1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                client.send(self._outgoing.read())
                return

    def records(self, *pieces: bytes) -> bytes:
        """Return a record for each piece."""
        for piece in pieces:
            self._tls.write(piece)
        return self._outgoing.read()


def request(number: int, method: str, path: str, flags: int = END_HEADERS) -> bytes:
    fields = block((":method", method), (":scheme", "http"), (":authority", "a"), (":path", path))
    return frame(HEADERS, number, fields, flags)


async def chunks(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Send a body in chunks of one byte."""
    client = await wires.connected(wires.plain)
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    await until(lambda: wires.sink.requests, "the request")
    return lambda: _send(client, b"1\r\nx\r\n" * SHREDS + b"0\r\n\r\n"), lambda: wires.sink.taken


async def records(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Send a body in TLS records of one byte."""
    client, tls = await wires.connected(wires.encrypted), TlsClient(wires)
    await tls.shake_hands(client)
    client.send(tls.records(POST + b"Content-Length: %d\r\n\r\n" % SHREDS))
    await until(lambda: wires.sink.requests, "the request")
    return lambda: _send(client, tls.records(*[b"x"] * SHREDS)), lambda: wires.sink.taken


async def frames(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Send a body in DATA frames of one byte."""
    client = await wires.connected(wires.plain)
    client.send(PREFACE + settings() + request(1, "POST", "/sink"))
    await until(lambda: wires.sink.requests, "the request")
    body = frame(DATA, 1, b"x") * (SHREDS - 1) + frame(DATA, 1, b"x", END_STREAM)
    return lambda: _send(client, body), lambda: wires.sink.taken


async def requests(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Send many requests of HTTP/2 at once."""
    client = await wires.connected(wires.plain)
    client.send(PREFACE + settings() + request(1, "GET", "/first", END_HEADERS | END_STREAM))
    await until(lambda: wires.sink.requests, "the first request")
    wires.sink.requests = 0
    numbers = range(3, 3 + 2 * REQUESTS, 2)
    all_of_them = b"".join(request(one, "GET", "/", END_HEADERS | END_STREAM) for one in numbers)
    return lambda: _send(client, all_of_them), lambda: wires.sink.requests


async def datagrams(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Send many requests of HTTP/3 at once."""
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="127.0.0.1")
    await asyncio.to_thread(configuration.load_verify_locations, str(wires.folder / CHAIN))
    made = connect(*wires.encrypted, configuration=configuration, create_protocol=Http3Protocol)
    client = cast(Http3Protocol, await wires.stack.enter_async_context(made))

    def send() -> None:
        for _ in range(REQUESTS):
            fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
            client.http.send_headers(client.quic.get_next_available_stream_id(), fields, end_stream=True)
        client.transmit()

    return send, lambda: wires.sink.requests


async def handshakes(wires: Wires) -> tuple[Callable[[], None], Callable[[], int]]:
    """Begin many handshakes of TLS at once."""
    clients = [await wires.connected(wires.encrypted) for _ in range(HANDSHAKES)]
    hellos = [TlsClient(wires).hello() for _ in clients]
    await asyncio.sleep(0.05)  # All of them are accepted; those that aren't make it easier.

    def begin() -> None:
        for client, hello in zip(clients, hellos, strict=True):
            client.send(hello)

    return begin, lambda: sum(map(_has_data, clients))


@dataclass(frozen=True)
class Attack:
    """A way to send in shreds.

    Attributes:
        prepare: returns what sends all of them, and what counts those that were handled.
        count: how many there are.
        most: how many may be handled before a neighbour who asks with them is answered.
    """

    prepare: Callable[[Wires], Awaitable[tuple[Callable[[], None], Callable[[], int]]]]
    count: int
    most: int


ATTACKS = {
    # Some slices of 4 KiB.
    "chunks": Attack(chunks, SHREDS, SHREDS - 700),
    "TLS records": Attack(records, SHREDS, 200),
    "DATA frames": Attack(frames, SHREDS, 50),
    "requests of HTTP/2": Attack(requests, REQUESTS, 20),
    "requests of HTTP/3": Attack(datagrams, REQUESTS, 20),
    "handshakes": Attack(handshakes, HANDSHAKES, HANDSHAKES - 2),
}


def _send(client: socket.socket, data: bytes) -> None:
    assert client.send(data) == len(data), "the kernel has no room for all of it"


def _has_data(client: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return bool(client.recv(1, socket.MSG_PEEK))
    return False


@pytest.mark.parametrize("wire", ATTACKS)
async def test_a_neighbour_is_answered_among_the_shreds_of_a_client(wires: Wires, wire: str) -> None:
    attack = ATTACKS[wire]
    begin, handled = await attack.prepare(wires)
    neighbour = await wires.neighbour()
    begin()
    neighbour.send(NEIGHBOUR)
    await wires.is_answered(neighbour)
    assert handled() <= attack.most
    # Nothing is lost of what waits for its turn.
    await until(lambda: handled() == attack.count, "the rest")


@pytest.mark.parametrize("wires", [HttpLimits(turn_seconds=0.0, header_seconds=1.0)], indirect=True)
async def test_the_time_of_a_client_does_not_run_while_its_bytes_wait_for_their_turn(
    wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, waiting = asyncio.get_running_loop(), list[Callable[[], None]]()

    def append(turns: SharedTurns, go_on: Callable[[], None], host: str) -> float:
        waiting.append(go_on)
        return turns_of(loop).busy_until(host)

    client = await wires.connected(wires.plain)
    with monkeypatch.context() as patch:
        patch.setattr(SharedTurns, "admits", lambda *_: False)
        patch.setattr(SharedTurns, "is_busy", lambda *_: True)
        patch.setattr(SharedTurns, "append", append)
        turns_of(loop).unwatched = -1
        client.send(NEIGHBOUR)
        await until(lambda: bool(waiting), "the turn")
    # Others that began later, one after the other, and whose heads don't come to their ends.
    for _ in range(2):
        late = await wires.connected(wires.plain)
        late.send(NEIGHBOUR[:20])
        assert (await loop.sock_recv(late, 100)).startswith(b"HTTP/1.1 408")
    for go_on in waiting:
        go_on()
    assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200")
