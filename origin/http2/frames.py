"""Frames of HTTP/2: where each ends, and how many may come that carry nothing (RFC 9113 §4, §10.5).

The library h2 reads what is in them. It gets whole frames, few at a time, and only those that a client may
still send: an empty frame costs its sender nothing, and the reader as much as a request.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from origin.http.token_bucket import TokenBucket
from origin.http1.protocol import HTTP2_PREFACE
from origin.http_streams.stream import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR

HEAD_BYTES = 9
MOST_PAYLOAD = 16_384
"""RFC 9113 §4.2: longest payload of a frame where SETTINGS_MAX_FRAME_SIZE isn't sent."""

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x7, 0x9
PRIORITY_UPDATE = 0x10
"""RFC 9113 §6, RFC 9218 §7.1: types of frames."""

UNKNOWN = 0xFF
"""A type of frames that has no meaning, and is read as nothing (RFC 9113 §5.5)."""

GOAWAY_BYTES = 8
"""RFC 9113 §6.8: least payload of a GOAWAY frame."""


CONTROL_FRAMES, CONTROL_FRAMES_A_SECOND = 600, 50.0
"""Frames accepted in one go that carry neither a request nor bytes, and how many more in each second."""

QUICK_FRAMES, RESET_FRAMES = 100, 2
"""Frames of the control kinds that are read without a wait, and as how many of them a reset counts."""

EMPTY_FRAMES = "the client sends frames that carry nothing"
"""Reason for the end of a connection that has flooded."""

SETTINGS_BYTES = 384
"""Longest SETTINGS frame: each setting takes 6 bytes, and unknown ones are kept."""


ACK = 0x1
"""RFC 9113 §6.5: the flag of a SETTINGS frame that confirms settings, and has no payload."""


_HEAD = struct.Struct(">HBBBI")


class FrameHead(NamedTuple):
    """The head of a frame: the length of its payload in bytes, its type, its flags and its stream."""

    length: int
    kind: int
    flags: int
    stream: int

    @property
    def is_too_long(self) -> bool:
        """Whether the payload is longer than any frame's, or than this one's (RFC 9113 §4.2, §6.5)."""
        return self.length > (0 if self.kind == SETTINGS and self.flags & ACK else MOST_PAYLOAD)


PREFACE = FrameHead(len(HTTP2_PREFACE) - HEAD_BYTES, UNKNOWN, 0, 0)
"""The head in whose place the client's preface stands, before the first frame."""


def frame_head(data: bytes | bytearray, start: int) -> FrameHead:
    """Read the head of a frame, all bytes of which are there."""
    high, low, kind, flags, stream = _HEAD.unpack_from(data, start)
    return FrameHead(high << 8 | low, kind, flags, stream & 0x7FFF_FFFF)


def frame_start(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Make the head of a frame, before a payload of so many bytes."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def goaway_frame(last_stream: int, code: int) -> bytes:
    """Make a GOAWAY frame (RFC 9113 §6.8): h2's own would leave nothing to be sent on open streams."""
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last_stream.to_bytes(4) + code.to_bytes(4)


class FrameBudget:
    """Counts what a client sends besides requests and bytes.

    Args:
        header_bytes: most bytes of a block of header fields.
        clock: monotonic seconds.

    Attributes:
        is_hasty: whether more such frames have come lately than are read at once.
    """

    def __init__(self, header_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_hasty = False
        self._header_bytes = header_bytes
        # Bytes of the block of header fields that is being read, compressed as they are.
        self._block_bytes = 0
        # Frames sent to the client for which nothing is allowed yet.
        self._sent = 0
        self._control = TokenBucket(CONTROL_FRAMES, CONTROL_FRAMES_A_SECOND, clock)
        self._quick = TokenBucket(QUICK_FRAMES, CONTROL_FRAMES_A_SECOND, clock)

    def sent(self, frames: int) -> None:
        """Allow the updates of windows that frames to the client bring about."""
        self._sent += frames

    def admits(self, head: FrameHead) -> bool:
        """Count a frame of the client, and return whether it is accepted."""
        if head.kind in (HEADERS, CONTINUATION):
            self._block_bytes = head.length + (self._block_bytes if head.kind == CONTINUATION else 0)
            return self._block_bytes <= self._header_bytes and (head.kind == HEADERS or self._counts(1))
        if head.kind == DATA and head.length:
            return True
        if head.kind == SETTINGS and head.length > SETTINGS_BYTES:
            return False
        return self._counts(RESET_FRAMES if head.kind == RST_STREAM else 1)

    def _counts(self, cost: int) -> bool:
        allowed, self._sent = 2 * self._sent, 0
        self._control.add(allowed)
        self._quick.add(allowed)
        self._quick.add(1 - cost)
        self.is_hasty = self._quick.acquire() > 0
        return not self._control.acquire()


class RefusedFrameError(Exception):
    """A frame that ends the connection.

    Attributes:
        code: of the error, as a GOAWAY frame has it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class IncomingFrames:
    """The whole frames in the bytes of a client, as far as they are accepted.

    Args:
        header_bytes: most bytes of a block of header fields.

    Attributes:
        budget: counts what the client sends besides requests and bytes.
        unread: bytes of the client that aren't read yet.
        has_client_left: whether the client will send no more requests.
    """

    def __init__(self, header_bytes: int) -> None:
        self.budget = FrameBudget(header_bytes)
        self.unread = bytearray()
        self.has_client_left = False
        self._is_preface = True

    def read(self) -> tuple[FrameHead, bytes] | None:
        """Return the next frame; None where not all of it has come.

        Raises:
            RefusedFrameError: it isn't accepted.
        """
        unread, head = self.unread, PREFACE
        if not self._is_preface:
            if len(unread) < HEAD_BYTES:
                return None
            head = frame_head(unread, 0)
            if head.is_too_long:
                raise RefusedFrameError(FRAME_SIZE_ERROR, "a frame is too long")
        end = HEAD_BYTES + head.length
        if len(unread) < end:
            return None
        if self._is_preface:
            self._is_preface = False
        elif not self.budget.admits(head):
            raise RefusedFrameError(ENHANCE_YOUR_CALM, EMPTY_FRAMES)
        elif head.kind == GOAWAY and not head.stream and head.length >= GOAWAY_BYTES:
            # RFC 9113 §6.8: requests before it are still answered; h2 would send nothing more.
            self.has_client_left = True
            unread[3] = UNKNOWN
        frame = bytes(unread[:end])
        del unread[:end]
        return head, frame

    @property
    def has_next(self) -> bool:
        """Whether another frame has come, or one that is too long begins."""
        if self._is_preface or len(self.unread) < HEAD_BYTES:
            return self._is_preface and len(self.unread) >= len(HTTP2_PREFACE)
        head = frame_head(self.unread, 0)
        return head.is_too_long or len(self.unread) >= HEAD_BYTES + head.length

    @property
    def awaits_head(self) -> bool:
        """Whether a frame has begun that isn't bytes of a body, which have times of their own."""
        unread = self.unread
        return bool(unread) and not (len(unread) >= HEAD_BYTES and frame_head(unread, 0).kind == DATA)
