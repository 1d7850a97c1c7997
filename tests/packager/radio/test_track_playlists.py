import os
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from media.mp3.id3 import Tags
from packager.process.ffmpeg_discovery import Tools
from packager.radio.folder_station import Station, StationOptions
from packager.radio.limits import StationLimits
from packager.radio.tracks import find_tracks, find_unplayed, how_to_play, track_title, why_no_tracks


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


def test_music_that_a_folders_station_does_not_play_is_found_with_a_line_that_makes_mp3_of_it(
    tmp_path: Path, tools: Tools
) -> None:
    make(tmp_path, "b.FLAC", "sub/a song.m4a", "c.mp3", "cover.jpg", "notes.txt", ".hidden.flac")
    assert find_unplayed(tmp_path, StationLimits()) == [tmp_path / "b.FLAC", tmp_path / "sub" / "a song.m4a"]
    (tmp_path / "list.m3u").write_text("c.mp3\nb.FLAC\nmissing.ogg\n")
    assert find_unplayed(tmp_path / "list.m3u", StationLimits()) == [tmp_path / "b.FLAC"]
    (tmp_path / "c.mp3").unlink()
    assert "2 other files of music; a folder's station plays MP3: ffmpeg -i" in why_no_tracks(
        tmp_path, StationLimits()
    )
    # The line works as it is pasted, and makes a track that the station finds.
    song = tmp_path / "sub" / "a song.m4a"
    encode = [str(tools.ffmpeg), "-v", "error", "-y", "-f", "lavfi", "-i", "sine", "-t", "1", str(song)]
    subprocess.run(encode, check=True, timeout=120)
    line = how_to_play(song).partition(": ")[2].replace("ffmpeg", str(tools.ffmpeg), 1)
    subprocess.run(line, shell=True, check=True, timeout=120, capture_output=True)
    assert find_tracks(tmp_path, StationLimits()) == [tmp_path / "sub" / "a song.mp3"]


async def test_music_that_is_not_played_is_logged_once(tmp_path: Path, tools: Tools) -> None:
    make(tmp_path, "b.flac", "c.flac")
    encode = [
        str(tools.ffmpeg),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "sine",
        "-t",
        "1",
        str(tmp_path / "a.mp3"),
    ]
    subprocess.run(encode, check=True, timeout=120)
    station = Station(StationOptions(name="s.mp3", folder=tmp_path, loop=False), tools)
    with capture_logs() as logs:
        for _ in range(2):
            assert [block async for block in station.blocks()]
    told = [one for one in logs if one["event"] == "files of a station's folder aren't played"]
    assert [(one["files"], one["first"]) for one in told] == [(2, str(tmp_path / "b.flac"))]


@pytest.mark.parametrize("name", [b"caf\xc3\xa9.mp3", b"caf\xe9.mp3"], ids=["utf-8", "latin-1"])
def test_a_track_without_tags_is_called_by_its_name_in_utf_8_or_latin_1(name: bytes) -> None:
    assert track_title(Tags(), Path(os.fsdecode(name))) == "café"
