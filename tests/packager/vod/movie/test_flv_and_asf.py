"""FLV and ASF: what is copied is in the segments, and ffmpeg decodes the rest from fragments."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import pytest

from media.asf.movie import AsfLimits, read_asf
from media.errors import MediaError, TooLargeError
from media.flv.movie import FlvFileLimits, read_flv
from media.flv.tags import AUDIO, VIDEO, file_header
from packager.vod.index.index_builder import read_index
from tests.media.flv.flv_tags import write_tag
from tests.packager.vod.decoded_tracks import (
    assert_decodes_alike,
    assert_pictures_are_alike,
    encoded_film,
    fragmented,
    indexed,
    pictures,
    sound,
)
from tests.packager.vod.vod_titles import titles_of

H264 = "-c:v libx264 -preset veryfast -bf 2 -g 25"
MILLISECOND = Fraction(1, 1000)


def read_of(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


def test_h264_and_aac_of_flv_are_copied(tmp_path: Path) -> None:
    path = encoded_film("web.flv", f"{H264} -c:a aac")
    index = indexed(path)
    video, audio = index.tracks
    assert index.left_out == ()
    assert_pictures_are_alike(
        pictures(fragmented(path, video, tmp_path), "v:0"), pictures(path, "v:0"), MILLISECOND
    )
    assert sound(fragmented(path, audio, tmp_path), "a:0") == sound(path, "a:0")
    assert "avc1." in titles_of(path).multivariant_playlist(path.name)


@pytest.mark.parametrize(
    ("name", "words", "copied"),
    [
        ("spark.flv", "-c:v flv1 -c:a libmp3lame -ar 44100", True),
        ("pcm.flv", "-c:v flv1 -c:a pcm_s16le -ar 44100", False),
        ("voice.flv", "-c:v flv1 -c:a nellymoser -ar 44100", False),
        ("voice16.flv", "-c:v flv1 -c:a nellymoser -ar 16000", False),
        ("voice8.flv", "-c:v flv1 -c:a nellymoser -ar 8000", False),
        ("speex.flv", "-c:v flv1 -c:a libspeex -ar 16000", False),
        ("adpcm.flv", "-c:v flv1 -c:a adpcm_swf -ar 22050 -ac 2", False),
        ("alaw.flv", "-c:v flv1 -c:a pcm_alaw -ar 8000", False),
        ("mulaw.flv", "-c:v flv1 -c:a pcm_mulaw -ar 8000", False),
        ("film.wmv", "-c:v wmv2 -c:a wmav2 -ar 44100 -ac 2", False),
        ("first.wmv", "-c:v wmv1 -c:a wmav1", False),
        ("divx3.asf", "-c:v msmpeg4v3 -c:a libmp3lame", True),
        ("mpeg4.asf", "-c:v mpeg4 -bf 2 -c:a ac3", True),
        ("h264.asf", f"{H264} -c:a libmp3lame", True),
        ("large.asf", "-c:v mjpeg -q:v 1 -s 640x480 -c:a pcm_s16le", False),
    ],
)
def test_other_codecs_decode_from_fragments(name: str, words: str, copied: bool, tmp_path: Path) -> None:
    index = assert_decodes_alike(encoded_film(name, words), tmp_path)
    assert [track.name for track in index.only_encoded] == (["video"] if copied else ["video", "audio"])
    assert [track.name for track in index.tracks] == (["audio"] if copied else [])


@pytest.mark.parametrize("name", ["web.flv", "film.wmv"])
def test_a_file_that_was_cut_off_is_indexed_as_far_as_it_goes(name: str, tmp_path: Path) -> None:
    words = {"web.flv": f"{H264} -c:a aac", "film.wmv": "-c:v wmv2 -c:a wmav2 -ar 44100 -ac 2"}
    data = encoded_film(name, words[name]).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * 2 // 3])
    index = indexed(path)
    assert any("which the file lacks" in line for line in index.left_out)
    track = (*index.tracks, *index.only_encoded)[0]
    assert 20 < len(pictures(fragmented(path, track, tmp_path), "v:0")) < 75


def test_timestamps_of_flv_begin_again_after_49_days() -> None:
    frame = b"\x2f\xff\xfb\x90\x00" + bytes(413)
    times = [((1 << 32) - 100 + 26 * number) % (1 << 32) for number in range(10)]
    data = file_header() + b"".join(write_tag(AUDIO, time, frame) for time in times)
    (track,) = read_flv(partial(read_of, data), len(data), FlvFileLimits()).movie.tracks
    assert track.duration == pytest.approx(10 * 1152, abs=200)


def test_crafted_files_are_refused_before_they_cost_much() -> None:
    tags = file_header() + write_tag(VIDEO, 0, b"\x22a") * 5000
    with pytest.raises(TooLargeError, match="more than 4000 tags"):
        read_flv(partial(read_of, tags), len(tags), FlvFileLimits(tags=4000))
    data = encoded_film("film.wmv", "-c:v wmv2 -c:a wmav2 -ar 44100 -ac 2").read_bytes()
    with pytest.raises(TooLargeError, match="more than 10 payloads"):
        read_asf(partial(read_of, data), len(data), AsfLimits(payloads=10))
    with pytest.raises(TooLargeError, match="more than 1000"):
        read_asf(partial(read_of, data), len(data), AsfLimits(file_bytes=1000))


@pytest.mark.parametrize("name", ["web.flv", "film.wmv"])
def test_damaged_files_are_indexed_or_refused(name: str) -> None:
    words = {"web.flv": f"{H264} -c:a aac", "film.wmv": "-c:v wmv2 -c:a wmav2 -ar 44100 -ac 2"}
    data = encoded_film(name, words[name]).read_bytes()
    random, outcomes = Random(37), set()
    for number in range(150):
        broken = bytearray(data)
        for _ in range(random.choice((1, 5, 50))):
            place = random.randrange(1500 if number % 2 else len(broken))
            broken[place] = random.randrange(256)
        try:
            index = read_index(partial(read_of, bytes(broken)), len(broken))
            for track in (*index.tracks, *index.only_encoded):
                track.samples.samples(0, len(track.samples))
            outcomes.add("indexed")
        except MediaError as error:
            outcomes.add(type(error).__name__)
    assert "indexed" in outcomes
