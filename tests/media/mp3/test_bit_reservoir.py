"""Frames for a decoder that runs on: what is muted, what takes its place, and what changes the shape."""

import subprocess
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.mp3.bit_reservoir import CHANGE_FRAMES, BitReservoirRepair, Shape, shape_of
from media.mp3.frame import parse_frame_header
from media.mp3.reader import Frame

STEREO = b"\xff\xfb\x90\x00"  # MPEG-1 Layer III, 128 kbit/s, 44.1 kHz: 417 bytes
MONO = b"\xff\xfb\x90\xc0"
SLOW = b"\xff\xf3\x80\x00"  # MPEG-2, 64 kbit/s, 22.05 kHz: 208 bytes


def frame(head: bytes = STEREO, side: int = 0, fill: int = 0x55) -> Frame:
    """A frame with this side information; MPEG-1 has 32 bytes of it, or 17 in one channel."""
    header = parse_frame_header(head)
    data = head + side.to_bytes(shape_of(head).side_bytes, "big")
    return Frame(header, data.ljust(header.size, bytes([fill])))


def mended(*frames: Frame) -> list[tuple[Shape, bytes]]:
    mender = BitReservoirRepair()
    return [piece for one in frames for piece in mender.feed(one)] + mender.end()


def begins(back: int) -> int:
    """Side information of two channels of MPEG-1 with this main_data_begin."""
    return back << 247


def granule(*, bits: int = 0, values: int = 0, switching: int = 0, block: int = 0) -> int:
    """Side information whose last granule says this (59 bits: ISO/IEC 11172-3 §2.4.1.7)."""
    return bits << 47 | values << 38 | switching << 25 | block << 23


def is_muted(piece: tuple[Shape, bytes], whole: Frame) -> bool:
    assert (piece[1][:4], piece[1][36:]) == (whole.data[:4], whole.data[36:])
    return not any(piece[1][4:36])


@pytest.mark.parametrize(
    ("side", "muted"),
    [
        (granule(bits=100, values=288), False),
        (granule(bits=100, values=289), True),
        (granule(bits=100, switching=1, block=2), False),
        (granule(bits=100, switching=1, block=0), True),
        (granule(bits=8 * 381), False),
        (granule(bits=8 * 381 + 1), True),  # 417 bytes less a header of 4 and side information of 32
    ],
)
def test_side_information_that_no_decoder_takes_is_muted(side: int, muted: bool) -> None:
    ahead, odd = [frame(side=granule(bits=8))] * CHANGE_FRAMES, frame(side=side)
    assert is_muted(mended(*ahead, odd)[-1], odd) == muted


def test_a_frame_is_muted_whose_bits_would_begin_before_its_track() -> None:
    reaching = [frame(side=begins(back) | 8 << 47) for back in (1, 381, 382, 0)]
    pieces = mended(*reaching)
    # 381 bytes of one frame; then as far as nine bits reach.
    assert [is_muted(*pair) for pair in zip(pieces, reaching, strict=True)] == [True, False, False, False]


def test_single_frames_of_another_shape_become_silence_of_the_shape_before() -> None:
    good, odd = frame(), frame(MONO)
    pieces = mended(good, good, good, good, odd, good, odd, odd, frame(SLOW), good)
    assert len(pieces) == 10
    assert {shape for shape, _ in pieces} == {shape_of(STEREO)}
    assert [data == shape_of(STEREO).silence for _, data in pieces] == [n in (4, 6, 7, 8) for n in range(10)]


def test_frames_that_go_on_in_another_shape_change_it_and_none_is_lost() -> None:
    pieces = mended(*[frame()] * 5, *[frame(SLOW)] * CHANGE_FRAMES, *[frame(MONO)] * (CHANGE_FRAMES + 2))
    runs = [
        (shape.sample_rate, shape.channels, len(list(run))) for shape, run in groupby(pieces, lambda p: p[0])
    ]
    assert runs == [(44100, 2, 5), (22050, 2, CHANGE_FRAMES), (44100, 1, CHANGE_FRAMES + 2)]


def test_what_seems_to_be_a_frame_of_another_shape_in_a_tracks_cut_end_is_left_out() -> None:
    assert len(mended(*[frame()] * 5, frame(SLOW), frame(MONO))) == 6


def test_a_track_of_one_frame_has_its_shape() -> None:
    assert [(shape.channels, len(data)) for shape, data in mended(frame(MONO))] == [(1, 417)]


@pytest.mark.parametrize("head", [STEREO, MONO, SLOW, b"\xff\xfa\x14\x44", b"\xff\xe3\x18\xff"])
def test_silence_is_a_frame_of_the_shape_in_which_ffmpeg_hears_nothing(head: bytes) -> None:
    shape = shape_of(head)
    assert shape_of(shape.silence) == shape
    header = parse_frame_header(shape.silence)
    assert (header.size, header.samples) == (len(shape.silence), shape.samples)
    words = ["ffmpeg", "-nostdin", "-v", "error", "-f", "mp3", "-i", "-", "-f", "s16le", "-"]
    answer = subprocess.run(words, input=shape.silence * 10, check=True, capture_output=True)
    assert answer.stdout == bytes(2 * shape.channels * shape.samples * 10)
    assert not answer.stderr


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([STEREO, MONO, SLOW]), st.binary(max_size=36)), max_size=30))
def test_whatever_comes_each_frame_is_answered_by_one_while_a_track_has_its_shape(
    parts: list[tuple[bytes, bytes]],
) -> None:
    spoiled = []
    for head, body in [(STEREO, b"")] * CHANGE_FRAMES + parts + [(STEREO, b"")] * CHANGE_FRAMES:
        one = frame(head, fill=0)
        spoiled.append(Frame(one.header, (head + body).ljust(one.header.size, b"\0")))
    pieces = mended(*spoiled)
    assert len(pieces) == len(spoiled)
    for shape, data in pieces:
        assert shape_of(data) == shape
