"""Divides Flash video (Adobe's FLV file format, version 10.1, annex E) into chunks for restarts of a decoder.

Finds sequence headers, key frames, and changes that a decoder can't follow: of codecs, of sizes, or jumps in
time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from media.errors import MalformedError
from media.stream_reader import CLOCK_RATE, StreamChunk, without_front

FILE_HEADER_BYTES = 9
FILE_HEADER = 13
"""Bytes before the first tag: the header (§E.2) and the size of the previous tag, 0."""

TAG_HEADER = 11
SIZE_BEHIND = 4
"""Each tag is followed by its size (§E.3)."""

MAX_TAG = 8 << 20
"""Largest tag in bytes: a key frame of 64 Mbit."""

AUDIO, VIDEO, SCRIPT = 8, 9, 18
CODEC_BITS = {AUDIO: 0xF0, VIDEO: 0x8F}
"""Which bits of a tag's first byte tell its codec, or that Enhanced RTMP tells it."""

ON_METADATA = b"\2\0\x0aonMetaData"
"""How a script tag begins that tells of the stream (§E.4.4.1, §E.5)."""

AVC, AAC, KEY_FRAME = 7, 10, 1
SEQUENCE_HEADER, CODED = 0, 1

TICKS = CLOCK_RATE // 1000
"""Clock ticks of a millisecond, the unit of timestamps."""

LATE = CLOCK_RATE
"""Clock ticks from the stream's beginning behind which the first sound or picture begins another one."""

LONGEST_STEP = 3000
"""Milliseconds by which timestamps may advance, or go back due to interleaving, between tags."""

Tag = tuple[int, int, bytes]
"""A tag's kind, its timestamp in milliseconds, modulo 2^32, and its body."""

_HEADER = struct.Struct(">II3x")
"""A tag's header: kind and size, the time, whose highest byte comes last, and a stream ID of 0 (§E.4.1)."""

_SIZE_FIELD = struct.Struct(">I")


class FlvReader:
    """Divides a stream at its key frames, without I/O; without video each audio tag is an access point."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._file_header = b""
        # By kind of tag: the newest that a decoder needs first.
        self._headers: dict[int, bytes] = {}
        self._seen_video = False
        self._time: int | None = None
        self._elapsed = 0
        self._jumped = False

    @property
    def signature(self) -> bytes:
        """The sequence headers."""
        tags = (self._headers.get(kind, b"") for kind in (VIDEO, AUDIO))
        return b"".join(map(_body, tags))

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Take the next bytes.

        Returns:
            Completed tags, in order; those between a jump in time and the next key frame are dropped, and
            scripts that aren't metadata.

        Raises:
            MalformedError: it isn't FLV.
        """
        self._buffer += data
        found: list[StreamChunk] = []
        if not self._file_header and len(self._buffer) >= FILE_HEADER:
            if self._buffer[:3] != b"FLV":
                raise MalformedError("no FLV header")
            self._file_header = bytes(self._buffer[:FILE_HEADER])
            del self._buffer[:FILE_HEADER]
            found.append(StreamChunk(self._file_header, header=True))
        # Tags of megabytes are copied once.
        with memoryview(self._buffer) as view:
            position = self._tags(view, found)
        self._buffer = without_front(self._buffer, position)
        return found

    def receive_tags(self, tags: Sequence[Tag]) -> list[StreamChunk]:
        """Take the next tags, behind the file's header and between two others.

        Returns:
            Chunks that have them as tags, too, but for what a new decoder is given first behind a change.
        """
        found: list[StreamChunk] = []
        begin, last = 0, self._time
        for index, tag in enumerate(tags):
            kind, time, body = tag
            if last is not None and len(body) > 1 and self._goes_on(kind, body[0], body[1], time - last):
                last = time
            else:
                self._join_tags(tags[begin:index], found)
                begin = index + 1
                chunks = self._tag(kind, time, write_tag(kind, time, body))
                tag = (kind, 0, body) if kind == SCRIPT else tag
                found += [chunks[0]._replace(tags=(tag,))] if len(chunks) == 1 else chunks
                last = self._time
        self._join_tags(tags[begin:], found)
        return found

    def _join_tags(self, tags: Sequence[Tag], found: list[StreamChunk]) -> None:
        """Give tags with which nothing begins as one chunk: a chunk costs as much as ten of them."""
        if tags:
            self._advance(tags[-1][1])
            found.append(StreamChunk(UnwrittenTags.of(tags), clock=self._elapsed, tags=tags))

    def _tags(self, view: memoryview, found: list[StreamChunk]) -> int:
        """Take the complete tags; return the offset behind them."""
        position = begin = 0
        while self._file_header and len(view) - position >= TAG_HEADER:
            kind, size, time = read_tag_header(view, position)
            if size > MAX_TAG:
                raise MalformedError(f"a tag of {size} bytes")
            body, end = position + TAG_HEADER, position + TAG_HEADER + size + SIZE_BEHIND
            if len(view) < end:
                break
            last = self._time
            if size > 1 and last is not None and self._goes_on(kind, view[body], view[body + 1], time - last):
                self._elapsed += TICKS * (time - last)
                self._time = time
            else:
                self._join(view[begin:position], found)
                found += self._tag(kind, time, bytes(view[position:end]))
                begin = end
            position = end
        self._join(view[begin:position], found)
        return position

    def _goes_on(self, kind: int, first: int, second: int, step: int) -> bool:
        """Tell by a tag's first bytes and its step in time whether nothing begins or changes: most are so."""
        if self._jumped or not self._seen_video or not -LONGEST_STEP <= step <= LONGEST_STEP:
            return False
        if kind == VIDEO:
            return first >> 4 != KEY_FRAME and (second != SEQUENCE_HEADER or first & 0x0F != AVC)
        return kind == AUDIO and (second != SEQUENCE_HEADER or first >> 4 != AAC)

    def _join(self, tags: memoryview, found: list[StreamChunk]) -> None:
        """Do the same with written tags."""
        if tags:
            found.append(StreamChunk(bytes(tags), clock=self._elapsed))

    def _advance(self, time: int) -> None:
        if self._time is not None:
            self._elapsed += TICKS * (time - self._time)
        self._time = time

    def _tag(self, kind: int, time: int, tag: bytes) -> list[StreamChunk]:
        if kind == SCRIPT:
            # ffmpeg takes other scripts, and metadata at any other time, for a stream of text.
            is_metadata = tag.startswith(ON_METADATA, TAG_HEADER)
            return self._header(kind, write_tag(kind, 0, _body(tag))) if is_metadata else []
        body = tag[TAG_HEADER : min(TAG_HEADER + 2, len(tag) - SIZE_BEHIND)]
        if _is_sequence_header(kind, body):
            return self._header(kind, tag)
        if kind not in (AUDIO, VIDEO):
            return [StreamChunk(tag)]
        if self._time is not None and abs(time - self._time) > LONGEST_STEP:
            self._jumped, self._time = True, time
        self._advance(time)
        self._seen_video |= kind == VIDEO
        access = _is_key_frame(body) if kind == VIDEO else not self._seen_video
        if self._jumped and not access:
            return []
        if self._jumped:
            self._jumped = False
            return [*self._anew(), StreamChunk(tag, access=True, clock=self._elapsed)]
        return [StreamChunk(tag, access=access, clock=self._elapsed)]

    def _header(self, kind: int, tag: bytes) -> list[StreamChunk]:
        former, self._headers[kind] = self._headers.get(kind), tag
        # Sound that comes late is none that a decoder of the stream so far knows of.
        is_known = self._elapsed < LATE if former is None else _body(former) == _body(tag)
        # What is repeated, perhaps at each key frame, isn't one more that a decoder needs first.
        return [StreamChunk(tag, header=former is None)] if kind == SCRIPT or is_known else self._anew()

    def _anew(self) -> list[StreamChunk]:
        """Return what a new decoder needs first."""
        tags = [self._headers[kind] for kind in (SCRIPT, VIDEO, AUDIO) if kind in self._headers]
        first = StreamChunk(self._file_header, header=True, changes=True)
        return [first, *(StreamChunk(tag, header=True) for tag in tags)]


class UnwrittenTags(NamedTuple):
    """Tags whose bytes are made only when somebody asks for them: of a copied stream hardly anybody does.

    Attributes:
        tags: these.
        size: of their bytes.
    """

    tags: Sequence[Tag]
    size: int

    @classmethod
    def of(cls, tags: Sequence[Tag]) -> UnwrittenTags:
        """Take these tags."""
        around = TAG_HEADER + SIZE_BEHIND
        return cls(tags, around * len(tags) + sum([len(body) for _, _, body in tags]))

    def pieces(self) -> list[bytes]:
        """Make the bytes, in pieces that are to be joined."""
        return _pieces(self.tags)


def file_header() -> bytes:
    """Write what stands before the first tag (§E.2), for audio and video."""
    return b"FLV\1\5" + FILE_HEADER_BYTES.to_bytes(4, "big") + bytes(SIZE_BEHIND)


def read_tag_header(data: memoryview, position: int) -> tuple[int, int, int]:
    """Read the header of a tag (§E.4.1): its kind, the size of its body, and its time in milliseconds."""
    head, time = _HEADER.unpack_from(data, position)
    return head >> 24 & 0x1F, head & 0xFFFFFF, time >> 8 | (time & 0xFF) << 24


def write_tag(kind: int, timestamp: int, body: bytes) -> bytes:
    """Write a tag (§E.4.1); timestamps are milliseconds, modulo 2^32."""
    return write_tags(((kind, timestamp, body),))


def write_tags(tags: Iterable[Tag]) -> bytes:
    """Write tags, one behind the other."""
    return b"".join(_pieces(tags))


def _pieces(tags: Iterable[Tag]) -> list[bytes]:
    pieces = list[bytes]()
    for kind, timestamp, body in tags:
        size = len(body)
        pieces.append(_HEADER.pack(kind << 24 | size, (timestamp & 0xFFFFFF) << 8 | timestamp >> 24))
        pieces.append(body)
        pieces.append(_SIZE_FIELD.pack(TAG_HEADER + size))
    return pieces


def _body(tag: bytes) -> bytes:
    return tag[TAG_HEADER:-SIZE_BEHIND]


def _is_sequence_header(kind: int, body: bytes) -> bool:
    """Tell by a tag's first bytes whether it has a decoder's configuration (§E.4.2.2, §E.4.3.2)."""
    if len(body) < 2 or body[1] != SEQUENCE_HEADER:
        return False
    return (kind == VIDEO and body[0] & 0x0F == AVC) or (kind == AUDIO and body[0] >> 4 == AAC)


def _is_key_frame(body: bytes) -> bool:
    coded = len(body) >= 2 and (body[0] & 0x0F != AVC or body[1] == CODED)
    return coded and body[0] >> 4 == KEY_FRAME
