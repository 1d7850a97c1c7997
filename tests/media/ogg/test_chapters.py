"""Chapters of Ogg files, as ffmpeg writes and reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from media.ogg.chapters import comment_chapters
from media.ogg.movie import OggFileLimits, read_ogg
from tests.packager.films import probe, run_ffmpeg


def test_chapters_in_comments_are_those_that_ffprobe_lists(tmp_path: Path) -> None:
    listed, path = tmp_path / "chapters.txt", tmp_path / "book.opus"
    times = [(0, 4000, "One"), (4000, 9500, "Zwei & <drei>"), (9500, 12000, "")]
    text = "".join(f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={a}\nEND={b}\ntitle={c}\n" for a, b, c in times)
    listed.write_text(f";FFMETADATA1\n{text}")
    run_ffmpeg(*f"-f lavfi -i sine=440:d=12 -i {listed} -map_chapters 1 -c:a libopus".split(), path)
    data = path.read_bytes()
    found = read_ogg(lambda at, size: data[at : at + size], len(data), OggFileLimits()).movie
    asked = probe(path, "-show_chapters")["chapters"]
    assert len(asked) == 3
    begins = [round(1000 * float(one["start_time"])) for one in asked]
    titles = [one.get("tags", {}).get("title", "") for one in asked]
    assert list(found.chapters) == list(zip(begins, titles, strict=True))


@pytest.mark.parametrize("magic", [b"OpusTags", b"\x03vorbis", b"\x84\0\0\0"])
def test_comments_in_any_order_and_malformed_ones(magic: bytes) -> None:
    written = [b"chapter002=01:00:00.5", b"CHAPTER001NAME=A\x07B", b"CHAPTER001=0:00:01.25", b"CHAPTER003=x"]
    comments = b"".join(struct.pack("<I", len(one)) + one for one in written)
    header = magic + struct.pack("<II", 0, len(written)) + comments
    assert comment_chapters([b"first", header]) == ((1250, "AB"), (3_600_500, ""))
