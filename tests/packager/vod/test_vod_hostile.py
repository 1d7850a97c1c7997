"""Films that nobody made in earnest: impossible boxes, tables that lie, and damage of every kind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from media.errors import MalformedError, MediaError, UnsupportedError
from media.mp4.boxes import box
from media.mp4.movie.movie import MovieLimits
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from tests.packager import films
from tests.packager.vod.opened_media import open_segment


def titles_of(path: Path) -> Titles:
    return Titles(Library(path.parent))


def indexed(data: bytes, size: int | None = None) -> FileIndex:
    return read_index(
        lambda offset, length: data[offset : offset + length], len(data) if size is None else size
    )


@pytest.mark.clause("ISO/IEC 14496-12 §4.2")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00\x08",
        box(b"ftyp", b"isom"),
        *(struct.pack(">I4s", size, b"ftyp") + bytes(40) for size in (2, 7, 100, 0xFFFFFFFF)),
        *(struct.pack(">I4sQ", 1, b"mdat", size) + bytes(40) for size in (0, 15, 1 << 63, (1 << 64) - 1)),
        box(b"ftyp", b"isom") + box(b"moov"),
        box(b"ftyp", b"isom") + box(b"moof") + box(b"moov"),
        box(b"free") * 5000,
    ],
)
def test_files_of_impossible_boxes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        indexed(data)


@pytest.mark.clause("A film's index has limits, which are looked at before it is read")
def test_a_huge_moov_is_refused_before_it_is_read() -> None:
    head = box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"moov", MovieLimits().moov_bytes + 1)
    with pytest.raises(UnsupportedError):
        indexed(head, size=1 << 40)


@pytest.mark.clause("A film's index is found wherever it lies")
def test_a_moov_at_the_end_of_40_gb_is_found_by_three_short_reads(tmp_path: Path) -> None:
    source = films.film("silent.mp4").read_bytes()
    start = source.index(b"moov") - 4
    path = tmp_path / "sparse.mp4"
    with path.open("wb") as file:
        file.write(box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 40 << 30))
        file.seek((40 << 30) + 12)
        file.write(source[start:])
    assert titles_of(path).multivariant_playlist(path.name).startswith("#EXTM3U")


@pytest.mark.clause("ISO/IEC 14496-12 §8.7.5", "CWE-125")
def test_chunks_beyond_the_end_of_the_file_give_no_segment(tmp_path: Path) -> None:
    source = films.film("bframes.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(source[: len(source) // 2])  # its moov is in front
    titles = titles_of(path)
    open_segment(titles, path.name, "video", 0).close()
    with pytest.raises(MalformedError):
        open_segment(titles, path.name, "video", 2)


@pytest.mark.clause("Damaged films are read or refused, within the limits")
def test_a_thousand_damaged_films_are_indexed_or_refused() -> None:
    source = films.film("bframes.mp4").read_bytes()
    begin, end = source.index(b"moov") - 4, source.index(b"mdat")
    random = np.random.default_rng(1)
    outcomes = set()
    for _ in range(1000):
        damaged = bytearray(source)
        for position in random.integers(begin + 8, end - 4, 8):
            damaged[position] ^= 1 << int(random.integers(8))
        try:
            index = indexed(bytes(damaged))
            outcomes.add("indexed")
        except MediaError as error:
            outcomes.add(type(error).__name__)
            continue
        for track in index.tracks:
            assert track.samples.samples(0, 1).decode_time[0] >= 0
            assert min(track.durations) >= 0
    assert outcomes == {"indexed", "MalformedError", "UnsupportedError", "TooLargeError"}


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.1.2", "CWE-369")
def test_a_film_without_any_duration_is_refused_without_a_division_by_zero() -> None:
    source = films.film("sound.m4a").read_bytes()
    at = source.index(b"stts") + 8
    count = int.from_bytes(source[at : at + 4], "big")
    rows = bytearray(source[at + 4 : at + 4 + 8 * count])
    for row in range(count):
        rows[row * 8 + 4 : row * 8 + 8] = bytes(4)
    with pytest.raises(UnsupportedError):
        indexed(source[: at + 4] + bytes(rows) + source[at + 4 + len(rows) :])
