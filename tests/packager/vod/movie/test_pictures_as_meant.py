"""Pictures that a file has turned, mirrored, cropped or not of square pixels, as ffprobe reads them."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import m3u8
import pytest

from media.mp4.codecs.clean_aperture import Aperture, clean_aperture_box, read_clean_aperture
from media.mp4.movie.track_box import IDENTITY, turning_matrix
from packager.vod.index.index_builder import read_index
from tests.packager import films
from tests.packager.rewritten import rewrite, sample_entry
from tests.packager.stripped_matroska import crop, described, projection
from tests.packager.vod.vod_titles import titles_of, write_out

SIZE = (160, 90)


def plain(name: str, *more: str) -> Path:
    path = films.folder() / name
    if not path.exists():
        picture = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=2"
        words = f"{picture} -c:v libx264 -preset ultrafast".split()
        films.run_ffmpeg(*words, *more, path)
    return path


def written(elements: bytes, folder: Path) -> Path:
    """Write a Matroska file whose picture is described by these elements, too."""
    path = folder / "film.mkv"
    path.write_bytes(described(plain("meant.mkv").read_bytes(), elements))
    return path


def matrix_of(path: Path) -> list[list[int]]:
    """Return the part of the display matrix that turns, as ffprobe reads it."""
    data: list[dict[str, Any]] = films.probe(path, "-show_streams")["streams"][0].get("side_data_list", [])
    texts = [one["displaymatrix"] for one in data if "displaymatrix" in one]
    rows = [line.split()[1:3] for text in texts for line in text.split("\n") if line][:2]
    return [[int(one) for one in row] for row in rows]


@pytest.mark.clause("RFC 9559 §5.1.4.1.28.41")
@pytest.mark.parametrize("roll", [90, -90, 180, -180, 270])
@pytest.mark.parametrize("yaw", [0, 180])
def test_matroska_turns_and_mirrors_as_ffprobe_says(roll: float, yaw: float, tmp_path: Path) -> None:
    path = written(projection(roll, yaw), tmp_path)
    expected = matrix_of(path)
    assert expected
    assert matrix_of(write_out(path, "video", tmp_path / "out")) == expected
    master = m3u8.loads(titles_of(path).multivariant_playlist(path.name))
    lies = expected[0][0] != 0
    assert master.playlists[0].stream_info.resolution == (SIZE if lies else SIZE[::-1])


@pytest.mark.parametrize(
    "elements",
    [
        projection(45),
        projection(90, pitch=30),
        projection(90, yaw=30),
        projection(90, kind=1),
        projection(float("nan")),
        projection(float("inf")),
        projection(0),
    ],
    ids=["no right angle", "pitched", "of the side", "a sphere", "no number", "infinite", "none"],
)
def test_what_turns_no_plane_by_right_angles_leaves_it_as_it_is(elements: bytes, tmp_path: Path) -> None:
    data = written(elements, tmp_path).read_bytes()
    index = read_index(lambda at, length: data[at : at + length], len(data))
    assert index.tracks[0].rotation == 0
    assert IDENTITY in index.tracks[0].init


def test_a_turned_picture_keeps_its_corner() -> None:
    """ISO/IEC 14496-12 §6.2.2: x' = a x + c y + tx, y' = b x + d y + ty."""
    size = Fraction(160), Fraction(90)
    for rotation in (0, 90, 180, 270):
        for is_mirrored in (False, True):
            numbers = struct.unpack(">9i", turning_matrix(rotation, size, is_mirrored=is_mirrored))
            a, b, _, c, d, _, x, y, _ = (number / (1 << 16) for number in numbers)
            corners = [(a * u + c * v + x, b * u + d * v + y) for u in (0, 160) for v in (0, 90)]
            width, height = (160, 90) if rotation % 180 == 0 else (90, 160)
            assert sorted(corners) == [(0, 0), (0, height), (width, 0), (width, height)]


def test_a_crop_of_matroska_is_the_clean_aperture_of_mp4(tmp_path: Path) -> None:
    path = written(crop(10, 30, 4, 6), tmp_path)
    data = path.read_bytes()
    (track,) = read_index(lambda at, length: data[at : at + length], len(data)).tracks
    # ISO/IEC 14496-12 §12.1.4.2: the size, and how far the center is from that of the picture.
    assert clean_aperture_box(SIZE, (10, 30, 4, 6)) in track.init
    assert struct.pack(">IIIIiIiI", 120, 1, 80, 1, -20, 2, -2, 2) in track.init
    assert struct.pack(">II", 120 << 16, 80 << 16) in track.init
    assert track.entry.aperture == (10, 4, 120, 80)
    assert track.resolution == (120, 80)


def test_a_clean_aperture_of_mp4_is_kept(tmp_path: Path) -> None:
    clap = clean_aperture_box(SIZE, (16, 0, 0, 10))
    path = rewrite(
        plain("meant.mp4"),
        tmp_path / "film.mp4",
        lambda handler, kind, data: sample_entry(data, handler, more=clap) if kind == b"stsd" else data,
    )
    data = path.read_bytes()
    (track,) = read_index(lambda at, length: data[at : at + length], len(data)).tracks
    assert clap in track.init
    assert track.entry.aperture == (16, 0, 144, 80)


IMPOSSIBLE = (
    (0, 1, 80, 1, 0, 1, 0, 1),
    (120, 0, 80, 1, 0, 1, 0, 1),
    (200, 1, 80, 1, 0, 1, 0, 1),
    (120, 1, 80, 1, 90, 1, 0, 1),
)


@pytest.mark.parametrize("numbers", IMPOSSIBLE)
def test_an_impossible_clean_aperture_is_none(numbers: tuple[int, ...]) -> None:
    assert read_clean_aperture(struct.pack(">IIIIiIiI", *numbers), SIZE) is None
    assert read_clean_aperture(bytes(31), SIZE) is None


TURNED = {90: (6, 10, 80, 120), 180: (30, 6, 120, 80), 270: (4, 30, 80, 120)}


@pytest.mark.parametrize("rotation", TURNED)
def test_the_part_that_is_shown_turns_with_the_picture(rotation: int) -> None:
    assert Aperture(10, 4, 120, 80).turned(rotation, SIZE) == TURNED[rotation]


HEADERS = {"wide": b"\0\xd5\0\0\0\x5a\0\0", "coded": b"\0\xa0\0\0\0\x5a\0\0"}
"""Sizes of track headers: of 213 by 90 pixels, and of 160 by 90."""


@pytest.mark.parametrize("header", HEADERS)
def test_pixels_have_the_shape_of_the_track_header_or_the_codec_where_no_box_says_it(
    header: str, tmp_path: Path
) -> None:
    def change(_: bytes, kind: bytes, data: bytes) -> bytes:
        if kind == b"tkhd":
            return data[:-8] + HEADERS[header]
        return data.replace(b"pasp", b"free") if kind == b"stsd" else data

    path = rewrite(plain("anamorphic.mp4", "-vf", "setsar=4/3"), tmp_path / "film.mp4", change)
    told = films.probe(path, "-show_streams")["streams"][0]["sample_aspect_ratio"]
    data = path.read_bytes()
    (track,) = read_index(lambda at, length: data[at : at + length], len(data)).tracks
    assert b"pasp" not in track.init
    assert ":".join(map(str, track.entry.pixel_aspect)) == told
