"""The imports of every module run one way: origin → packager → media."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)

ROOMS = {
    "media": {"media"},
    "packager": {"media", "packager"},
    "origin": {"media", "packager", "origin"},
}
"""Which rooms of ours a room may import."""

FORBIDDEN = {
    "media": {
        "asyncio",
        "socket",
        "logging",
        "time",
        "threading",
        "subprocess",
        "selectors",
        "os",
        "io",
        "pathlib",
    },
    "packager": {"starlette", "uvicorn", "httptools", "prometheus_client", "click"},
    "origin": set[str](),
}
"""What a room never imports, from wherever it comes."""

ALLOWED_THIRD_PARTY = {"media": {"numpy"}}
"""Where it is listed here, a room may import nothing but this from outside the standard library."""

MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Give the top-level names that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    names = imported(path)
    assert names & set(ROOMS) <= ROOMS[room]
    assert not names & FORBIDDEN[room]
    if room in ALLOWED_THIRD_PARTY:
        assert names - STANDARD_LIBRARY - set(ROOMS) <= ALLOWED_THIRD_PARTY[room]


def test_the_check_sees_an_arrow_that_runs_the_other_way(tmp_path: Path) -> None:
    module = tmp_path / "wrong.py"
    module.write_text("def f():\n    from origin.app import build_app\n")
    assert imported(module) == {"origin"}


def test_a_server_starts_without_what_other_commands_or_few_sources_need() -> None:
    # A killed server is to be back within two seconds (M4), most of which go into imports.
    late = ("httpx", "httpcore", "m3u8", "rich.progress", "packager.demo", "packager.vod.export")
    code = f"import sys, origin.cli, origin.serving; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_the_top_level_holds_only_the_rooms() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - {"dist", "artifacts", "library"} == {"media", "packager", "origin", "player", "tests"}
