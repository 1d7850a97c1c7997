"""Replies with a representation: preconditions and ranges are decided, and the usual heads encoded once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from media.hls.precompressed_text import Pieces, Unrendered, rendered, size_of
from origin.answers import gzip_cache
from origin.answers.byte_sources import COPY_STEP, PiecesSource
from origin.answers.heads import PlainHead, RepresentationHead
from origin.answers.pieces import Piece
from origin.answers.reply import ByteSource, Repeatable, Reply
from origin.answers.request import Request
from origin.http.answer import Headers, answer, shared_headers
from origin.http.byte_ranges import SelectedRange, select_span
from origin.http.representation import RepresentationMetadata

HEADS_KEPT = 256
"""Most heads of media and texts that are cached."""

PiecesOf = Callable[[SelectedRange], Sequence[Piece]]
"""Returns the places of a range of a representation: in memory, or in the file that is the reply's source."""


def same_range(part: SelectedRange) -> Sequence[Piece]:
    """Return the place of a range of a representation that is a whole file."""
    return (part,)


class RepresentationReplies:
    """Replies with one representation, whose usual heads are encoded once.

    Args:
        representation: the size, the validators and the media type.
        headers: raw header fields of every reply, such as Cache-Control.
        now: seconds since the epoch.
        pieces_of: finds the bytes of a range.
    """

    __slots__ = ("_headers", "_pieces_of", "head", "representation", "size")

    def __init__(
        self,
        representation: RepresentationMetadata,
        headers: Headers,
        now: float,
        pieces_of: PiecesOf = same_range,
    ) -> None:
        self.representation = representation
        self.size = representation.size
        self._headers = tuple(headers)
        self._pieces_of = pieces_of
        self.head = RepresentationHead(self.size, shared_headers(representation, headers, now))

    def reply(self, request: Request, source: ByteSource | None, repeat: Repeatable | None = None) -> Reply:
        """Decide the reply to a request, by the rules of `origin/http/answer.py`.

        Args:
            source: the file or the like to which ranges of `pieces_of` refer; the reply releases the source.
            repeat: answers the same request again.
        """
        fields, span, size = request.fields, request.span, self.size
        if request.method == "GET" and not fields.is_conditional and not fields.has_range:
            part = SelectedRange(0, size - 1) if span is None else select_span(span, size)
            if part is not None and size:
                head = self.head if span is None else self.head.part(part)
                return Reply(head, self._pieces_of(part), source, None, repeat)
        asked = fields.fields if span is None else request.all_fields
        decided = answer(request.method, asked, self.representation, time.time(), self._headers)
        body: list[Piece] = []
        for piece in decided.body:
            if isinstance(piece, SelectedRange):
                body += self._pieces_of(piece)
            else:
                body.append(piece)
        return Reply(PlainHead(decided.status, decided.headers), body, source)


async def with_first_bytes(reply: Reply) -> Reply:
    """Read the first bytes of a reply, unless the kernel can send them from a descriptor.

    A source that can't be read can still be refused then; a reply that has begun could only be cut.

    Raises:
        OSError: the bytes can't be read; the reply is released.
    """
    source = reply.source
    if source is None or source.descriptor() is not None:
        return reply
    for at, piece in enumerate(reply.body):
        if isinstance(piece, SelectedRange):
            try:
                data = await source.read(piece.first, min(COPY_STEP, piece.length))
            except BaseException:
                reply.release()
                raise
            rest = (SelectedRange(piece.first + len(data), piece.last),) if len(data) < piece.length else ()
            return reply._replace(body=(*reply.body[:at], data, *rest, *reply.body[at + 1 :]))
    return reply


def media_reply(
    request: Request, data: bytes | memoryview, media_type: str, etag: str, cache_control: str
) -> Reply:
    """Return the reply with an init segment, a segment or a part from memory.

    Args:
        etag: the entity-tag with its quotes.
    """
    headers = ((b"cache-control", cache_control.encode("latin-1")),)
    return memory_reply(request, (data,), RepresentationMetadata(len(data), media_type, etag), headers)


def text_reply(
    request: Request,
    text: Pieces,
    media_type: str,
    max_age: int,
    *,
    coded: bool,
    immutable_tag: str | None = None,
    in_thread: bool = False,
    fields: Headers = (),
) -> Reply:
    """Return the reply with a playlist, a manifest or captions.

    Args:
        max_age: seconds for which caches may keep it.
        coded: whether gzip is acceptable; texts that take long to compress are sent uncompressed.
        immutable_tag: entity-tag of content that never changes at its URL, otherwise None.
        in_thread: whether this runs in a thread, where long compression delays nobody else.
        fields: header fields beside those of the text.
    """
    coded = coded and (in_thread or gzip_cache.is_quick(text))
    body: Pieces
    if coded:
        body, tag = (gzip_cache.gzip(text),), gzip_cache.gzip_tag(text)
    else:
        body, tag = text, gzip_cache.tag(text) if immutable_tag is None else immutable_tag
    caching = f"public, max-age={max_age}{'' if immutable_tag is None else ', immutable'}"
    headers = ((b"cache-control", caching.encode("latin-1")), *(_CODED if coded else _UNCODED), *fields)
    size = size_of(body)
    metadata = RepresentationMetadata(size, media_type, tag)
    # All of a text that is in memory goes at once; one that is rendered for its reader goes in steps.
    at_once = request.is_plain and not any(isinstance(piece, Unrendered) for piece in body)
    if size > COPY_STEP and not at_once:
        replies = RepresentationReplies(metadata, headers, time.time())
        return replies.reply(request, PiecesSource(body))
    return memory_reply(request, tuple(rendered(body)), metadata, headers)


_UNCODED: Headers = ((b"vary", b"Accept-Encoding"),)
_CODED: Headers = (*_UNCODED, (b"content-encoding", b"gzip"))


def media_head(metadata: RepresentationMetadata, cache_control: str) -> RepresentationHead:
    """Return the head of the 200 with media from memory or from a copy of them."""
    return _head(metadata, ((b"cache-control", cache_control.encode("latin-1")),))


def memory_reply(
    request: Request, pieces: Sequence[bytes | memoryview], metadata: RepresentationMetadata, headers: Headers
) -> Reply:
    """Return the reply with a representation that is in memory, in pieces.

    Args:
        headers: raw header fields of every reply, such as Cache-Control; hashable.
    """
    if request.is_plain:
        # The head of a plain GET depends only on what is said of the representation.
        return Reply(_head(metadata, headers), pieces)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    view = memoryview(data)

    def pieces_of(part: SelectedRange) -> Sequence[Piece]:
        return (view[part.first : part.last + 1],)

    return RepresentationReplies(metadata, headers, time.time(), pieces_of).reply(request, None)


@functools.lru_cache(maxsize=HEADS_KEPT)
def _head(metadata: RepresentationMetadata, headers: Headers) -> RepresentationHead:
    return RepresentationHead(metadata.size, shared_headers(metadata, headers, time.time()))
