"""Requests that recur on a connection, known by the bytes of their header block.

A player asks for the same playlist again and again. Its header block then is the same bytes, which mean the
same as long as both sides keep the same table of fields (RFC 7541 §2.3.2): reading them once is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpack import Decoder

from origin.answers.heads import ReplyHead
from origin.answers.pieces import Piece
from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange
from origin.http1.fast_path import PreparedRequest
from origin.http2.frames import HEAD_BYTES, HEADERS, FrameHead
from origin.http2.header_block import encoded_fields

BLOCKS_KEPT = 8
"""Most header blocks of a connection that are known, each with its request: a player has few playlists."""

MOST_BYTES = 512
"""Longest header block that is known."""

END_STREAM, END_HEADERS, PRIORITY = 0x1, 0x4, 0x20
"""RFC 9113 §6.2: flags of a HEADERS frame."""

PRIORITY_BYTES = 5


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


class KnownRequest:
    """A request that has come before, with what of its reply is the same again.

    Attributes:
        prepared: the request with its handler.
        reply_block: the header block of its last reply, and the objects from which it was made.
    """

    __slots__ = ("prepared", "reply_block")

    def __init__(self, prepared: PreparedRequest) -> None:
        self.prepared = prepared
        self.reply_block: tuple[object, object, bytes] = (None, None, b"")

    def encoded_head(self, head: ReplyHead, dated: Headers, last: Headers) -> bytes:
        """Return the header block of a reply.

        Args:
            dated: the header fields of all replies of this second, in one object.
            last: further ones, which are always the same.
        """
        made_of, at, block = self.reply_block
        if made_of is not head or at is not dated:
            block = encoded_fields(((b":status", b"%d" % head.status), *dated, *head.fields, *last))
            self.reply_block = head, dated, block
        return block


class KnownRequests:
    """The requests of header blocks that were read on a connection.

    Args:
        decoder: reads the blocks of the connection, and keeps the table of fields.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._table = decoder.header_table
        self._requests: dict[bytes, KnownRequest] = {}
        self._state = self._state_now()
        self._read = b""

    def find(self, block: bytes) -> KnownRequest | None:
        """Return the request of a block; None where it has to be read."""
        state = self._state_now()
        if state[0] is not self._state[0] or state[1:] != self._state[1:]:
            # The same bytes may mean other fields now.
            self._requests.clear()
            self._state = state
        self._read = block
        return self._requests.get(block) if block else None

    def keep(self, prepared: PreparedRequest) -> None:
        """Keep the request of the block that was last looked for, until the table changes."""
        block, self._read = self._read, b""
        if block:
            if len(self._requests) >= BLOCKS_KEPT:
                del self._requests[next(iter(self._requests))]
            self._requests[block] = KnownRequest(prepared)

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
