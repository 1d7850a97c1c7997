"""What a failed test leaves open is no second fault; what another leaves open is one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITE = """
import gc
import socket


def test_leaves():
    # A circle is freed when Python looks for garbage, and not before.
    left = [socket.socket()]
    left.append(left)
    assert {passes}


def test_next():
    gc.collect()
"""


@pytest.mark.parametrize(("passes", "failed"), [(False, ["test_leaves"]), (True, ["test_next"])])
def test_sockets_of_a_failed_test_fail_no_other(tmp_path: Path, passes: bool, failed: list[str]) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE.format(passes=passes))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error")
    words = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:xdist", "-p", "tests.leftovers", "-rf"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert lines == [f"test_suite.py::{name}" for name in failed], done.stdout
