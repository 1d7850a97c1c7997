"""MP4 whose sample entries are equal: they are one, and a track may use all of them."""

from __future__ import annotations

import struct
from pathlib import Path

from packager.vod.index.index_builder import read_index
from tests.packager import films
from tests.packager.films import packets
from tests.packager.rewritten import rewrite
from tests.packager.vod.vod_titles import write_out


def with_two_entries(folder: Path, second: bytes = b"") -> Path:
    """Write a film of two sample entries of the picture, of which all chunks but the first name the second.

    Args:
        second: four bytes that the second one has in place of its resolution; b"" if both are equal.
    """

    def change(handler: bytes, kind: bytes, data: bytes) -> bytes:
        if handler != b"vide":
            return data
        if kind == b"stsd":
            # ISO/IEC 14496-12 §12.1.3: the horizontal resolution is behind width and height.
            other = data[8:44] + second + data[48:] if second else data[8:]
            return data[:4] + struct.pack(">I", 2) + data[8:] + other
        if kind == b"stsc":
            (each,) = struct.unpack_from(">I", data, 12)
            return data[:4] + struct.pack(">I6I", 2, 1, each, 1, 2, each, 2)
        return data

    return rewrite(films.film("moovlast.mp4"), folder / "film.mp4", change)


def test_a_track_of_two_equal_sample_entries_is_packaged(tmp_path: Path) -> None:
    path = with_two_entries(tmp_path)
    plain = packets(films.film("moovlast.mp4"), "v:0")
    found = packets(write_out(path, "video", tmp_path / "out"), "v:0")
    assert [one.digest for one in found] == [one.digest for one in plain]


def test_of_two_different_sample_entries_that_of_most_samples_is_the_track(tmp_path: Path) -> None:
    path = with_two_entries(tmp_path, second=b"\0\x60\0\0")
    data = path.read_bytes()
    index = read_index(lambda at, length: data[at : at + length], len(data))
    assert index.video is not None
    plain = packets(films.film("moovlast.mp4"), "v:0")
    found = [one.digest for one in packets(write_out(path, "video", tmp_path / "out"), "v:0")]
    assert found == [one.digest for one in plain][-len(found) :]
    assert 0 < len(found) < len(plain)
    assert index.left_out[0].startswith("picture of track 1: ")
    assert "another format; the picture before stays" in index.left_out[0]
