"""Reads MPEG audio as whole frames: Layer III of MPEG-1, 2 and 2.5, and AAC in ADTS.

Frames are what a station sends and where a listener may start, so everything else is removed: tags, garbage,
and Xing, Info and VBRI frames, whose duration of a file would mislead browsers.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp3.frame import FrameHeader, parse_frame_header
from media.mp3.id3 import (
    APE_HEADER,
    ID3V1_ENHANCED_SIZE,
    ID3V1_SIZE,
    Tags,
    ape_size,
    id3v2_size,
    parse_ape,
    parse_id3v1,
    parse_id3v2,
)
from media.mp3.xing import InfoFrame, parse_info_frame

GARBAGE_BYTES = 64 * 1024
"""Most bytes of garbage, beyond the bytes of frames, until the input counts as malformed."""

MAX_TAGS = 64
"""Most tags between two frames; concatenated files have a few."""

TAG_BYTES = 1024 * 1024
"""Most bytes of a tag that are searched for titles; the rest is skipped."""


def _one_of(is_possible: Callable[[int], bool]) -> bytes:
    """Make the character class of a regular expression for some byte values."""
    return b"[" + b"".join(b"\\x%02x" % byte for byte in range(256) if is_possible(byte)) + b"]"


# First bytes of headers that `parse_frame_header` accepts: parsing a refused one costs a hundred times more.
_LAYER_3 = (
    _one_of(lambda byte: byte & 0xE6 == 0xE2 and byte >> 3 & 3 != 1)
    + _one_of(lambda byte: 0x10 <= byte < 0xF0 and byte & 0x0C != 0x0C)
    + _one_of(lambda byte: byte & 3 != 2)
)
_ADTS = _one_of(lambda byte: byte & 0xF6 == 0xF0) + _one_of(lambda byte: byte >> 2 & 15 < 13)
_CANDIDATE = re.compile(rb"\xff(?:%b|%b)|ID3|TAG|APETAGEX" % (_LAYER_3, _ADTS), re.DOTALL)
_LOOKAHEAD = 10


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame of MPEG audio or AAC."""

    header: FrameHeader
    data: bytes


Event = Frame | InfoFrame | Tags


class MpegAudioReader:
    """Reads frames and tags from bytes in any portions; does no I/O.

    Memory is bounded by ``TAG_BYTES`` and what is handed over at once.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._skip = 0
        self._eof = False
        self._stream: FrameHeader | None = None
        self._synced = False
        self._garbage = 0
        self._tags = 0
        self._refused: UnsupportedError | None = None
        self._error: MediaError | None = None
        self._ready: deque[Event] = deque()

    def receive_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        if self._error is None:
            del self._buffer[: self._position]
            self._position = 0
            self._buffer += data

    def receive_eof(self) -> None:
        """Note the end of the stream."""
        self._eof = True

    def events(self) -> Iterator[Event]:
        """Yield frames, tags and info frames of the bytes so far, in order.

        Raises:
            MalformedError: more than ``GARBAGE_BYTES`` of garbage or ``MAX_TAGS`` tags, or an end without any
                frame.
            UnsupportedError: the same, and it looks like MPEG audio of another layer or free format.
        """
        while True:
            while self._ready:
                yield self._ready.popleft()
            if self._error is not None:
                raise self._error
            try:
                progress = self._step()
            except MediaError as error:
                self._error = error
                self._buffer.clear()
                self._position = 0
                raise
            if not progress:
                return

    def _step(self) -> bool:
        """Consume one item; return False if more bytes are needed."""
        available = len(self._buffer) - self._position
        if self._skip and available:
            step = min(self._skip, available)
            self._position += step
            self._skip -= step
            return True
        if self._skip and not self._eof:
            return False
        if available < _LOOKAHEAD and not self._eof:
            return False
        if not available:
            if self._stream is None:
                raise self._refused or MalformedError("no MPEG audio frame in all of the input")
            return False
        if self._buffer[self._position] != 0xFF and self._tag_starts(self._position):
            return self._take_tag(available)
        return self._take_frame(available)

    def _peek(self, length: int) -> bytes:
        return bytes(self._buffer[self._position : self._position + length])

    def _header_at(self, position: int) -> FrameHeader | None:
        try:
            return parse_frame_header(bytes(self._buffer[position : position + 7]))
        except UnsupportedError as error:
            if self._stream is None and self._garbage == 0 and position == self._position:
                self._refused = error
            return None
        except MediaError:
            return None

    def _take_frame(self, available: int) -> bool:
        header = self._header_at(self._position)
        if header is None:
            return self._search()
        follows = self._synced and self._stream is not None and header.continues(self._stream)
        wanted = header.size if follows else header.size + _LOOKAHEAD
        if available < wanted and not self._eof:
            return False
        if available < header.size or not (follows or self._confirms(header)):
            return self._search()
        data = self._peek(header.size)
        self._position += header.size
        self._stream, self._synced, self._tags = header, True, 0
        # The search goes on where it ended: starting again for each frame would cost more than the frames.
        self._garbage = max(self._garbage - header.size, 0)
        info = parse_info_frame(header, data)
        self._ready.append(info or Frame(header, data))
        return True

    def _confirms(self, header: FrameHeader) -> bool:
        """Return whether a frame header is genuine: another frame, a tag or the end follows it."""
        after = self._position + header.size
        if len(self._buffer) - after < 4:
            return True
        following = self._header_at(after)
        if following is None:
            return self._tag_starts(after)
        return following.continues(header)

    def _tag_starts(self, position: int) -> bool:
        beginning = bytes(self._buffer[position : position + _LOOKAHEAD])
        return beginning.startswith((b"TAG", b"APETAGEX")) or id3v2_size(beginning) is not None

    def _take_tag(self, available: int) -> bool:
        if self._buffer.startswith(b"TAG", self._position):
            return self._take_id3v1(available)
        is_ape = self._buffer.startswith(b"APETAGEX", self._position)
        if is_ape and available < APE_HEADER:
            return self._search() if self._eof else False
        head = self._peek(APE_HEADER)
        size = (ape_size(head) if is_ape else id3v2_size(head)) or 0
        if available < min(size, TAG_BYTES) and not self._eof:
            return False
        data = self._peek(min(size, TAG_BYTES))
        self._emit_tags(parse_ape(data) if is_ape else parse_id3v2(data), size)
        return True

    def _take_id3v1(self, available: int) -> bool:
        if available < ID3V1_ENHANCED_SIZE + 8 and not self._eof:
            return False
        data = self._peek(ID3V1_ENHANCED_SIZE + 8)
        # An enhanced tag stands before another; without one it is a plain tag whose title begins with "+".
        following = data[ID3V1_ENHANCED_SIZE:]
        enhanced = data.startswith(b"TAG+") and following.startswith((b"TAG", b"APETAGEX"))
        self._emit_tags(
            Tags() if enhanced else parse_id3v1(data), ID3V1_ENHANCED_SIZE if enhanced else ID3V1_SIZE
        )
        return True

    def _emit_tags(self, tags: Tags, size: int) -> None:
        self._tags += 1
        if self._tags > MAX_TAGS:
            raise TooLargeError(f"more than {MAX_TAGS} tags without a frame between them")
        self._skip = size
        if tags:
            self._ready.append(tags)

    def _search(self) -> bool:
        """Skip to the next possible frame or tag."""
        self._synced = False
        found = _CANDIDATE.search(self._buffer, self._position + 1)
        end = len(self._buffer)
        target = found.start() if found else end
        if not self._eof:
            # The last bytes may be the beginning of a candidate, and "TAG" may be part of "APETAGEX".
            target = max(self._position + 1, min(target, end - 7))
        self._garbage += target - self._position
        self._position = target
        if self._garbage > GARBAGE_BYTES:
            raise self._refused or MalformedError(f"no MPEG audio frame in {GARBAGE_BYTES} bytes")
        return True
