"""media.ts.sound_frames: frames are found wherever they lie, and what is none costs little."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from media.errors import UnsupportedError
from media.stream_reader import CLOCK_RATE
from media.ts import demuxer
from media.ts.elementary_streams import Unit
from media.ts.sound_frames import AAC, EAC3, FrameFacts, SoundCoding, SoundFrames
from media.ts.stream_reader import TransportReaderLimits
from media.ts.timestamps import LiveClock

SHORTEST = bytes((0xFF, 0xF1, 0x50, 0x80, 0x01, 0x1F, 0xFC, 0x00))
"""A frame of AAC of eight bytes: ADTS's header (ISO/IEC 14496-3 §1.A.2.2) and one more."""

SKIPPED = 100
"""Bytes that may be passed over between two frames."""


def test_a_unit_may_have_more_frames_than_sixteen_bits_can_number() -> None:
    """A PES packet of a MiB has 131,072 of them."""
    frames, count = SoundFrames(AAC, SKIPPED), (1 << 16) + 2
    frames.push(SHORTEST * count, 0)
    # Of the last one there is too little to tell.
    assert len(frames) == count - 1
    assert frames.laced[-1] == count - 2


def counting(coding: SoundCoding) -> tuple[SoundCoding, list[bytes]]:
    """Give a coding that notes each header that is parsed, and the list of these."""
    parsed: list[bytes] = []

    def parse(data: bytes) -> FrameFacts:
        parsed.append(data)
        return coding.parse(data)

    return replace(coding, parse=parse), parsed


def file_sound(coding: SoundCoding) -> Callable[[bytes], object]:
    frames = SoundFrames(coding, 64 << 10)
    return lambda data: frames.push(data, 0)


def live_sound(coding: SoundCoding) -> Callable[[bytes], None]:
    sound = demuxer._Sounds(coding, LiveClock(), TransportReaderLimits())
    times = itertools.count(0, CLOCK_RATE)

    def receive(data: bytes) -> None:
        time = next(times)
        sound.push(Unit(data, 0, len(data), time, time), [])

    return receive


def aac_frame(size: int) -> bytes:
    return SHORTEST[:3] + ((0x80 << 16) + (size << 5) + 0x1F).to_bytes(3, "big") + bytes(size - 6)


@pytest.mark.parametrize("begin", [file_sound, live_sound])
def test_garbage_among_a_few_frames_is_refused_at_little_cost(
    begin: Callable[[SoundCoding], Callable[[bytes], object]],
) -> None:
    """However often frames come among it: more of it than of frames is no sound."""
    coding, parsed = counting(AAC)
    receive, unit = begin(coding), SHORTEST * 3 + bytes(60_000)
    receive(unit)
    with pytest.raises(UnsupportedError, match="no frames of AAC"):
        receive(unit)
    assert len(parsed) < 50


@pytest.mark.parametrize("begin", [file_sound, live_sound])
def test_damage_among_many_frames_is_passed_over(
    begin: Callable[[SoundCoding], Callable[[bytes], object]],
) -> None:
    coding, parsed = counting(AAC)
    receive = begin(coding)
    for _ in range(20):
        receive(aac_frame(4000) * 16 + b"\xff" * 60_000)
    assert len(parsed) >= 20 * 16
    assert len(parsed) < 20 * 16 + 20 * 5


@pytest.mark.parametrize("begin", [file_sound, live_sound])
def test_frames_behind_damage_are_found_wherever_units_are_cut(
    begin: Callable[[SoundCoding], Callable[[bytes], object]],
) -> None:
    data = (aac_frame(50) * 3 + b"\xff\xff" + b"\0" * 20 + b"\xff") * 20 + aac_frame(50) * 2
    for step in (1, 13, 64, len(data)):
        coding, parsed = counting(AAC)
        receive = begin(coding)
        for at in range(0, len(data), step):
            receive(data[at : at + step])
        assert parsed.count(aac_frame(50)[:9]) >= 60


def eac3_frame(substream: int, size: int = 16) -> bytes:
    """Write a frame of E-AC-3 (ETSI TS 102 366 §E.1.2) of six blocks."""
    words = size // 2 - 1
    return bytes((0x0B, 0x77, substream << 3 | words >> 8, words & 0xFF, 0x30, 16 << 3)).ljust(size, b"\0")


def test_substreams_belong_to_the_frame_before_them_as_many_as_there_may_be() -> None:
    frames = SoundFrames(EAC3, SKIPPED)
    unit = eac3_frame(0) + eac3_frame(1) * 71
    for number in range(3):
        frames.push(unit, number)
    assert frames.sizes.tolist()[:2] == [len(unit)] * 2
    assert frames.first == unit


def test_substreams_without_end_are_refused() -> None:
    """Each was added to the first frame, which was copied for it: 4 MB of them took four minutes."""
    frames = SoundFrames(EAC3, SKIPPED)
    with pytest.raises(UnsupportedError, match="substreams"):
        frames.push(eac3_frame(0) + eac3_frame(1) * 1000, 0)
    assert len(frames.first) <= 72 * 16


def test_no_more_is_passed_over_between_two_frames_than_may_be() -> None:
    frames = SoundFrames(AAC, SKIPPED)
    for number in range(3):
        frames.push(aac_frame(SKIPPED) * 3 + bytes(SKIPPED - 10), number)
    with pytest.raises(UnsupportedError, match="no frames of AAC"):
        frames.push(aac_frame(SKIPPED) * 3 + bytes(SKIPPED + 20), 3)
