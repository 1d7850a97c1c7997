"""Matroska read from hand-made elements: every way of writing blocks, and damage of every kind."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.matroska.blocks import KEY, MatroskaFile, MatroskaLimits, read_blocks
from media.matroska.movie import read_matroska
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp4.movie.movie import Movie
from tests.media.matroska.matroska_elements import (
    HEAD,
    PACKET,
    block,
    cluster,
    element,
    number_of,
    opus,
    segment,
    tracks,
)

UNKNOWN = b"\x01\xff\xff\xff\xff\xff\xff\xff"


def blocks_of(data: bytes, limits: MatroskaLimits | None = None) -> MatroskaFile:
    return read_blocks(lambda at, length: data[at : at + length], len(data), limits or MatroskaLimits())


def movie_of(data: bytes) -> Movie:
    return read_matroska(lambda at, length: data[at : at + length], len(data), MatroskaLimits()).movie


def counting(data: bytes) -> tuple[list[int], Callable[[int, int], bytes]]:
    """Give a function that reads some bytes of data, and the list of how many it has read each time."""
    lengths: list[int] = []

    def read(at: int, length: int) -> bytes:
        lengths.append(length)
        return data[at : at + length]

    return lengths, read


def frames_of(data: bytes) -> list[tuple[int, bytes, int]]:
    (frames,) = blocks_of(data).frames.values()
    return [
        (time, data[at : at + size], flags)
        for time, at, size, flags in zip(
            frames.times, frames.offsets, frames.sizes, frames.flags, strict=True
        )
    ]


@pytest.mark.parametrize("segment_size", [None, UNKNOWN])
@pytest.mark.parametrize("cluster_size", [None, UNKNOWN])
def test_blocks_are_found_in_clusters_of_known_and_unknown_size(
    segment_size: bytes | None, cluster_size: bytes | None
) -> None:
    data = segment(
        tracks(opus()),
        cluster(0, block(0, b"a"), block(20, b"bc"), size=cluster_size),
        element(0xEC, bytes(5000)),
        cluster(1000, block(-10, b"d"), size=cluster_size),
        size=segment_size,
    )
    assert frames_of(data) == [(0, b"a", KEY), (20, b"bc", KEY), (990, b"d", KEY)]


@pytest.mark.parametrize("behind", [0, 100])
def test_blocks_amid_a_file_are_read_as_those_at_its_end(behind: int) -> None:
    """A block's time is signed and counts from its cluster's (RFC 9559 §10.1)."""
    times = (-32_768, -1, 0, 1, 32_767)
    frames = [bytes((number,)) * (40 + 300 * number) for number in range(len(times))]
    blocks = [
        block(time, data, flags=0x80 * (number % 2))
        for number, (time, data) in enumerate(zip(times, frames, strict=True))
    ]
    data = segment(tracks(opus()), cluster(40_000, *blocks), element(0xEC, bytes(behind)))
    assert frames_of(data) == [
        (40_000 + time, data, KEY * (number % 2))
        for number, (time, data) in enumerate(zip(times, frames, strict=True))
    ]


def test_a_group_is_a_key_frame_unless_it_refers_to_another() -> None:
    groups = [
        element(0xA0, block(0, b"a", flags=0, kind=0xA1)),
        element(0xA0, block(20, b"b", flags=0, kind=0xA1) + number_of(0xFB, 20)),
        element(0xA0, number_of(0xFB, 20) + block(40, b"c", flags=0, kind=0xA1) + number_of(0x9B, 7)),
    ]
    data = segment(tracks(opus()), cluster(0, *groups))
    assert [flags for _, _, flags in frames_of(data)] == [KEY, 0, 0]
    assert blocks_of(data).frames[1].last_duration == 7


def test_references_without_number_cost_the_same_however_many_frames_they_concern() -> None:
    """Of a block of 256 frames, 200,000 references of three bytes each would take 50 million steps."""
    references = b"\xfb\x81\x01" * 200_000

    def seconds(laced: bytes) -> float:
        data = segment(tracks(opus()), cluster(0, element(0xA0, laced + references)))
        before = time.thread_time()
        assert not any(flags & KEY for flags in blocks_of(data).frames[1].flags)
        return time.thread_time() - before

    one = seconds(block(0, PACKET, flags=0, kind=0xA1))
    assert seconds(block(0, *[PACKET] * 256, flags=0x04, kind=0xA1, lace=b"\xff")) < 5 * one


def test_what_a_segment_says_twice_is_read_once() -> None:
    """Info and Tracks may be repeated (RFC 9559 §5.1.2, §5.1.4): a file of nothing else costs nothing."""
    info = element(0x1549A966, number_of(0x2AD7B1, 500_000) + element(0xEC, bytes(100_000)))
    data = segment(info, tracks(opus()), *[info] * 20, cluster(0, block(0, PACKET)))
    lengths, read = counting(data)
    found = read_blocks(read, len(data), MatroskaLimits())
    assert found.timestamp_scale == 500_000
    assert sum(lengths) < 2 * len(info) + 25 * 4096


@pytest.mark.parametrize("between", [0, 100, 5000, 100_000])
def test_damage_behind_each_cluster_costs_a_few_reads_of_the_file(between: int) -> None:
    """Searched a MiB at a time, a file of 120 kB with nothing but broken clusters took 1.2 GB of reads."""
    broken = element(0x1F43B675, b"", UNKNOWN) + bytes(1 + between)
    whole = cluster(0, block(0, PACKET))
    data = segment(tracks(opus()), whole, *[broken] * (300_000 // len(broken)), whole, size=UNKNOWN)
    lengths, read = counting(data)
    found = read_blocks(read, len(data), MatroskaLimits())
    assert found.damaged
    assert len(found.frames[1]) == 2
    assert sum(lengths) < 4 * len(data)


def test_clusters_are_searched_for_in_so_many_bytes_as_the_limits_allow() -> None:
    whole, damage = cluster(0, block(0, PACKET)), bytes(300_000)
    data = segment(tracks(opus()), whole, damage, whole, damage, whole, damage, whole, size=UNKNOWN)
    lengths, read = counting(data)
    found = read_blocks(read, len(data), MatroskaLimits(searched_bytes=700_000))
    assert len(found.frames[1]) == 2
    assert found.cut_short
    assert sum(lengths) < 720_000


@pytest.mark.parametrize(
    ("flags", "lace"),
    [
        (0x02, bytes((2, 255, 45, 2))),  # Xiph's: 300 and 2
        # EBML's: 300, and the difference to it, -298, in two bytes, whose range begins at -8191
        (0x06, bytes((2, 0x41, 0x2C)) + (0x4000 | 8191 - 298).to_bytes(2, "big")),
    ],
)
def test_the_frames_of_a_laced_block_are_told_apart(flags: int, lace: bytes) -> None:
    frames = [b"x" * 300, b"yy", b"z" * 11]
    data = segment(tracks(opus()), cluster(0, block(5, *frames, flags=0x80 | flags, lace=lace)))
    assert [frame for _, frame, _ in frames_of(data)] == frames
    assert [flags >> 1 for _, _, flags in frames_of(data)] == [0, 1, 2]


def test_frames_of_one_size_share_their_block() -> None:
    data = segment(tracks(opus()), cluster(0, block(0, *[PACKET] * 3, flags=0x84, lace=b"\x02")))
    assert [frame for _, frame, _ in frames_of(data)] == [PACKET] * 3
    (track,) = movie_of(data).tracks
    assert bytes(track.tables[b"stts"])[4:] == struct.pack(">III", 1, 3, 960)


def test_compressed_frames_are_named_so() -> None:
    encoding = element(0x6D80, element(0x6240, element(0x5034, element(0x4254, b"\0"))))
    data = segment(tracks(opus(1, encoding)), cluster(0, block(0, PACKET), block(20, PACKET)))
    assert "zlib" in movie_of(data).tracks[0].obstacle


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_frames_without_their_first_bytes_lie_behind_the_file_with_them(most: int) -> None:
    how = element(0x4254, b"\3") + element(0x4255, PACKET[:2])
    encoding = element(0x6D80, element(0x6240, element(0x5034, how)))
    rest = PACKET[2:]
    laced = block(20, *[rest] * 3, flags=0x84, lace=b"\x02")
    data = segment(tracks(opus(1, encoding)), cluster(0, block(0, rest), laced))

    def read(at: int, length: int) -> bytes:
        return data[at : at + length]

    found = read_matroska(read, len(data), MatroskaLimits())
    (track,), assembled = found.movie.tracks, found.assembled
    assert assembled is not None
    assert bytes(track.tables[b"co64"])[4:] == struct.pack(">IQ", 1, len(data))
    assert assembled.end == len(data) + 4 * len(PACKET)
    pieces = [assembled.read(read, at, most) for at in range(len(data), assembled.end, most)]
    assert b"".join(pieces) == 4 * PACKET
    assert assembled.read(read, 0, 8) == data[:8]
    assert assembled.read(read, assembled.end, 8) == b""
    shortened = assembled.read(lambda at, length: data[: len(data) - 1][at : at + length], len(data), 1000)
    assert shortened == (4 * PACKET)[:-1]


def test_encrypted_tracks_are_named_so() -> None:
    encoding = element(0x6D80, element(0x6240, number_of(0x5033, 1)))
    data = segment(tracks(opus(1, encoding)), cluster(0, block(0, PACKET)))
    assert movie_of(data).tracks[0].obstacle == "encrypted media"
    with pytest.raises(UnsupportedError, match="encrypted"):
        blocks_of(segment(tracks(opus()), cluster(0, element(0xAF, bytes(20)))))


@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        segment(),
        segment(cluster(0, block(0, b"a"))),
        segment(tracks(opus(), opus())),
        segment(tracks(element(0xAE, element(0xE1, element(0xB5, b"abc"))))),
        segment(tracks(element(0xAE, number_of(0xD7, 1 << 70)))),
        segment(tracks(opus()), cluster(0, element(0xA3, b"\x81"))),
        segment(tracks(opus()), cluster(0, block(0, b"abc", flags=0x86, lace=b"\xff\x7f\xff"))),
        segment(tracks(opus()), cluster(0, block(0, b"abc", flags=0x82, lace=b"\x01\xff\xff"))),
        segment(tracks(opus()), cluster(0, block(0, b"abc", flags=0x84, lace=b"\x01"))),
        segment(tracks(opus()), element(0xEC, b"", b"\xff")),
    ],
)
def test_impossible_files_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        blocks_of(data)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (segment(tracks(opus()), *[b"\xec\x80"] * 500), MatroskaLimits(elements=400)),
        (segment(tracks(opus()), cluster(0, *[block(0, b"a")] * 50)), MatroskaLimits(frames=40)),
        (segment(tracks(opus()), cluster(0, block(0, flags=0x84, lace=b"\xff"))), MatroskaLimits(frames=40)),
        (segment(tracks(opus(1, element(0xEC, bytes(3000))))), MatroskaLimits(metadata_bytes=1000)),
        (segment(tracks(*[opus(n) for n in range(1, 90)])), MatroskaLimits()),
    ],
)
def test_what_is_more_than_the_limits_allow_is_refused(data: bytes, limits: MatroskaLimits) -> None:
    with pytest.raises(TooLargeError):
        blocks_of(data, limits)


@pytest.mark.parametrize("nanoseconds", [0, 10**9 + 1])
def test_a_film_and_a_live_stream_of_impossible_ticks_are_both_malformed(nanoseconds: int) -> None:
    data = segment(element(0x1549A966, number_of(0x2AD7B1, nanoseconds)), tracks(opus()))
    with pytest.raises(MalformedError, match=f"ticks of {nanoseconds} nanoseconds"):
        blocks_of(data)
    with pytest.raises(MalformedError, match=f"ticks of {nanoseconds} nanoseconds"):
        MatroskaStreamReader().receive_data(data)


def test_times_that_no_clock_has_are_refused_or_bounded() -> None:
    data = segment(
        element(0x1549A966, number_of(0x2AD7B1, 10**9)),
        tracks(opus()),
        cluster((1 << 63) - 1, block(0, PACKET), block(20, PACKET)),
    )
    with pytest.raises(TooLargeError):
        movie_of(data)


VP9_PICTURE = bytes.fromhex("824983420000f000f000") + bytes(20)


def video(*more: bytes) -> bytes:
    """Write the entry of a track of VP9."""
    sizes = element(0xE0, number_of(0xB0, 320) + number_of(0xBA, 180))
    fixed = number_of(0xD7, 1) + number_of(0x83, 1) + element(0x86, b"V_VP9") + sizes
    return element(0xAE, fixed + b"".join(more))


@pytest.mark.parametrize("seconds", [1000, 2000, 2010, 100_000])
@pytest.mark.parametrize("stated", [0, 3000])
def test_pictures_may_be_shown_for_hours(seconds: int, stated: int) -> None:
    """Of slides there is less than one in half an hour, whatever the file says of how long each is shown."""
    clusters = [cluster(1000 * time, block(0, VP9_PICTURE)) for time in (0, seconds, 2 * seconds + 7)]
    default_duration = [number_of(0x23E383, stated * 10**9)] if stated else []
    (track,) = movie_of(segment(tracks(video(*default_duration)), *clusters)).tracks
    assert not track.obstacle
    durations = struct.unpack_from(">I4xI", track.tables[b"stts"], 12)
    assert durations == (seconds * track.timescale, (seconds + 7) * track.timescale)


def test_a_last_picture_of_centuries_is_refused() -> None:
    data = segment(
        element(0x1549A966, number_of(0x2AD7B1, 10**9)),
        tracks(video()),
        cluster(0, block(0, VP9_PICTURE)),
        cluster(0, element(0xA0, block(1, VP9_PICTURE, flags=0, kind=0xA1) + number_of(0x9B, 1 << 53))),
    )
    with pytest.raises(TooLargeError, match="hundred years"):
        movie_of(data)


@pytest.mark.parametrize(
    ("display", "shown"),
    [((0, 0), (320, 180)), ((400, 200), (360, 180)), ((60_000, 1), (0, 0)), ((1 << 40, 1 << 40), (180, 180))],
)
def test_display_sizes_that_no_mp4_can_say_are_left_out(
    display: tuple[int, int], shown: tuple[int, int]
) -> None:
    """ISO/IEC 14496-12 §8.3.2.2: a size has 16 bits before the point."""
    numbers = zip((0xB0, 0xBA, 0x54B0, 0x54BA), (320, 180, *display), strict=True)
    sizes = element(0xE0, b"".join(number_of(*one) for one in numbers))
    entry = element(0xAE, number_of(0xD7, 1) + number_of(0x83, 1) + element(0x86, b"V_VP8") + sizes)
    (track,) = movie_of(segment(tracks(entry), cluster(0, block(0, b"a")))).tracks
    assert (track.display_width, track.display_height) == tuple(map(Fraction, shown))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_is_refused_or_read_within_the_limits(data: st.DataObject) -> None:
    laced = block(60, *[PACKET] * 3, flags=0x84, lace=b"\x02")
    group = element(0xA0, block(120, PACKET, flags=0, kind=0xA1) + number_of(0xFB, 20))
    whole = bytearray(
        segment(tracks(opus()), cluster(0, block(0, PACKET), block(20, PACKET), laced, group), size=UNKNOWN)
    )
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MediaError):
        for track in movie_of(bytes(whole)).tracks:
            assert sum(map(len, track.tables.values())) < 4096


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_anything_behind_the_tracks_is_refused_or_read(tail: bytes) -> None:
    with contextlib.suppress(MediaError):
        movie_of(segment(tracks(opus()), cluster(0, block(0, PACKET)), tail, size=UNKNOWN))
