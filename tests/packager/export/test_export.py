"""What is written to a folder is what is served on request, and another player plays it to its end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from media.errors import MalformedError, UnsupportedError
from packager.export.export import ExportReport, export
from packager.library.local_storage import Library, NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles


def make(tools: Tools, path: Path, size: str) -> None:
    source = (
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size={size}:rate=25:duration=14",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=14",
    )
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:a", "aac", "-pix_fmt", "yuv420p")
    subprocess.run([tools.ffmpeg, "-nostdin", "-v", "error", *source, *codec, f"file:{path}"], check=True)


def packets(tools: Tools, source: str, *, stream: str) -> int:
    argv = [str(tools.ffprobe), "-v", "error", "-select_streams", stream, "-count_packets"]
    argv += ["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", source]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return int(listed.split()[0].strip(","))


def test_the_folder_holds_what_is_served_and_plays(tools: Tools, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    inputs = [library / "film.180p.mp4", library / "film.90p.mp4"]
    make(tools, inputs[0], "320x180")
    make(tools, inputs[1], "160x90")
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    playlists = export(inputs, out, ExportReport(lambda *news: told.append(news))).require()
    assert [path.relative_to(out).as_posix() for path in playlists] == [
        "film.180p.mp4/master.m3u8",
        "film.90p.mp4/master.m3u8",
        "film/master.m3u8",
    ]
    assert told[-1][1] == told[-1][2] > 1
    titles = Titles(Library(library))
    for path in playlists:
        name = path.parent.relative_to(out).as_posix()
        assert path.read_text() == titles.multivariant_playlist(name)
        # What is packaged is replaced as a whole, so that its addresses need no version.
        served = re.sub(rb"v_[0-9a-f]{12}/", b"", titles.manifest(name))
        assert path.with_name("manifest.mpd").read_bytes() == served
    assert not list(out.rglob(".*"))
    assert not list(out.rglob("*.part"))
    for path in inputs:
        assert packets(tools, f"{out / path.name}/video/media.m3u8", stream="v") == 14 * 25
        whole = packets(tools, str(path), stream="a")
        assert whole - 2 <= packets(tools, f"{out / path.name}/audio/media.m3u8", stream="a") <= whole


def test_running_it_again_gives_the_same_bytes(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "film.mp4", "160x90")
    out = tmp_path / "out"
    for _ in range(2):
        export([tmp_path / "film.mp4"], out).require()
        found = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert len(found) > 6
    export([tmp_path / "film.mp4"], out).require()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == found


def test_what_cannot_be_packaged_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x08ftyp" + bytes(100))
    with pytest.raises(MalformedError):
        export([tmp_path / "bad.mp4"], tmp_path / "out").require()
    with pytest.raises(NotFoundError):
        export([tmp_path / "nowhere.mp4"], tmp_path / "out").require()
    with pytest.raises(UnsupportedError, match=r"two inputs are called bad\.mp4"):
        export([tmp_path / "bad.mp4", tmp_path / "sub" / "bad.mp4"], tmp_path / "out").require()
