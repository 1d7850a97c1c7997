"""The option ``--quick`` of a run of tests: only files whose tests start no process and wait for nothing.

A file is left out, unread by pytest, where it or a module of the tests that it imports can start a process
(an ffmpeg, a browser, a server), or where a test asks for a fixture that does. Single tests of others
are left out where they are marked ``slow``.
"""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

from tests.syntax import nodes

ROOT = Path(__file__).parent.parent
STARTERS = frozenset({"subprocess", "multiprocessing", "playwright", "tests.fork_server", "tests.processes"})
"""Modules that start processes."""

STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.exec"})
"""Python's audit events for programs that are started."""

STARTING_FIXTURES = frozenset(
    {"tools", "demo_server", "server", "redis_server", "s3_server", "alone", "three"}
)
"""Fixtures that start processes, by the names that tests and other fixtures use."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help="only tests without processes and waiting")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a test fail that starts a process all the same: by the program, or behind another module."""
    if item.config.getoption("--quick"):
        _forbid_processes()


@functools.cache
def _forbid_processes() -> None:
    sys.addaudithook(_refuse_process)


def _refuse_process(event: str, _: object) -> None:
    if event in STARTS:
        raise RuntimeError("a quick test starts a process: mark the test as slow")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files that aren't quick."""
    if not config.getoption("--quick") or collection_path.suffix != ".py":
        return None
    return None if is_quick(collection_path) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are marked as slow."""
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow") is not None]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def is_quick(path: Path) -> bool:
    """Return whether a file's tests start no process."""
    modules, seen = [path], set[Path]()
    while modules:
        module = modules.pop()
        if module in seen:
            continue
        seen.add(module)
        imported, arguments = _names(module)
        if arguments & STARTING_FIXTURES or any(_is_starter(name) for name in imported):
            return False
        modules += [found for name in imported if (found := _test_module(name)) is not None]
    return True


def _is_starter(name: str) -> bool:
    return name in STARTERS or name.partition(".")[0] in STARTERS


def _test_module(name: str) -> Path | None:
    """Return the file of a module of the tests, None where it is none."""
    if not name.startswith("tests.") or name == "tests.conftest":
        return None
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None


@functools.cache
def _names(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the modules that a file imports, and the names of its functions' arguments."""
    imported, arguments = set[str](), set[str]()
    for node in nodes(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments.update(argument.arg for argument in node.args.args)
    return frozenset(imported), frozenset(arguments)
