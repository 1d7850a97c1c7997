"""Decides the answer to a GET or HEAD for a representation: preconditions, then ranges (RFC 9110 §13.2.2).

Header fields and facts go in; a status, header fields and the parts of a body come out, without any I/O.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from origin.http import byte_ranges, conditional, multipart_ranges
from origin.http.byte_ranges import SelectedRange
from packager.library.storage_interface import SETTLED_AFTER

if TYPE_CHECKING:
    from origin.http.representation import RepresentationMetadata

VALIDATORS_KEPT = 256
"""Most validators whose header fields are cached."""

_RELEVANT = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
    }
)


class Answer(NamedTuple):
    """The answer to a request for a representation.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        body: bytes to send, and ranges of the representation, in this order.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes | SelectedRange, ...] = ()


Headers = Sequence[tuple[bytes, bytes]]


def answer(
    method: str,
    request: Iterable[tuple[bytes, bytes]],
    representation: RepresentationMetadata,
    now: float,
    extra: Headers = (),
) -> Answer:
    """Decide the answer to a GET or HEAD for a representation that exists.

    Args:
        method: GET or HEAD.
        request: the request's raw header fields, names in lower case.
        now: seconds since the epoch.
        extra: raw header fields of every answer, such as Cache-Control.

    Returns:
        The answer. For HEAD its body is empty, and its Content-Length is that of a GET (RFC 9110 §9.3.2).
    """
    fields = _fields(request)
    validators = _validators(representation, now)
    known = [*extra, *_validator_headers(validators)]
    outcome = conditional.PreconditionOutcome.PROCEED
    if len(fields) > ("range" in fields):
        outcome = conditional.evaluate(method, fields, validators, now)
    if outcome is conditional.PreconditionOutcome.NOT_MODIFIED:
        # RFC 9110 §15.4.5: a 304 has the validators and caching fields of a 200, and no content.
        return Answer(304, tuple(known))
    if outcome is conditional.PreconditionOutcome.FAILED:
        return _refusal(method, 412, b"Precondition Failed\n", known)
    selection: byte_ranges.Selection = byte_ranges.WHOLE
    # RFC 9110 §14.2: Range is only defined for GET.
    field = fields.get("range") if method == "GET" else None
    # RFC 9110 §13.2.2, last step: If-Range decides whether there is a Range at all.
    if field is not None and conditional.range_applies(fields.get("if-range"), validators, now):
        overhead = (
            multipart_ranges.part_overhead(representation.size, representation.media_type)
            if "," in field
            else 0
        )
        selection = byte_ranges.select(field, representation.size, overhead)
    known.append((b"accept-ranges", b"bytes"))
    if isinstance(selection, byte_ranges.Unsatisfiable):
        known.append((b"content-range", byte_ranges.unsatisfied_range(representation.size).encode()))
        return _refusal(method, 416, b"Range Not Satisfiable\n", known)
    if isinstance(selection, byte_ranges.Partial):
        return _partial(representation, selection.ranges, known)
    known += _content(representation.media_type, representation.size)
    whole = method == "GET" and representation.size > 0
    return Answer(200, tuple(known), (SelectedRange(0, representation.size - 1),) if whole else ())


def shared_headers(representation: RepresentationMetadata, extra: Headers, now: float) -> Headers:
    """Return the header fields that a 200 and a 206 with one range have in common, `extra` among them."""
    return (
        *extra,
        *_validator_headers(_validators(representation, now)),
        (b"accept-ranges", b"bytes"),
        (b"content-type", representation.media_type.encode("latin-1")),
    )


EARLIEST = -62_135_596_800
"""The year 1 in seconds since the epoch: HTTP has no earlier date (RFC 9110 §5.6.7), but a disk may."""


def _validators(representation: RepresentationMetadata, now: float) -> conditional.Validators:
    modified = representation.last_modified
    if modified is not None and modified < EARLIEST:
        modified = None
    if modified is None:
        return conditional.Validators(representation.etag)
    # RFC 9110 §8.8.2.1: Last-Modified must not lie in the future.
    shown = int(min(now, modified))
    return conditional.Validators(representation.etag, shown, modified <= now - SETTLED_AFTER)


def _fields(request: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in request:
        if name in _RELEVANT:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            # RFC 9110 §5.3: several lines of one name form one list.
            fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


@functools.lru_cache(maxsize=VALIDATORS_KEPT)
def _validator_headers(validators: conditional.Validators) -> Headers:
    headers = []
    if validators.etag is not None:
        headers.append((b"etag", validators.etag.encode("latin-1")))
    if validators.last_modified is not None:
        headers.append((b"last-modified", conditional.format_date(validators.last_modified).encode()))
    return tuple(headers)


def _content(media_type: str, length: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    return ((b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % length))


def _refusal(method: str, status: int, text: bytes, headers: Headers) -> Answer:
    content = _content("text/plain; charset=utf-8", len(text))
    # RFC 9111 §3: with the representation's Cache-Control, caches might send one client's refusal to others.
    kept = [field for field in headers if field[0] != b"cache-control"]
    return Answer(
        status, (*kept, (b"cache-control", b"no-store"), *content), (text,) if method == "GET" else ()
    )


def _partial(
    representation: RepresentationMetadata, ranges: Sequence[SelectedRange], known: list[tuple[bytes, bytes]]
) -> Answer:
    size, media_type = representation.size, representation.media_type
    if len(ranges) == 1:
        # RFC 9110 §15.3.7.1: one range is never sent as multipart.
        known.append((b"content-range", byte_ranges.content_range(ranges[0], size).encode()))
        return Answer(206, (*known, *_content(media_type, ranges[0].length)), (ranges[0],))
    boundary = multipart_ranges.make_boundary()
    body = multipart_ranges.multipart_body(ranges, size, media_type, boundary)
    length = sum(piece.length if isinstance(piece, SelectedRange) else len(piece) for piece in body)
    # RFC 9110 §15.3.7.2: each part has a Content-Range, and the response itself has none.
    content = _content(f"multipart/byteranges; boundary={boundary}", length)
    return Answer(206, (*known, *content), body)
