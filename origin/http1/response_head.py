"""The head of an HTTP/1 response: its status line and its fields as lines (RFC 9112 §4, §5)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from origin.answers.heads import STATUS_LINE
from origin.http.answer import Headers

_NOT_IN_NAME = re.compile(rb'[\x00-\x1f\x7f()<>@,;:\[\]={} \t\\"]')
# RFC 9110 §5.5: a server's own fields have no control characters; HTAB is white space.
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

FAILURE_TEXT = b"Internal Server Error\n"
FAILURE = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-length", b"%d" % len(FAILURE_TEXT)),
)
"""Header fields of the answer to a request for which the server failed; caches must not store it."""

NAMES_KEPT = 64
"""Most names of header fields that are cached."""

LINES_KEPT = 512
"""Most encoded header fields that are cached: nearly all responses have the same ones."""


class AddedHeaders:
    """Adds header fields to those of every response; the longer list is made once for each of these."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._base: Headers = ()
        self._all: Headers = headers

    def added_to(self, base: Headers) -> Headers:
        """Return a list of header fields with the others behind them."""
        if base is not self._base:
            self._base, self._all = base, [*base, *self._headers]
        return self._all


def refusal(status: int, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Encode the response to a request that never reaches the application; it closes the connection.

    Args:
        default_headers: raw header fields of every response of the server.
    """
    text = STATUS_LINE[status].partition(b" ")[2]
    head = [STATUS_LINE[status], *(b"%b: %b\r\n" % field for field in default_headers)]
    head.append(b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n")
    return b"".join((*head, b"content-length: %d\r\nconnection: close\r\n\r\n" % len(text), text))


_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def made_line(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Encode a header field as a line of HTTP/1, behind its name if it is about the body's framing.

    Raises:
        RuntimeError: the field has characters that no field may have.
    """
    framing, start = _line_start(name)
    if _NOT_IN_VALUE.search(value):
        raise RuntimeError(f"Invalid header field {name!r}.")
    return framing, b"%b%b\r\n" % (start, value)


@functools.lru_cache(maxsize=NAMES_KEPT)
def _line_start(name: bytes) -> tuple[bytes, bytes]:
    if _NOT_IN_NAME.search(name):
        raise RuntimeError(f"Invalid header field {name!r}.")
    lowered = name.lower()
    return lowered if lowered in _FRAMING else b"", lowered + b": "


kept_line = functools.lru_cache(maxsize=LINES_KEPT)(made_line)


def status_line(status: int, method: str) -> bytes:
    """Return the status line; darkice and other clients of Icecast's older protocol look for HTTP/1.0."""
    line = STATUS_LINE[status]
    return line if method != "SOURCE" else line.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
