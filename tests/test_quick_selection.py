"""The option --quick: which tests are left out, and what happens when one of the others starts a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_selection import ROOT, is_quick

PYTEST = (sys.executable, "-m", "pytest", "-p", "tests.quick_selection", "--quick", "-q", "--rootdir", ".")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("tests/origin/http/test_byte_ranges.py", True),
        ("tests/media/hls/test_media_playlist.py", True),
        ("tests/e2e/test_player.py", False),
        ("tests/origin/ingest/test_rtmp_publishing.py", False),
        ("tests/origin/workers/test_no_redirects.py", False),
        ("tests/test_quick_selection.py", False),
    ],
)
def test_files_that_can_start_a_process_are_left_out(file: str, expected: bool) -> None:
    assert is_quick(ROOT / file) is expected


def test_what_is_slow_is_left_out_and_what_starts_a_process_fails(tmp_path: Path) -> None:
    tmp_path.joinpath("test_some.py").write_text(
        "import os, pytest\n"
        "def test_quick(): pass\n"
        "@pytest.mark.slow\n"
        "def test_slow(): raise AssertionError\n"
        "def test_starting(): os.posix_spawn('/bin/true', ['true'], {})\n"
    )
    tmp_path.joinpath("test_others.py").write_text(
        "import subprocess\ndef test_left_out(): raise AssertionError\n"
    )
    run = subprocess.run(
        [*PYTEST, "-c", "/dev/null", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed, 1 deselected" in run.stdout, run.stdout + run.stderr
    assert "mark the test as slow" in run.stdout
