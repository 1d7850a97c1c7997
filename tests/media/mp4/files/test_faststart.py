"""An index that moves to the front of its file, as ffmpeg's own ``+faststart`` does it."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, Box, box, full_box, walk
from media.mp4.files.faststart import moved_forward
from media.mp4.files.moov_finder import MoovFinder
from media.mp4.movie.movie import DEFAULT_LIMITS
from tests.packager.films import indexed, packets


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same film with its index at the end and in front, as ffmpeg writes it."""
    return indexed(tmp_path_factory.mktemp("films"), "160x120", 2)


def found_in(data: bytes) -> Box:
    finder = MoovFinder(len(data))
    while (found := finder.push(data[finder.position : finder.position + LARGEST_HEADER])) is None:
        pass
    assert finder.data_first
    return found


def test_the_whole_file_is_what_ffmpeg_makes_of_it(films: tuple[Path, Path]) -> None:
    last, first = (path.read_bytes() for path in films)
    place = found_in(last)
    front = next(walk(last)).end
    moov = moved_forward(last[place.start : place.end], place.start, front)
    assert last[:front] + moov + last[front : place.start] + last[place.end :] == first


def movie(*tables: bytes) -> bytes:
    return box(b"moov", *(trak(table) for table in tables))


def trak(table: bytes, name: bytes = b"mdia") -> bytes:
    return box(b"trak", box(b"tkhd"), box(name, box(b"minf", box(b"stbl", box(b"stsd"), table))))


def stco(*places: int) -> bytes:
    return full_box(b"stco", 0, 0, struct.pack(f">I{len(places)}I", len(places), *places))


def co64(*places: int) -> bytes:
    return full_box(b"co64", 0, 0, struct.pack(f">I{len(places)}Q", len(places), *places))


def test_chunks_in_front_of_the_index_move_by_its_length_and_those_behind_it_stay() -> None:
    start, far = 1000, 1 << 40
    length = len(movie(stco(24, 999, 5000), co64(500, far)))
    moved = movie(stco(24 + length, 999 + length, 5000), co64(500 + length, far))
    assert moved_forward(movie(stco(24, 999, 5000), co64(500, far)), start, 24) == moved


def test_places_that_32_bits_reach_no_more_get_64_and_what_is_around_them_grows() -> None:
    start, high = (1 << 32) + 8, (1 << 32) - 1
    length = len(movie(co64(24), co64(24, high), co64(high)))
    expected = movie(co64(24 + length), co64(24 + length, high + length), co64(high + length))
    assert moved_forward(movie(stco(24), stco(24, high), co64(high)), start, 24) == expected


def test_places_behind_the_index_move_by_what_it_grows() -> None:
    start, high, behind = 1 << 32, (1 << 32) - 1, (1 << 32) + 1000
    length = len(movie(co64(high), co64(behind)))
    grown = length - len(movie(stco(high), co64(behind)))
    expected = movie(co64(high + length), co64(behind + grown))
    assert moved_forward(movie(stco(high), co64(behind)), start, 24) == expected


def test_a_film_behind_four_gigabytes_has_the_same_packets(films: tuple[Path, Path], tmp_path: Path) -> None:
    data = films[0].read_bytes()
    place, front = found_in(data), next(walk(data)).end
    # A hole in front of the media, so that 32 bits just suffice while the index is behind them.
    hole = (1 << 32) - 1 - place.start
    moov = bytearray(data[place.start : place.end])
    position = -1
    while (position := moov.find(b"stco", position + 1)) >= 0:
        (count,) = struct.unpack_from(">I", moov, position + 8)
        places = struct.unpack_from(f">{count}I", moov, position + 12)
        struct.pack_into(f">{count}I", moov, position + 12, *(one + hole for one in places))
    moved = moved_forward(bytes(moov), place.start + hole, front)
    assert moved.count(b"co64") == 2
    path = tmp_path / "far.mp4"
    with path.open("wb") as file:
        file.write(data[:front] + moved + struct.pack(">I4s", hole, b"free"))
        file.seek(front + len(moved) + hole)
        file.write(data[front : place.start])
    for stream in ("v:0", "a:0"):
        assert packets(path, stream) == packets(films[0], stream)


def test_padding_behind_the_places_is_no_room_for_64_bits() -> None:
    """The table would get as long as it is with its padding; the chunks still need all bits."""
    padded = full_box(b"stco", 0, 0, struct.pack(">II", 1, 0xFFFFFFF0), bytes(4))
    moved = moved_forward(movie(padded), 0xFFFFFFFF, 0)
    assert moved == movie(co64(0xFFFFFFF0 + len(movie(padded))))


def test_the_largest_index_takes_its_own_length_twice_more() -> None:
    """10 million places of chunks, whose numbers in 64 bits would take as much again for each step."""
    table = struct.pack(">II", 0, 10_000_000) + bytes(40_000_000)
    moov = movie(box(b"stco", table))
    tracemalloc.start()
    try:
        moved = moved_forward(moov, 1 << 20, 0)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(moov) + (8 << 20)
    finally:
        tracemalloc.stop()
    assert moved[-4:] == len(moov).to_bytes(4, "big")


def test_boxes_are_counted_over_all_tracks() -> None:
    crowded = [box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", *[box(b"free")] * 4000, stco(1)))))] * 3
    with pytest.raises(TooLargeError, match="more than 8192 boxes"):
        moved_forward(box(b"moov", *crowded), 1 << 20, 0)


def test_an_index_whose_size_is_up_to_the_end_of_the_file_gets_one() -> None:
    moov = movie(stco(24))
    told = moved_forward(bytes(4) + moov[4:], 1000, 24)
    assert told == movie(stco(24 + len(moov)))


@pytest.mark.parametrize(
    "moov",
    [
        b"",
        box(b"free"),
        movie(stco(24)) + b"\0",
        movie(stco(1003)),
        movie(co64(1 << 63)),
        movie(full_box(b"stco", 0, 0, struct.pack(">II", 2, 24))),
        movie(full_box(b"stco", 0, 0, struct.pack(">I", 0xFFFFFFFF))),
        movie(box(b"stco")),
        movie(b""),
        movie(stco(24) + co64(24)),
        box(b"moov", trak(stco(24), b"mdii")),
    ],
)
def test_an_impossible_index_is_malformed(moov: bytes) -> None:
    with pytest.raises(MalformedError):
        moved_forward(moov, 1000, 24)


@pytest.mark.parametrize(
    "moov",
    [
        box(b"moov", box(b"cmov")),
        box(b"moov", box(b"trak") * (DEFAULT_LIMITS.tracks + 1)),
        struct.pack(">I4s", DEFAULT_LIMITS.moov_bytes + 1, b"moov") + bytes(DEFAULT_LIMITS.moov_bytes - 7),
    ],
    ids=["compressed", "more tracks than a film has", "larger than the limit"],
)
def test_what_is_not_moved_is_named(moov: bytes) -> None:
    with pytest.raises(UnsupportedError):
        moved_forward(moov, 1000, 24)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_any_bytes_are_an_index_or_malformed(data: bytes, start: int, front: int) -> None:
    for moov in (data, box(b"moov", data), movie(data), movie(full_box(b"stco", 0, 0, data))):
        with contextlib.suppress(MediaError):
            assert moved_forward(moov, start, front)[4:8] == b"moov"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_a_real_index_with_wrong_bytes_is_moved_or_malformed(
    films: tuple[Path, Path], changes: list[tuple[int, int]]
) -> None:
    data = films[0].read_bytes()
    place = found_in(data)
    moov = bytearray(data[place.start : place.end])
    for position, value in changes:
        moov[position % len(moov)] = value
    with contextlib.suppress(MediaError):
        assert len(moved_forward(bytes(moov), place.start, 32)) >= len(moov)
