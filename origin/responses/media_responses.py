"""Responses that many clients get alike, whose entity-tags, gzip coding and header lines are cached."""

from __future__ import annotations

import functools
import re
import time
from dataclasses import dataclass
from typing import NamedTuple

from starlette.responses import Response

from media.hls.precompressed_text import Pieces, rendered, size_of
from origin.http.answer import Headers, shared_headers
from origin.http1.fast_path import Reply, ResponseTemplate, encoded
from origin.http1.response_head import STATUS_LINE
from origin.responses import gzip_cache
from origin.responses.representation import (
    COPY_STEP,
    BytesRepresentation,
    PiecesRepresentation,
    RepresentationResponse,
)

KEPT = 256
"""Most response templates that are cached."""

FIELDS_KEPT = 256
"""Most parsed Accept-Encoding fields that are cached."""

_GZIP = re.compile(r"(?:^|,)\s*(?P<coding>gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)
_RANGES = frozenset((b"range", b"if-match", b"if-unmodified-since"))


@dataclass(frozen=True, slots=True)
class RequestTraits:
    """The header fields of a request that affect a cached response.

    Attributes:
        is_ranged: whether there is a Range, or a precondition that may fail.
        accept_encoding: the Accept-Encoding field.
        agent: the User-Agent field.
    """

    is_ranged: bool = False
    accept_encoding: str = ""
    agent: bytes = b""

    @property
    def takes_gzip(self) -> bool:
        """Whether the response may be compressed."""
        # A compressed response to a range or precondition would need its own validators for every status.
        return not self.is_ranged and accepts_gzip(self.accept_encoding)

    @classmethod
    def from_headers(cls, fields: Headers) -> RequestTraits:
        """Read a request's raw header fields, names in lower case."""
        ranged, encoding, agent = False, "", b""
        for name, value in fields:
            if name in _RANGES:
                ranged = True
            elif name == b"accept-encoding":
                encoding = f"{encoding},{value.decode('latin-1')}" if encoding else value.decode("latin-1")
            elif name == b"user-agent":
                agent = value
        return cls(ranged, encoding, agent)


class ResponseFrame(NamedTuple):
    """The header lines around a response's own header fields on the fast path.

    Attributes:
        common: current header lines of every response of the server, such as Date.
        common_headers: further header lines of every such response.
    """

    common: bytes
    common_headers: bytes

    def head(self, status: int, fields: Headers) -> bytes:
        """Encode a response head."""
        return b"%b%b%b%b\r\n" % (STATUS_LINE[status], self.common, encoded(fields), self.common_headers)


@functools.lru_cache(maxsize=FIELDS_KEPT)
def accepts_gzip(field: str) -> bool:
    """Return whether an Accept-Encoding field allows gzip (RFC 9110 §12.5.3)."""
    # RFC 9110 §12.5.3: "*" matches any coding that isn't listed.
    found = max(_GZIP.finditer(field), key=lambda named: named["coding"] != "*", default=None)
    return found is not None and (found["q"] is None or found["q"].strip("0.") != "")


def text_response(
    text: Pieces,
    media_type: str,
    max_age: int,
    *,
    coded: bool,
    immutable_tag: str | None = None,
    in_thread: bool = False,
) -> Response:
    """Return the response with a playlist, a manifest or captions.

    Args:
        media_type: Content-Type.
        max_age: seconds for which caches may keep it.
        coded: whether gzip is acceptable; texts that take long to compress are sent uncompressed.
        immutable_tag: entity-tag of content that never changes at its URL, otherwise None.
        in_thread: whether this runs in a thread, where long compression delays nobody else.
    """
    coded = coded and (in_thread or gzip_cache.is_quick(text))
    body, tag = _coded(text) if coded else (text, immutable_tag or gzip_cache.tag(text))
    headers = {name.decode(): value.decode() for name, value in _coding(coded=coded)}
    representation: BytesRepresentation | PiecesRepresentation
    if size_of(body) > COPY_STEP:
        representation = PiecesRepresentation(body, media_type, tag)
    else:
        representation = BytesRepresentation(b"".join(rendered(body)), media_type, tag)
    caching = _caching(max_age, immutable_tag)
    return RepresentationResponse(representation, cache_control=caching, headers=headers)


def text_reply(
    text: Pieces,
    media_type: str,
    max_age: int,
    frame: ResponseFrame,
    *,
    coded: bool,
    immutable_tag: str | None = None,
) -> Reply:
    """Return the response with a playlist for the fast path, to a GET without Range and preconditions.

    Args:
        frame: further header lines. The other arguments are those of `text_response`.
    """
    coded = coded and gzip_cache.is_quick(text)
    body, tag = _coded(text) if coded else (text, immutable_tag or gzip_cache.tag(text))
    bodies = rendered(body)
    size = sum(map(len, bodies))
    caching, common = _caching(max_age, immutable_tag), frame.common_headers
    template = _template(size, media_type, tag, caching, _coding(coded=coded), common)
    return Reply(200, (template.whole(frame.common), *bodies), size)


def init_reply(data: bytes, media_type: str, cache_control: str, frame: ResponseFrame) -> Reply:
    """Return the response with an init segment for the fast path.

    Args:
        media_type: Content-Type.
        cache_control: Cache-Control field.
        frame: the header lines that all responses of the server have.
    """
    tag, common = gzip_cache.tag((data,)), frame.common_headers
    template = media_template(len(data), media_type, tag, cache_control, common)
    return Reply(200, (template.whole(frame.common), data), len(data))


class LatestReply:
    """Keeps the latest reply with a playlist, which all clients waiting for a part get."""

    __slots__ = ("_made_of", "_reply")

    def __init__(self) -> None:
        self._made_of: tuple[Pieces, bytes, int, bool] = ((), b"", 0, False)
        self._reply: Reply | None = None

    def reply(
        self, text: Pieces, media_type: str, max_age: int, frame: ResponseFrame, *, coded: bool
    ) -> Reply:
        """Return the kept reply or make it, as `text_reply` does; `media_type` must not change."""
        latest, common, age, was_coded = self._made_of
        same = latest is text and common is frame.common and age == max_age and was_coded is coded
        if self._reply is None or not same:
            self._made_of = text, frame.common, max_age, coded
            self._reply = text_reply(text, media_type, max_age, frame, coded=coded)
        return self._reply


def media_response(data: bytes | memoryview, media_type: str, etag: str, cache_control: str) -> Response:
    """Return the response with an init segment, a segment or a part.

    Args:
        media_type: Content-Type.
        etag: the entity-tag with its quotes.
        cache_control: Cache-Control field.
    """
    return RepresentationResponse(BytesRepresentation(data, media_type, etag), cache_control=cache_control)


def media_template(
    size: int, media_type: str, etag: str, cache_control: str, common_headers: bytes
) -> ResponseTemplate:
    """Return the template of a response with media for the fast path, to a GET without Range.

    Args:
        size: length of the content in bytes.
        etag: the entity-tag with its quotes.
        common_headers: header lines of every response of the server.
    """
    return _template(size, media_type, etag, cache_control, (), common_headers)


def reply_from_response(response: Response, frame: ResponseFrame) -> Reply:
    """Convert an application's response into a reply of the fast path."""
    head = frame.head(response.status_code, response.raw_headers)
    return Reply(response.status_code, (head, bytes(response.body)), len(response.body))


def _coded(text: Pieces) -> tuple[Pieces, str]:
    return (gzip_cache.gzip(text),), gzip_cache.gzip_tag(text)


def _caching(max_age: int, immutable_tag: str | None) -> str:
    return f"public, max-age={max_age}{', immutable' if immutable_tag else ''}"


def _coding(*, coded: bool) -> Headers:
    return _CODED if coded else _UNCODED


_UNCODED: Headers = ((b"vary", b"Accept-Encoding"),)
_CODED: Headers = (*_UNCODED, (b"content-encoding", b"gzip"))


@functools.lru_cache(maxsize=KEPT)
def _template(
    size: int, media_type: str, etag: str, cache_control: str, extra: Headers, common_headers: bytes
) -> ResponseTemplate:
    # The header of a plain GET depends only on the content's length.
    representation = BytesRepresentation(b"", media_type, etag)
    fields = [(b"cache-control", cache_control.encode("latin-1")), *extra]
    return ResponseTemplate(
        size, encoded(shared_headers(representation, fields, time.time())) + common_headers
    )
