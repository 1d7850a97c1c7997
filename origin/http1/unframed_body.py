"""Where heads end, and requests whose body has no framing and ends with the connection.

These are Icecast's sources, and those that ask for WebSocket: what follows them is in its frames.

HTTP reads such a request as one without a body (RFC 9112 §6.3, rule 7), and the parser would take the audio
for the next request. So the parser gets the bytes head by head, and what follows such a head goes to the
request as it is. So, too, pipelined requests wait unread while the one before them is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from origin.http1 import websocket

HEAD_END = b"\r\n\r\n"

AREAS = ("/radio/",)
"""Where a PUT may have a body without framing; elsewhere it has none, as RFC 9112 says."""

WEBSOCKETS = ("/events/",)
"""Where WebSocket is spoken; elsewhere a wish for it is ignored, and nothing is read behind it."""


def has_endless_body(method: str, path: str, fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell from a whole head whether the body is all that comes until the connection ends.

    Args:
        method: of the request.
        path: its path, decoded.
        fields: its header fields, names in any case.
    """
    if path.startswith(WEBSOCKETS) and websocket.is_upgrade(method, fields):
        return not _has_framing(fields)
    if method not in ("SOURCE", "PUT") or (method == "PUT" and not path.startswith(AREAS)):
        return False
    return not _has_framing(fields)


def _has_framing(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)


class HeadEnd:
    """Finds the ends of heads in bytes that come in any portions.

    Bodies may hold the same four bytes: then there is a cut more, which no parser minds.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def find(self, data: bytes, start: int = 0) -> int:
        """Give the position behind the next end of a head, or the end of the bytes where there is none.

        Args:
            data: the next bytes, of which those before ``start`` were seen already.
            start: where to look from.
        """
        tail, self._tail = self._tail, b""
        kept = len(HEAD_END) - 1
        if tail:
            place = (tail + data[start : start + kept]).find(HEAD_END)
            if place >= 0:
                return start + place + len(HEAD_END) - len(tail)
        place = data.find(HEAD_END, start)
        if place >= 0:
            return place + len(HEAD_END)
        self._tail = (tail + data[max(start, len(data) - kept) :])[-kept:]
        return len(data)
