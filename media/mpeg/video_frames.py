"""Positions of pictures of MPEG video in an elementary stream, independent of PES packets."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from media.errors import MalformedError, UnsupportedError
from media.mpeg.video_headers import (
    EXTENSION,
    GROUP,
    GROUP_OF_PLANES,
    INTRA,
    OBJECT_LAYERS,
    PICTURE,
    PLANE,
    SEQUENCE,
    VISUAL_SEQUENCE,
    PictureFacts,
    VideoHeader,
    object_layer,
    picture_extension,
    picture_kind,
    plane_kind,
    sequence_header,
)

LOOK_AHEAD = 16
"""Bytes behind a start code that its header is read from."""

LARGEST_CONFIGURATION = 4096
"""Most bytes of a stream's first headers, which become the decoder's configuration."""

VC1_SEQUENCE, VC1_ENTRY_POINT, VC1_FRAME = 0x0F, 0x0E, 0x0D
"""Start codes of VC-1 (SMPTE 421M annex E)."""


@dataclass(frozen=True, slots=True)
class VideoSyntax:
    """The start codes of a coding of video.

    Attributes:
        codec: its codec ID in Matroska; of VC-1, the FourCC.
        name: the name of the coding in messages.
        codes: the start codes that matter here.
        picture: the start code of a picture.
        heads: start codes that may precede a picture, and begin a sample with it.
        first: start codes of headers without which no picture can be decoded.
    """

    codec: str
    name: str
    codes: re.Pattern[bytes]
    picture: int
    heads: frozenset[int]
    first: frozenset[int]


MPEG2_SYNTAX = VideoSyntax(
    "V_MPEG2",
    "MPEG-2 video",
    re.compile(rb"\x00\x00\x01[\x00\xb3\xb5\xb8]", re.DOTALL),
    PICTURE,
    frozenset((SEQUENCE, GROUP)),
    frozenset((SEQUENCE,)),
)
MPEG4_SYNTAX = VideoSyntax(
    "V_MPEG4/ISO/ASP",
    "MPEG-4 Part 2 video",
    re.compile(rb"\x00\x00\x01[\x20-\x2f\xb0\xb3\xb6]", re.DOTALL),
    PLANE,
    frozenset((VISUAL_SEQUENCE, GROUP_OF_PLANES, *OBJECT_LAYERS)),
    frozenset((VISUAL_SEQUENCE, *OBJECT_LAYERS)),
)
VC1_SYNTAX = VideoSyntax(
    "WVC1",
    "VC-1",
    re.compile(rb"\x00\x00\x01[\x0d-\x0f]", re.DOTALL),
    VC1_FRAME,
    frozenset((VC1_SEQUENCE, VC1_ENTRY_POINT)),
    frozenset((VC1_SEQUENCE,)),
)


class VideoFrames:
    """Locates the pictures of a video stream.

    Args:
        most: most bytes of a picture.

    Attributes:
        offsets: where in the elementary stream each picture begins, its headers included.
        sizes: bytes of each; a frame of two fields is one picture.
        kinds: coding type of each; 0 if unknown.
        fields: for how many fields each is shown.
        units: number of the unit in which each picture's start code lies.
        laced: index of each picture among those whose start codes lie in its unit.
        configuration: the headers before the first picture.
        header: properties of the stream by these headers; None before the first picture.
    """

    def __init__(self, syntax: VideoSyntax, most: int) -> None:
        self._syntax, self._most = syntax, most
        self._pending = b""
        self._position = 0
        self._scanned = 0
        self._bounds: list[tuple[int, int]] = []
        self._begin: int | None = None
        self._picture: PictureFacts | None = None
        self._pictures = 0
        self._unit = self._laced = 0
        self._headers = (0, 0)
        self.offsets, self.sizes = array("q"), array("I")
        self.kinds, self.fields = array("B"), array("B")
        self.units, self.laced = array("I"), array("I")
        self.configuration = b""
        self.header: VideoHeader | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def push(self, data: bytes, unit: int) -> None:
        """Push the bytes of a unit.

        Raises:
            UnsupportedError: a picture is too large.
            MalformedError: the stream's headers are impossible.
        """
        self._bounds.append((self._position + len(self._pending), unit))
        self._pending += data
        self._scan(len(self._pending) - LOOK_AHEAD)
        self._drop()

    def finish(self) -> None:
        """Complete the last picture at the end of the stream."""
        self._scan(len(self._pending))
        self._complete(self._position + len(self._pending))

    def _scan(self, end: int) -> None:
        """Find the start codes that begin before an offset of the pending bytes."""
        at = self._scanned - self._position
        while at < end and (found := self._syntax.codes.search(self._pending, at)):
            if found.start() >= end:
                break
            self._code(found.start(), self._pending[found.start() + 3])
            at = found.start() + 3
        self._scanned = max(self._position + max(end, 0), self._position + at)

    def _code(self, at: int, code: int) -> None:
        place, syntax = self._position + at, self._syntax
        if code in syntax.heads:
            if self._pictures:
                self._complete(place)
            if self._begin is None and (self.header is not None or code in syntax.first):
                self._begin = place
        elif code == syntax.picture:
            self._begin_picture(at, place)
        elif code == EXTENSION and syntax is MPEG2_SYNTAX and self._picture is not None:
            data = self._pending[at : at + LOOK_AHEAD]
            if len(data) > 8 and data[4] >> 4 == 8 and self._pictures == 1 and self.header is not None:
                is_field, fields = picture_extension(data, self.header.is_progressive)
                self._picture = PictureFacts(self._picture.kind, is_field, fields)

    def _begin_picture(self, at: int, place: int) -> None:
        is_second = self._picture is not None and self._picture.is_field and self._pictures == 1
        if self._pictures and not is_second:
            self._complete(place)
        if self.header is None:
            if self._begin is None:
                return  # a picture before the first headers
            self._read_headers(self._pending[self._begin - self._position : at])
        self._pictures += 1
        if is_second:
            return
        self._begin = place if self._begin is None else self._begin
        data = self._pending[at : at + LOOK_AHEAD]
        if self._syntax is MPEG2_SYNTAX:
            kind = picture_kind(data)
        elif self._syntax is MPEG4_SYNTAX:
            kind = plane_kind(data)
        else:  # each VC-1 picture has its own time; an entry point begins an intra picture
            kind = INTRA if self._begin != place else 0
        self._picture = PictureFacts(kind)
        unit = next(unit for begin, unit in reversed(self._bounds) if begin <= place)
        self._laced = self._laced + 1 if len(self) and unit == self._unit else 0
        self._unit = unit

    def _read_headers(self, data: bytes) -> None:
        self.configuration = data[:LARGEST_CONFIGURATION]
        if self._syntax is VC1_SYNTAX:
            self.header = vc1_header(data)
        elif self._syntax is MPEG2_SYNTAX:
            self.header = sequence_header(data)
        else:
            found = re.search(rb"\x00\x00\x01[\x20-\x2f]", data)
            if found is None:
                raise MalformedError("pictures before the first video object layer")
            self.header = object_layer(data[found.start() :])

    def _complete(self, end: int) -> None:
        """Add the picture that ends at an offset of the elementary stream."""
        if self._picture is not None and self._begin is not None:
            if end - self._begin > self._most:
                raise UnsupportedError(f"a picture of {end - self._begin} bytes: more than {self._most}")
            self.offsets.append(self._begin)
            self.sizes.append(end - self._begin)
            self.kinds.append(self._picture.kind)
            self.fields.append(self._picture.fields)
            self.units.append(self._unit)
            self.laced.append(self._laced)
        self._begin, self._picture, self._pictures = None, None, 0

    def _drop(self) -> None:
        """Drop bytes that are needed no more; those of the stream's headers are kept until they are read."""
        kept = self._scanned if self.header is not None or self._begin is None else self._begin
        if self._position + len(self._pending) - kept > self._most:
            raise UnsupportedError(f"no picture of {self._syntax.name} within {self._most} bytes")
        if self._begin is not None and self._scanned - self._begin > self._most:
            raise UnsupportedError(f"a picture of more than {self._most} bytes")
        self._pending = self._pending[kept - self._position :]
        self._position = kept
        while len(self._bounds) > 1 and self._bounds[1][0] <= self._position:
            del self._bounds[0]


def vc1_header(data: bytes) -> VideoHeader:
    """Read a sequence header of VC-1's advanced profile (SMPTE 421M §6.1).

    Raises:
        MalformedError: it is cut off.
        UnsupportedError: it is of another profile.
    """
    if len(data) < 12:
        raise MalformedError("sequence header of VC-1 cut off")
    number = int.from_bytes(data[4:12], "big")
    if number >> 62 != 3:
        raise UnsupportedError("VC-1 of a profile that isn't the advanced one")
    size = 2 * ((number >> 36 & 0xFFF) + 1), 2 * ((number >> 24 & 0xFFF) + 1)
    return VideoHeader(size, size)


SYNTAXES: Mapping[int, VideoSyntax] = {
    0x01: MPEG2_SYNTAX,
    0x02: MPEG2_SYNTAX,
    0x10: MPEG4_SYNTAX,
    0xEA: VC1_SYNTAX,
}
"""By stream type (ISO/IEC 13818-1 table 2-34)."""
