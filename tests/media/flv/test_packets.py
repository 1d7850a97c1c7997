"""What is in FLV's tags: Adobe's of old, and Enhanced RTMP v2 with its tracks and nanoseconds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, UnsupportedError
from media.flv.packets import Packet, PacketKind, is_read_in_flv, read_packets
from media.flv.tags import AUDIO, VIDEO

CONFIGURATION, FRAMES, OTHER = PacketKind.CONFIGURATION, PacketKind.FRAMES, PacketKind.OTHER

CASES: list[tuple[int, bytes, list[Packet]]] = [
    (VIDEO, b"", []),
    (VIDEO, b"\x17\0\0\0\0abc", [Packet(CONFIGURATION, "avc1", b"abc", is_key=True)]),
    (VIDEO, b"\x27\1\xff\xff\xd8abc", [Packet(FRAMES, "avc1", b"abc", composition_time=-40)]),
    (VIDEO, b"\x17\2\0\0\0", [Packet(OTHER, "avc1", b"", is_key=True)]),
    (VIDEO, b"\x12abc", [Packet(FRAMES, "H.263", b"abc", is_key=True)]),
    (VIDEO, b"\x57\0", [Packet(OTHER, "avc1")]),
    (AUDIO, b"\xaf\0\x12\x10", [Packet(CONFIGURATION, "mp4a", b"\x12\x10", is_key=True)]),
    (AUDIO, b"\xaf\1abc", [Packet(FRAMES, "mp4a", b"abc", is_key=True)]),
    (AUDIO, b"\x2fabc", [Packet(FRAMES, ".mp3", b"abc", is_key=True)]),
    # Enhanced RTMP: SequenceStart, CodedFrames with a composition time, CodedFramesX without.
    (VIDEO, b"\x90hvc1abc", [Packet(CONFIGURATION, "hvc1", b"abc", is_key=True)]),
    (VIDEO, b"\xa1hvc1\0\0\x28abc", [Packet(FRAMES, "hvc1", b"abc", composition_time=40)]),
    (VIDEO, b"\x93hvc1abc", [Packet(FRAMES, "hvc1", b"abc", is_key=True)]),
    (VIDEO, b"\x91av01abc", [Packet(FRAMES, "av01", b"abc", is_key=True)]),
    (VIDEO, b"\x92vp09", [Packet(OTHER, "vp09", is_key=True)]),
    (VIDEO, b"\xd0\0", []),
    (AUDIO, b"\x90OpusOpusHead", [Packet(CONFIGURATION, "Opus", b"OpusHead", is_key=True)]),
    (AUDIO, b"\x91Opusabc", [Packet(FRAMES, "Opus", b"abc", is_key=True)]),
    (AUDIO, b"\x94fLaC\1\1\0\0\0\4", [Packet(OTHER, "fLaC", b"\1\1\0\0\0\4", is_key=True)]),
    # ModEx: three bytes of nanoseconds stand before another type of packet.
    (VIDEO, b"\x97\2\x00\x01\x00\x03av01ab", [Packet(FRAMES, "av01", b"ab", is_key=True, nanoseconds=256)]),
    (VIDEO, b"\x97\0\0\x13av01ab", [Packet(FRAMES, "av01", b"ab", is_key=True)]),
    (
        AUDIO,
        b"\x97\xff\x00\xff" + bytes(256) + b"\x01Opusab",
        [Packet(FRAMES, "Opus", b"ab", is_key=True)],
    ),
    # Multitrack: one track, several of one codec with their sizes, several of several codecs.
    (VIDEO, b"\x96\x00hvc1\5abc", [Packet(CONFIGURATION, "hvc1", b"abc", is_key=True, track=5)]),
    (
        VIDEO,
        b"\x96\x13hvc1\0\0\0\2ab\1\0\0\3cde",
        [
            Packet(FRAMES, "hvc1", b"ab", is_key=True),
            Packet(FRAMES, "hvc1", b"cde", is_key=True, track=1),
        ],
    ),
    (
        AUDIO,
        b"\x95\x21Opus\0\0\0\2abmp4a\1\0\0\1c",
        [
            Packet(FRAMES, "Opus", b"ab", is_key=True),
            Packet(FRAMES, "mp4a", b"c", is_key=True, track=1),
        ],
    ),
    (
        VIDEO,
        b"\xa6\x11avc1\0\0\0\5\0\0\x28ab",
        [Packet(FRAMES, "avc1", b"ab", composition_time=40)],
    ),
]


@pytest.mark.parametrize(("kind", "body", "packets"), CASES)
def test_tags_are_read(kind: int, body: bytes, packets: list[Packet]) -> None:
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


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (VIDEO, b"\x17\0\0\0\0a", True),
        (AUDIO, b"\xaf\0\x12\x10", True),
        (AUDIO, b"\x2fabc", True),
        (VIDEO, b"\x90avc1a", False),
        (VIDEO, b"\x1cabc", False),
        (VIDEO, b"\x12abc", False),
        (AUDIO, b"\x90Opusa", False),
    ],
)
def test_what_every_ffmpeg_reads_in_flv_is_known(kind: int, body: bytes, expected: bool) -> None:
    assert is_read_in_flv(kind, body) is expected


@given(st.sampled_from([AUDIO, VIDEO]), st.binary(max_size=80))
def test_no_bytes_break_the_reader(kind: int, body: bytes) -> None:
    with contextlib.suppress(MediaError):
        read_packets(kind, body)
