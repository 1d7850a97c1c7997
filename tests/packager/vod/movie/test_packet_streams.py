"""MPEG-TS and MPEG-PS of codecs that aren't copied: ffmpeg decodes fragments as it decodes the files."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.mpeg.picture_order import presentation_order, presentation_times
from media.mpeg.video_frames import MPEG2_SYNTAX, VideoFrames
from media.ps.movie import read_program_stream
from media.ps.program_stream import MAX_GARBAGE, PACK_START
from media.stream_reader import CLOCK_RATE
from media.ts.limits import TransportLimits
from media.ts.timestamps import CLOCK_WRAP, FileClock, FileTimes
from packager.vod.index.index_builder import read_index
from tests.packager.vod.decoded_tracks import assert_decodes_alike, encoded_film, indexed

TICK = Fraction(1, CLOCK_RATE)
MPEG2 = "-c:v mpeg2video -bf 2 -g 15"
DISC = f"{MPEG2} -s 720x480 -r 30000/1001 -aspect 16:9 -c:a ac3 -f dvd"
INTERLACED = "-c:v mpeg2video -flags +ildct+ilme -top 1 -bf 2 -g 12"


@pytest.mark.parametrize(
    ("name", "words", "copied"),
    [
        ("mpeg2.ts", f"{MPEG2} -c:a mp2", []),
        ("interlaced.ts", f"{INTERLACED} -c:a dca -strict -2", []),
        ("mpeg4.ts", "-c:v mpeg4 -bf 2 -c:a mp2 -ar 44100", []),
        ("mpeg1.ts", "-c:v mpeg1video -bf 2 -c:a ac3", ["audio"]),
        ("mpeg2.m2ts", f"{MPEG2} -aspect 16:9 -c:a ac3 -mpegts_m2ts_mode 1", ["audio"]),
        ("film.vob", DISC, ["audio"]),
        ("interlaced.vob", f"{INTERLACED} -c:a dca -strict -2 -f vob", []),
        ("pcm.vob", f"{MPEG2} -c:a pcm_dvd -f vob", []),
        ("surround.vob", f"{MPEG2} -c:a pcm_dvd -ac 6 -f vob", []),
        ("film.mpg", "-c:v mpeg1video -bf 2 -c:a mp2 -f mpeg", []),
        ("mpeg4.vob", "-c:v mpeg4 -bf 2 -c:a mp2 -f vob", []),
    ],
)
def test_packets_of_other_codecs_decode_from_fragments(
    name: str, words: str, copied: list[str], tmp_path: Path
) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path, TICK)
    assert [track.name for track in index.tracks] == copied
    assert [track.name for track in index.only_encoded] == ["video", "audio"][: 2 - len(copied)]


def test_the_shape_of_the_picture_comes_from_the_sequence_header() -> None:
    index = indexed(encoded_film("film.vob", DISC))
    (video,) = index.only_encoded
    assert (video.entry.width, video.entry.height) == (720, 480)
    assert video.entry.pixel_aspect == (32, 27)
    assert video.frame_rate == Fraction(30000, 1001)


def test_key_frames_are_the_pictures_that_begin_groups() -> None:
    (video, _) = indexed(encoded_film("mpeg2.ts", f"{MPEG2} -c:a mp2")).only_encoded
    keys = video.samples.sync_samples(0, len(video.samples)).tolist()
    assert keys[0] == 0
    assert len(keys) >= 5


def test_pictures_are_presented_when_the_next_reference_is_decoded() -> None:
    # I0 P1 B2 B3 P4 B5: of an open group, B pictures come before the pictures that they refer to
    order = presentation_order(np.array([False, False, True, True, False, True]))
    assert order.tolist() == [0, 3, 1, 2, 5, 4]
    assert presentation_order(np.array([True, True])).tolist() == [0, 1]
    assert presentation_order(np.array([], bool)).tolist() == []


def test_times_between_those_of_the_stream_follow_from_the_fields() -> None:
    order = np.array([0, 2, 1, 3])
    times = np.array([1000, 0, 0, 9000])
    known = np.array([True, False, False, True])
    fields = np.array([2, 3, 2, 2])
    found = presentation_times(order, times, known, fields, Fraction(10))
    assert found.tolist() == [1000, 1040, 1020, 9000]


def test_the_bytes_of_a_stream_are_cut_alike_however_they_come() -> None:
    raw = encoded_film("raw.m2v", "-map 0 -c:v mpeg2video -bf 2 -g 12 -f mpeg2video").read_bytes()

    def positions(step: int) -> tuple[list[int], list[int], list[int]]:
        frames = VideoFrames(MPEG2_SYNTAX, 1 << 20)
        for at in range(0, len(raw), step):
            frames.push(raw[at : at + step], at)
        frames.finish()
        return list(frames.offsets), list(frames.sizes), list(frames.kinds)

    whole = positions(len(raw))
    assert len(whole[0]) == 75
    assert sum(whole[1]) == len(raw)
    assert all(positions(step) == whole for step in (17, 997, 65_521))


def shifted(data: bytes, by: int) -> bytes:
    """Add ticks to all timestamps of a program stream of MPEG-2."""
    changed = bytearray(data)
    for found in re.finditer(rb"\x00\x00\x01[\xbd\xc0\xe0]..[\x80-\xbf]([\x80-\xff])", data, re.DOTALL):
        for number in range(2 if found[1][0] >= 0xC0 else 1):
            at = found.end() + 1 + 5 * number
            old = changed[at : at + 5]
            ticks = (old[0] >> 1 & 7) << 30 | old[1] << 22 | old[2] >> 1 << 15 | old[3] << 7 | old[4] >> 1
            ticks = (ticks + by) % CLOCK_WRAP
            changed[at] = old[0] & 0xF1 | ticks >> 29 & 0xE
            changed[at + 1 : at + 5] = (
                ticks >> 22 & 0xFF,
                ticks >> 14 & 0xFE | 1,
                ticks >> 7 & 0xFF,
                ticks << 1 & 0xFE | 1,
            )
    return bytes(changed)


@pytest.mark.parametrize("jump", [-CLOCK_RATE, 3600 * CLOCK_RATE, -3600 * CLOCK_RATE])
def test_time_goes_on_where_the_clock_of_a_disc_jumps(jump: int) -> None:
    data = encoded_film("film.vob", DISC).read_bytes()
    joined = data + shifted(data, jump)
    index = read_index(lambda at, length: joined[at : at + length], len(joined))
    (sound,), (video,) = index.tracks, index.only_encoded
    for track in (sound, video):
        assert float(track.duration) == pytest.approx(6, abs=0.2)
        assert float(track.times[-1] / track.timescale) == pytest.approx(6, abs=0.2)


def test_a_jump_of_one_stream_is_that_of_the_others() -> None:
    jumps = FileTimes()
    picture, sound = (FileClock(CLOCK_RATE, 0, jumps) for _ in range(2))
    first = picture.time(1000, 0)
    assert [sound.time(at, 0) - first for at in (5000, 8000)] == [4000, 7000]
    shown = [picture.time(at, 0) - first for at in (4600, 8200, 900_000, 903_600)]
    assert shown == [3600, 7200, 10_800, 14_400]
    assert sound.time(900_100, 0) - first == 10_900
    assert len(jumps) == 1


def test_a_stream_that_pauses_while_another_goes_on_comes_again_at_its_time() -> None:
    jumps = FileTimes()
    picture, sound = (FileClock(CLOCK_RATE, 0, jumps) for _ in range(2))
    first = picture.time(0, 0)
    assert sound.time(0, 0) == first
    for second in range(1, 20):
        assert picture.time(second * CLOCK_RATE, 0) - first == second * CLOCK_RATE
    assert sound.time(19 * CLOCK_RATE, 0) - first == 19 * CLOCK_RATE
    assert not jumps


def test_a_clock_that_only_jumps_is_refused() -> None:
    clock = FileClock(CLOCK_RATE, 0, FileTimes())

    def read() -> None:
        for number in range(20_000):
            clock.time(number % 2 * 11 * CLOCK_RATE, 0)

    with pytest.raises(UnsupportedError, match="more than 10000 times"):
        read()


def read_of(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


FEWER = 50_000
"""Packets and frames that are allowed here: millions, as in ordinary files, take seconds to read."""


def read_crafted(data: bytes) -> None:
    limits = TransportLimits(packets=2 * FEWER, frames=FEWER)
    read_program_stream(lambda at, length: data[at : at + length], len(data), limits)


def test_crafted_program_streams_are_refused_before_they_cost_much() -> None:
    pack = PACK_START + b"\x44" + bytes(9)
    with pytest.raises(UnsupportedError, match="no packets"):
        read_crafted(pack * (2 * MAX_GARBAGE // len(pack)))
    empty = b"\0\0\1\xe0\0\3\x80\0\0"
    with pytest.raises(TooLargeError, match=f"more than {2 * FEWER} packets"):
        read_crafted(pack + empty * 2 * FEWER)
    with pytest.raises(UnsupportedError, match="it has no media"):
        read_crafted(pack)
    timed = b"\0\0\1\xe0\0\x08\x80\x80\5\x21\0\1\0\1"
    with pytest.raises(TooLargeError, match=f"more than {FEWER} frames"):
        read_crafted(pack + timed * (FEWER + FEWER // 2))


def test_damaged_program_streams_are_indexed_or_refused() -> None:
    data = encoded_film("film.mpg", "-c:v mpeg1video -bf 2 -c:a mp2 -f mpeg").read_bytes()
    random = Random(37)
    outcomes = set()
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(random.choice((1, 10, 200))):
            broken[random.randrange(len(broken))] = random.randrange(256)
        try:
            read_index(partial(read_of, bytes(broken)), len(broken))
            outcomes.add("indexed")
        except MediaError as error:
            outcomes.add(type(error).__name__)
    assert "indexed" in outcomes
