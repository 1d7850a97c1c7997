"""Downloads of the set-up are tried again, and the last failure says what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RETRY = Path(__file__).parent.parent / ".ci" / "retry"
COUNTING = 'echo x >> "$0"; [ "$(wc -l < "$0")" -gt "$1" ] || exit 7'


def retried(folder: Path, failures: int) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run a command that fails so often; return what came of it, and how often it was run."""
    count = folder / "count"
    command = [str(RETRY), "Plug in the cable.", "bash", "-c", COUNTING, str(count), str(failures)]
    environment = {**os.environ, "RETRY_SECONDS": "0 0 0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, len(count.read_text().splitlines())


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_download_that_fails_is_tried_again_until_it_succeeds(tmp_path: Path, failures: int) -> None:
    done, times = retried(tmp_path, failures)
    assert (done.returncode, times) == (0, failures + 1)
    assert "Plug in" not in done.stderr


def test_a_download_that_fails_each_time_says_what_to_do_and_keeps_its_status(tmp_path: Path) -> None:
    done, times = retried(tmp_path, 4)
    assert (done.returncode, times) == (7, 4)
    assert done.stderr.splitlines()[-1] == "Plug in the cable."


def test_without_a_command_the_use_is_wrong() -> None:
    done = subprocess.run([str(RETRY), "advice"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
