"""media.ts.sound_frames: frames are found wherever they lie, and what is none costs little."""

from __future__ import annotations

import pytest

from media.errors import UnsupportedError
from media.ts.sound_frames import AAC, EAC3, SoundFrames

SHORTEST = bytes((0xFF, 0xF1, 0x50, 0x80, 0x01, 0x1F, 0xFC, 0x00))
"""A frame of AAC of eight bytes: ADTS's header (ISO/IEC 14496-3 §1.A.2.2) and one more."""

SKIPPED = 100
"""Bytes that may be passed over between two frames."""


def test_a_unit_may_have_more_frames_than_sixteen_bits_can_number() -> None:
    """A PES packet of a MiB has 131,072 of them."""
    frames, count = SoundFrames(AAC, SKIPPED), (1 << 16) + 2
    frames.receive(SHORTEST * count, 0)
    # Of the last one there is too little to tell.
    assert len(frames) == count - 1
    assert frames.laced[-1] == count - 2


def eac3_frame(substream: int, size: int = 16) -> bytes:
    """Write a frame of E-AC-3 (ETSI TS 102 366 §E.1.2) of six blocks."""
    words = size // 2 - 1
    return bytes((0x0B, 0x77, substream << 3 | words >> 8, words & 0xFF, 0x30, 16 << 3)).ljust(size, b"\0")


def test_substreams_belong_to_the_frame_before_them_as_many_as_there_may_be() -> None:
    frames = SoundFrames(EAC3, SKIPPED)
    unit = eac3_frame(0) + eac3_frame(1) * 71
    for number in range(3):
        frames.receive(unit, number)
    assert frames.sizes.tolist()[:2] == [len(unit)] * 2
    assert frames.first == unit


def test_substreams_without_end_are_refused() -> None:
    """Each was added to the first frame, which was copied for it: 4 MB of them took four minutes."""
    frames = SoundFrames(EAC3, SKIPPED)
    with pytest.raises(UnsupportedError, match="substreams"):
        frames.receive(eac3_frame(0) + eac3_frame(1) * 1000, 0)
    assert len(frames.first) <= 72 * 16


def test_no_more_is_passed_over_between_two_frames_than_may_be() -> None:
    frames = SoundFrames(AAC, SKIPPED)
    for number in range(3):
        frames.receive(SHORTEST * 3 + bytes(SKIPPED - 10), number)
    with pytest.raises(UnsupportedError, match="no frames of AAC"):
        frames.receive(SHORTEST * 3 + bytes(SKIPPED + 20), 3)
