"""The list of the second tier: which tests it selects, its turns, and what stays in the first tier."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program_modules import MODULES, ROOT
from tests.syntax import nodes
from tests.tiers import (
    ROOM_SECONDS,
    TESTS,
    TESTS_OF_ROOMS,
    TURNS,
    SecondTier,
    files_of,
    part_of_ci,
    read_list,
    room_of,
    second_tier,
    turn_of,
)

SECOND = "tests/origin/cluster/test_long_dvr.py"

LISTED = """# A comment.

[faults]
12.5 origin/live/test_faults.py
- origin/live/test_faults.py::test_one_fault
3 origin/live/test_faults.py::test_one_fault[dash]
2 origin/live/test_more.py::test_long
"""


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse(TESTS.joinpath(file).read_bytes())
    functions = (node for node in nodes(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test"))


def realtime_tests() -> Iterator[str]:
    """Yield the tests that need real time."""
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text("utf-8")
        if "mark.realtime" not in text:
            continue
        tree = ast.parse(text)
        assignments = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
        is_whole = any(re.match(r"pytestmark = .*\bmark\.realtime\b", text) for text in assignments)
        for node in nodes(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                decorators = " ".join(map(ast.unparse, node.decorator_list))
                if is_whole or "pytest.mark.realtime" in decorators:
                    yield f"{path.relative_to(TESTS)}::{node.name}"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("origin/live/test_faults.py::test_other", True),
        ("origin/live/test_faults.py::test_one_fault", False),
        ("origin/live/test_faults.py::test_one_fault[hls]", False),
        ("origin/live/test_faults.py::test_one_fault[dash]", True),
        ("origin/live/test_more.py::test_long[a::b]", True),
        ("origin/live/test_more.py::test_longer", False),
        ("origin/radio/test_faults.py::test_other", False),
    ],
)
def test_a_tests_own_entry_counts_before_that_of_its_file(test: str, expected: bool) -> None:
    assert read_list(LISTED).contains(test) is expected


def test_a_file_is_whole_in_the_second_tier_where_it_has_no_exception() -> None:
    listed = read_list(LISTED)
    assert not listed.is_whole("origin/live/test_faults.py")
    assert not listed.is_whole("origin/live/test_more.py")
    assert SecondTier({"a/test_b.py": 1.0}, frozenset()).is_whole("a/test_b.py")
    assert listed.seconds() == {"origin/live/test_faults.py": 15.5, "origin/live/test_more.py": 2.0}


@pytest.mark.parametrize("text", ["x a.py", "1", "1 a.py\n1 a.py", "- a.py\n1 a.py"])
def test_a_line_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_list(text)


def test_each_entry_names_a_test_that_is_there() -> None:
    listed = second_tier()
    for name in (*listed.entries, *listed.exceptions):
        file, _, test = name.partition("::")
        assert TESTS.joinpath(file).is_file(), name
        assert not test or test.partition("[")[0] in names_in(file), name
    for name in listed.exceptions:
        file, function = name.partition("::")[0], name.partition("[")[0]
        assert {file, function} & set(listed.entries), f"{name} is in the first tier without its line"


def test_each_file_of_the_second_tier_comes_once_in_eight_turns_of_like_length() -> None:
    seconds = second_tier().seconds()
    turns = [{file for file in seconds if turn_of(file) == turn} for turn in range(1, TURNS + 1)]
    assert set().union(*turns) == set(seconds)
    assert sum(map(len, turns)) == len(seconds)
    longest = max(sum(map(seconds.__getitem__, files)) for files in turns)
    assert longest < sum(seconds.values()) / 4


def test_the_tiers_part_a_folders_tests_between_them() -> None:
    folder = "tests/origin/http"

    def collected(*arguments: str) -> list[str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            *arguments,
        ]
        done = subprocess.run([*command, folder], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 5}, done.stdout
        return [line for line in done.stdout.splitlines() if "::" in line]

    first, second = collected("--tier=first"), collected("--tier=second")
    assert first
    assert not set(first) & set(second)
    assert sorted(first + second) == sorted(collected())


def test_what_needs_real_time_is_once_in_the_first_tier_for_each_kind_of_stream() -> None:
    first = [test for test in realtime_tests() if not second_tier().contains(test)]
    assert len(first) <= 5, first


def test_rooms_that_are_named_are_there() -> None:
    rooms = {str(path.parent.relative_to(ROOT)) for path in MODULES} | {"player", "deploy"}
    for room, folders in TESTS_OF_ROOMS.items():
        assert room in rooms
        for folder in folders:
            assert TESTS.joinpath(folder).is_dir(), folder


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("packager/dvr/disk_archive.py", "packager/dvr"),
        ("packager/vod/index/index_cache.py", "packager/vod"),
        ("tests/origin/live/test_clips.py", "origin/live/test_clips.py"),
        ("tests/e2e/conftest.py", ""),
        ("docs/live.md", ""),
        ("packager/safe_files.py", ""),
        ("player/scripts/live.js", "player"),
        ("deploy/nginx/signed.conf", "deploy"),
        ("README.md", ""),
    ],
)
def test_a_file_belongs_to_a_room_or_is_a_test(path: str, room: str) -> None:
    assert room_of(path) == room


def test_a_changed_room_brings_the_tests_of_its_folders_up_to_a_bound() -> None:
    seconds = {
        "packager/dvr/test_a.py": 10.0,
        "origin/live/test_b.py": ROOM_SECONDS - 10.0,
        "origin/live/test_c.py": ROOM_SECONDS,
        "origin/radio/test_d.py": 1.0,
    }
    assert files_of(["packager/dvr"], seconds) == ["packager/dvr/test_a.py", "origin/live/test_b.py"]
    assert files_of(["origin/radio/test_d.py"], seconds) == ["origin/radio/test_d.py"]
    assert files_of([], seconds) == []


def test_cis_part_is_a_turn_by_the_number_of_commits_and_the_rooms_that_the_newest_changed(
    tmp_path: Path,
) -> None:
    def git(*arguments: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *author, *arguments], check=True, capture_output=True)

    git("init")
    for number, path in enumerate(
        ["README.md", "packager/dvr/a.py", "tests/origin/live/test_a.py", SECOND], 1
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        git("add", ".")
        git("commit", "--message", "a")
        assert part_of_ci(tmp_path)[:2] == ["--tier=second", f"--turn={number + 1}"]
    assert part_of_ci(tmp_path)[2:] == [f"--rooms={SECOND.removeprefix('tests/')},packager/dvr"]


def test_without_a_history_cis_part_is_a_turn_all_the_same(tmp_path: Path) -> None:
    tier, turn = part_of_ci(tmp_path)
    assert tier == "--tier=second"
    assert 1 <= int(turn.removeprefix("--turn=")) <= TURNS
