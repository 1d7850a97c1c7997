"""A request for a file, a film or a live channel, as a wire shows it to a handler."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import msgspec

from origin.http.answer import Headers
from origin.http.byte_ranges import Span, plain_span
from origin.http.negotiation import RequestTraits

FIELDS_KEPT = 1024
"""Most blocks of header fields of which it is kept whether their clients accept gzip."""

CONDITIONS = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)
"""Names of the header fields that make a request conditional (RFC 9110 §13.1)."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestFields:
    """The header fields of a request. Equal blocks of a wire are one object, by which results can be cached.

    Attributes:
        fields: names in lower case, and values.
        is_conditional: whether there are preconditions or If-Range.
        has_range: whether there is a Range among the fields.
        is_last: whether the client wants the connection to be closed behind the reply.
    """

    fields: Headers
    is_conditional: bool = False
    has_range: bool = False
    is_last: bool = False


class Request(msgspec.Struct, frozen=True, gc=False):
    """A GET or HEAD request.

    Attributes:
        method: GET or HEAD.
        target: path and query as they were sent, percent-encoded.
        fields: the header fields, without the Range that `span` stands for.
        span: the parsed Range, if that is one range with a first position and the request isn't conditional.
        client: the address of the client; behind a trusted proxy the address that the proxy names.
    """

    method: str
    target: bytes
    fields: RequestFields
    span: Span | None = None
    client: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether the request is a GET for the whole of something, without preconditions."""
        fields = self.fields
        plain = self.method == "GET" and self.span is None
        return plain and not fields.has_range and not fields.is_conditional

    @property
    def takes_gzip(self) -> bool:
        """Whether the reply with a text may be compressed."""
        return self.span is None and _takes_gzip(self.fields)

    @property
    def all_fields(self) -> Headers:
        """The header fields with the Range."""
        if self.span is None:
            return self.fields.fields
        first, last = self.span
        value = b"bytes=%d-%b" % (first, b"" if last is None else b"%d" % last)
        return (*self.fields.fields, (b"range", value))


@functools.lru_cache(maxsize=FIELDS_KEPT)
def _takes_gzip(fields: RequestFields) -> bool:
    return RequestTraits.from_headers(fields.fields).takes_gzip


def request_from_headers(method: str, target: bytes, headers: Headers, client: str) -> Request:
    """Make a request of raw header fields, names in lower case."""
    fields = tuple(headers)
    ranges = [value for name, value in fields if name == b"range"]
    if len(ranges) == 1 and ranges[0].startswith(b"bytes="):
        span = plain_span(ranges[0][len(b"bytes=") :])
        others = _kept_fields(tuple(field for field in fields if field[0] != b"range"))
        if span is not None and not others.is_conditional:
            return Request(method, target, others, span, client)
    # Fields with a Range hardly ever recur.
    read = _read_fields if ranges else _kept_fields
    return Request(method, target, read(fields), None, client)


def _read_fields(fields: Headers) -> RequestFields:
    is_conditional = any(name in CONDITIONS for name, _ in fields)
    return RequestFields(fields, is_conditional, any(name == b"range" for name, _ in fields))


_kept_fields = functools.lru_cache(maxsize=FIELDS_KEPT)(_read_fields)
