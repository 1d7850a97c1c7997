"""Parses the frame that encoders put before a file's audio: Xing, Info (LAME) and VBRI.

There is no standard; this follows the Xing SDK, LAME and Fraunhofer's encoder. The frame tells the number of
frames, and how many samples of them aren't part of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

from media.mp3.frame import FrameHeader

DECODER_DELAY = 529
"""Delay of every decoder in samples: 528 of its filter bank, and one (LAME's documentation)."""

_FRAMES, _BYTES, _TOC, _QUALITY = 1, 2, 4, 8
_SIZES = {_FRAMES: 4, _BYTES: 4, _TOC: 100, _QUALITY: 4}
_DELAYS_AT = 21
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")


@dataclass(frozen=True, slots=True)
class InfoFrame:
    """A Xing, Info or VBRI frame.

    Attributes:
        variable: whether the bitrate is variable.
        frames: number of frames that follow; 0 if unknown.
        delay: samples that the encoder put before the recording; None if unknown.
        padding: samples that the encoder put behind the recording.
    """

    variable: bool
    frames: int = 0
    delay: int | None = None
    padding: int = 0

    def unheard(self, frame_samples: int) -> tuple[range, ...]:
        """Return the decoded samples that aren't part of the recording, for gapless playback.

        Args:
            frame_samples: per channel of one frame.

        Returns:
            Ascending ranges of samples. The second may be beyond the end of a truncated file; audio behind it
            is part of the recording.
        """
        if self.delay is None:
            return ()
        begin = self.delay + DECODER_DELAY
        total = self.frames * frame_samples
        end = range(max(total - max(self.padding - DECODER_DELAY, 0), begin), total)
        return (range(begin), end) if end else (range(begin),)


def parse_info_frame(header: FrameHeader, data: bytes) -> InfoFrame | None:
    """Recognize an info frame: Xing and Info follow the side information, VBRI is at byte 36.

    Returns:
        The info frame; None for a frame of audio.
    """
    if header.codec != "mp3":
        return None
    if header.version == 1:
        offset = 21 if header.channels == 1 else 36
    else:
        offset = 13 if header.channels == 1 else 21
    if not data[1] & 1 and not data.startswith((b"Xing", b"Info"), offset):
        offset += 2  # encoders disagree whether the CRC moves the field
    if data.startswith((b"Xing", b"Info"), offset):
        return _parse_xing(data[offset:])
    return InfoFrame(variable=True) if data.startswith(b"VBRI", 36) else None


def _parse_xing(data: bytes) -> InfoFrame:
    """Parse Xing's optional fields and LAME's extension; truncated fields count as missing."""
    variable = data.startswith(b"Xing")
    flags = int.from_bytes(data[4:8], "big")
    frames = int.from_bytes(data[8:12], "big") if flags & _FRAMES else 0
    extension = data[8 + sum(size for flag, size in _SIZES.items() if flags & flag) :]
    if not extension.startswith(_ENCODERS) or len(extension) < _DELAYS_AT + 3:
        return InfoFrame(variable, frames)
    delays = int.from_bytes(extension[_DELAYS_AT : _DELAYS_AT + 3], "big")
    return InfoFrame(variable, frames, delays >> 12, delays & 0xFFF)
