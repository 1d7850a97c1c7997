"""What fails in a run of tests is asked again alone: a fault turns the run red, noise doesn't."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fork_server import run_headwater
from tests.run_journal import processor_seconds
from tests.run_tests import MOST_FAILED, read_journal

ROOT = Path(__file__).parent.parent
INI = "[pytest]\ntimeout = 300\nmarkers = realtime: needs real time\n"
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "-p xdist -p pytest_timeout -p no:cacheprovider",
}
"""Without plug-ins that these runs don't use: importing them takes half of such a run."""

FIRST_TIME = """
import os
import pathlib
import signal
import time

import pytest


def first_time(name):
    path = pathlib.Path(name + ".begun")
    is_first = not path.exists()
    path.touch()
    return is_first
"""


def run(
    folder: Path,
    suite: str,
    *arguments: str,
    processes: int = 2,
    only: tuple[str, ...] = ("-m", "not realtime"),
) -> tuple[int, list[str]]:
    """Give the exit status of a run of such a suite, and its lines."""
    (folder / "test_suite.py").write_text(FIRST_TIME + suite)
    (folder / "test_others.py").write_text("def test_another():\n    pass\n")
    (folder / "pytest.ini").write_text(INI)
    parallel = ["--numprocesses", str(processes), "--dist", "loadfile", "--max-worker-restart", "100"]
    command = [sys.executable, "-m", "tests.run_tests", *parallel, *only, *arguments]
    environment = {**os.environ, **ENVIRONMENT}
    for name in [name for name in environment if name.startswith("PYTEST_XDIST")]:
        del environment[name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def flaky(folder: Path) -> list[dict[str, str]]:
    """Give what the run has kept of flaky tests."""
    path = folder / "artifacts" / "flaky.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_what_passes_at_once_is_not_asked_again(tmp_path: Path) -> None:
    status, lines = run(tmp_path, "def test_passes(): pass")
    assert status == 0
    assert re.fullmatch(r"=+ 2 passed in .*", lines[-1])
    assert not any("asking again" in line for line in lines)
    assert flaky(tmp_path) == []


def test_a_test_that_fails_beside_others_and_passes_alone_is_flaky(tmp_path: Path) -> None:
    suite = "def test_late():\n    print('how late')\n    assert not first_time('late'), 'too late'"
    status, lines = run(tmp_path, suite)
    assert status == 0
    assert lines[-3].startswith("flaky: 1 of 2: ")
    assert lines[-2].startswith("flaky: test_suite.py::test_late - test_suite.py:")
    assert lines[-2].endswith(": AssertionError: too late")
    assert re.fullmatch(r"=+ 2 passed, 1 flaky in \d+s =+", lines[-1])
    (kept,) = flaky(tmp_path)
    assert kept["test"] == "test_suite.py::test_late"
    assert "how late" in kept["log"]


def test_a_test_may_fail_once_alone_as_well(tmp_path: Path) -> None:
    suite = "def test_late():\n    assert not first_time('one') and not first_time('two')"
    status, _ = run(tmp_path, suite)
    assert status == 0
    assert [one["test"] for one in flaky(tmp_path)] == ["test_suite.py::test_late"]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_test_that_fails_each_time_fails_the_run_and_is_never_flaky(tmp_path: Path, processes: int) -> None:
    suite = """
def test_late():
    assert not first_time('late')

def test_wrong():
    with open("times", "a") as times:
        times.write("x")
    assert 1 == 2
"""
    status, lines = run(tmp_path, suite, processes=processes)
    assert status == 1
    assert lines[-2] == "FAILED test_suite.py::test_wrong - alone: test_suite.py:22: assert 1 == 2"
    assert re.fullmatch(r"=+ 1 failed, 2 passed, 1 flaky in \d+s =+", lines[-1])
    assert [one["test"] for one in flaky(tmp_path)] == ["test_suite.py::test_late"]
    assert (tmp_path / "times").read_text() == "xxx"


def test_a_fixture_that_fails_is_asked_again_too(tmp_path: Path) -> None:
    suite = """
@pytest.fixture
def server():
    assert not first_time("begin")
    yield
    assert not first_time("end")

def test_serves(server): pass
"""
    status, _ = run(tmp_path, suite)
    assert status == 0
    assert [one["test"] for one in flaky(tmp_path)] == ["test_suite.py::test_serves"]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_test_that_kills_its_process_is_one_failure(tmp_path: Path, processes: int) -> None:
    suite = """
def test_before(): pass

def test_kills():
    os.kill(os.getpid(), signal.SIGKILL)

def test_kills_once():
    if first_time("kills"):
        os.kill(os.getpid(), signal.SIGKILL)

def test_behind(): pass
"""
    status, lines = run(tmp_path, suite, processes=processes)
    if processes:
        assert status == 1
        assert lines[-2] == "FAILED test_suite.py::test_kills - alone: its process died"
        assert re.fullmatch(r"=+ 1 failed, 4 passed, 1 flaky in \d+s =+", lines[-1])
        assert [one["test"] for one in flaky(tmp_path)] == ["test_suite.py::test_kills_once"]
    else:
        # The process that died is the one that reports.
        assert status == -9 % 256


def test_a_test_that_holds_the_interpreter_for_ever_is_one_failure(tmp_path: Path) -> None:
    suite = """
import re

@pytest.mark.timeout(1)
def test_holds():
    if first_time("holds"):
        re.match("(a+)+$", 40 * "a" + "b")

@pytest.mark.timeout(1)
def test_waits():
    if first_time("waits"):
        while True:
            time.sleep(1)
"""
    status, _ = run(tmp_path, suite, "--grace=0.5")
    assert status == 0
    assert {one["test"].rpartition(":")[2] for one in flaky(tmp_path)} == {"test_holds", "test_waits"}


def test_many_failures_are_asked_again_but_fail_the_run_if_they_stay(tmp_path: Path) -> None:
    number = MOST_FAILED + 1
    suite = f"""
@pytest.mark.parametrize("number", range({number}))
def test_late(number):
    assert not first_time(f"late{{number}}")

@pytest.mark.parametrize("number", range({number}))
def test_wrong(number):
    # The second time alone they would pass; they have no such time.
    assert not first_time(f"one{{number}}") and not first_time(f"two{{number}}")
"""
    status, lines = run(tmp_path, suite)
    assert status == 1
    assert lines[-1].strip("= ").startswith(f"{number} failed, {number + 1} passed, {number} flaky in ")


def test_a_file_that_cannot_be_imported_fails_the_run(tmp_path: Path) -> None:
    status, lines = run(
        tmp_path, "def test_late(): assert not first_time('late')\nimport nothing_of_that_name"
    )
    assert status not in {0, 5}
    assert not any("asking again" in line for line in lines)


def test_whoever_stops_at_the_first_failure_is_not_asked_again(tmp_path: Path) -> None:
    status, lines = run(tmp_path, "def test_late(): assert not first_time('late')", "-x")
    assert status != 0
    assert not any("asking again" in line for line in lines)


def test_a_run_without_tests_says_so(tmp_path: Path) -> None:
    status, _ = run(tmp_path, "", "-k", "nothing_of_that_name")
    assert status == 5


def test_what_each_file_took_is_kept_with_the_programs_that_it_ended(tmp_path: Path) -> None:
    suite = """
import subprocess, sys

@pytest.mark.parametrize("number", range(2))
def test_computes(number):
    loop = "import time\\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", loop], check=True)
"""
    run(tmp_path, suite)
    first, second = (tmp_path / "artifacts" / "costs.tsv").read_text().splitlines()
    processor_seconds, seconds, path = first.split("\t")
    assert path == "test_suite.py"
    assert 0.6 <= float(processor_seconds) <= float(seconds) + 0.1
    assert second.endswith("\ttest_others.py")


def test_what_a_forked_server_took_counts_as_well() -> None:
    own, before = time.process_time(), processor_seconds()
    started = time.monotonic()
    assert run_headwater("--version").returncode == 0
    took = processor_seconds() - before - (time.process_time() - own)
    assert 0.001 < took < time.monotonic() - started


REALTIME = """
@pytest.mark.parametrize("number", range(4))
def test_other(number):
    pathlib.Path(f"other{number}.over").touch()

@pytest.mark.realtime
def test_in_time(figures, request):
    assert len(list(pathlib.Path().glob("other*.over"))) == 4
    assert request.config.workerinput["workercount"] <= 4
    figures.judge(True, "1 s <= 2 s")
"""


def test_tests_that_need_real_time_run_behind_the_others(tmp_path: Path) -> None:
    status, lines = run(tmp_path, REALTIME, processes=8, only=())
    assert status == 0
    assert any(
        re.fullmatch(r"This machine encodes at .*: tests that need real time run \d at a time.", line)
        for line in lines
    )
    assert re.fullmatch(r"=+ 6 passed in \d+s =+", lines[-1])


WRONG_FIGURE = """
@pytest.mark.realtime
def test_in_time(figures):
    figures.judge(False, "15.8 s behind, 6.0 at most")
    assert pathlib.Path("right").exists()
"""


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_figure_is_judged_where_the_machine_keeps_up_and_told_where_it_does_not(
    tmp_path: Path, is_fast: bool
) -> None:
    (tmp_path / "right").touch()
    (tmp_path / "test_suite.py").write_text(FIRST_TIME + WRONG_FIGURE)
    words = ["-p", "tests.run_journal", "--journal=journal"]
    command = [sys.executable, "-m", "pytest", *words, *([] if is_fast else ["--unjudged"])]
    (tmp_path / "pytest.ini").write_text(INI)
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    found = read_journal((tmp_path / "journal").read_text().splitlines(), done.returncode)
    if is_fast:
        assert next(iter(found.failures.values())).reason.endswith("15.8 s behind, 6.0 at most")
        assert found.not_judged == []
    else:
        assert found.failures == {}
        assert found.not_judged == [("test_suite.py::test_in_time", "15.8 s behind, 6.0 at most")]


def test_on_a_slow_machine_what_does_not_depend_on_speed_is_held_all_the_same(tmp_path: Path) -> None:
    status, _ = run(tmp_path, WRONG_FIGURE, "--unjudged", only=())
    assert status == 1
    (tmp_path / "right").touch()
    status, lines = run(tmp_path, WRONG_FIGURE, "--unjudged", only=())
    assert status == 0
    assert lines[-2] == "not judged: test_suite.py::test_in_time - 15.8 s behind, 6.0 at most"


def test_a_run_that_fails_before_its_tests_is_red(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("1 / 0")
    status, _ = run(tmp_path, "def test_passes(): pass")
    assert status not in {0, 5}
