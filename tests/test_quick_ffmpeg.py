"""What ffmpeg draws from its arguments alone is made once for all runs; what depends on more, each time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.quick_ffmpeg import script_of

PROGRAM = """#!/bin/sh
echo called >> {log}
for word; do last=$word; done
[ "$last" = bad.mp4 ] && exit 3
echo "$@" > "$last"
"""
DRAWN = "-nostdin -f lavfi -i testsrc2 -f lavfi -t 2 -i sine -c:v libx264"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two programs that note their calls, and the script that stands for them."""
    for name in ("system", "quick"):
        program = tmp_path / name
        program.write_text(PROGRAM.format(log=tmp_path / f"{name}.log"))
        program.chmod(0o755)
    (tmp_path / "media").mkdir()
    script = tmp_path / "ffmpeg"
    script.write_text(
        script_of("ffmpeg", str(tmp_path / "system"), str(tmp_path / "quick"), tmp_path / "media")
    )
    script.chmod(0o755)
    return tmp_path


def run(folder: Path, words: str, test: str = "tests/media/test_a.py") -> int:
    command = [str(folder / "ffmpeg"), *words.split()]
    environment = {"PATH": "/usr/bin:/bin", "PYTEST_CURRENT_TEST": test}
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def calls(folder: Path, name: str) -> int:
    log = folder / f"{name}.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_what_is_drawn_is_made_once_and_copied_wherever_it_is_wanted(folder: Path) -> None:
    for name in ("a.mp4", "b.mp4", "file:c.mp4"):
        assert run(folder, f"{DRAWN} {name}") == 0
    assert calls(folder, "quick") == 1
    texts = {(folder / name).read_text() for name in ("a.mp4", "b.mp4", "c.mp4")}
    assert texts == {f"{DRAWN} a.mp4\n"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"{DRAWN} a.mp4", f"{DRAWN} a.mkv"),
        (f"{DRAWN} a.mp4", f"{DRAWN} -g 5 a.mp4"),
        (f"-re {DRAWN} a.mp4", f"-re {DRAWN} a.mp4"),
        (f"{DRAWN} -i a.mp3 a.mp4", f"{DRAWN} -i a.mp3 a.mp4"),
        (f"{DRAWN} b.mp4 -c copy a.mp4", f"{DRAWN} b.mp4 -c copy a.mp4"),
        (f"{DRAWN} -f mpegts out", f"{DRAWN} -f mpegts out"),
        (f"{DRAWN} -vf subtitles=a.srt a.mp4", f"{DRAWN} -vf subtitles=a.srt a.mp4"),
    ],
)
def test_what_differs_or_depends_on_more_is_made_again(folder: Path, first: str, second: str) -> None:
    assert (run(folder, first), run(folder, second)) == (0, 0)
    assert calls(folder, "quick") + calls(folder, "system") == 2


def test_another_program_makes_its_own(folder: Path) -> None:
    assert run(folder, f"{DRAWN} a.mp4") == 0
    assert run(folder, f"{DRAWN} a.mp4", "tests/e2e/test_a.py") == 0
    assert (calls(folder, "quick"), calls(folder, "system")) == (1, 1)


def test_what_fails_is_not_kept_and_its_status_stays(folder: Path) -> None:
    assert run(folder, f"{DRAWN} bad.mp4") == 3
    assert run(folder, f"{DRAWN} good.mp4") == 0
    assert calls(folder, "quick") == 2
