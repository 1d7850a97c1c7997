"""Films of a few kilobytes that name the same bytes again and again."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from media.errors import MalformedError, TooLargeError
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.bounded_references import BoundedRead
from packager.vod.movie.movie_reader import ContainerLimits
from tests.packager.crafted import FTYP, constant, indexed, moov, rows, sound
from tests.packager.crafted import Track as CraftedTrack
from tests.packager.vod.avi_files import read_avi_file

LIMITS = IndexCacheLimits(containers=ContainerLimits(reference_times=4, free_bytes=1 << 20))
SAMPLES = 4000
MEDIA = 100_000
TABLES = {
    "stts": rows([[SAMPLES, 1024]]),
    "stsc": rows([[1, 1, 1]]),
    "stco": rows([[2048]] * SAMPLES),
}


def overlapping(size: int) -> CraftedTrack:
    """Make a track whose samples all are the same bytes of the file."""
    return CraftedTrack({**TABLES, "stsz": constant(size, SAMPLES)})


def read_of(whole: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: whole[offset : offset + length]


def test_samples_that_are_the_same_bytes_are_no_film() -> None:
    whole = FTYP + moov(overlapping(MEDIA)) + bytes(MEDIA)
    with pytest.raises(MalformedError, match="overlap"):
        read_index(read_of(whole), len(whole), LIMITS)
    # Tracks count together: each by itself is within the limit.
    several = FTYP + moov(*[overlapping(150)] * 6) + bytes(MEDIA)
    with pytest.raises(MalformedError, match="overlap"):
        read_index(read_of(several), len(several), LIMITS)


def test_a_film_that_is_cut_short_declares_more_than_it_has_and_is_indexed() -> None:
    declared = sound(SAMPLES, stsz=constant(MEDIA, SAMPLES))
    index = indexed(moov(declared), LIMITS)
    assert index.cut_short is not None
    assert index.tracks[0].sizes.sum() >= SAMPLES * MEDIA


def test_an_index_that_is_named_again_and_again_is_read_a_few_times(tmp_path: Path) -> None:
    made = tmp_path / "made.avi"
    source = "-f lavfi -i testsrc=size=64x64:rate=25:duration=8 -c:v mjpeg"
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *source.split(), made], check=True)
    film = read_avi_file(made)
    whole = film.write(index="open", repeats=4000)
    read = 0

    def counted(offset: int, length: int) -> bytes:
        nonlocal read
        data = whole[offset : offset + length]
        read += len(data)
        return data

    with pytest.raises(TooLargeError, match="again and again"):
        read_index(counted, len(whole), LIMITS)
    assert read < LIMITS.containers.most(len(whole)) + len(whole)
    ordinary = film.write(index="open")
    assert read_index(read_of(ordinary), len(ordinary), LIMITS).only_encoded


def test_short_reads_count_too() -> None:
    read = BoundedRead(
        lambda _offset, length: bytes(length),
        0,
        ContainerLimits(reference_times=4, free_bytes=1000, read_bytes=100),
    )
    for _ in range(10):
        read(0, 1)
    with pytest.raises(TooLargeError):
        read(0, 1)
