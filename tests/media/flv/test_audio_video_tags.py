"""What is in FLV's tags: Adobe's of old, and Enhanced RTMP v2 with its tracks and nanoseconds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, UnsupportedError
from media.flv.audio_video_tags import FlvPacket, PacketKind, read_packets
from media.flv.tags import AUDIO, VIDEO

CONFIGURATION, FRAMES, OTHER = PacketKind.CONFIGURATION, PacketKind.FRAMES, PacketKind.OTHER

CASES: list[tuple[int, bytes, list[FlvPacket]]] = [
    (VIDEO, b"", []),
    (VIDEO, b"\x17\0\0\0\0abc", [FlvPacket(CONFIGURATION, "avc1", b"abc", is_key=True)]),
    (VIDEO, b"\x27\1\xff\xff\xd8abc", [FlvPacket(FRAMES, "avc1", b"abc", composition_time=-40)]),
    (VIDEO, b"\x17\2\0\0\0", [FlvPacket(OTHER, "avc1", b"", is_key=True)]),
    (VIDEO, b"\x12abc", [FlvPacket(FRAMES, "H.263", b"abc", is_key=True)]),
    (VIDEO, b"\x57\0", [FlvPacket(OTHER, "avc1")]),
    (AUDIO, b"\xaf\0\x12\x10", [FlvPacket(CONFIGURATION, "mp4a", b"\x12\x10", is_key=True)]),
    (AUDIO, b"\xaf\1abc", [FlvPacket(FRAMES, "mp4a", b"abc", is_key=True)]),
    (AUDIO, b"\x2fabc", [FlvPacket(FRAMES, ".mp3", b"abc", is_key=True)]),
    # Enhanced RTMP: SequenceStart, CodedFrames with a composition time, CodedFramesX without.
    (VIDEO, b"\x90hvc1abc", [FlvPacket(CONFIGURATION, "hvc1", b"abc", is_key=True)]),
    (VIDEO, b"\xa1hvc1\0\0\x28abc", [FlvPacket(FRAMES, "hvc1", b"abc", composition_time=40)]),
    (VIDEO, b"\x93hvc1abc", [FlvPacket(FRAMES, "hvc1", b"abc", is_key=True)]),
    (VIDEO, b"\x91av01abc", [FlvPacket(FRAMES, "av01", b"abc", is_key=True)]),
    (VIDEO, b"\x92vp09", [FlvPacket(OTHER, "vp09", is_key=True)]),
    (VIDEO, b"\xd0\0", []),
    (AUDIO, b"\x90OpusOpusHead", [FlvPacket(CONFIGURATION, "Opus", b"OpusHead", is_key=True)]),
    (AUDIO, b"\x91Opusabc", [FlvPacket(FRAMES, "Opus", b"abc", is_key=True)]),
    (AUDIO, b"\x94fLaC\1\1\0\0\0\4", [FlvPacket(OTHER, "fLaC", b"\1\1\0\0\0\4", is_key=True)]),
    # ModEx: three bytes of nanoseconds stand before another type of packet.
    (
        VIDEO,
        b"\x97\2\x00\x01\x00\x03av01ab",
        [FlvPacket(FRAMES, "av01", b"ab", is_key=True, nanoseconds=256)],
    ),
    (VIDEO, b"\x97\0\0\x13av01ab", [FlvPacket(FRAMES, "av01", b"ab", is_key=True)]),
    (
        AUDIO,
        b"\x97\xff\x00\xff" + bytes(256) + b"\x01Opusab",
        [FlvPacket(FRAMES, "Opus", b"ab", is_key=True)],
    ),
    # Multitrack: one track, several of one codec with their sizes, several of several codecs.
    (VIDEO, b"\x96\x00hvc1\5abc", [FlvPacket(CONFIGURATION, "hvc1", b"abc", is_key=True, track=5)]),
    (
        VIDEO,
        b"\x96\x13hvc1\0\0\0\2ab\1\0\0\3cde",
        [
            FlvPacket(FRAMES, "hvc1", b"ab", is_key=True),
            FlvPacket(FRAMES, "hvc1", b"cde", is_key=True, track=1),
        ],
    ),
    (
        AUDIO,
        b"\x95\x21Opus\0\0\0\2abmp4a\1\0\0\1c",
        [
            FlvPacket(FRAMES, "Opus", b"ab", is_key=True),
            FlvPacket(FRAMES, "mp4a", b"c", is_key=True, track=1),
        ],
    ),
    (
        VIDEO,
        b"\xa6\x11avc1\0\0\0\5\0\0\x28ab",
        [FlvPacket(FRAMES, "avc1", b"ab", composition_time=40)],
    ),
]


@pytest.mark.parametrize(("kind", "body", "packets"), CASES)
def test_tags_are_read(kind: int, body: bytes, packets: list[FlvPacket]) -> None:
    assert read_packets(kind, body) == packets


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (VIDEO, b"\x17"),
        (VIDEO, b"\x17\1\0\0"),
        (VIDEO, b"\x90hvc"),
        (VIDEO, b"\xa1hvc1\0\0"),
        (VIDEO, b"\x96"),
        (VIDEO, b"\x96\x13hvc1\0\0\0\x09ab"),
        (VIDEO, b"\x97"),
        (VIDEO, b"\x97\xff\xff\xffab"),
        (AUDIO, b"\xaf"),
    ],
)
def test_tags_that_end_too_early_are_malformed(kind: int, body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_packets(kind, body)


@pytest.mark.parametrize("body", [b"\x96\x13hvc1" + b"\0\0\0\0" * 100, b"\x97" + b"\0\0\x07" * 100])
def test_more_tracks_and_extensions_than_anybody_needs_are_refused(body: bytes) -> None:
    with pytest.raises(UnsupportedError):
        read_packets(VIDEO, body)


def test_of_flac_only_what_a_decoder_needs_is_told() -> None:
    info = bytes.fromhex("120012000000000000000bb800f000000000") + bytes(16)
    at_the_end = bytes.fromhex("1200120000041f0004f30bb800f000017700") + b"0123456789abcdef"
    first, last, other = (
        FlvPacket(CONFIGURATION, "fLaC", data).told for data in (info, at_the_end, b"\x10" + info[1:])
    )
    assert first == last == FlvPacket(CONFIGURATION, "fLaC", b"fLaC\x80\0\0\x22" + info).told
    assert other != first


@given(st.sampled_from([AUDIO, VIDEO]), st.binary(max_size=80))
def test_no_bytes_break_the_reader(kind: int, body: bytes) -> None:
    with contextlib.suppress(MediaError):
        read_packets(kind, body)
