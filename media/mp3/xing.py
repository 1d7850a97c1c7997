"""The frame that encoders put before a file's audio: Xing, Info (of LAME) and VBRI.

No standard has it; it is what the Xing SDK, LAME and Fraunhofer's encoder write and what players read. It
describes the file: how many frames, and how much of them isn't the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

from media.mp3.frame import FrameHeader

DECODER_DELAY = 529
"""Samples by which every decoder's output is late: 528 of its filter bank, and one (LAME's documentation)."""

_FRAMES, _BYTES, _TOC, _QUALITY = 1, 2, 4, 8
_SIZES = {_FRAMES: 4, _BYTES: 4, _TOC: 100, _QUALITY: 4}
_DELAYS_AT = 21
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")


@dataclass(frozen=True, slots=True)
class InfoFrame:
    """A Xing, Info or VBRI frame stood here.

    Attributes:
        variable: whether it announces a variable bitrate.
        frames: how many follow, as it says; 0 when it doesn't.
        delay: samples that the encoder put before the recording; None when it doesn't say.
        padding: samples that it put behind.
    """

    variable: bool
    frames: int = 0
    delay: int | None = None
    padding: int = 0

    def unheard(self, frame_samples: int) -> tuple[range, ...]:
        """Tell which samples of what a decoder gives aren't of the recording, so that tracks follow gapless.

        Args:
            frame_samples: per channel of one frame.

        Returns:
            Ranges of samples, rising. A file that was cut short ends before the second; in one that goes on
            behind what its frame knows of, what follows is heard.
        """
        if self.delay is None:
            return ()
        begin = self.delay + DECODER_DELAY
        total = self.frames * frame_samples
        end = range(max(total - max(self.padding - DECODER_DELAY, 0), begin), total)
        return (range(begin), end) if end else (range(begin),)


def parse_info_frame(header: FrameHeader, data: bytes) -> InfoFrame | None:
    """Recognise the frame: Xing or Info stands behind the side information, VBRI at byte 36.

    Args:
        header: of the frame.
        data: the whole frame.

    Returns:
        What it says; None for a frame of audio.
    """
    if header.codec != "mp3":
        return None
    if header.version == 1:
        offset = 21 if header.channels == 1 else 36
    else:
        offset = 13 if header.channels == 1 else 21
    if not data[1] & 1 and not data.startswith((b"Xing", b"Info"), offset):
        offset += 2  # encoders disagree whether the CRC moves it
    if data.startswith((b"Xing", b"Info"), offset):
        return _parse_xing(data[offset:])
    return InfoFrame(variable=True) if data.startswith(b"VBRI", 36) else None


def _parse_xing(data: bytes) -> InfoFrame:
    """Read Xing's optional fields and LAME's extension behind them; what is cut off counts as not said."""
    variable = data.startswith(b"Xing")
    flags = int.from_bytes(data[4:8], "big")
    frames = int.from_bytes(data[8:12], "big") if flags & _FRAMES else 0
    extension = data[8 + sum(size for flag, size in _SIZES.items() if flags & flag) :]
    if not extension.startswith(_ENCODERS) or len(extension) < _DELAYS_AT + 3:
        return InfoFrame(variable, frames)
    delays = int.from_bytes(extension[_DELAYS_AT : _DELAYS_AT + 3], "big")
    return InfoFrame(variable, frames, delays >> 12, delays & 0xFFF)
