"""A file that isn't there as a whole is told by its header, wherever its download broke off."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from packager.library.missing_bytes import missing_bytes
from packager.process.ffmpeg_discovery import Tools

MADE = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=3 -c:v libx264 -preset ultrafast -pix_fmt yuv420p"
FORMS = {
    "index-last.mp4": "",
    "index-first.mp4": "-movflags +faststart",
    "fragmented.mp4": "-g 10 -movflags +frag_keyframe+empty_moov",
    "film.mov": "",
    "film.mkv": "",
}


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    for name, words in FORMS.items():
        command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *MADE.split(), *words.split(), name]
        subprocess.run(command, check=True, cwd=folder, timeout=120)
    return {name: (folder / name).read_bytes() for name in FORMS}


@pytest.mark.parametrize("name", FORMS)
def test_how_much_is_there_is_told_of_every_part_of_a_file(
    films: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    path, whole = tmp_path / name, films[name]
    path.write_bytes(whole)
    assert missing_bytes(path) is None
    path.write_bytes(b"")
    assert missing_bytes(path) == "the file is empty"
    told = 0
    for tenths in range(1, 10):
        path.write_bytes(whole[: len(whole) * tenths // 10])
        said = missing_bytes(path)
        have, _, rest = (said or "").partition(" of ")
        if not said:
            # Where a box of a fragmented film ends nothing says that more must follow.
            assert name == "fragmented.mp4"
            continue
        told += 1
        words = rest.removesuffix(" bytes are there").removeprefix("more than ")
        assert int(have) == len(whole) * tenths // 10 < int(words) <= len(whole)
        if name in ("index-first.mp4", "film.mkv") and tenths > 3:
            assert int(words) == len(whole)
    assert told >= 7


@pytest.mark.parametrize("data", [b"not a film at all", b"\0" * 64, b"\xff" * 64, b"\0\0\0\x01mdat\xff"])
def test_of_what_is_no_film_nothing_is_said(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(data)
    assert missing_bytes(tmp_path / "film.mp4") is None
