"""Frames of AAC in LATM, written bit by bit as ISO/IEC 14496-3 §1.7 has them."""

from __future__ import annotations

import random

import pytest

from media.errors import MalformedError, MediaError, UnsupportedError
from media.ts.latm import HEADER_BYTES, read_latm_frame, shifted
from media.ts.sound_frames import LATM

AAC_FRAME = bytes(range(1, 201))
STEREO_48000 = "0001000110010000"
"""AAC-LC at 48 kHz with two channels (§1.6.2.1)."""


def written(bits: str, payload: bytes = AAC_FRAME) -> bytes:
    """Write an AudioSyncStream of one frame, with what comes before PayloadLengthInfo()."""
    length = format(255, "08b") * (len(payload) // 255) + format(len(payload) % 255, "08b")
    whole = bits + length + "".join(format(one, "08b") for one in payload)
    whole += "0" * (-len(whole) % 8)
    body = int(whole, 2).to_bytes(len(whole) // 8, "big")
    return (0x2B7 << 13 | len(body)).to_bytes(3, "big") + body


SAME = "1"
FIRST = "0010000000000000" + STEREO_48000 + "0001111111100"
"""useSameStreamMux, audioMuxVersion, allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer, the
configuration, frameLengthType, latmBufferFullness, otherDataPresent, crcCheckPresent (table 1.42)."""
LATER = "0100011111111100000000000000000010000" + STEREO_48000
LATER += "0001111111110000001000100000000"
"""The same of version 1, with its lengths, other data and a CRC."""
OTHER_DATA = FIRST[:-2] + "11000000010000000000"


@pytest.mark.clause("ISO/IEC 14496-3 §1.7.3")
@pytest.mark.parametrize("bits", [FIRST, LATER, OTHER_DATA])
@pytest.mark.parametrize("size", [1, 200, 255, 600])
def test_a_frame_and_its_configuration_are_read(bits: str, size: int) -> None:
    payload = (AAC_FRAME * 3)[:size]
    data = written(bits, payload)
    found = read_latm_frame(data[:HEADER_BYTES])
    assert (found.size, found.length, found.config) == (len(data), size, b"\x11\x90")
    at, shift = divmod(found.begin, 8)
    assert shifted(data[at:], shift, size) == payload
    facts = LATM.parse(data[:HEADER_BYTES])
    assert (facts.rate, facts.samples, facts.sample(b"??" + data, 2)) == (48_000, 1024, payload)


def test_a_frame_without_a_configuration_has_the_one_before() -> None:
    data = written(SAME)
    found = read_latm_frame(data[:HEADER_BYTES])
    assert found.config is None
    assert shifted(data[found.begin // 8 :], found.begin % 8, found.length) == AAC_FRAME
    assert LATM.parse(data[:HEADER_BYTES]).is_alike


def test_several_programs_layers_and_frames_are_refused_by_name() -> None:
    for changed in ("0000010000000", "0000000001000", "0000000000001"):
        data = written(FIRST.replace("0000000000000", changed, 1))
        with pytest.raises(UnsupportedError, match="several programs, layers or frames"):
            read_latm_frame(data[:HEADER_BYTES])
        assert LATM.parse(data[:HEADER_BYTES]).size == len(data)
        with pytest.raises(UnsupportedError):
            LATM.carried(data[:HEADER_BYTES])


def test_hostile_frames_end_in_an_error_or_within_themselves() -> None:
    chance = random.Random(50)
    for _ in range(3000):
        data = bytearray(written(chance.choice((FIRST, LATER, OTHER_DATA, SAME))))
        for _ in range(chance.randrange(1, 5)):
            data[chance.randrange(2, 40)] = chance.randrange(256)
        cut = bytes(data[: chance.randrange(len(data) + 1)])
        try:
            found = read_latm_frame(cut[:HEADER_BYTES])
        except MediaError:
            continue
        assert found.begin + 8 * found.length <= 8 * found.size
    with pytest.raises(MalformedError):
        read_latm_frame(b"\x47" * HEADER_BYTES)
