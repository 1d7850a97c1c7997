"""Formats of events for readers: the same event and id in each format. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from origin.events import sse_writer
from origin.http1 import websocket

NDJSON_TYPE = "application/x-ndjson"
JSON_TYPE = "application/json"

_ENDS_OF_LINES = tuple((sign.encode(), b"\\u%04x" % ord(sign)) for sign in "\x85\u2028\u2029")
"""Characters that some clients read as the end of a line, as Python's ``str.splitlines`` does."""


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """A way to write events one behind the other.

    Attributes:
        name: for the log and the metrics.
        media_type: of a response; empty for WebSocket, which has none.
        write: gives the bytes of one event from its type, its text and its id.
        heartbeat: what shows that the connection is alive, and readers ignore; empty where pings do that.
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


SSE = Format("sse", sse_writer.MEDIA_TYPE, _sse, sse_writer.comment())
NDJSON = Format("ndjson", NDJSON_TYPE, _line, b"\n")
WEBSOCKET = Format("websocket", "", _text_frame, is_socket=True)
JSON = Format("json", JSON_TYPE, json_object)
