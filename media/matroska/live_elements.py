"""Finds the elements of live Matroska and WebM (RFC 9559) in a stream's bytes, without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError
from media.matroska.blocks import BLOCK_HEADER_BYTES, DEFAULT_SCALE, block_header, timestamp_scale
from media.matroska.ebml import HEADER_BYTES, UNKNOWN_SIZE, Element, children, header, unsigned
from media.matroska.element_ids import (
    BLOCK,
    BLOCK_GROUP,
    CLUSTER,
    INFO,
    REFERENCE_BLOCK,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
)
from media.stream_reader import CLOCK_RATE, without_front

LONGEST_TIME = 1 << 62
"""Bound of times in nanoseconds."""

_TICKS, _NANOSECONDS = CLOCK_RATE // 10_000, 10**9 // 10_000
"""So many ticks are so many nanoseconds."""


ELEMENT_BYTES = 8 << 20
"""Largest element of a live stream: a key frame of 64 Mbit."""


class LiveElement(NamedTuple):
    """A complete element, or the begin of a segment or cluster, whose children follow as elements.

    Attributes:
        whole: the element's bytes; empty for a segment or cluster.
        payload: offset of the payload in them.
    """

    kind: int
    whole: bytes = b""
    payload: int = 0


class LiveBlock(NamedTuple):
    """The header of a block (§10).

    Attributes:
        nanoseconds: time of the first frame.
        is_key: whether no frame of the block refers to another one.
        lacing: bits of the flags; 0 for a block with one frame.
        begin: offset of the frames in the element's bytes, behind the header.
        end: offset behind the frames.
    """

    track: int
    nanoseconds: int
    is_key: bool
    lacing: int
    begin: int
    end: int


def ticks_of(nanoseconds: int) -> int:
    """Convert a time to ticks of 90 kHz, rounded to the nearest."""
    return (nanoseconds * _TICKS + _NANOSECONDS // 2) // _NANOSECONDS


class LiveElementReader:
    """Divides a stream into elements, and reads the times of its blocks.

    Attributes:
        cluster_time: of the newest cluster, in the stream's ticks.
    """

    def __init__(self, element_bytes: int = ELEMENT_BYTES) -> None:
        self._element_bytes = element_bytes
        self._buffer = bytearray()
        # Offset of the buffer in the stream.
        self._begin = 0
        self._scale = DEFAULT_SCALE
        self.cluster_time = 0

    @property
    def tick_nanoseconds(self) -> int:
        """Nanoseconds of the stream's ticks."""
        return self._scale

    def receive_data(self, data: bytes) -> Iterator[LiveElement]:
        """Parse the next bytes; yield the elements that they complete, which the caller must exhaust.

        Raises:
            MalformedError: the bytes are no such stream.
            TooLargeError: an element is too large.
        """
        self._buffer += data
        position = 0
        with memoryview(self._buffer) as view:
            while position < len(view):
                try:
                    element = header(view, position)
                except MalformedError:
                    if len(view) - position >= HEADER_BYTES:
                        raise MalformedError(f"no element at byte {self._begin + position}") from None
                    break
                if element.kind in (SEGMENT, CLUSTER):
                    position = element.payload
                    yield LiveElement(element.kind)
                    continue
                if element.size == UNKNOWN_SIZE:
                    raise MalformedError(f"element {element.kind:#x} of unknown size")
                if element.size > self._element_bytes:
                    raise TooLargeError(f"element {element.kind:#x} of {element.size} bytes")
                if element.end > len(view):
                    break
                whole = bytes(view[position : element.end])
                found = LiveElement(element.kind, whole, element.payload - position)
                position = element.end
                self._note(found)
                yield found
        self._buffer = without_front(self._buffer, position)
        self._begin += position

    def _note(self, found: LiveElement) -> None:
        """Note an element that times depend on."""
        kind, whole, payload = found
        if kind == TIMESTAMP:
            self.cluster_time = unsigned(whole, Element(kind, payload, len(whole) - payload))
            if self.cluster_time * self._scale >= LONGEST_TIME:
                raise MalformedError(f"a cluster at {self.cluster_time}")
        elif kind == INFO:
            self._scale = timestamp_scale(whole[payload:])

    def block(self, found: LiveElement) -> LiveBlock:
        """Read the header of a simple block or a block group.

        Raises:
            MalformedError: there is no block in the group, or no header in the block.
        """
        kind, whole, payload = found
        if kind == SIMPLE_BLOCK:
            start, end, is_key = payload, len(whole), None
        else:
            inside = list(children(whole, payload, len(whole)))
            block = next((one for one in inside if one.kind == BLOCK), None)
            if block is None:
                raise MalformedError("a group without a block")
            start, end = block.payload, block.end
            is_key = not any(one.kind == REFERENCE_BLOCK for one in inside)
        try:
            track, relative, flags, size = block_header(whole[start : min(end, start + BLOCK_HEADER_BYTES)])
        except IndexError:
            raise MalformedError("a block without a head") from None
        time = (self.cluster_time + relative) * self._scale
        return LiveBlock(
            track, time, bool(flags & 0x80) if is_key is None else is_key, flags & 0x06, start + size, end
        )


BLOCKS = frozenset((SIMPLE_BLOCK, BLOCK_GROUP))
"""Kinds of elements with a block."""
