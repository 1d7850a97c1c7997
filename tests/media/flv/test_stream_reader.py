"""Where decoding can begin in streams of Enhanced RTMP, and what decoders can't follow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from media.errors import MalformedError
from media.flv.demuxer import FlvDemuxer
from media.flv.stream_reader import FlvReader, PacketDivider
from media.flv.tags import AUDIO, VIDEO, Tag, file_header, write_tags
from media.stream_reader import StreamChunk
from tests.media.flv.flv_tags import AAC, AVCC
from tests.media.muxers.enhanced_tracks import AV1, FLAC, HEVC, OPUS, STREAMINFO, VP9

H264: Tag = (VIDEO, 0, b"\x17\0\0\0\0" + AVCC)
SOUND: Tag = (AUDIO, 0, AAC[0])
KEYS = {
    "avc1": b"\x17\1\0\0\0ab",
    "hvc1": b"\x93hvc1ab",
    "av01": b"\x91av01ab",
    "vp09": b"\x91vp09ab",
}


def at(time: int, *tags: Tag) -> list[Tag]:
    return [(kind, time, body) for kind, _, body in tags]


def key(codec: str) -> Tag:
    return VIDEO, 0, KEYS[codec]


def divided(tags: Sequence[Tag]) -> list[StreamChunk]:
    """Divide a stream, which is divided likewise as tags that were demuxed elsewhere."""
    by_bytes, by_packets = FlvReader(), PacketDivider()
    by_bytes.receive_data(file_header())
    found = by_packets.push(FlvDemuxer().receive_tags(tags))
    assert found == by_bytes.receive_data(write_tags(tags))
    assert by_packets.signature == by_bytes.signature
    return found


def changes(tags: Sequence[Tag]) -> int:
    return sum(one.changes for one in divided(tags))


@pytest.mark.parametrize("mark", [b"\x91", b"\x93"])
def test_key_frames_are_access_points_and_other_frames_are_not(mark: bytes) -> None:
    inter = bytes((mark[0] + 0x10,))
    bodies = [mark, inter, inter, mark, inter]
    tags = [HEVC, OPUS, *((VIDEO, 40 * index, one + b"hvc1\0\0\0a") for index, one in enumerate(bodies))]
    found = divided(tags)
    assert [one.packets[0].is_key for one in found] == [one.access for one in found]
    assert sum(one.access for one in found) == 2
    assert [one.header for one in found[:3]] == [True, True, False]


def test_frames_with_extensions_of_the_header_or_numbers_of_tracks_are_known_likewise() -> None:
    extended, numbered = b"\x97\2\0\0\1\1av01a", b"\x96\1av01\0a"
    tags = [AV1, (VIDEO, 0, extended), (VIDEO, 40, numbered)]
    assert [one.access for one in divided(tags)] == [False, True, True]


def test_other_tracks_and_messages_beside_the_frames_are_left_out() -> None:
    beside = [(VIDEO, 80, b"\x96\1av01\1a"), (VIDEO, 80, b"\xd4avc1\2"), (AUDIO, 80, b"\x94Opus\1\2\0\0\0\3")]
    assert divided([H264, SOUND, key("avc1"), *beside]) == divided([H264, SOUND, key("avc1")])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([H264, SOUND, key("avc1")], [HEVC, key("hvc1")]),
        ([HEVC, OPUS, key("hvc1")], [H264, key("avc1")]),
        ([HEVC, OPUS, key("hvc1")], [AV1, key("av01")]),
        ([AV1, OPUS, key("av01")], [VP9, key("vp09")]),
        ([HEVC, OPUS, key("hvc1")], [(VIDEO, 0, HEVC[2] + b"\0"), key("hvc1")]),
        ([HEVC, OPUS, key("hvc1")], [FLAC, key("hvc1")]),
        ([HEVC, OPUS, key("hvc1")], [SOUND, key("hvc1")]),
        # Codecs without a header.
        ([HEVC, OPUS, key("hvc1")], [(AUDIO, 0, b"\x91ac-3a"), key("hvc1")]),
        ([HEVC, (AUDIO, 0, b"\x91ac-3a"), key("hvc1")], [(AUDIO, 0, b"\x91ec-3a"), key("hvc1")]),
        # What went before was for a decoder of tags of old.
        ([H264, key("avc1")], [OPUS, (AUDIO, 0, b"\x91Opus\x98a"), key("avc1")]),
        ([H264, key("avc1")], [(AUDIO, 0, b"\x91ac-3a"), key("avc1")]),
    ],
)
def test_another_codec_is_a_change_and_goes_on_with_what_a_decoder_needs(
    first: list[Tag], second: list[Tag]
) -> None:
    assert changes(first) == 0
    assert changes([*first, *at(40, *first), *at(80, *first)]) == 0
    found = divided([*first, *at(80, *second)])
    (index,) = (index for index, one in enumerate(found) if one.changes)
    behind = found[index:]
    tracks = {one.track for chunk in behind for one in chunk.packets}
    assert {one.track for one in behind[0].packets} == tracks
    assert [one.header for one in behind] == [True] + [False] * (len(behind) - 1)
    assert sum(one.access for one in behind) == 1


@pytest.mark.parametrize("sound", [OPUS, (AUDIO, 0, b"\x91ac-3a")])
def test_sound_that_comes_late_is_a_change_and_sound_that_comes_soon_is_none(sound: Tag) -> None:
    begin = [HEVC, key("hvc1")]
    assert changes([*begin, *at(400, sound, key("hvc1"))]) == 0
    assert changes([*begin, *at(1100, key("hvc1")), *at(1200, sound, key("hvc1"))]) == 1


def test_the_header_of_flac_that_comes_again_with_sums_of_all_samples_is_no_change() -> None:
    info = STREAMINFO[:4] + b"\0\1\2\3\4\5" + STREAMINFO[10:18] + b"0123456789abcdef"
    assert changes([HEVC, FLAC, key("hvc1"), *at(80, (AUDIO, 0, b"\x90fLaC" + info))]) == 0


def test_a_jump_in_time_is_a_change_at_the_next_key_frame() -> None:
    begin, jumped = [HEVC, OPUS, key("hvc1")], at(90_000, (VIDEO, 0, b"\xa3hvc1b"), key("hvc1"))
    found = divided([*begin, *jumped])
    assert [one.changes for one in found] == [False, False, False, True, False]
    assert [one.data for chunk in found for one in chunk.packets if one.data] == [b"ab"] * 2


def test_what_needs_other_tags_for_old_decoders_is_known() -> None:
    for tags, expected in (
        ([H264, SOUND, key("avc1")], "flv"),
        ([H264, OPUS], "matroska"),
        ([HEVC, SOUND], "matroska"),
    ):
        reader = FlvReader()
        reader.receive_data(file_header() + write_tags(tags))
        assert reader.muxed_container == expected
        reader.receive_data(write_tags([H264, SOUND]))
        assert reader.muxed_container == "flv"


@pytest.mark.parametrize("body", [b"\x90hv", b"\x97", b"\x96\x13hvc1\0\0\0\x09ab"])
def test_a_tag_that_ends_too_early_is_malformed(body: bytes) -> None:
    reader = FlvReader()
    with pytest.raises(MalformedError):
        reader.receive_data(file_header() + write_tags([(VIDEO, 0, body)]))


def test_a_clock_of_32_bits_goes_on_where_it_wraps() -> None:
    # FLV 10.1 §E.4.1: milliseconds, of which the highest eight bits stand apart.
    frames = [(AUDIO, time % (1 << 32), b"\xaf\1a") for time in range((1 << 32) - 40, (1 << 32) + 60, 20)]
    packets = FlvDemuxer().receive_tags([H264, SOUND, *frames])
    found = [one.dts for one in packets if one.data]
    assert [after - before for before, after in itertools.pairwise(found)] == [20 * 90] * 4


@pytest.mark.parametrize("step", [1, 100])
def test_a_clock_that_jumps_over_the_wrap_and_back_jumps_each_time_however_it_comes(step: int) -> None:
    times = [0, 20, (1 << 32) - 60_000, 40, 60, 80]
    frames = [(AUDIO, time, b"\xaf\1a") for time in times]
    packets = FlvDemuxer().receive_tags([H264, SOUND, key("avc1"), *frames, *at(100, key("avc1"))])
    divider, found = PacketDivider(), list[StreamChunk]()
    for begin in range(0, len(packets), step):
        found += divider.push(packets[begin : begin + step])
    assert sum(one.changes for one in found) == 1
    # Of what lies between the first jump and the next key frame nothing goes on.
    assert [one.dts // 90 for chunk in found for one in chunk.packets if one.data] == [0, 0, 20, 100]


SPACING = 40


def pictures(count: int, stray: int = 0, by: int = 0) -> list[Tag]:
    """Write a key frame and further pictures, of which one has a time that is so many milliseconds off."""
    other = VIDEO, 0, b"\x27\1\0\0\0b"
    return [
        *at(0, key("avc1")),
        *(
            tag
            for index in range(1, count)
            for tag in at(SPACING * index + (by if index == stray else 0), other)
        ),
    ]


def times(found: Sequence[StreamChunk]) -> list[int]:
    return [one.dts // 90 for chunk in found for one in chunk.packets if one.data]


@pytest.mark.parametrize("by", [9_800_000, 60_000, 4000])
def test_a_single_picture_with_a_time_far_away_goes_between_its_neighbours(by: int) -> None:
    found = divided([H264, *pictures(10, 5, by)])
    assert times(found) == [SPACING * index for index in range(10)]
    assert not any(one.changes for one in found)


@pytest.mark.parametrize("apart", [4000, 60_000, -4000, 3_600_000])
def test_sound_with_a_clock_of_its_own_is_moved_to_the_picture(apart: int) -> None:
    frames = [(AUDIO, 100_000_000 + SPACING * index + apart, b"\xaf\1a") for index in range(10)]
    seen = [(kind, 100_000_000 + time, body) for kind, time, body in pictures(10)]
    tags = [tag for pair in zip(seen, frames, strict=True) for tag in pair]
    divider = PacketDivider()
    found = divider.push(FlvDemuxer().receive_tags([H264, SOUND, *tags]))
    assert not any(one.changes for one in found)
    assert [time - 100_000_000 for time in times(found)] == [
        time for index in range(10) for time in [SPACING * index] * 2
    ]
    assert f"{abs(apart) / 1000:.1f} s {'ahead of' if apart > 0 else 'behind'}" in divider.fault


def test_key_frames_that_come_every_four_seconds_are_no_jumps() -> None:
    found = divided([H264, *(tag for index in range(6) for tag in at(4000 * index, key("avc1")))])
    assert not any(one.changes for one in found)
    assert times(found) == [4000 * index for index in range(6)]


def test_empty_configurations_say_nothing() -> None:
    empty = [(VIDEO, 0, b"\x17\0\0\0\0"), (AUDIO, 0, b"\xaf\0")]
    found = divided([*empty, H264, SOUND, *at(20, key("avc1")), *at(40, *empty), *at(60, key("avc1"))])
    assert [len(chunk.packets) for chunk in found if chunk.header] == [1, 1]
    assert not any(one.changes for one in found)


def test_sound_without_its_configuration_is_left_out_and_told() -> None:
    reader = FlvReader()
    frame = AUDIO, 0, b"\xaf\1a"
    found = reader.receive_data(file_header() + write_tags([H264, frame, *at(20, key("avc1"), frame)]))
    assert "sequence header" in reader.fault
    assert times(found) == [20]
    reader.receive_data(write_tags(at(40, SOUND, frame)))
    assert not reader.fault
