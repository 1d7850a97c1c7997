"""Answers that many clients get alike: their header fields are made once, whoever asks.

Only for plain requests: preconditions and ranges go the way of every representation.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from origin.representation import BytesRepresentation, RepresentationResponse
from origin.selection import Headers, answer

GZIP_LEVEL = 5
KEPT = 256
"""How many answers' header fields, and tags and compressions of playlists, are kept."""

KEPT_BYTES = 16 << 20
"""Most bytes of playlists for which tags and compressions are kept; those of a day have megabytes."""

T = TypeVar("T")

_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)

_CONDITIONS = frozenset(
    (b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
)

_RANGES = frozenset((b"range", b"if-match", b"if-unmodified-since"))


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request's head matters here.

    Attributes:
        is_plain: whether it is a GET of the whole without preconditions.
        is_ranged: whether it has a range, or a precondition that may fail.
        accept_encoding: its Accept-Encoding field.
        agent: its User-Agent field.
    """

    is_plain: bool
    is_ranged: bool = False
    accept_encoding: str = ""
    agent: bytes = b""

    @property
    def takes_gzip(self) -> bool:
        """Whether the answer may be compressed."""
        # A coded answer to a condition or a range would need validators of its own for every status.
        return not self.is_ranged and accepts_gzip(self.accept_encoding)

    @classmethod
    def by(cls, request: Request) -> Asked:
        """Read a request."""
        plain, ranged, encoding, agent = request.scope["method"] == "GET", False, "", b""
        for name, value in request.scope["headers"]:
            if name in _CONDITIONS:
                plain, ranged = False, ranged or name in _RANGES
            elif name == b"accept-encoding":
                encoding = f"{encoding},{value.decode('latin-1')}" if encoding else value.decode("latin-1")
            elif name == b"user-agent":
                agent = value
        return cls(plain, ranged, encoding, agent)


@functools.lru_cache(maxsize=KEPT)
def accepts_gzip(field: str) -> bool:
    """Tell whether an Accept-Encoding field allows gzip (RFC 9110 §12.5.3)."""
    found = _GZIP.search(field)
    return found is not None and (found["q"] is None or found["q"].strip("0.") != "")


class PreparedResponse(Response):
    """An answer of 200 whose header fields are there already.

    Args:
        headers: raw.
        body: all of it.
    """

    def __init__(self, headers: Headers, body: bytes | memoryview) -> None:
        self.background = None
        self._start = {"type": "http.response.start", "status": 200, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        await send(self._start)
        await send(self._body)


def text_response(asked: Asked, data: bytes, media_type: str, max_age: int, *, coded: bool) -> Response:
    """Answer with a playlist or a manifest.

    Args:
        asked: the request.
        data: its bytes.
        media_type: Content-Type.
        max_age: seconds for which caches may keep it.
        coded: whether gzip is acceptable.
    """
    body, tag = _compressed(data) if coded else (data, _tag(data))
    cache_control = f"public, max-age={max_age}"
    extra = ((b"vary", b"Accept-Encoding"), *(((b"content-encoding", b"gzip"),) if coded else ()))
    if asked.is_plain:
        return PreparedResponse(_headers(len(body), media_type, tag, cache_control, extra), body)
    headers = {name.decode(): value.decode() for name, value in extra}
    representation = BytesRepresentation(body, media_type, tag)
    return RepresentationResponse(representation, cache_control=cache_control, headers=headers)


def media_response(
    asked: Asked, data: bytes | memoryview, media_type: str, etag: str, cache_control: str
) -> Response:
    """Answer with an init segment, a segment or a part.

    Args:
        asked: the request.
        data: its bytes.
        media_type: Content-Type.
        etag: entity-tag, quotes included.
        cache_control: Cache-Control field.
    """
    if asked.is_plain:
        return PreparedResponse(_headers(len(data), media_type, etag, cache_control, ()), data)
    return RepresentationResponse(BytesRepresentation(data, media_type, etag), cache_control=cache_control)


@functools.lru_cache(maxsize=KEPT)
def _headers(size: int, media_type: str, etag: str, cache_control: str, extra: Headers) -> Headers:
    # Of a plain GET nothing depends on the bytes but their number.
    representation = BytesRepresentation(memoryview(b"").cast("B"), media_type, etag)
    representation.size = size
    fields = [(b"cache-control", cache_control.encode("latin-1")), *extra]
    return answer("GET", (), representation, time.time(), fields).headers


class _Kept(Generic[T]):
    """What was made of texts, for the latest ones within bounds of number and bytes."""

    def __init__(self, make: Callable[[bytes], T]) -> None:
        self._make = make
        self._made: OrderedDict[bytes, T] = OrderedDict()
        self._bytes = 0

    def __call__(self, data: bytes) -> T:
        """Make it, or give what was made of the same text."""
        if data in self._made:
            self._made.move_to_end(data)
            return self._made[data]
        made = self._made[data] = self._make(data)
        self._bytes += len(data)
        while len(self._made) > KEPT or (self._bytes > KEPT_BYTES and len(self._made) > 1):
            self._bytes -= len(self._made.popitem(last=False)[0])
        return made


def _make_tag(data: bytes) -> str:
    return f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def _compress(data: bytes) -> tuple[bytes, str]:
    coded = gzip.compress(data, GZIP_LEVEL, mtime=0)
    return coded, _make_tag(coded)


_tag = _Kept(_make_tag)
_compressed = _Kept(_compress)
