"""Folders are packaged as the library lists them, and what can't be packaged is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from media.errors import UnsupportedError
from packager.export.export import export
from tests.fork_server import run_headwater
from tests.packager import films


def package(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run_headwater("package", *words)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for name, source in {
        "film.mp4": "bframes.mp4",
        "shows/pilot.180p.mp4": "silent.mp4",
        "shows/pilot.360p.mp4": "bframes.mp4",
        "music/a/song.m4a": "sound.m4a",
        ".hidden/film.mp4": "silent.mp4",
        "loading.mp4.part": "silent.mp4",
    }.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(films.film(source).read_bytes())
    (folder / "notes.txt").write_text("no film")
    return folder


def test_a_folder_is_packaged_as_the_library_lists_it(library: Path) -> None:
    # The result may lie within it, and isn't packaged in turn.
    for _ in range(2):
        playlists = export([library], library / "out").require()
        assert sorted(path.relative_to(library / "out").as_posix() for path in playlists) == [
            "film.mp4/master.m3u8",
            "music/a/song.m4a/master.m3u8",
            "shows/pilot.180p.mp4/master.m3u8",
            "shows/pilot.360p.mp4/master.m3u8",
            "shows/pilot/master.m3u8",
        ]
    found = films.packets(library / "out/shows/pilot/master.m3u8", "v:0")
    assert len(found) == len(films.packets(library / "film.mp4", "v:0"))


def test_what_can_not_be_packaged_is_named_and_the_rest_is_packaged(library: Path, tmp_path: Path) -> None:
    (library / "broken.mp4").write_bytes(b"\0\0\0\x08ftyp" + bytes(100))
    (library / "old.avi").write_bytes(b"RIFF")
    done = package(library, library / "nowhere.mp4", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 5
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("headwater: ") for line in lines)
    for name in ("broken.mp4", "old.avi", "nowhere.mp4"):
        assert sum(name in line for line in lines) == 1
    assert len(list((tmp_path / "out").rglob("master.m3u8"))) == 5


def test_renditions_that_are_none_of_one_title_are_packaged_by_themselves(tmp_path: Path) -> None:
    for height, name in ((180, "silent.mp4"), (360, "moovlast.mp4")):
        (tmp_path / f"film.{height}p.mp4").write_bytes(films.film(name).read_bytes())
    outcome = export(sorted(tmp_path.glob("*.mp4")), tmp_path / "out")
    assert len(outcome.playlists) == 2
    assert "aren't renditions of one title" in str(outcome.failures[0])


def test_an_empty_folder_and_two_inputs_of_one_place_are_refused(library: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedError, match="no media files"):
        export([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(UnsupportedError, match=r"two inputs are called film\.mp4"):
        export([library, library / "film.mp4"], tmp_path / "out")


def test_wrong_use_is_2(tmp_path: Path) -> None:
    assert package("--out", tmp_path).returncode == 2
    assert package(tmp_path / "film.mp4").returncode == 2
    assert package(tmp_path / "film.mp4", "--out", tmp_path, "--single").returncode in (1, 2)


def test_an_input_that_cant_be_packaged_leaves_no_empty_folder(library: Path, tmp_path: Path) -> None:
    broken, kept = tmp_path / "broken.mp4", tmp_path / "kept"
    broken.write_bytes(b"no film")
    kept.mkdir()
    for out in (tmp_path / "new" / "out", kept):
        assert export([broken], out).failures
    assert not (tmp_path / "new").exists()
    assert kept.is_dir(), "it was there before"
    assert export([broken, next(library.glob("*.mp4"))], tmp_path / "out").failures
    assert [one.suffix for one in (tmp_path / "out").iterdir()] == [".mp4"]
