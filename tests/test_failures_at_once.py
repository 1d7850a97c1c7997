"""A run that is killed has already said which of its tests failed, and why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent
SUITE = """
import pathlib
import time

import pytest


@pytest.fixture
def broken():
    raise ValueError("no fixture")


def test_fails():
    assert 1 == 2, "first line" + chr(10) + "second line"


def test_cannot_begin(broken):
    pass


def test_never_ends():
    while True:
        time.sleep(1)
"""
FAILED, ERROR = "FAILED test_suite.py::test_fails", "ERROR test_suite.py::test_cannot_begin"


@pytest.mark.parametrize("processes", [0, 1])
def test_what_failed_is_in_the_log_of_a_run_that_is_killed(tmp_path: Path, processes: int) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    log = tmp_path / "log"
    words = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "tests.failures_at_once"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *words, "--numprocesses", str(processes)]
    with log.open("wb") as output:
        run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output)
    try:
        wait_for(lambda: ERROR in log.read_text(), "both lines")
    finally:
        run.kill()
        run.wait()
    lines = [line for line in log.read_text().splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert len(lines) == 2
    assert lines[0].startswith(f"{FAILED} - test_suite.py:")
    assert lines[0].endswith(": AssertionError: first line")
    assert lines[1].startswith(f"{ERROR} - ")
    assert lines[1].endswith(": ValueError: no fixture")
