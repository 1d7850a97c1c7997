"""Fuzzes a connection of HTTP/2: frames, header fields, bodies, settings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import hpack
import uvicorn
from uvicorn.server import ServerState

from origin.http1.limits import HttpLimits
from origin.http1.protocol import HTTP2_PREFACE, http_protocol
from origin.http2.connection import Http2Connection
from tests.fuzzing.fuzzer import Outcome, Target
from tests.fuzzing.mutation import Parts
from tests.origin.http1.wire import Wire

STEPS = 50
"""Steps of the loop behind an input: its tasks are done by then."""

FIELDS = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x?y=1")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def seeds() -> Sequence[Parts]:
    encoder = hpack.Encoder()
    first, second = (
        encoder.encode([*FIELDS, ("priority", "u=1, i"), ("x", "y" * size)]) for size in (3, 300)
    )
    trailer = encoder.encode([("x-end", "1")])
    settings = frame(4, 0, 0, b"\x00\x01\x00\x00\x10\x00\x00\x04\x00\x01\x00\x00")
    body = [frame(0, 0, 1, b"some bytes"), frame(0, 0x8, 1, b"\x03abc\0\0\0"), frame(0, 1, 1, b"the end")]
    window = frame(8, 0, 0, (1_000_000).to_bytes(4))
    split = [frame(1, 0x0, 3, second[:40]), frame(9, 0x4, 3, second[40:])]
    update = frame(0x10, 0, 0, (3).to_bytes(4) + b"u=0")
    end = [frame(1, 0x5, 3, trailer), frame(6, 0, 0, b"pingping")]
    cancel = frame(3, 0, 1, (8).to_bytes(4))
    return [[HTTP2_PREFACE, settings, frame(1, 0x4, 1, first), *body, window, *split, update, cancel, *end]]


def whole_frame(part: bytes) -> bytes:
    """Make the length of a frame right."""
    if len(part) < 9 or part.startswith(b"PRI"):
        return part
    return (len(part) - 9).to_bytes(3) + part[3:]


class SocketWire(Wire):
    """A transport with a socket, of whose queue the connection asks the system."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else super().get_extra_info(name, default)


def read(pieces: Sequence[bytes]) -> Outcome:
    """Tell whether the connection has ended: that may depend on what was answered before a fault."""
    return asyncio.run(_read(pieces))


async def _read(pieces: Sequence[bytes]) -> Outcome:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000})

    config = uvicorn.Config(app, http=http_protocol(HttpLimits(), http2=Http2Connection), log_config=None)
    config.load()
    state = ServerState()
    protocol = config.http_protocol_class(config, state, app_state={})  # type: ignore[call-arg]
    ours, theirs = socket.socketpair()
    wire = SocketWire(ours)
    wire.protocol = protocol
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: broken.append(repr(told["exception"])))
    protocol.connection_made(wire)
    for piece in pieces:
        # A loop gives no more to a transport that is paused.
        for _ in range(STEPS):
            if not wire.paused or any(getattr(one, "is_over", False) for one in state.connections):
                break
            await asyncio.sleep(0)
        wire.protocol.data_received(piece)
    for _ in range(STEPS):
        await asyncio.sleep(0)
    connection = next(iter(state.connections))
    is_over = getattr(connection, "is_over", True)
    wire.protocol.connection_lost(None)
    ours.close()
    theirs.close()
    if broken:
        raise RuntimeError(broken[0])
    await asyncio.gather(*state.tasks, return_exceptions=True)
    return Outcome(None, "ended" if is_over else "")


TARGETS = {
    "http2": Target(
        seeds=seeds,
        read=read,
        words=[frame(kind, 0, 1) for kind in range(12)] + [b"\x82\x86\x84", b"\x3f\xe1\x1f", b"\xbe"],
        mend=whole_frame,
        head=len(HTTP2_PREFACE),
    )
}
