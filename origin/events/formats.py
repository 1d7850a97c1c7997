"""Formats of events for readers: the same event and id in each format. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from origin.events import sse_writer
from origin.http1 import websocket

NDJSON_TYPE = "application/x-ndjson"
JSON_TYPE = "application/json"

GRPC_PREFIX_BYTES = 5
"""Length of what is before each message: whether it is compressed, and how long it is in four bytes."""

_ENDS_OF_LINES = tuple((sign.encode(), b"\\u%04x" % ord(sign)) for sign in "\x85\u2028\u2029")
"""Characters that some clients read as the end of a line, as Python's ``str.splitlines`` does."""


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """A way to write events one behind the other.

    Attributes:
        name: for the log and the metrics.
        media_type: of a response; empty for WebSocket, which has none.
        write: returns the bytes of one event from its type, its text and its id.
        heartbeat: bytes that keep the connection alive, and that readers ignore; empty where pings do that.
    """

    name: str
    media_type: str
    write: Callable[[str, str, str], bytes]
    heartbeat: bytes = b""
    is_socket: bool = False


def json_object(name: str, data: str, identity: str) -> bytes:
    """Write an event as one JSON object; an event that isn't kept has no id."""
    told = {"id": identity} if identity else {}
    written = msgspec.json.encode({**told, "event": name or "message", "data": data})
    if not (name.isascii() and data.isascii()):
        for character, escaped in _ENDS_OF_LINES:
            written = written.replace(character, escaped)
    return written


def _sse(name: str, data: str, identity: str) -> bytes:
    # WHATWG HTML §9.2.6: without a type it is a message.
    return sse_writer.event(data, name="" if name == "message" else name, identity=identity)


def _line(name: str, data: str, identity: str) -> bytes:
    return json_object(name, data, identity) + b"\n"


def _text_frame(name: str, data: str, identity: str) -> bytes:
    return websocket.frame(websocket.TEXT, json_object(name, data, identity))


def _grpc_message(name: str, data: str, identity: str) -> bytes:
    """Write an ``Event`` of ``events.proto`` (Protocol Buffers, wire type 2) with gRPC's prefix."""
    texts = ((1, identity), (2, name or "message"), (3, data))
    fields = [(number << 3 | 2, text.encode()) for number, text in texts if text]
    message = b"".join(b"%c%b%b" % (tag, _varint(len(text)), text) for tag, text in fields)
    return b"\0%b%b" % (len(message).to_bytes(GRPC_PREFIX_BYTES - 1, "big"), message)


def _varint(number: int) -> bytes:
    """Write a number in groups of seven bits, the least significant first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))


SSE = Format("sse", sse_writer.MEDIA_TYPE, _sse, sse_writer.comment())
NDJSON = Format("ndjson", NDJSON_TYPE, _line, b"\n")
WEBSOCKET = Format("websocket", "", _text_frame, is_socket=True)
JSON = Format("json", JSON_TYPE, json_object)
GRPC = Format("grpc", "application/grpc", _grpc_message)
