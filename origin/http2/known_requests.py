"""Requests that recur on a connection, known by the bytes of their header block.

A player asks for the same playlist again and again. Its header block then is the same bytes, which mean the
same as long as both sides keep the same table of fields (RFC 7541 §2.3.2): reading them once is enough. Its
segments and parts have addresses that are new each time, but all other bytes of their blocks recur: only the
path of such a request is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hpack import Decoder

from origin.answers.heads import ReplyHead, RepresentationHead
from origin.answers.memfd_cache import MemfdCopy
from origin.answers.pieces import Piece
from origin.answers.reply import Reply
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange
from origin.http1.handler_exchange import PreparedRequest
from origin.http1.request_reader import RequestHead
from origin.http2.frames import HEAD_BYTES, HEADERS, FrameHead
from origin.http2.header_block import encoded_fields, literal_path, read_string
from packager.bounded_dict import BoundedDict

BLOCKS_KEPT = 8
"""Most header blocks of a connection that are known, each with its request: a player has few playlists."""

HEADS_KEPT = 256
"""Most heads of replies whose header blocks are kept; each block has some hundred bytes."""

PATTERNS_KEPT = 4
"""Most forms of header blocks that differ in their path alone: a player's requests have two or three."""

MOST_BYTES = 512
"""Longest header block that is known."""

END_STREAM, END_HEADERS, PRIORITY = 0x1, 0x4, 0x20
"""RFC 9113 §6.2: flags of a HEADERS frame."""

PRIORITY_BYTES = 5

FIELD_BYTES = 32
"""RFC 9113 §6.5.2: what a field counts for beside its name and its value."""

PSEUDO_BYTES = 4096 + 256
"""More than pseudo-header fields count for beside method and path: an authority may be of the table of 4,096
bytes.
"""


def body_bytes(body: Sequence[Piece]) -> float:
    """Return how many bytes a body has; infinite where that isn't known before it is made."""
    size = 0
    for piece in body:
        if isinstance(piece, SelectedRange):
            size += piece.length
        elif isinstance(piece, bytes | memoryview):
            size += len(piece)
        else:
            return math.inf
    return size


def whole_body(reply: Reply) -> bytes | memoryview | None:
    """Return the body of a reply that lies in memory in one piece; None for any other reply."""
    body, source = reply.body, reply.source
    if reply.stream is not None or len(body) > 1:
        return None
    piece = body[0] if body else b""
    if isinstance(piece, bytes | memoryview):
        return piece if source is None else None
    if isinstance(source, MemfdCopy) and source.data is not None and isinstance(piece, SelectedRange):
        return source.data if piece is source.span else memoryview(source.data)[piece.first : piece.last + 1]
    return None


class HeadBlocks:
    """The header blocks of replies, which are the same on all connections until Date changes."""

    def __init__(self) -> None:
        self._blocks = BoundedDict[int, tuple[ReplyHead, bytes]](HEADS_KEPT)
        self._others: tuple[Headers, Headers] = (), ()

    def of(self, head: ReplyHead, dated: Headers, last: Headers) -> bytes:
        """Return the header block of a reply.

        Args:
            dated: the header fields of all replies of this second, in one object.
            last: further ones, which are always the same, in one object.
        """
        if self._others[0] is not dated or self._others[1] is not last:
            self._blocks.clear()
            self._others = dated, last
        found = self._blocks.get(id(head))
        # The head is kept with its block: another one can't have its identity meanwhile.
        if found is not None:
            return found[1]
        block = encoded_fields(((b":status", b"%d" % head.status), *dated, *head.fields, *last))
        if isinstance(head, RepresentationHead):
            self._blocks[id(head)] = head, block
        return block


class _Pattern(NamedTuple):
    """The bytes around the path in a header block that has come before.

    Attributes:
        prepared: the request of that block.
        size: most bytes of its fields but for the path, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    """

    before: bytes
    behind: bytes
    prepared: PreparedRequest
    size: int

    def target_of(self, block: bytes, most_bytes: int) -> bytes | None:
        """Return the path of a block that differs in it alone; None where the block has to be read."""
        if not (block.startswith(self.before) and block.endswith(self.behind)):
            return None
        start, end = len(self.before), len(block) - len(self.behind)
        target = read_string(block, start, end) if start < end else None
        return None if target is None or self.size + len(target) > most_bytes else target


class KnownRequests:
    """The requests of header blocks that were read on a connection.

    Args:
        decoder: reads the blocks of the connection, and keeps the table of fields.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._table = decoder.header_table
        self._requests = BoundedDict[bytes, PreparedRequest](BLOCKS_KEPT)
        self._patterns = BoundedDict[tuple[bytes, bytes], _Pattern](PATTERNS_KEPT)
        self._state = self._state_now()
        self._read = b""

    def find(self, block: bytes) -> PreparedRequest | None:
        """Return the request of a block; None where it has to be read."""
        state = self._state_now()
        if state[0] is not self._state[0] or state[1:] != self._state[1:]:
            # The same bytes may mean other fields now.
            self._requests.clear()
            self._patterns.clear()
            self._state = state
        self._read = block
        return self._requests.use(block) if block else None

    def similar(self, most_bytes: int) -> tuple[PreparedRequest, bytes] | None:
        """Return a request whose path alone differs from that of the block that was last looked for.

        Behind it stands the block's own path, which is any text, and isn't checked here.

        Args:
            most_bytes: of all fields, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
        """
        if not (block := self._read):
            return None
        for pattern in self._patterns.values():
            if (target := pattern.target_of(block, most_bytes)) is not None:
                return pattern.prepared, target
        return None

    def keep(self, prepared: PreparedRequest, head: RequestHead | None = None) -> None:
        """Keep the request of the block that was last looked for, until the table changes.

        Args:
            head: the request as it was read, whose further ones may differ in their path alone.
        """
        block, self._read = self._read, b""
        if block:
            self._requests[block] = prepared
            if head is not None and (place := literal_path(block)) is not None:
                self._keep_pattern(block[: place[0]], block[place[1] :], prepared, head)

    def _keep_pattern(
        self, before: bytes, behind: bytes, prepared: PreparedRequest, head: RequestHead
    ) -> None:
        size = PSEUDO_BYTES + len(head.method)
        size += sum(len(name) + len(value) + FIELD_BYTES for name, value in head.fields)
        self._patterns[before, behind] = _Pattern(before, behind, prepared, size)

    def _state_now(self) -> tuple[object, int, int]:
        """Return what differs whenever a field was added to the table, or removed."""
        entries = self._table.dynamic_entries
        return (entries[0] if entries else None), len(entries), self._table.maxsize


def whole_block(head: FrameHead, frame: bytes) -> bytes:
    """Return the header block of a frame that is a whole request without a body; b"" for any other frame."""
    start = HEAD_BYTES
    if head.kind != HEADERS or head.flags & ~PRIORITY != END_STREAM | END_HEADERS:
        return b""
    if head.flags & PRIORITY:
        # RFC 9113 §5.3.1: one that depends on itself is an error, which isn't found here.
        if int.from_bytes(frame[start : start + 4]) & 0x7FFF_FFFF == head.stream:
            return b""
        start += PRIORITY_BYTES
    return frame[start:] if len(frame) - start <= MOST_BYTES else b""
