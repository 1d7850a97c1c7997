"""Tags of Enhanced RTMP made by hand: their times, what is left out of samples, and what is refused."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Sequence

import pytest

from media.errors import MediaError, UnsupportedError
from media.flv.tags import AUDIO, VIDEO, Tag
from media.mp4.codecs.av1 import find_sequence, without_delimiters
from media.mp4.codecs.colour import Colour
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, InitSegment
from tests.media.muxers.enhanced_tracks import (
    AV1,
    AV1_FRAME,
    AV1_SEQUENCE,
    FLAC,
    HEVC,
    HVCC,
    HVCC_HEAD,
    KEY_SLICE,
    OPUS,
    OPUS_HEAD,
    PPS,
    SLICE,
    SPS,
    STREAMINFO,
    VP9,
    VP9_KEY,
    VPCC,
    VPS,
    hvcc,
    sized,
)
from tests.media.muxers.muxed_streams import FragmentRemuxer, samples

KEY = sized(KEY_SLICE)


def remuxed(tags: Sequence[Tag]) -> list[InitSegment | Fragment]:
    remuxer = FragmentRemuxer()
    return [event for tag in tags for event in remuxer.receive_tags([tag])]


def times(tags: Sequence[Tag], track_id: int) -> list[tuple[int, int, int]]:
    """Give each sample's decode time, how much later it is shown, and how long it lasts."""
    found = samples(remuxed(tags)).get(track_id, [])
    return [(when, one.composition_offset, one.duration) for when, one, _ in found]


def contents(tags: Sequence[Tag], track_id: int) -> list[bytes]:
    return [data for _, _, data in samples(remuxed(tags)).get(track_id, [])]


def kinds(tags: Sequence[Tag]) -> list[bytes]:
    """Give the type of each sample entry that comes."""
    inits = [one.tracks[0] for one in remuxed(tags) if isinstance(one, InitSegment)]
    return [parse_sample_entry(one.sample_entries[0]).kind for one in inits]


def test_composition_times_are_signed_and_frames_may_have_none() -> None:
    key, ahead, behind = b"\x93hvc1" + KEY, b"\xa1hvc1\0\0\x50a", b"\xa1hvc1\xff\xff\xb0b"
    tags = [HEVC, *((VIDEO, 40 * index, body) for index, body in enumerate((key, ahead, behind, key)))]
    assert times(tags, 1) == [(0, 0, 3600), (3600, 80 * 90, 3600), (7200, -80 * 90, 3600)]


def test_nanoseconds_are_added_to_both_times() -> None:
    # 16 and 2/3 ms, as 60 pictures a second have them.
    tags = [
        HEVC,
        (VIDEO, 0, b"\x93hvc1" + KEY),
        (VIDEO, 16, b"\xa7\2" + (666_667).to_bytes(3, "big") + b"\1hvc1\0\0\x10b"),
        (VIDEO, 33, b"\xa7\2" + (333_334).to_bytes(3, "big") + b"\3hvc1c"),
        (VIDEO, 50, b"\xa3hvc1d"),
    ]
    assert times(tags, 1) == [(0, 0, 1500), (1500, 16 * 90, 1500), (3000, 0, 1500)]


@pytest.mark.parametrize(
    ("first", "samples_each"),
    # RFC 6716 table 2: SILK and hybrid of 10 to 60 ms, CELT of 2.5 to 20 ms; and packets of several frames.
    [
        (b"\x80", 120),
        (b"\x88", 240),
        (b"\x90", 480),
        (b"\x98", 960),
        (b"\x10", 1920),
        (b"\x18", 2880),
        (b"\x1b\x02", 5760),
    ],
)
def test_packets_of_opus_last_as_long_as_they_say(first: bytes, samples_each: int) -> None:
    body = b"\x91Opus" + first + b"sound"
    # Milliseconds, as FLV has them.
    frames = [(AUDIO, samples_each * index // 48, body) for index in range(20)]
    assert times([OPUS, *frames], 2) == [(samples_each * index, 0, samples_each) for index in range(19)]


def test_packets_of_opus_may_last_differently() -> None:
    lengths = [(0, b"\x98", 960), (20, b"\x18", 2880), (80, b"\x80", 120), (82, b"\x98", 960)]
    lengths.append((102, b"\x98", 960))
    tags = [OPUS, *((AUDIO, when, b"\x91Opus" + first + b"a") for when, first, _ in lengths)]
    assert [one[2] for one in times(tags, 2)] == [one[2] for one in lengths[:-1]]


@pytest.mark.parametrize(
    ("head", "samples_each"),
    # RFC 9639 §9.1.1: sizes by codes, and those told behind the number of the frame or sample.
    [
        ("fff85a0800", 4608),
        ("fff8180800", 192),
        ("fff8c80800", 4096),
        ("fff8680800ff", 256),
        ("fff9780ae0a0800fff", 4096),
        ("fff97808c2800fff", 4096),
    ],
)
def test_frames_of_flac_last_as_long_as_they_say(head: str, samples_each: int) -> None:
    body = b"\x91fLaC" + bytes.fromhex(head) + b"sound"
    frames = [(AUDIO, samples_each * index // 48, body) for index in range(20)]
    assert times([FLAC, *frames], 2) == [(samples_each * index, 0, samples_each) for index in range(19)]


def test_parameter_sets_that_the_sample_entry_has_are_not_in_samples() -> None:
    other = PPS + b"\x80"
    key = b"\x93hvc1" + sized(b"\x46\1\x50", VPS, SPS, PPS, other, b"\x4e\1sei", KEY_SLICE)
    tags = [HEVC, (VIDEO, 0, key), (VIDEO, 40, b"\xa3hvc1" + sized(PPS, SLICE)), (VIDEO, 80, key)]
    assert contents(tags, 1) == [sized(b"\x46\1\x50", other, b"\x4e\1sei", KEY_SLICE), sized(SLICE)]
    assert kinds(tags) == [b"hvc1"]


def test_hevc_whose_configuration_lacks_a_set_keeps_those_of_its_samples() -> None:
    key = b"\x93hvc1" + sized(SPS, PPS, KEY_SLICE)
    tags = [(VIDEO, 0, b"\x90hvc1" + hvcc(VPS, SPS)), (VIDEO, 0, key), (VIDEO, 40, key)]
    assert contents(tags, 1) == [key[5:]]
    assert kinds(tags) == [b"hev1"]


@pytest.mark.parametrize("delimiter", [b"\x12\0", b"\x16\0\0", b"\x12\0\x12\0", b""])
def test_delimiters_of_av1_are_not_in_samples(delimiter: bytes) -> None:
    frame = delimiter + AV1_SEQUENCE + AV1_FRAME
    assert contents([AV1, (VIDEO, 0, b"\x91av01" + frame), (VIDEO, 40, b"\xa1av01" + frame)], 1) == [
        AV1_SEQUENCE + AV1_FRAME
    ]


def test_a_temporal_unit_of_nothing_is_no_sample() -> None:
    empty = (VIDEO, 40, b"\xa1av01\x12\0")
    frames = [(VIDEO, when, b"\x91av01" + AV1_FRAME) for when in (0, 80, 120)]
    assert times([AV1, frames[0], empty, *frames[1:]], 1) == [(0, 0, 7200), (7200, 0, 3600)]


def test_av1_whose_configuration_has_no_sequence_header_takes_that_of_its_first_picture() -> None:
    bare, key = (VIDEO, 0, b"\x90av01\x81\0\x0c\0"), b"\x91av01\x12\0" + AV1_SEQUENCE + AV1_FRAME
    events = remuxed([bare, (VIDEO, 0, key), (VIDEO, 40, key)])
    (init,) = (one for one in events if isinstance(one, InitSegment))
    entry = parse_sample_entry(init.tracks[0].sample_entries[0])
    assert (entry.width, entry.height) == (160, 120)
    assert AV1_SEQUENCE in init.data


def test_vp9_says_size_in_its_first_picture_and_colours_in_its_configuration() -> None:
    tags = [VP9, (VIDEO, 0, b"\xa1vp09" + VP9_KEY), (VIDEO, 0, b"\x91vp09" + VP9_KEY)]
    (init,) = (one for one in remuxed(tags) if isinstance(one, InitSegment))
    entry = parse_sample_entry(init.tracks[0].sample_entries[0])
    assert (entry.codec, entry.width, entry.height) == ("vp09.00.41.08.01.09.16.09.00", 160, 120)
    assert entry.colour == Colour(9, 16, 9)
    assert entry.video_range == "PQ"


def test_preskip_and_gain_of_opus_are_in_its_sample_entry() -> None:
    (init,) = (one for one in remuxed([OPUS, (AUDIO, 0, b"\x91Opus\x98a")]) if isinstance(one, InitSegment))
    assert b"dOps\0\2" + struct.pack(">HIh", 312, 48000, -256) + b"\0" in init.data


def test_frames_before_their_header_and_of_other_codecs_are_left_out() -> None:
    frames: list[Tag] = [(VIDEO, 0, b"\x91av01" + AV1_FRAME), (AUDIO, 0, b"\x91Opus\x98a")]
    older: list[Tag] = [(VIDEO, 0, b"\x17\1\0\0\0avc"), (AUDIO, 0, b"\xaf\1aac")]
    assert remuxed([*frames, *older]) == []
    tags = [HEVC, OPUS, *frames, *older, (VIDEO, 0, b"\x93hvc1" + KEY), (VIDEO, 40, b"\xa3hvc1b")]
    assert contents(tags, 1) == [KEY]
    assert kinds(tags) == [b"Opus", b"hvc1"]


def test_a_header_that_is_repeated_says_nothing_and_another_one_begins_a_track() -> None:
    key, bigger = b"\x93hvc1" + sized(KEY_SLICE), (VIDEO, 0, b"\x90hvc1" + hvcc(VPS, SPS, PPS + b"\x80"))
    same = [HEVC, (VIDEO, 0, key), HEVC, (VIDEO, 40, key), HEVC, (VIDEO, 80, key)]
    assert (kinds(same), len(contents(same, 1))) == ([b"hvc1"], 2)
    assert kinds([*same, bigger, (VIDEO, 120, key)]) == [b"hvc1", b"hvc1"]
    mixed = [*same, AV1, (VIDEO, 120, b"\x91av01" + AV1_FRAME), VP9, (VIDEO, 160, b"\x91vp09" + VP9_KEY)]
    assert kinds(mixed) == [b"hvc1", b"av01", b"vp09"]
    sound = [OPUS, (AUDIO, 0, b"\x91Opus\x98a"), FLAC, (AUDIO, 20, bytes.fromhex("91664c6143fff85a0800"))]
    assert kinds(sound) == [b"Opus", b"fLaC"]


@pytest.mark.parametrize(
    ("header", "key", "other"),
    [
        (HEVC, b"\x93hvc1" + sized(b"\x46\1\x50", KEY_SLICE), b"\x93hvc1" + sized(SLICE)),
        (HEVC, b"\x93hvc1" + sized(b"\x2a\1open group"), b"\x93hvc1" + sized(b"\x4e\1sei", SLICE)),
        (AV1, b"\x91av01\x12\0" + AV1_SEQUENCE + AV1_FRAME, b"\x91av01\x12\0\x32\3\x30ab"),
        (VP9, b"\x91vp09" + VP9_KEY, b"\x91vp09\x86\0\0"),
    ],
)
def test_decoding_begins_only_with_frames_that_are_key_frames_whatever_is_said(
    header: Tag, key: bytes, other: bytes
) -> None:
    frames = [(VIDEO, 40 * index, body) for index, body in enumerate((key, other, key, other))]
    found = samples(remuxed([header, *frames]))[1]
    assert [one.is_sync for _, one, _ in found] == [True, False, True]
    if header is not VP9:
        assert len(contents([header, (VIDEO, 0, other), *frames], 1)) == 3


def test_messages_beside_the_frames_are_left_out() -> None:
    key = (VIDEO, 0, b"\x93hvc1" + sized(KEY_SLICE))
    # Metadata, the end of a sequence, a command to the player; the configuration of channels, other tracks.
    beside: list[Tag] = [
        (VIDEO, 0, b"\xd4hvc1\2\0\x09colorInfo"),
        (VIDEO, 0, b"\x92hvc1"),
        (VIDEO, 0, b"\xd0\0"),
        (AUDIO, 0, b"\x94Opus\1\2\0\0\0\3"),
        (VIDEO, 0, b"\x96\1hvc1\1\0\0\0other"),
        (AUDIO, 0, b"\x95\1Opus\1other"),
    ]
    tags = [HEVC, OPUS, *beside, key, *beside, key]
    assert contents(tags, 1) == [sized(KEY_SLICE)]
    assert kinds(tags) == [b"hvc1"]


MULTICHANNEL = b"OpusHead\1\6" + struct.pack("<HIhB", 312, 48000, 0, 1)


@pytest.mark.parametrize(
    "tags",
    [
        [(VIDEO, 0, b"\x90vvc1abc")],
        [(AUDIO, 0, b"\x90.mp3"), (AUDIO, 0, b"\x91.mp3abc")],
        *(
            [(VIDEO, 0, b"\x90" + codec + configuration), (VIDEO, 0, b"\x91" + codec + frame)]
            for codec, configuration, frame in [
                (b"hvc1", HVCC[:23], b"\0\0\0key"),
                (b"hvc1", hvcc(VPS, PPS), b"\0\0\0key"),
                (b"hvc1", hvcc(VPS, SPS[:12], PPS), b"\0\0\0key"),
                (b"hvc1", HVCC_HEAD + b"\xff" + b"\x21\xff\xff" * 3000, b"\0\0\0key"),
                (b"hvc1", HVCC + bytes(8 << 10), b"\0\0\0key"),
                (b"av01", b"\1\0\0\0", AV1_FRAME),
                (b"av01", b"\x81\0\x0c\0", AV1_FRAME),
                (b"av01", b"\x81\0\x0c\0\x0a\x09\0", AV1_FRAME),
                (b"av01", b"\x81\0\x0c\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff", AV1_FRAME),
                (b"av01", b"\x81\0\x0c\0" + AV1_SEQUENCE, b"\x32\x7fa"),
                (b"vp09", VPCC, b"\x86\0"),
                (b"vp09", VPCC, VP9_KEY[:6]),
            ]
        ),
        *(
            [(AUDIO, 0, b"\x90" + codec + configuration), (AUDIO, 0, b"\x91" + codec + frame)]
            for codec, configuration, frame in [
                (b"Opus", b"OpusTags" + OPUS_HEAD[8:], b"\x98a"),
                (b"Opus", OPUS_HEAD[:18], b"\x98a"),
                (b"Opus", OPUS_HEAD[:9] + b"\0" + OPUS_HEAD[10:], b"\x98a"),
                (b"Opus", MULTICHANNEL + b"\4\2\0\4", b"\x98a"),
                (b"Opus", OPUS_HEAD, b"\x1b\0"),
                (b"Opus", OPUS_HEAD, b"\x1b\3"),
                (b"fLaC", STREAMINFO[:33], b"\xff\xf8\x5a\x08\0"),
                (b"fLaC", bytes(34), b"\xff\xf8\x5a\x08\0"),
                (b"fLaC", STREAMINFO, b"\xff\xf8\x0a\x08\0"),
                (b"fLaC", STREAMINFO, b"\xff\xf8\x7a\x08\0\0"),
                (b"fLaC", STREAMINFO, b"no frame"),
                (b"ac-3", b"", b"\x0b\x77"),
                (b"ac-3", b"", b"\x0b\x77\0\0\xff\x40\0\0\0"),
                (b"ec-3", b"", b"no frame"),
                (b"ec-3", b"", b"\x0b\x77\0\0\x30\x80\0\0\0" * 50),
            ]
        ),
    ],
)
def test_what_can_not_be_copied_is_an_error(tags: list[Tag]) -> None:
    with pytest.raises(MediaError):
        remuxed(tags)


@pytest.mark.parametrize(
    ("kind", "codec", "frame"),
    [
        (VIDEO, b"hvc1", b"\0\0\0key"),
        (VIDEO, b"av01", AV1_FRAME),
        (VIDEO, b"vp09", b"no VP9"),
        (AUDIO, b"Opus", b"\x98a"),
    ],
)
def test_an_empty_configuration_is_none(kind: int, codec: bytes, frame: bytes) -> None:
    """Encoders send one in front of the first, or again in mid-stream."""
    assert remuxed([(kind, 0, b"\x90" + codec), (kind, 0, b"\x91" + codec + frame)]) == []


def test_frames_of_dolby_that_change_end_the_track() -> None:
    stereo, mono = b"\x0b\x77\0\0\x14\x40\x40" + bytes(249), b"\x0b\x77\0\0\x14\x40\x20" + bytes(249)
    frames = [(AUDIO, 32 * index, b"\x91ac-3" + stereo) for index in range(3)]
    assert times(frames, 2) == [(0, 0, 1536), (1536, 0, 1536)]
    with pytest.raises(UnsupportedError, match="changes its rate or its channels"):
        remuxed([*frames, (AUDIO, 96, b"\x91ac-3" + mono)])


def test_the_size_and_the_colours_of_av1_are_read_whatever_comes_before_them() -> None:
    def bits(*fields: tuple[int, int]) -> bytes:
        text = "".join(f"{value:0{width}b}" for value, width in fields)
        return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")

    size = ((10, 4), (9, 4), (1919, 11), (799, 10))
    tools = ((0, 1), (0, 3), (0, 4), (1, 1), (0, 2), (1, 1), (1, 1), (6, 3), (0, 3))
    colours = ((1, 1), (0, 1), (1, 1), (9, 8), (16, 8), (9, 8))
    # Timing, a decoder model and two operating points, of which each has its own delays (AV1 §5.5.1).
    timing = ((1, 1), (1, 32), (50, 32), (1, 1), (1, 1), (1, 1), (9, 5), (1, 32), (9, 5), (9, 5))
    points = ((1, 1), (1, 5), *2 * ((0, 12), (8, 5), (0, 1), (1, 1), (0, 21), (1, 1), (3, 4)))
    whole = bits((0, 3), (0, 2), *timing, *points, *size, *tools, *colours)
    reduced = bits((0, 3), (3, 2), (8, 5), *size, (0, 3), (0, 3), *colours)
    for payload in (whole, reduced):
        found = find_sequence(b"\x12\0\x0a" + bytes((len(payload),)) + payload)
        assert found is not None
        assert found[1].size == (1920, 800)
        assert found[1].colour == (9, 16, 9)


@pytest.mark.clause("CWE-770")
@pytest.mark.parametrize(
    "tags",
    [
        [HEVC, (VIDEO, 0, b"\x93hvc1" + b"\0\0\0\2\x40\1" * 1_000_000)],
        [HEVC, (VIDEO, 0, b"\x93hvc1" + bytes(6 << 20))],
        [AV1, (VIDEO, 0, b"\x91av01" + b"\x12\0" * 3_000_000)],
        [(AUDIO, 0, b"\x91ec-3" + b"\x0b\x77\x00\x00\x30\x80" * 1_000_000)],
        [(VIDEO, 0, b"\x90hvc1" + HVCC_HEAD + b"\xff" + b"\x21\1\0" * 2_000_000), (VIDEO, 0, b"\x93hvc1a")],
    ],
    ids=["units of two bytes", "units of nothing", "delimiters", "frames of nothing", "sets of nothing"],
)
def test_small_units_in_large_tags_cost_no_more_than_their_bytes(tags: list[Tag]) -> None:
    began = time.process_time()
    with contextlib.suppress(MediaError):
        remuxed(tags)
    # To look at each unit would take a second.
    assert time.process_time() - began < 0.3


def test_delimiters_alone_are_nothing() -> None:
    assert without_delimiters(b"\x12\0") == b""
