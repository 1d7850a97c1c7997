"""A moov by ISO/IEC 14496-12 §8, and what a track's init segment makes of it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, full_box, walk
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.movie.movie import Edit, Movie, MovieLimits, parse_movie
from media.mp4.movie.track_box import TrackFacts

ENTRY = box(b"mp4a", bytes(28))
QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 360 << 16, 0, 1 << 30)
MVHD = full_box(b"mvhd", 0, 0, struct.pack(">IIII", 0, 0, 1000, 0), bytes(80))


def trak(
    track_id: int = 1,
    *extra: bytes,
    timescale: int = 48000,
    language: int = 0x15C7,
    tables: bytes = b"",
    edits: bytes = b"",
    url_flags: int = 1,
) -> bytes:
    tkhd = full_box(b"tkhd", 0, 1, struct.pack(">III", 0, 0, track_id), bytes(24), bytes(36), bytes(8))
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, timescale, 0, language, 0))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), b"soun", bytes(12), b"\0")
    dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, url_flags))
    stbl = box(b"stbl", full_box(b"stsd", 0, 0, struct.pack(">I", 1), ENTRY), tables)
    mdia = box(b"mdia", mdhd, hdlr, box(b"minf", box(b"dinf", dref), stbl))
    return box(b"trak", tkhd, box(b"edts", edits) if edits else b"", mdia, *extra)


def moov_of(init: bytes) -> bytes:
    return next(init[found.payload : found.end] for found in walk(init) if found.kind == b"moov")


def elst(version: int, *rows: tuple[int, int, int]) -> bytes:
    layout = ">Qqi" if version else ">Iii"
    payload = b"".join(struct.pack(layout, *row) for row in rows)
    return full_box(b"elst", version, 0, struct.pack(">I", len(rows)), payload)


def movie(*boxes: bytes) -> Movie:
    return parse_movie(MVHD + b"".join(boxes))


def test_what_an_init_segment_says_is_read_back() -> None:
    init = write_init_segment(
        TrackFacts(2, b"vide", 30000, ENTRY, "deu", QUARTER_TURN, (Fraction(640), Fraction(721, 2))),
        media_start=2002,
    )
    parsed = parse_movie(moov_of(init))
    (track,) = parsed.tracks
    assert parsed.fragmented
    assert (track.track_id, track.handler, track.timescale, track.language) == (2, b"vide", 30000, "deu")
    assert (track.display_width, track.display_height) == (Fraction(640), Fraction(721, 2))
    assert (track.rotation, track.enabled, track.self_contained) == (90, True, True)
    assert track.sample_entries == (ENTRY,)
    assert track.edits == (Edit(0, 2002),)


def test_a_plain_track_is_upright_and_without_edits() -> None:
    (track,) = movie(trak(language=0x7FFF)).tracks
    assert (track.rotation, track.edits, track.language) == (0, (), "und")


@pytest.mark.parametrize("version", [0, 1])
def test_edits_are_read_in_both_versions(version: int) -> None:
    (track,) = movie(trak(edits=elst(version, (500, -1, 1 << 16), (9000, 1024, 1 << 16)))).tracks
    assert track.edits == (Edit(500, -1), Edit(9000, 1024))


def test_the_tables_are_located_without_being_read() -> None:
    (track,) = movie(trak(tables=full_box(b"stts", 0, 0, b"whatever") + box(b"sgpd"))).tracks
    assert {kind: bytes(table) for kind, table in track.tables.items()} == {b"stts": bytes(4) + b"whatever"}


def test_media_in_another_file_are_noticed() -> None:
    assert not movie(trak(url_flags=0)).tracks[0].self_contained


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.6", "Boxes that are missing or doubled are malformed")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        trak(),
        MVHD + MVHD,
        MVHD + box(b"trak"),
        MVHD + trak(1) + trak(1),
        full_box(b"mvhd", 0, 0, bytes(8)),
        full_box(b"mvhd", 1, 0, bytes(16)),
        MVHD + trak(timescale=0),
        MVHD + trak(tables=full_box(b"stco", 0, 0, bytes(4)) * 2),
        MVHD + trak(1, box(b"mdia")),
        MVHD + trak(edits=elst(0, (0, -2, 1 << 16))),
        MVHD + trak(edits=elst(1, (0, -(1 << 63), 1 << 16))),
        MVHD + trak(edits=full_box(b"elst", 0, 0, struct.pack(">I", 2), bytes(12))),
        MVHD + trak(edits=elst(0) * 2),
    ],
)
def test_boxes_that_are_missing_doubled_or_impossible_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_movie(data)


def test_as_many_tracks_and_boxes_as_the_limits_are_read() -> None:
    most = MovieLimits().tracks
    assert len(movie(*map(trak, range(1, most + 1))).tracks) == most
    with pytest.raises(TooLargeError, match="33 tracks"):
        movie(*map(trak, range(1, most + 2)))
    with pytest.raises(TooLargeError, match="boxes"):
        movie(*(trak(number, tables=box(b"free") * 3000) for number in range(1, 4)))


def test_user_data_of_too_many_boxes_are_left_alone() -> None:
    assert len(movie(trak(1, box(b"udta", box(b"free") * 5000))).tracks) == 1


@pytest.mark.clause("ISO/IEC 14496-12 §8.6.6")
def test_a_million_edits_are_refused_by_their_count() -> None:
    with pytest.raises(UnsupportedError):
        movie(trak(edits=full_box(b"elst", 0, 0, struct.pack(">I", 1_000_000))))


def compressed(data: bytes, kind: bytes = b"zlib") -> bytes:
    return box(b"cmov", box(b"dcom", kind), box(b"cmvd", bytes(4), zlib.compress(data)))


def test_a_compressed_moov_says_what_it_says_as_it_was() -> None:
    plain = MVHD + trak()
    assert movie_of(compressed(box(b"moov", plain))) == movie_of(plain)


def test_what_a_compressed_moov_may_be_has_limits() -> None:
    with pytest.raises(UnsupportedError, match="cmov"):
        movie_of(compressed(box(b"moov", MVHD), b"gzip"))
    nested = compressed(box(b"moov", compressed(box(b"moov", MVHD))))
    bomb = compressed(box(b"moov", bytes(8 << 20)))
    damaged = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", bytes(50)))
    for payload in (nested, bomb, damaged, box(b"cmov", bytes(8)), compressed(b"")):
        with pytest.raises(MediaError):
            parse_movie(payload, MovieLimits(moov_bytes=1 << 20))


def movie_of(payload: bytes) -> tuple[object, ...]:
    parsed = parse_movie(payload)
    tables = [{kind: bytes(table) for kind, table in track.tables.items()} for track in parsed.tracks]
    return parsed.timescale, tables, [replace(track, tables={}) for track in parsed.tracks]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_moov_is_read_or_refused(flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(MVHD + trak(edits=elst(0, (500, 0, 1 << 16)), tables=full_box(b"stts", 0, 0)))
    for position, value in flips:
        damaged[position % len(damaged)] = value
    try:
        parsed = parse_movie(bytes(damaged))
    except MediaError:
        return
    assert all(track.timescale for track in parsed.tracks)
