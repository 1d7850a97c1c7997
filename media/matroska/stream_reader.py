"""Divides live Matroska and WebM (RFC 9559) into chunks for restarts of a decoder.

Its head and its blocks alone are passed on. A new cluster of unknown size (RFC 8794 §6.2) begins at each key
frame, wherever the publisher's own begin, so that a decoder can join there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.matroska.blocks import BLOCK_HEADER_BYTES, DEFAULT_SCALE, block_header, timestamp_scale
from media.matroska.ebml import (
    HEADER_BYTES,
    UNKNOWN_SIZE,
    UNKNOWN_SIZE_BYTES,
    Element,
    children,
    header,
    unsigned,
)
from media.matroska.element_ids import (
    BLOCK,
    BLOCK_GROUP,
    CLUSTER,
    EBML,
    INFO,
    REFERENCE_BLOCK,
    SEGMENT,
    SIMPLE_BLOCK,
    TIMESTAMP,
    TRACKS,
)
from media.matroska.tracks import AUDIO, VIDEO, MatroskaTrack, parse_tracks
from media.stream_reader import CLOCK_RATE, MediaClock, StreamChunk, without_front

LONGEST_TIME = 1 << 62
"""Bound of times in nanoseconds."""

_SEGMENT_HEAD = SEGMENT.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES
_CLUSTER_HEAD = CLUSTER.to_bytes(4, "big") + UNKNOWN_SIZE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class MatroskaStreamLimits:
    """Limits of a stream that is divided into chunks.

    Attributes:
        element_bytes: Largest element that is taken: a key frame of 64 Mbit.
    """

    element_bytes: int = 8 << 20


DEFAULT_LIMITS = MatroskaStreamLimits()


class MatroskaStreamReader:
    """Divides a stream at its key frames, without I/O; without video each block is an access point."""

    def __init__(self, limits: MatroskaStreamLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._ebml = self._info = self._tracks_element = b""
        self._head = b""
        self._scale = DEFAULT_SCALE
        self._kinds: dict[int, int] = {}
        self._leading = 0
        self._signature = b""
        self._cluster_time = 0
        self._cluster_is_open = False
        self._clock = MediaClock()

    @property
    def signature(self) -> bytes:
        """The tracks' codecs, with their configurations and sizes."""
        return self._signature

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            Blocks that they complete, in order; those between a jump in time and the next key frame are
            dropped.

        Raises:
            MediaError: it is no such stream.
        """
        self._buffer += data
        found: list[StreamChunk] = []
        with memoryview(self._buffer) as view:
            position = self._elements(view, found)
        self._buffer = without_front(self._buffer, position)
        return found

    def _elements(self, view: memoryview, found: list[StreamChunk]) -> int:
        """Parse the complete elements; return the offset behind them."""
        position = 0
        while position < len(view):
            try:
                element = header(view, position)
            except MalformedError:
                if len(view) - position >= HEADER_BYTES:
                    raise
                break
            if element.kind in (SEGMENT, CLUSTER):
                self._cluster_is_open = False
                position = element.payload
                continue
            if element.size == UNKNOWN_SIZE:
                raise MalformedError(f"element {element.kind:#x} of unknown size")
            if element.size > self._limits.element_bytes:
                raise TooLargeError(f"element {element.kind:#x} of {element.size} bytes")
            if element.end > len(view):
                break
            found += self._push_element(
                element.kind, bytes(view[position : element.end]), element.payload - position
            )
            position = element.end
        return position

    def _push_element(self, kind: int, whole: bytes, payload: int) -> list[StreamChunk]:
        if kind in (SIMPLE_BLOCK, BLOCK_GROUP):
            return self._block(kind, whole, payload)
        if kind == TIMESTAMP:
            self._cluster_time = unsigned(whole, Element(kind, payload, len(whole) - payload))
            if self._cluster_time * self._scale >= LONGEST_TIME:
                raise MalformedError(f"a cluster at {self._cluster_time}")
        elif kind == EBML:
            self._ebml, self._info, self._tracks_element = whole, b"", b""
        elif kind == INFO:
            self._info, self._scale = whole, timestamp_scale(whole[payload:])
        elif kind == TRACKS:
            self._tracks_element = whole
            return self._begin(parse_tracks(whole[payload:]))
        return []

    def _begin(self, tracks: tuple[MatroskaTrack, ...]) -> list[StreamChunk]:
        if any(track.encrypted for track in tracks):
            raise UnsupportedError("its tracks are encrypted")
        head = self._ebml + _SEGMENT_HEAD + self._info + self._tracks_element
        if head == self._head:
            return []
        changes, self._head = bool(self._head), head
        self._clock.restart()
        self._kinds = {track.number: track.kind for track in tracks if track.kind in (VIDEO, AUDIO)}
        videos = [number for number, kind in self._kinds.items() if kind == VIDEO]
        self._leading = next(iter(videos or self._kinds), 0)
        self._signature = b"".join(
            repr((one.kind, one.codec, one.pixels, one.sample_rate, one.channels)).encode() + one.private
            for one in tracks
        )
        self._cluster_is_open = False
        return [StreamChunk(self._head, header=True, changes=changes)]

    def _block(self, kind: int, whole: bytes, payload: int) -> list[StreamChunk]:
        number, relative, is_key = _block_facts(kind, whole, payload)
        if number not in self._kinds:
            return []
        access = is_key and number == self._leading
        if number == self._leading:
            nanoseconds = (self._cluster_time + relative) * self._scale
            self._clock.advance(nanoseconds * CLOCK_RATE // 10**9)
        if self._clock.jumped and not access:
            return []
        head = []
        if self._clock.jumped:
            self._clock.resume()
            head = [StreamChunk(self._head, header=True, changes=True)]
        if access or not self._cluster_is_open:
            self._cluster_is_open = True
            whole = _cluster_head(self._cluster_time) + whole
        return [*head, StreamChunk(whole, access=access, clock=self._clock.elapsed)]


def _cluster_head(time: int) -> bytes:
    return _CLUSTER_HEAD + struct.pack(">BBQ", TIMESTAMP, 0x88, time)


def _block_facts(kind: int, whole: bytes, payload: int) -> tuple[int, int, bool]:
    """Read a block's track, its time relative to its cluster's, and whether it is a key frame (§10)."""
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
        track, relative, flags, _ = block_header(whole[start : min(end, start + BLOCK_HEADER_BYTES)])
    except IndexError:
        raise MalformedError("a block without a head") from None
    return track, relative, bool(flags & 0x80) if is_key is None else is_key
