"""Films of which one track can't be read: the others play, as in ffmpeg and browsers, and a note says so."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from media.errors import MalformedError
from media.mp4.boxes import box, walk
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from tests.packager import films
from tests.packager.films import packets
from tests.packager.vod.movie.changed_boxes import changed
from tests.packager.vod.vod_titles import titles_of, without_fill, write_out

TABLE = {b"stts", b"stsc", b"stsz", b"stco"}

Rewrite = Callable[[bytes], bytes]
"""Takes a box's payload; returns what stands in the place of the box."""


def without(payload: bytes) -> bytes:
    return b""


def empty(kind: bytes) -> Rewrite:
    return lambda payload: box(kind, bytes(4), bytes(8 if kind == b"stsz" else 4))


def cut_off(kind: bytes) -> Rewrite:
    return lambda payload: box(kind, payload[:4], struct.pack(">I", 1 << 24), payload[8:])


def beyond_the_media(payload: bytes) -> bytes:
    """Write an edit list that presents what the track doesn't have."""
    return box(b"edts", box(b"elst", bytes(4), struct.pack(">IIiI", 1, 1000, 1 << 30, 1 << 16)))


def index_of(path: Path) -> FileIndex:
    data = path.read_bytes()
    return read_index(lambda offset, length: data[offset : offset + length], len(data))


def with_a_broken_track(data: bytes, handler: bytes, kind: bytes, rewrite: Rewrite) -> bytes:
    """Rewrite the boxes of one type in the tracks of a handler."""

    def in_track(one: bytes, payload: bytes) -> bytes:
        return rewrite(payload) if one == kind else box(one, payload)

    def change(one: bytes, payload: bytes) -> bytes:
        is_broken = one == b"trak" and b"hdlr\0\0\0\0\0\0\0\0" + handler in payload
        return box(one, changed(payload, in_track) if is_broken else payload)

    return changed(data, change)


BROKEN = [
    *((kind, without) for kind in (b"stsd", b"stbl", b"mdhd", *sorted(TABLE))),
    *((kind, empty(kind)) for kind in (b"stsc", b"stts", b"stco")),
    *((kind, cut_off(kind)) for kind in sorted(TABLE - {b"stsz"})),
    (b"stsc", lambda payload: box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1 << 20, 1, 1)[:12])),
]
"""Boxes, and what makes a track unreadable of them."""


@pytest.mark.clause("ISO/IEC 14496-12 §8.5.1")
@pytest.mark.parametrize(("kind", "rewrite"), BROKEN)
@pytest.mark.parametrize("handler", [b"vide", b"soun"])
def test_a_track_that_cannot_be_read_leaves_the_other_one(
    handler: bytes, kind: bytes, rewrite: Rewrite, tmp_path: Path
) -> None:
    whole = films.film("moovlast.mp4")
    path = tmp_path / "broken.mp4"
    path.write_bytes(with_a_broken_track(whole.read_bytes(), handler, kind, rewrite))
    titles = titles_of(path)
    kept, stream = ("audio", "a:0") if handler == b"vide" else ("video", "v:0")
    index = index_of(path)
    assert [track.name for track in index.tracks] == [kept]
    assert len(index.left_out) == 1
    assert titles.multivariant_playlist(path.name)
    served = without_fill(packets(write_out(path, kept, tmp_path / "out"), stream[0]), packets(whole, stream))
    assert [one.digest for one in served] == [one.digest for one in packets(whole, stream)]


@pytest.mark.parametrize(("kind", "rewrite"), BROKEN)
def test_a_film_without_any_track_that_can_be_read_is_refused(
    kind: bytes, rewrite: Rewrite, tmp_path: Path
) -> None:
    path = tmp_path / "broken.mp4"
    data = films.film("moovlast.mp4").read_bytes()
    for handler in (b"vide", b"soun"):
        data = with_a_broken_track(data, handler, kind, rewrite)
    path.write_bytes(data)
    with pytest.raises(MalformedError):
        titles_of(path).multivariant_playlist(path.name)


def test_sound_of_which_its_edit_list_leaves_nothing_leaves_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "nothing.mp4"
    data = films.film("moovlast.mp4").read_bytes()
    path.write_bytes(with_a_broken_track(data, b"soun", b"edts", beyond_the_media))
    index = index_of(path)
    assert [track.name for track in index.tracks] == ["video"]
    assert index.left_out == ("track 2: the edit list leaves no sample of a track",)


def test_fragments_of_a_track_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "fragmented.mp4"
    films.run_ffmpeg(
        "-i", films.film("moovlast.mp4"), "-c", "copy", "-movflags", "frag_keyframe+empty_moov", path
    )
    data = path.read_bytes()
    first = [one for one in walk(data) if one.kind in (b"ftyp", b"moov")]
    head = with_a_broken_track(data[: first[-1].end], b"soun", b"stsd", without)
    path.write_bytes(head + data[first[-1].end :])
    index = index_of(path)
    assert [track.name for track in index.tracks] == ["video"]
    assert len(index.tracks[0].samples) == len(packets(films.film("moovlast.mp4"), "v:0"))
    assert any("stsd" in line for line in index.left_out)
