"""Error messages of the command, which have one line each."""

from __future__ import annotations

import subprocess


def assert_one_line(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert result.returncode == status, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("headwater: ")
    for word in words:
        assert word in line
    assert "Traceback" not in result.stderr
