"""Answering with a selected representation: preconditions, ranges and the sending of exactly those bytes.

`answer` decides, purely, what goes out; `RepresentationResponse` carries it out, by sendfile where the
server offers it and by a bounded copy where it doesn't (TLS).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiofiles
from starlette.responses import Response

from origin import byteranges, conditional
from origin.byteranges import ByteRange
from origin.zerocopy import ZERO_COPY, TruncatedFileError
from packager.storage import SETTLED_AFTER, LocalFile

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

COPY_STEP = 256 * 1024
"""Bytes of one step of a copy, which is what a slow client costs in memory."""

_BOUNDARY_BYTES = 16
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


class Representation(Protocol):
    """Bytes of known length with validators, of which any range can be read."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def etag(self) -> str | None:
        """Entity-tag as its field says it, or None."""

    @property
    def last_modified(self) -> float | None:
        """Seconds since the epoch, or None."""

    @property
    def media_type(self) -> str:
        """Content-Type."""

    def descriptor(self) -> int | None:
        """The descriptor of an open file that holds exactly these bytes, or None."""

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Up to `length` bytes from `offset`; none only where there are none any more."""

    async def close(self) -> None:
        """Release what it holds. Called once, when the answer has ended in whatever way."""


class _Reader(Protocol):
    async def seek(self, offset: int) -> int: ...

    async def read(self, length: int) -> bytes: ...


class FileRepresentation:
    """An open file of the library, which it owns and closes.

    Args:
        file: The open file.
        media_type: Its Content-Type.
        now: Seconds since the epoch, by which a file that changed just now gets a weak tag.
    """

    def __init__(self, file: LocalFile, media_type: str, now: float | None = None) -> None:
        self.size = file.size
        self.etag: str | None = file.validator(time.time() if now is None else now)
        self.last_modified: float | None = file.modified
        self.media_type = media_type
        self._file = file
        self._reader: _Reader | None = None
        self._reading: asyncio.Future[bytes] | None = None

    def descriptor(self) -> int | None:
        """The file's descriptor."""
        return self._file.fd

    async def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, read in a thread; b"" beyond the file's present end."""
        self._reading = asyncio.ensure_future(self._read(offset, length))
        # The thread goes on when the asker is cancelled: only `close` knows when the descriptor is free.
        return await asyncio.shield(self._reading)

    async def _read(self, offset: int, length: int) -> bytes:
        if self._reader is None:
            self._reader = await aiofiles.open(self._file.fd, "rb", buffering=0, closefd=False)
        await self._reader.seek(offset)
        return await self._reader.read(length)

    async def close(self) -> None:
        """Close the file, as soon as nothing reads from it any more."""
        try:
            if self._reading is not None:
                await asyncio.wait((self._reading,))
        finally:
            self._file.close()


class BytesRepresentation:
    """Bytes in memory.

    Args:
        data: The bytes, which nobody changes.
        media_type: Their Content-Type.
        etag: Entity-tag as its field says it, quotes included.
        last_modified: Seconds since the epoch.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        media_type: str,
        etag: str | None = None,
        last_modified: float | None = None,
    ) -> None:
        self.size = len(data)
        self.etag = etag
        self.last_modified = last_modified
        self.media_type = media_type
        self._data = data

    def descriptor(self) -> int | None:
        """None: there is no file."""
        return None

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """Up to `length` bytes from `offset`, without a copy where they are only a part."""
        if offset == 0 and length >= self.size:
            return self._data
        return memoryview(self._data)[offset : offset + length]

    async def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        headers: Raw header fields.
        body: Bytes to send as they are, and ranges of the representation, in this order.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes | ByteRange, ...] = ()


Headers = Sequence[tuple[bytes, bytes]]


def answer(
    method: str,
    request: Iterable[tuple[bytes, bytes]],
    representation: Representation,
    now: float,
    extra: Headers = (),
) -> Answer:
    """Decide the answer to a GET or HEAD for a representation that exists.

    Args:
        method: GET or HEAD.
        request: The request's raw header fields, names in lower case.
        representation: What was selected.
        now: Seconds since the epoch.
        extra: Raw header fields that every answer gets (Cache-Control and the like).

    Returns:
        The answer; its body is empty for HEAD, its Content-Length that of a GET (RFC 9110 §9.3.2).
    """
    fields = _fields(request)
    modified = representation.last_modified
    # RFC 9110 §8.8.2.1: never a Last-Modified in the future.
    validators = conditional.Validators(
        etag=representation.etag,
        last_modified=None if modified is None else int(min(modified, now)),
        date_is_strong=modified is not None and modified <= now - SETTLED_AFTER,
    )
    known = [*extra, *_validator_headers(validators)]
    outcome = conditional.Outcome.PROCEED
    if fields:
        outcome = conditional.evaluate(method, fields, validators, now)
    if outcome is conditional.Outcome.NOT_MODIFIED:
        # RFC 9110 §15.4.5: what a 200 would have said of validators and caching, and no content.
        return Answer(304, tuple(known))
    if outcome is conditional.Outcome.FAILED:
        return _refusal(method, 412, b"Precondition Failed\n", known)
    selection: byteranges.Selection = byteranges.WHOLE
    # RFC 9110 §14.2: ranges are defined for GET alone.
    field = fields.get("range") if method == "GET" else None
    # RFC 9110 §13.2.2, last step: If-Range decides whether there is a Range at all.
    if field is not None and conditional.range_applies(fields.get("if-range"), validators, now):
        selection = byteranges.select(field, representation.size, _part_overhead(representation))
    known.append((b"accept-ranges", b"bytes"))
    if isinstance(selection, byteranges.Unsatisfiable):
        known.append((b"content-range", byteranges.unsatisfied_range(representation.size).encode()))
        return _refusal(method, 416, b"Range Not Satisfiable\n", known)
    if isinstance(selection, byteranges.Partial):
        return _partial(representation, selection.ranges, known)
    known += _content(representation.media_type, representation.size)
    whole = method == "GET" and representation.size > 0
    return Answer(200, tuple(known), (ByteRange(0, representation.size - 1),) if whole else ())


def _fields(request: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in request:
        if name in _RELEVANT:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            # RFC 9110 §5.3: lines of one name are one list.
            fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


def _validator_headers(validators: conditional.Validators) -> list[tuple[bytes, bytes]]:
    headers = []
    if validators.etag is not None:
        headers.append((b"etag", validators.etag.encode("latin-1")))
    if validators.last_modified is not None:
        headers.append((b"last-modified", conditional.format_date(validators.last_modified).encode()))
    return headers


def _content(media_type: str, length: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    return ((b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % length))


def _refusal(method: str, status: int, text: bytes, headers: Headers) -> Answer:
    content = _content("text/plain; charset=utf-8", len(text))
    return Answer(status, (*headers, *content), (text,) if method == "GET" else ())


def _part_overhead(representation: Representation) -> int:
    last = ByteRange(max(representation.size - 1, 0), max(representation.size - 1, 0))
    boundary = "0" * (2 * _BOUNDARY_BYTES)
    return len(byteranges.part_header(last, representation.size, representation.media_type, boundary))


def _partial(
    representation: Representation, ranges: Sequence[ByteRange], known: list[tuple[bytes, bytes]]
) -> Answer:
    size, media_type = representation.size, representation.media_type
    if len(ranges) == 1:
        # RFC 9110 §15.3.7.1: one range is never sent as multipart.
        known.append((b"content-range", byteranges.content_range(ranges[0], size).encode()))
        return Answer(206, (*known, *_content(media_type, ranges[0].length)), (ranges[0],))
    # 128 random bits: nobody can put the boundary into a file, nor need a file be searched for it.
    boundary = secrets.token_hex(_BOUNDARY_BYTES)
    body: list[bytes | ByteRange] = []
    for part in ranges:
        body += (byteranges.part_header(part, size, media_type, boundary), part)
    body.append(byteranges.closing(boundary))
    length = sum(piece.length if isinstance(piece, ByteRange) else len(piece) for piece in body)
    # RFC 9110 §15.3.7.2: each part has a Content-Range, the whole has none.
    content = _content(f"multipart/byteranges; boundary={boundary}", length)
    return Answer(206, (*known, *content), tuple(body))


class RepresentationResponse(Response):
    """A response that any endpoint can return for a GET or HEAD.

    Args:
        representation: What to send; it is closed when the answer has ended, in whatever way.
        cache_control: Cache-Control field.
        headers: More fields, for every status.
    """

    def __init__(
        self,
        representation: Representation,
        *,
        cache_control: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.representation = representation
        extra = [] if cache_control is None else [("cache-control", cache_control)]
        extra += (headers or {}).items()
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in extra
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of `scope`."""
        del receive  # That a client has gone shows in the sending; a file needn't listen for it.
        try:
            reply = answer(
                scope["method"], scope["headers"], self.representation, time.time(), self.raw_headers
            )
            self.status_code = reply.status
            await send(
                {"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)}
            )
            descriptor = None
            if ZERO_COPY in scope.get("extensions", ()):
                descriptor = self.representation.descriptor()
            await self._send_body(reply.body, descriptor, send)
        finally:
            await self.representation.close()
        if self.background is not None:
            await self.background()

    async def _send_body(self, body: Sequence[bytes | ByteRange], descriptor: int | None, send: Send) -> None:
        for left, piece in enumerate(body, 1 - len(body)):
            more = left < 0
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": more})
            elif descriptor is None:
                await self._copy(piece, more, send)
            else:
                await send(
                    {
                        "type": ZERO_COPY,
                        "file": descriptor,
                        "offset": piece.first,
                        "count": piece.length,
                        "more_body": more,
                    }
                )
        if not body:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _copy(self, part: ByteRange, more: bool, send: Send) -> None:
        position = part.first
        while position <= part.last:
            length = min(COPY_STEP, part.last + 1 - position)
            data = await self.representation.read(position, length)
            if not data:
                raise TruncatedFileError(f"no bytes at {position} of {self.representation.size}")
            position += len(data)
            await send(
                {"type": "http.response.body", "body": data, "more_body": more or position <= part.last}
            )
