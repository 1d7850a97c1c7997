"""Prepares Layer III frames of different tracks for one running decoder.

A decoder gives a constant number of samples for each frame only if it can decode every frame, and a frame
must not take bits from the previous track's bit reservoir. Such frames are muted here, so that counting
frames is counting samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from media.mp3.frame import parse_frame_header
from media.mp3.reader import Frame

CHANGE_FRAMES = 4
"""Consecutive frames of another shape that count as a change rather than as damage."""

RESERVOIR_BYTES = 511
"""Most bytes from a frame back to its first bits (ISO/IEC 11172-3 §2.4.2.7: main_data_begin has 9 bits)."""

BIG_VALUES = 288
"""Most pairs of big values in a granule, which has 576 frequency lines (ISO/IEC 11172-3 §2.4.2.7)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties that all frames of one decoder share.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
        samples: of a frame, per channel.
        granules: of a frame, of all channels.
        side_bytes: length of the side information.
        silence: a silent frame of the highest bitrate.
    """

    sample_rate: int
    channels: int
    samples: int
    granules: int
    side_bytes: int
    silence: bytes

    @property
    def is_mpeg1(self) -> bool:
        """Whether the frame is MPEG-1, not MPEG-2 or 2.5 (ISO/IEC 13818-3)."""
        return self.samples == 1152


def shape_of(frame: bytes) -> Shape:
    """Return a frame's shape.

    Args:
        frame: of Layer III, from its header on.
    """
    # No CRC, the highest bitrate, no padding, no private bit; of the mode, whether it is one channel.
    mode = frame[3] & 0xC0
    return _shape(bytes((0xFF, frame[1] | 1, 0xE0 | frame[2] & 0x0C, mode if mode == 0xC0 else 0)))


@lru_cache(maxsize=64)
def _shape(head: bytes) -> Shape:
    header = parse_frame_header(head)
    one = header.channels == 1
    if header.version == 1:
        side_bytes, granules = 17 if one else 32, 2 * header.channels
    else:
        side_bytes, granules = 9 if one else 17, header.channels
    silence = head.ljust(header.size, b"\0")
    return Shape(header.sample_rate, header.channels, header.samples, granules, side_bytes, silence)


def mute(frame: bytes) -> bytes:
    """Make a frame silent by emptying its side information.

    Returns:
        The frame, with its bits in place: later frames may use them.
    """
    start = 4 if frame[1] & 1 else 6  # a CRC follows the header
    size = shape_of(frame).side_bytes
    return frame[:start] + bytes(size) + frame[start + size :]


class BitReservoirRepair:
    """Makes a track's frames decodable behind another track.

    Attributes:
        intact: whether any frame could stay unchanged.
    """

    def __init__(self) -> None:
        self.intact = False
        self._shape: Shape | None = None
        self._odd: list[bytes] = []
        self._reservoir = 0

    def feed(self, frame: Frame) -> list[tuple[Shape, bytes]]:
        """Process the track's next frame.

        Returns:
            Frames with their shapes, in order, muted if necessary; single frames of another shape, caused by
            damage, are replaced by silence. The newest may be held back.
        """
        data, lost = frame.data, list[tuple[Shape, bytes]]()
        shape = shape_of(data)
        if self._odd and (shape == self._shape or shape != shape_of(self._odd[-1])):
            lost = self._replace_with_silence()
        if shape == self._shape:
            return [*lost, (shape, self._repair(shape, data))]
        self._odd.append(data)
        return lost if len(self._odd) < CHANGE_FRAMES else lost + self._change_shape(shape)

    def end(self) -> list[tuple[Shape, bytes]]:
        """Return held frames at the end of the track.

        Returns:
            All frames of a very short track; else nothing, since odd frames at the end are the rest of a cut
            frame.
        """
        return self._change_shape(shape_of(self._odd[-1])) if self._shape is None and self._odd else []

    def _change_shape(self, shape: Shape) -> list[tuple[Shape, bytes]]:
        self._shape, self._reservoir = shape, 0
        frames, self._odd = self._odd, []
        return [(shape, self._repair(shape, data)) for data in frames]

    def _replace_with_silence(self) -> list[tuple[Shape, bytes]]:
        count, self._odd, self._reservoir = len(self._odd), [], 0
        return [(self._shape, self._shape.silence)] * count if self._shape is not None else []

    def _repair(self, shape: Shape, data: bytes) -> bytes:
        start = 4 if data[1] & 1 else 6
        end = start + shape.side_bytes
        side, main_bytes = int.from_bytes(data[start:end], "big"), len(data) - end
        back = side >> 8 * shape.side_bytes - (9 if shape.is_mpeg1 else 8)
        reservoir, self._reservoir = self._reservoir, min(self._reservoir + main_bytes, RESERVOIR_BYTES)
        if back <= reservoir and _is_decodable(shape, side, back + main_bytes):
            self.intact = True
            return data
        return mute(data)


def _is_decodable(shape: Shape, side: int, available: int) -> bool:
    """Return whether side information is valid; decoders refuse frames otherwise.

    Args:
        side: the side information as a number, with the granules at its end.
        available: bytes from the start of the frame's bits to its end.
    """
    # ISO/IEC 11172-3 §2.4.1.7, 13818-3 §2.4.1.7: scalefac_compress is longer there, and no preflag follows.
    width, compress = (59, 4) if shape.is_mpeg1 else (63, 9)
    bits = 0
    for index in range(shape.granules):
        granule = side >> width * index
        bits += granule >> width - 12 & 0xFFF
        if granule >> width - 21 & 0x1FF > BIG_VALUES:
            return False
        # window_switching_flag, and a block_type that mustn't be 0 then (§2.4.2.7).
        if granule >> width - 32 - compress & 0b111 == 0b100:
            return False
    return bits <= 8 * available
