"""Fuzzes HTTP/3: what comes on the streams of a connection, and datagrams before there is one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pylsqpack
import uvicorn
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, Setting, encode_frame, encode_settings
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import HttpProtocol, http_protocol
from origin.http3.certificates import QuicCertificates
from origin.http3.connection import Http3Connection
from origin.http3.engines import QuicEngine
from origin.http3.listener import Http3Listener
from origin.http3.stateless_reset import StatelessResets
from origin.http3.transport import QuicTransport
from origin.tls.certificates import Certificates
from tests.fuzzing.fuzzer import Outcome, Target
from tests.fuzzing.mutation import Parts

STEPS = 50
"""Steps of the loop behind an input: its tasks are done by then."""

FIELDS = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/x?y=1")]
REQUEST, CONTROL, ENCODER, DECODER = 0, 2, 6, 10
"""Streams of a client."""


def certificates() -> QuicCertificates:
    """Return the certificates, which all inputs share."""
    global _certificates
    _certificates = _certificates or QuicCertificates(
        Certificates("self-signed", "", None, ["a"]), 60.0, bytes(32)
    )
    return _certificates


_certificates: QuicCertificates | None = None


def on_stream(number: int, data: bytes) -> bytes:
    """Return bytes of a stream as a part of an input: the stream's number, their number, and the bytes."""
    return bytes((number,)) + len(data).to_bytes(2) + data


def whole_part(part: bytes) -> bytes:
    """Make the length of a part right."""
    return part if len(part) < 3 else on_stream(part[0], part[3:])


def parts_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of an input, the last one as far as it is there."""
    start = 0
    while start + 3 <= len(data):
        end = start + 3 + int.from_bytes(data[start + 1 : start + 3])
        yield data[start], data[start + 3 : end]
        start = end


def seeds() -> Sequence[Parts]:
    encoder = pylsqpack.Encoder()

    def head(fields: list[tuple[bytes, bytes]]) -> bytes:
        return encode_frame(FrameType.HEADERS, encoder.encode(REQUEST, fields)[1])

    settings = encode_settings({Setting.QPACK_MAX_TABLE_CAPACITY: 0, 0x6: 10_000})
    control = b"\x00" + encode_frame(FrameType.SETTINGS, settings)
    body = [encode_frame(FrameType.DATA, data) for data in (b"some bytes", b"", b"the end")]
    return [
        [
            on_stream(CONTROL, control),
            on_stream(ENCODER, b"\x02"),
            on_stream(DECODER, b"\x03"),
            on_stream(REQUEST, head([*FIELDS, (b"priority", b"u=1, i"), (b"x", b"y" * 300)])),
            *(on_stream(REQUEST, one) for one in body),
            on_stream(REQUEST, head([(b"x-end", b"1")])),
            on_stream(4, head(FIELDS) + encode_frame(0x21, b"grease") + body[0]),
            on_stream(CONTROL, encode_frame(FrameType.MAX_PUSH_ID, encode_uint_var(3))),
            on_stream(CONTROL, encode_frame(FrameType.GOAWAY, encode_uint_var(0))),
            on_stream(8, head([*FIELDS, (b"content-length", b"5")])),
        ]
    ]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read a request's body, and answer."""
    del scope
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 1_000})


class _Quic(QuicEngine):
    """A connection whose handshake is over, and whose network takes everything and brings nothing."""

    is_handshake_over = True

    def datagrams_to_send(self, now: float) -> list[Any]:
        del now
        return []

    def get_timer(self) -> float | None:
        return None


def protocol() -> tuple[HttpProtocol, ServerState]:
    """Make what counts a client."""
    config = uvicorn.Config(app, http=http_protocol(HttpLimits()), log_config=None)
    config.load()
    state = ServerState()
    made = config.http_protocol_class(config, state, app_state={})  # type: ignore[call-arg]
    assert isinstance(made, HttpProtocol)
    return made, state


def read(pieces: Sequence[bytes]) -> Outcome:
    """Tell whether the connection has ended: that may depend on what was answered before a fault."""
    return asyncio.run(_read(pieces, certificates()))


async def _read(pieces: Sequence[bytes], served: QuicCertificates) -> Outcome:
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: broken.append(repr(told["exception"])))
    first, state = protocol()
    facts = {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2), "sslcontext": True}
    first.connection_made(QuicTransport(facts, lambda: None))
    first.step_aside()
    quic = _Quic(served.choose, served.tickets, StatelessResets(served.reset_key, 2), b"original", None)
    connection = Http3Connection(first, quic, lambda _: True, lambda *_: None)
    quic._events.append(events.ProtocolNegotiated("h3"))
    failed: list[Exception] = []
    connection._break = failed.append  # type: ignore[assignment,method-assign]
    for number, data in parts_of(b"".join(pieces)):
        if connection.is_over:
            break
        stream = number % 32 & ~1
        quic._get_or_create_stream(0x8, stream)
        if number % 2:
            quic._events.append(events.StreamReset(0, stream))
        else:
            quic._events.append(events.StreamDataReceived(data, number >= 128, stream))
        connection._handle_events()
        await asyncio.sleep(0)
    for _ in range(STEPS):
        await asyncio.sleep(0)
    is_over = connection.is_over
    connection._lose()
    if failed or broken:
        raise RuntimeError(broken[0] if broken else repr(failed[0]))
    await asyncio.gather(*state.tasks, return_exceptions=True)
    return Outcome(None, "ended" if is_over else "")


def datagram_seeds() -> Sequence[Parts]:
    quic = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"], server_name="a"))
    quic.connect(("127.0.0.1", 1), 0.0)
    (first, _), *_ = quic.datagrams_to_send(0.0)
    unknown = first[:1] + b"\x0a\x0a\x0a\x0a" + first[5:]
    return [[on_stream(0, one) for one in (first, unknown, b"\x40" + first[6:14] + bytes(40))]]


def read_datagrams(pieces: Sequence[bytes]) -> Outcome:
    """Tell how many connections were begun."""
    return asyncio.run(_read_datagrams(pieces, certificates()))


async def _read_datagrams(pieces: Sequence[bytes], served: QuicCertificates) -> Outcome:
    made: list[HttpProtocol] = []

    def make() -> HttpProtocol:
        made.append(protocol()[0])
        return made[-1]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        listener = Http3Listener(sock, served, make)
        listener._send_on = lambda: True  # type: ignore[method-assign]
        for _, datagram in parts_of(b"".join(pieces)):
            listener._handle_datagram(datagram, ("127.0.0.1", 1))
        for connection in list(listener._ids):
            connection.abort()
    return Outcome(len(made))


TARGETS = {
    "http3": Target(
        seeds=seeds,
        read=read,
        words=[on_stream(number, bytes((kind, 1, 0))) for number in (0, 1, 2, 6, 128) for kind in range(8)],
        mend=whole_part,
    ),
    "quic": Target(
        seeds=datagram_seeds,
        read=read_datagrams,
        words=[(1).to_bytes(4), b"\xc0", b"\x08"],
        mend=whole_part,
    ),
}
