"""PCM of DVDs and Blu-rays, whose bytes lie in another order, decodes as ffmpeg decodes it from the disc."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest

from media.ts.packed_pcm import BLU_RAY_ORDERS
from tests.packager.vod.decoded_tracks import (
    assert_decodes_alike,
    encoded_film,
    fragmented,
    indexed,
    sound,
)

MPEG2 = "-c:v mpeg2video -bf 2 -g 15"
BLU_RAY = "-c:v mpeg2video -g 15 -c:a pcm_bluray -f mpegts -mpegts_m2ts_mode 1"
PACK = bytes.fromhex("000001ba 4400040004 01 010003 f8")
SYSTEM_CLOCK = 90_000
PACKET_SAMPLES = 400
"""Samples of each channel in a packet that the tests write."""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deep.vob", f"{MPEG2} -c:a pcm_dvd -sample_fmt s32 -f vob"),
        ("deep-mono.vob", f"{MPEG2} -c:a pcm_dvd -sample_fmt s32 -ac 1 -f vob"),
        ("deep-surround.vob", f"{MPEG2} -c:a pcm_dvd -sample_fmt s32 -ac 6 -f vob"),
        ("deep-96.vob", f"{MPEG2} -c:a pcm_dvd -sample_fmt s32 -ar 96000 -ac 2 -f vob"),
        ("plain.m2ts", f"{BLU_RAY} -sample_fmt s16 -ac 2"),
        ("mono.m2ts", f"{BLU_RAY} -sample_fmt s32 -ac 1"),
        ("surround.m2ts", f"{BLU_RAY} -sample_fmt s32 -ac 6"),
        ("many.m2ts", f"{BLU_RAY} -sample_fmt s16 -ac 8"),
        ("fast.m2ts", f"{BLU_RAY} -sample_fmt s32 -ar 192000 -ac 2"),
    ],
)
def test_sound_of_a_disc_decodes_from_fragments(name: str, words: str, tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path)
    assert [track.name for track in index.only_encoded] == ["video", "audio"]


def timestamp(ticks: int) -> bytes:
    """Write a PTS alone (ISO/IEC 13818-1 §2.4.3.6)."""
    parts = 0x21 | ticks >> 29 & 0xE, ticks >> 14 & 0xFFFE | 1, ticks << 1 & 0xFFFE | 1
    return struct.pack(">BHH", *parts)


def packet(number: int, form: int, data: bytes) -> bytes:
    """Write a packet of the PCM of a DVD, with its pack."""
    header = bytes((0xA0, 1, 0, 4, 0, form, 0x80))
    payload = b"\x81\x80\x05" + timestamp(number * PACKET_SAMPLES * SYSTEM_CLOCK // 48_000) + header + data
    return PACK + b"\0\0\1\xbd" + struct.pack(">H", len(payload)) + payload


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_pcm_of_20_bits_has_the_other_four_of_each_sample(channels: int, tmp_path: Path) -> None:
    """No encoder writes it; ffmpeg's decoder reads what is written here."""
    random = Random(channels)
    packets = []
    for number in range(100):
        values = [random.randrange(1 << 20) for _ in range(PACKET_SAMPLES * channels)]
        group = 2 if channels == 1 else 4
        data = bytearray()
        for at in range(0, len(values), group):
            part = values[at : at + group]
            data += struct.pack(f">{group}H", *(value >> 4 for value in part))
            data += bytes(
                (one & 15) << 4 | other & 15 for one, other in zip(part[::2], part[1::2], strict=True)
            )
        packets.append(packet(number, 0x40 | channels - 1, bytes(data)))
    path = tmp_path / "disc.vob"
    path.write_bytes(b"".join(packets))
    (track,) = indexed(path).only_encoded
    ours, theirs = sound(fragmented(path, track, tmp_path), "a:0"), sound(path, "a:0")
    # ffmpeg needs a whole block for the last samples.
    assert theirs.startswith(ours[: len(ours) // 2])
    assert abs(len(ours) - len(theirs)) <= 480 * channels * 4
    assert np.count_nonzero(np.frombuffer(ours, np.int32) & 0xFFF) == 0


def test_all_layouts_of_a_blu_ray_have_each_channel_once() -> None:
    for order in BLU_RAY_ORDERS.values():
        assert sorted(order) == list(range(len(order)))


def test_a_stream_that_only_claims_to_be_pcm_is_told(tmp_path: Path) -> None:
    data = encoded_film("claims.m2ts", f"{BLU_RAY} -sample_fmt s16 -ac 2").read_bytes()
    # The headers of its frames name no layout.
    broken = data.replace(b"\x03\xc0\x31\x40", b"\x03\xc0\x01\x40")
    assert broken != data
    (tmp_path / "claims.m2ts").write_bytes(broken)
    index = indexed(tmp_path / "claims.m2ts")
    assert [track.name for track in index.only_encoded] == ["video"]
    assert any("PCM" in line or "no samples" in line for line in index.left_out)
