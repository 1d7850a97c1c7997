"""Divides FLV into chunks for restarts of a decoder, without I/O.

Finds sequence headers, key frames, and changes that a decoder can't follow: of codecs, of sizes, or jumps in
time; in legacy tags, and in those of Enhanced RTMP.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.errors import MalformedError
from media.flv.audio_video_tags import PacketKind, has_enhanced_header, has_track_numbers, read_packets
from media.flv.tags import (
    AAC,
    AUDIO,
    AVC,
    CODED,
    DEFAULT_LIMITS,
    FILE_HEADER,
    KEY_FRAME,
    ON_METADATA,
    SCRIPT,
    SEQUENCE_HEADER,
    SIZE_BEHIND,
    TAG_HEADER,
    TICKS,
    VIDEO,
    FlvLimits,
    Tag,
    UnwrittenTags,
    complete_tags,
    write_tag,
)
from media.stream_reader import CLOCK_RATE, StreamChunk, without_front

LATE = CLOCK_RATE
"""Clock ticks from the stream's beginning after which the first audio or video tag is a change of tracks."""

LONGEST_STEP = 3000
"""Milliseconds by which timestamps may advance, or go back due to interleaving, between tags."""


class FlvReader:
    """Divides a stream at its key frames, without I/O; without video each audio tag is an access point."""

    def __init__(self, limits: FlvLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._file_header = b""
        # By kind of tag: the newest sequence header, and its decoder-relevant part.
        self._headers: dict[int, bytes] = {}
        self._told: dict[int, bytes] = {}
        # By kind: the FourCC of Enhanced RTMP's header, or nothing in legacy tags.
        self._codecs: dict[int, str] = {}
        # Kinds and first bytes of Enhanced RTMP tags that aren't access points.
        self._continuing = set[tuple[int, int, int]]()
        self._seen_video = False
        self._time: int | None = None
        self._elapsed = 0
        self._jumped = False

    @property
    def signature(self) -> bytes:
        """The sequence headers, and the codecs of Enhanced RTMP, some of which have no header."""
        kinds = (VIDEO, AUDIO)
        codecs = "".join(self._codecs.get(kind, "") for kind in kinds).encode("latin-1")
        return b"".join(self._told.get(kind, b"") for kind in kinds) + codecs

    @property
    def is_enhanced(self) -> bool:
        """Whether a track uses Enhanced RTMP's tags, which old versions of ffmpeg misread."""
        return any(self._codecs.values())

    def receive_data(self, data: bytes) -> list[StreamChunk]:
        """Parse the next bytes.

        Returns:
            Completed tags, in order; those between a jump in time and the next key frame are dropped, scripts
            that aren't metadata, and what Enhanced RTMP has beside the first track's frames.

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
        """Parse the next tags; they follow the file's header and complete tags.

        Returns:
            Chunks with ``tags``, except for the headers that a new decoder needs after a change.
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
        """Emit tags that aren't access points as one chunk: a chunk costs as much as ten of them."""
        if tags:
            self._advance(tags[-1][1])
            found.append(StreamChunk(UnwrittenTags.of(tags), clock=self._elapsed, tags=tags))

    def _tags(self, view: memoryview, found: list[StreamChunk]) -> int:
        """Parse the complete tags; return the offset behind them."""
        position = begin = 0
        tags = complete_tags(view, position, self._limits) if self._file_header else ()
        for kind, time, body, end in tags:
            tag, position = position, end + SIZE_BEHIND
            last, has_two = self._time, end - body > 1
            if has_two and last is not None and self._goes_on(kind, view[body], view[body + 1], time - last):
                self._elapsed += TICKS * (time - last)
                self._time = time
            else:
                self._join(view[begin:tag], found)
                found += self._tag(kind, time, bytes(view[tag:position]))
                begin = position
        self._join(view[begin:position], found)
        return position

    def _goes_on(self, kind: int, first: int, second: int, step: int) -> bool:
        """Return whether a tag, by its first bytes and time, is neither access point nor change: most are."""
        if self._jumped or not self._seen_video or not -LONGEST_STEP <= step <= LONGEST_STEP:
            return False
        if kind == VIDEO:
            if first & 0x80:
                return (kind, first, second) in self._continuing
            return first >> 4 != KEY_FRAME and (second != SEQUENCE_HEADER or first & 0x0F != AVC)
        if first >> 4 == 9:
            return (kind, first, second) in self._continuing
        return kind == AUDIO and (second != SEQUENCE_HEADER or first >> 4 != AAC)

    def _join(self, tags: memoryview, found: list[StreamChunk]) -> None:
        """Emit serialized tags that aren't access points as one chunk, as ``_join_tags`` does."""
        if tags:
            found.append(StreamChunk(bytes(tags), clock=self._elapsed))

    def _advance(self, time: int) -> None:
        if self._time is not None:
            self._elapsed += TICKS * (time - self._time)
        self._time = time

    def _tag(self, kind: int, time: int, tag: bytes) -> list[StreamChunk]:
        if kind == SCRIPT:
            # ffmpeg mistakes other scripts, and metadata at any other time, for a stream of text.
            is_metadata, text = tag.startswith(ON_METADATA, TAG_HEADER), _body(tag)
            return self._header(kind, write_tag(kind, 0, text), text) if is_metadata else []
        if kind not in (AUDIO, VIDEO):
            return [StreamChunk(tag)]
        body = tag[TAG_HEADER : min(TAG_HEADER + 2, len(tag) - SIZE_BEHIND)]
        if body and has_enhanced_header(kind, body[0]):
            return self._enhanced(kind, time, tag)
        if _is_sequence_header(kind, body):
            self._codecs[kind] = ""
            return self._header(kind, tag, _body(tag))
        return self._frame(kind, time, tag, is_key=kind == VIDEO and _is_key_frame(body))

    def _enhanced(self, kind: int, time: int, tag: bytes) -> list[StreamChunk]:
        """Process a tag of Enhanced RTMP."""
        body = _body(tag)
        of_first = (one for one in read_packets(kind, body) if not one.track)
        packet = next((one for one in of_first if one.kind is not PacketKind.OTHER), None)
        if packet is None:
            # Other tracks, and messages beside the frames: ffmpeg would mistake them for other codecs.
            return []
        former, was_enhanced = self._codecs.get(kind), self.is_enhanced
        self._codecs[kind] = packet.codec
        if former != packet.codec:
            self._continuing = {one for one in self._continuing if one[0] != kind}
        # The chunks so far were for a decoder that doesn't know such tags.
        changes = not was_enhanced and self._time is not None
        if packet.kind is PacketKind.CONFIGURATION:
            return self._header(kind, tag, packet.told, changes=changes)
        if former != packet.codec:
            # Some codecs of sound have no header.
            changes = changes or former is not None or self._elapsed >= LATE
            self._headers.pop(kind, None)
            self._told.pop(kind, None)
        elif not has_track_numbers(kind, body) and not (kind == VIDEO and packet.is_key):
            self._continuing.add((kind, body[0], body[1]))
        anew = self._anew() if changes and former != packet.codec else []
        return anew + self._frame(kind, time, tag, is_key=kind == VIDEO and packet.is_key)

    def _frame(self, kind: int, time: int, tag: bytes, *, is_key: bool) -> list[StreamChunk]:
        """Process an audio or video frame."""
        if self._time is not None and abs(time - self._time) > LONGEST_STEP:
            self._jumped, self._time = True, time
        self._advance(time)
        self._seen_video |= kind == VIDEO
        access = is_key if kind == VIDEO else not self._seen_video
        if self._jumped and not access:
            return []
        if self._jumped:
            self._jumped = False
            return [*self._anew(), StreamChunk(tag, access=True, clock=self._elapsed)]
        return [StreamChunk(tag, access=access, clock=self._elapsed)]

    def _header(self, kind: int, tag: bytes, told: bytes, *, changes: bool = False) -> list[StreamChunk]:
        """Process a sequence header; with ``changes``, no decoder can continue in any case."""
        former, self._told[kind], self._headers[kind] = self._told.get(kind), told, tag
        # A running decoder doesn't know of audio that begins late.
        is_known = not changes and (self._elapsed < LATE if former is None else former == told)
        # A header that is repeated, perhaps at each key frame, isn't emitted again.
        return [StreamChunk(tag, header=former is None)] if kind == SCRIPT or is_known else self._anew()

    def _anew(self) -> list[StreamChunk]:
        """Return the headers that a new decoder needs first."""
        tags = [self._headers[kind] for kind in (SCRIPT, VIDEO, AUDIO) if kind in self._headers]
        first = StreamChunk(self._file_header, header=True, changes=True)
        return [first, *(StreamChunk(tag, header=True) for tag in tags)]


def _body(tag: bytes) -> bytes:
    return tag[TAG_HEADER:-SIZE_BEHIND]


def _is_sequence_header(kind: int, body: bytes) -> bool:
    """Return whether a tag has a decoder configuration, by its first bytes (§E.4.2.2, §E.4.3.2)."""
    if len(body) < 2 or body[1] != SEQUENCE_HEADER:
        return False
    return (kind == VIDEO and body[0] & 0x0F == AVC) or (kind == AUDIO and body[0] >> 4 == AAC)


def _is_key_frame(body: bytes) -> bool:
    coded = len(body) >= 2 and (body[0] & 0x0F != AVC or body[1] == CODED)
    return coded and body[0] >> 4 == KEY_FRAME
