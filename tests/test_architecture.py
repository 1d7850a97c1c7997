"""The imports of every module run one way, origin → packager → media, and never in a circle."""

from __future__ import annotations

import collections
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.module_imports import FACES, imported, imported_modules, known_modules, source_of
from tests.program_modules import MODULES, ROOMS, ROOT

STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)

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

TEST_LINES = 400
"""How long a file of tests may be before it is parted by subject."""

MODULES_IN_A_ROOM = 22
"""How many modules a room may have before it gets rooms inside it, by idea."""

CONSTRUCTOR_ARGUMENTS = 6
"""How many a constructor may have before those of them that belong together become one object."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    names = imported(path)
    assert names & set(ROOMS) <= ROOMS[room]
    assert not names & FORBIDDEN[room]
    if room in ALLOWED_THIRD_PARTY:
        assert names - STANDARD_LIBRARY - set(ROOMS) <= ALLOWED_THIRD_PARTY[room]


def test_stations_do_not_know_of_clusters() -> None:
    """A station that a cluster shares is a source of audio as all others."""
    cluster = ROOT / "packager" / "cluster"
    modules = [path for path in MODULES if path.is_relative_to(ROOT / "origin" / "radio")]
    assert modules
    for path in modules:
        assert not [one for one in known_modules(path) if one.is_relative_to(cluster)], path


def test_the_check_sees_an_arrow_that_runs_the_other_way(tmp_path: Path) -> None:
    module = tmp_path / "wrong.py"
    module.write_text("def f():\n    from origin.server.app import build_app\n")
    assert imported(module) == {"origin"}


@pytest.mark.parametrize("path", sorted((ROOT / "origin/http").glob("*.py")), ids=lambda path: path.stem)
def test_what_http_says_is_decided_without_a_framework_a_loop_and_a_socket(path: Path) -> None:
    assert not imported(path) & {"starlette", "uvicorn", "httptools", "asyncio", "socket"}


@pytest.mark.clause("A kill loses nothing that was listed, and the next start is quick")
def test_a_server_starts_without_what_other_commands_or_few_sources_need() -> None:
    # A killed server is to be back within two seconds, most of which go into imports.
    late = (
        "httpx",
        "httpcore",
        "m3u8",
        "packager.library.demo_media",
        "packager.export.export",
        "origin.workers",
        "redis",
    )
    assert all(map(importlib.util.find_spec, late)), "it would be late under any name"
    code = "import sys, origin.cli.main, origin.server.serve\n"
    code += f"print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


SERVES_LIVE = {"packager/window", "packager/publish", "packager/past"}
"""The rooms of the packager that whoever serves live channels knows; others make what is in them."""

SERVES_LIVE_TOO = {
    *(f"packager/{name}.py" for name in ("blocking_calls", "bounded_dict", "fair_queue")),
    *(f"packager/{name}.py" for name in ("library/local_storage", "reader_guard", "step_budget", "threads")),
    *("packager/single_flight_cache.py", "packager/transient_errors.py"),
}


def test_who_serves_live_channels_does_not_know_who_makes_them() -> None:
    found = {
        str(other.relative_to(ROOT))
        for path in MODULES
        if path.is_relative_to(ROOT / "origin" / "live")
        for other in imported_modules(path)
        if other.is_relative_to(ROOT / "packager") and other.name != "__init__.py"
    }
    assert {name for name in found if name.rpartition("/")[0] not in SERVES_LIVE} <= SERVES_LIVE_TOO


def test_windows_and_what_playlists_say_of_them_do_not_know_who_fills_them() -> None:
    rooms = {ROOT / room for room in SERVES_LIVE}
    known = {
        room_of(other)
        for path in MODULES
        if path.parent in rooms
        for other in imported_modules(path)
        if other.is_relative_to(ROOT / "packager")
    }
    assert {str(room.relative_to(ROOT)) for room in known} - SERVES_LIVE <= {
        "packager/reader_guard.py",
        "packager/blocking_calls.py",
        "packager/bounded_dict.py",
        "packager/safe_files.py",
    }


def circles(arrows: dict[Path, set[Path]]) -> list[list[Path]]:
    """Give the groups of nodes that lead to each other, which are empty in a graph without a circle."""
    led = {node: reached(node, arrows) for node in arrows}
    groups: list[list[Path]] = []
    for node, others in led.items():
        group = sorted(other for other in others if node in led.get(other, ()))
        if group and group not in groups:
            groups.append(group)
    return groups


def reached(start: Path, arrows: dict[Path, set[Path]]) -> set[Path]:
    """Give what arrows lead to from a node."""
    seen: set[Path] = set()
    pending = [start]
    while pending:
        for node in arrows.get(pending.pop(), set()) - seen:
            seen.add(node)
            pending.append(node)
    return seen


def test_no_modules_import_each_other_in_a_circle_not_even_for_type_checking() -> None:
    assert circles({path: known_modules(path) for path in MODULES}) == []


def test_no_folders_import_each_other_in_a_circle_not_even_for_type_checking() -> None:
    assert circles(arrows_between({path: known_modules(path) for path in MODULES}, room_of)) == []


def arrows_between(arrows: dict[Path, set[Path]], room_of: Callable[[Path], Path]) -> dict[Path, set[Path]]:
    """Return the arrows between rooms; a module beside the folders of its floor is a node of its own."""
    between: dict[Path, set[Path]] = {}
    for path, others in arrows.items():
        room = room_of(path)
        between.setdefault(room, set()).update({room_of(other) for other in others} - {room})
    return between


def room_of(path: Path) -> Path:
    """Give the folder of a module, or itself where that is a floor."""
    return path if path.parent.parent == ROOT else path.parent


def rooms_of_the_readme() -> set[Path]:
    """Return the folders that the README's table names, each with what is beneath it."""
    cells = re.findall(
        r"^\| (`(?:media|packager|origin)/.*?`) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    rooms = set[Path]()
    for cell in cells:
        first, *others = [Path(name) for name in cell.strip("`").split("` `")]
        rooms |= {ROOT / first, *(ROOT / first.parts[0] / name for name in others)}
    return rooms


def test_no_rooms_of_the_readme_import_each_other_in_a_circle() -> None:
    """A room is more than a folder: what is beneath it belongs to it."""
    rooms = rooms_of_the_readme()

    def outer_room(path: Path) -> Path:
        return next((folder for folder in path.parents if folder in rooms), path)

    assert {path for path in MODULES if outer_room(path) == path} <= {
        path for path in MODULES if path.parent.parent == ROOT
    }, "each module is in a room or beside the rooms of its floor"
    assert circles(arrows_between({path: known_modules(path) for path in MODULES}, outer_room)) == []


def test_the_check_of_circles_sees_one_of_any_length() -> None:
    a, b, c, d = map(Path, "abcd")
    assert circles({a: {b}, b: {c}, c: {a}, d: {a}}) == [[a, b, c]]
    assert circles({a: {b}, b: {c}, d: {a}}) == []


@pytest.mark.parametrize(
    "text",
    [
        "from origin.http1.protocol import HttpProtocol",
        "from origin.http1 import protocol",
        "import origin.http1.protocol",
        "def f():\n    from origin.http1.protocol import HttpProtocol",
        "if TYPE_CHECKING:\n    from origin.http1.protocol import HttpProtocol",
    ],
)
def test_the_check_of_circles_sees_each_way_to_close_one(tmp_path: Path, text: str) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(text)
    pure, wire = ROOT / "origin/http/byte_ranges.py", ROOT / "origin/http1/protocol.py"
    arrows = {path: known_modules(path) for path in MODULES}
    assert pure in reached(wire, arrows)
    arrows[pure] = known_modules(planted)
    assert any({pure, wire} <= set(group) for group in circles(arrows))
    assert [{ROOT / "origin/http", ROOT / "origin/answers", ROOT / "origin/http1"}] == [
        set(group) for group in circles(arrows_between(arrows, room_of))
    ]


def test_what_a_folder_gives_out_counts_as_what_its_face_imports(tmp_path: Path) -> None:
    user = tmp_path / "user.py"
    user.write_text("from packager.vod import Titles")
    arrows = {path: known_modules(path) for path in (*MODULES, user)}
    assert ROOT / "packager/vod/titles.py" in reached(user, arrows)


def test_the_top_of_a_floor_holds_only_what_its_rooms_share() -> None:
    loose = {str(path.relative_to(ROOT)) for path in MODULES if path.parent.parent == ROOT}
    assert loose == {
        "media/__init__.py",
        "media/crc.py",
        "media/errors.py",
        "media/packets.py",
        "media/steady_times.py",
        "media/stream_reader.py",
        "origin/__init__.py",
        "packager/__init__.py",
        "packager/blocking_calls.py",
        "packager/bounded_dict.py",
        "packager/concurrency.py",
        "packager/safe_files.py",
        "packager/data_lock.py",
        "packager/fair_queue.py",
        "packager/hashed_file_cache.py",
        "packager/inflation.py",
        "packager/latency_histogram.py",
        "packager/natural_order.py",
        "packager/reader_guard.py",
        "packager/record_book.py",
        "packager/redaction.py",
        "packager/retry_policy.py",
        "packager/single_flight_cache.py",
        "packager/step_budget.py",
        "packager/threads.py",
        "packager/transient_errors.py",
    }


def test_a_room_has_only_as_many_modules_as_a_reader_keeps_in_mind() -> None:
    sizes = collections.Counter(room_of(path) for path in MODULES if path not in FACES)
    crowded_rooms = {str(room.relative_to(ROOT)) for room, size in sizes.items() if size > MODULES_IN_A_ROOM}
    assert crowded_rooms == set()


def test_the_command_lines_of_ffmpeg_are_written_in_one_room() -> None:
    room = ROOT / "packager" / "ffmpeg"
    for path in (path for path in MODULES if path.parent != room):
        assert "ffmpeg" not in imported(path), path
        assert not source_of(path).texts & {"-i", "-map", "-c:v", "-filter_complex", "-loglevel"}, path


def test_nothing_waits_in_a_way_that_loses_a_cancellation() -> None:
    """Python before 3.12 gives wait_for's result to a task that is cancelled in the same turn of the loop."""
    users = [path for path in MODULES if "asyncio.wait_for(" in path.read_text("utf-8")]
    assert users == [], "asyncio.timeout loses none"


def crowded(path: Path) -> list[str]:
    """Give the classes of a module whose constructors have too many arguments."""
    constructors = source_of(path).constructors.items()
    return [name for name, arguments in constructors if arguments > CONSTRUCTOR_ARGUMENTS]


def test_no_two_threads_are_the_first_to_decode_a_class() -> None:
    """The first decoding prepares the class, and the process crashes if two threads do that at once.

    A decoder that is made when its module is imported has prepared it.
    """
    lazily = re.compile(r"msgspec\.(json|msgpack)\.decode\([^#\n]*\btype=(?!(str|dict|list)\))[^#\n]*")
    found = {str(path): lazily.search(path.read_text(encoding="utf-8")) for path in MODULES}
    assert not {path: match[0] for path, match in found.items() if match}
    assert lazily.search("msgspec.json.decode(data, type=Sample)")


def test_no_constructor_has_more_arguments_than_a_reader_keeps_in_mind() -> None:
    assert {path: found for path in MODULES if (found := crowded(path))} == {}


def test_the_check_of_constructors_counts_arguments_of_each_kind(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "class Most:\n    def __init__(self, a, b, /, c, d, *, e, f=1): ...\n"
        "class Crowded:\n    def __init__(self, a, b, /, c, d, *, e, f, g=1): ...\n"
    )
    assert crowded(module) == ["Crowded"]


def test_the_top_level_holds_only_the_rooms() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    made = {"dist", "artifacts", "library", "__pycache__"}
    # Beside the code: what operators put in place, and what they and others read.
    assert folders - made == {"media", "packager", "origin", "player", "tests", "deploy", "docs"}


NAMES_TEST_MODULE = re.compile(r"^\s*(?:import|from)\b[^\n(]*(?:\([^)]*)?\btest_", re.MULTILINE)
"""An import of what may be a test module: few modules have one, and only these need be parsed."""


def imported_tests(path: Path) -> set[Path]:
    """Give the test modules that a module imports, or imports from."""
    if not NAMES_TEST_MODULE.search(path.read_text("utf-8")):
        return set()
    modules = {name.with_suffix(".py") for name in source_of(path).known if name.name.startswith("test_")}
    return {module for module in modules if module.exists()}


@pytest.mark.parametrize(
    "text",
    [
        "from tests.test_limits import patched_constants",
        "def f():\n    from tests.test_limits import patched_constants",
        "import tests.test_limits",
        "from tests import test_limits as limits",
        "from tests import (\n    syntax,\n    test_limits,\n)",
    ],
)
def test_the_check_of_imports_from_test_modules_sees_each_form(tmp_path: Path, text: str) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"import ast\n\n{text}\n")
    assert imported_tests(module) == {ROOT / "tests/test_limits.py"}


def test_no_module_imports_from_a_test_module() -> None:
    """Helpers that tests share are in modules beside them."""
    paths = (ROOT / "tests").rglob("*.py")
    assert {path: found for path in paths if (found := imported_tests(path))} == {}


def test_no_file_of_tests_is_longer_than_one_subject_needs() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > TEST_LINES} == {}
