"""What the frame before the audio says, and which samples of a file aren't the recording's."""

import pytest

from media.mp3.frame import parse_frame_header
from media.mp3.xing import InfoFrame, parse_info_frame

HEAD = b"\xff\xfb\x90\x00"


def info(tag: bytes, flags: int, fields: bytes, extension: bytes = b"") -> InfoFrame | None:
    data = HEAD + bytes(32) + tag + flags.to_bytes(4, "big") + fields + extension
    return parse_info_frame(parse_frame_header(HEAD), data.ljust(417, b"\0"))


def extension(name: bytes, delay: int, padding: int) -> bytes:
    """LAME's: 21 bytes, then twice twelve bits."""
    return name.ljust(21, b"\0") + (delay << 12 | padding).to_bytes(3, "big")


def test_fields_stand_where_the_flags_before_them_leave_them() -> None:
    frames = (1234).to_bytes(4, "big")
    lame = extension(b"LAME3.100", 576, 1000)
    told = InfoFrame(variable=False, frames=1234, delay=576, padding=1000)
    assert info(b"Info", 0b1111, frames + bytes(4 + 100 + 4), lame) == told
    assert info(b"Info", 0b0001, frames, lame) == told
    assert info(b"Xing", 0b0000, b"", lame) == InfoFrame(variable=True, delay=576, padding=1000)
    assert info(b"Xing", 0b0001, frames, b"GOGO") == InfoFrame(variable=True, frames=1234)
    assert info(b"Abcd", 0b0001, frames, lame) is None


@pytest.mark.parametrize(
    ("frame", "unheard"),
    [
        (InfoFrame(variable=True), ()),
        (InfoFrame(variable=False, frames=10, delay=576, padding=1000), (range(1105), range(11049, 11520))),
        (
            InfoFrame(variable=False, frames=10, delay=0, padding=100),
            (range(529),),
        ),  # all of it is heard late
        (InfoFrame(variable=False, delay=576, padding=1000), (range(1105),)),  # of how many frames?
        (
            InfoFrame(variable=False, frames=2, delay=4095, padding=4095),
            (range(4624),),
        ),  # a lie, and harmless
    ],
)
def test_unheard_are_the_encoders_delay_and_padding_as_a_decoder_gives_them(
    frame: InfoFrame, unheard: tuple[range, ...]
) -> None:
    assert frame.unheard(1152) == unheard
