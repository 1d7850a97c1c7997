from pathlib import Path

import pytest

from packager.radio.limits import StationLimits
from packager.radio.tracks import find_tracks


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_playlist_keeps_its_order_and_leaves_out_what_isnt_an_mp3_here(tmp_path: Path, ending: str) -> None:
    make(tmp_path, "b.mp3", "a.mp3", "sub/ä.MP3", "notes.txt", "x.ogg")
    lines = ["#EXTM3U", "#EXTINF:3,B", "b.mp3", "", "missing.mp3", "http://x/y.mp3", "notes.txt", "x.ogg"]
    lines += [" sub/ä.MP3 ", str(tmp_path / "a.mp3"), "b.mp3"]
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(ending.join(lines), "utf-8", newline="")
    found = [path.name for path in find_tracks(playlist, StationLimits())]
    assert found == ["b.mp3", "ä.MP3", "a.mp3", "b.mp3"]


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfcaf\xc3\xa9.mp3\n", b"caf\xe9.mp3\n"], ids=["bom", "latin-1"])
def test_a_playlist_is_utf_8_or_latin_1(tmp_path: Path, data: bytes) -> None:
    make(tmp_path, "café.mp3")
    (tmp_path / "list.m3u").write_bytes(data)
    assert [path.name for path in find_tracks(tmp_path / "list.m3u", StationLimits())] == ["café.mp3"]


def test_one_file_is_a_list_of_one_and_a_missing_playlist_is_empty(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "b.mp3")
    assert find_tracks(tmp_path / "a.mp3", StationLimits()) == [tmp_path / "a.mp3"]
    assert find_tracks(tmp_path / "nothing.m3u", StationLimits()) == []
