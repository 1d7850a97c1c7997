"""Small pictures last as long as their film, and are drawn of films, too, that are only offered encoded."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from packager.vod.index.index_builder import read_index
from packager.vod.pictures.i_frame_file import marked_i_frames
from packager.vod.pictures.storyboard import make_storyboard
from tests.packager.films import run_ffmpeg
from tests.packager.vod.vod_titles import titles_of

PICTURE = "-f lavfi -i testsrc2=s=320x180:r=25:d=10"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -c:a aac"
PROBE = "ffprobe -v error -f mov -count_frames -show_entries stream=nb_read_frames -of csv=p=0 -"


def test_a_sound_that_lasts_longer_than_its_picture_has_small_pictures_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    run_ffmpeg(*f"{PICTURE} -f lavfi -i sine=440:d=10.069:r=48000 {H264}".split(), path)
    titles = titles_of(path)
    storyboard = titles.storyboard(path.name)
    assert storyboard.seconds == titles.files.resolve(path.name)[0].index.duration
    assert float(storyboard.seconds) == pytest.approx(10.069, abs=0.03)
    # At 10.069 s a player asks for the second picture.
    assert len(storyboard.sizes) == 2
    assert sum(one.duration for one in storyboard.playlist().segments) == storyboard.seconds


@pytest.mark.parametrize("duration", [Fraction(20), Fraction("19.96"), Fraction("20.04"), Fraction(25)])
def test_the_pictures_stand_for_all_of_renditions_that_last_longer_by_a_frame(
    duration: Fraction, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    run_ffmpeg(*f"{PICTURE} -c:v libx264".split(), path)
    data = path.read_bytes()
    index = read_index(lambda offset, length: data[offset : offset + length], len(data))
    picture = index.picture
    assert picture is not None
    storyboard = make_storyboard(path.name, (1, 2), picture, marked_i_frames(picture), duration)
    # A frame of AAC at 32 kHz lasts 32 ms, and an encoder begins with two.
    longer = duration + Fraction("0.064")
    # ISO/IEC 23009-1 §5.3.9.5.3: a period has as many segments as its duration divided by theirs, rounded up.
    images = -(-longer // (storyboard.interval * storyboard.per_sprite))
    assert storyboard.sprites == images
    times = [line.split(" --> ") for line in storyboard.vtt().splitlines() if "-->" in line]
    assert all(begin < end for begin, end in times)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("film.avi", "-c:v mpeg4 -vtag XVID -q:v 5 -c:a libmp3lame"),
        ("film.mov", "-c:v prores_ks -c:a pcm_s16le"),
    ],
)
def test_films_that_are_only_encoded_have_small_pictures(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    run_ffmpeg(*f"{PICTURE} -f lavfi -i sine=440:d=10:r=48000 {words}".split(), path)
    data = path.read_bytes()

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    index = read_index(read, len(data))
    picture = index.picture
    assert index.video is None
    assert picture is not None
    storyboard = make_storyboard(name, (1,), picture, marked_i_frames(picture), Fraction(25))
    samples = index.reading(read)
    storyboard.require_decodable(samples, 0)
    movie = b"".join(storyboard.movie(samples, 0))
    done = subprocess.run(PROBE.split(), input=movie, capture_output=True, check=True, timeout=60)
    # The last one is there again, as only a next picture ends its time.
    assert int(done.stdout.strip().rstrip(b",")) == len(storyboard.sizes) + 1 == 4
