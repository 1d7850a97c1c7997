"""Requests whose body has no framing and ends with the connection: what Icecast's source clients send.

HTTP reads such a request as one without a body (RFC 9112 §6.3, rule 7), and the parser would take the audio
for the next request. So the head's end is looked for before the parser sees the bytes, and what follows it
goes to the request as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

HEAD_END = b"\r\n\r\n"

AREAS = ("/radio/",)
"""Where a PUT may have a body without framing; elsewhere it has none, as RFC 9112 says."""


def may_begin(data: bytes) -> bool:
    """Tell from the first bytes of a request whether it may be such a one: SOURCE or PUT."""
    return data[:1] in (b"S", b"P")


def has_endless_body(method: str, path: str, fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell from a whole head whether the body is all that comes until the connection ends.

    Args:
        method: of the request.
        path: its path, decoded.
        fields: its header fields, names in any case.
    """
    if method not in ("SOURCE", "PUT") or (method == "PUT" and not path.startswith(AREAS)):
        return False
    return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)


class HeadEnd:
    """Finds the end of one head in bytes that come in any portions."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def find(self, data: bytes) -> int | None:
        """Give how many of the next bytes belong to the head; None when all do, and more is to come."""
        known = len(self._tail)
        joined = self._tail + data
        place = joined.find(HEAD_END)
        if place < 0:
            self._tail = joined[-len(HEAD_END) + 1 :]
            return None
        return place + len(HEAD_END) - known
