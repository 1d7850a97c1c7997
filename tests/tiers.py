"""The two tiers of the tests, and the turns in which the second one is run before changes land.

The first tier (``make test``) has each promise once: each address, command, configuration key, protocol,
container, publisher, player and clause has a test that uses it as its user does. What repeats promises over
further combinations is listed in ``tests/second_tier.txt``; ``make test-all`` runs both. CI runs the first
tier, and of the second one an eighth, and the tests of those rooms that the newest commits have changed.

``--tier first`` or ``--tier second`` selects one of the two, ``--turn N`` an eighth of the second one, to
which ``--rooms`` adds the tests of rooms of the program.

python -m tests.tiers  prints the options with which CI runs its part of the second tier.
"""

from __future__ import annotations

import datetime
import functools
import subprocess
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LIST = TESTS / "second_tier.txt"

TURNS = 8

REALTIME = "realtime"
"""The marker of tests that need real time; files with such tests are known by the word."""

NEWEST_COMMITS = 12
"""How many commits are looked at for the rooms that they change."""

ROOM_SECONDS = 200.0
"""Most processor time of the tests that are added to a turn for the rooms that were changed."""

TESTS_OF_ROOMS: Mapping[str, tuple[str, ...]] = {
    "media/hls": ("packager/publish", "conformance"),
    "media/dash": ("packager/publish", "conformance"),
    "media/mp4": ("packager/vod", "packager/segment"),
    "media/matroska": ("packager/vod",),
    "media/ts": ("packager/vod", "packager/sources"),
    "media/muxers": ("packager/live",),
    "media/rtmp": ("origin/ingest",),
    "media/flv": ("origin/ingest",),
    "media/subtitles": ("packager/vod",),
    "packager/cluster": ("origin/cluster",),
    "packager/dvr": ("origin/live",),
    "packager/encode": ("origin/vod",),
    "packager/ffmpeg": ("packager/live", "packager/encode"),
    "packager/live": ("origin/live",),
    "packager/past": ("origin/live",),
    "packager/programmes": ("origin/programmes",),
    "packager/publish": ("origin/live",),
    "packager/radio": ("origin/radio",),
    "packager/recordings": ("origin/recordings",),
    "packager/replication": ("origin/workers",),
    "packager/s3": ("origin/vod",),
    "packager/segment": ("packager/live",),
    "packager/sources": ("origin/ingest",),
    "packager/vod": ("origin/vod",),
    "packager/window": ("packager/publish", "origin/live"),
    "origin/access": ("origin/server", "cdn"),
    "origin/answers": ("origin/http1", "origin/library"),
    "origin/fan_out": ("origin/events", "origin/radio"),
    "origin/files": ("origin/library", "conformance"),
    "origin/http": ("origin/library", "conformance"),
    "origin/http1": ("conformance",),
    "origin/http2": ("conformance",),
    "origin/http_streams": ("origin/http2", "origin/http3"),
    "player": ("e2e",),
    "deploy": ("cdn", "deploy"),
}
"""Folders of tests that show more of a room than its own folder does, which is always among them."""


@dataclass(frozen=True, slots=True)
class SecondTier:
    """The tests of the second tier.

    Attributes:
        entries: files, tests and cases as pytest names them below the folder of the tests, each with the
            seconds of processor that it takes.
        exceptions: those of them that are in the first tier.
    """

    entries: Mapping[str, float]
    exceptions: frozenset[str]

    def contains(self, test: str) -> bool:
        """Return whether a test is of the second tier: its own entry counts before that of its file."""
        for name in (test, test.partition("[")[0], test.partition("::")[0]):
            if name in self.exceptions:
                return False
            if name in self.entries:
                return True
        return False

    def is_whole(self, file: str) -> bool:
        """Return whether all tests of a file are of the second tier."""
        return file in self.entries and not any(name.startswith(f"{file}::") for name in self.exceptions)

    def seconds(self) -> dict[str, float]:
        """Return the processor time of each file's tests of the second tier."""
        files: dict[str, float] = {}
        for name, seconds in self.entries.items():
            file = name.partition("::")[0]
            files[file] = files.get(file, 0.0) + seconds
        return files


def read_list(text: str) -> SecondTier:
    """Read the list of the second tier: lines of seconds, or ``-`` for an exception, and a test's name.

    Raises:
        ValueError: a line has another form, or a name comes twice.
    """
    entries, exceptions = dict[str, float](), set[str]()
    for line in text.splitlines():
        if not line or line.startswith(("#", "[")):
            continue
        seconds, _, name = line.partition(" ")
        name = name.strip()
        if not name or name in entries or name in exceptions:
            raise ValueError(f"{LIST.name}: {line!r}")
        if seconds == "-":
            exceptions.add(name)
        else:
            entries[name] = float(seconds)
    return SecondTier(entries, frozenset(exceptions))


@functools.cache
def second_tier() -> SecondTier:
    """Return the tests of the second tier."""
    return read_list(LIST.read_text("utf-8"))


def turn_of(file: str) -> int:
    """Return the turn of a file of tests, from 1 on, which others don't change that come or go."""
    return zlib.crc32(file.encode()) % TURNS + 1


def tests_of(rooms: Iterable[str]) -> set[str]:
    """Return the folders of tests that show what is in these rooms of the program, and test files."""
    return {folder for room in rooms for folder in (room, *TESTS_OF_ROOMS.get(room, ()))}


def files_of(rooms: Iterable[str], seconds: Mapping[str, float]) -> list[str]:
    """Return the files of the second tier that show what is in some rooms, up to a bound in time.

    Args:
        seconds: the processor time of each file of the second tier.
    """
    folders, files, left = tests_of(rooms), list[str](), ROOM_SECONDS
    for file in sorted(seconds, key=seconds.__getitem__):
        is_wanted = file in folders or any(file.startswith(f"{folder}/") for folder in folders)
        if is_wanted and (left := left - seconds[file]) >= 0:
            files.append(file)
    return files


def room_of(path: str) -> str:
    """Return the room of a file of the program, or a test file itself; "" for any other file."""
    parts = Path(path).parts
    if parts[0] == "tests":
        return path.removeprefix("tests/") if parts[-1].startswith("test_") else ""
    if parts[0] in {"player", "deploy"}:
        return parts[0]
    return "/".join(parts[:2]) if parts[0] in {"media", "packager", "origin"} and len(parts) > 2 else ""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--tier", choices=("first", "second"), help="only the tests of this tier")
    parser.addoption(
        "--turn", type=int, choices=range(1, TURNS + 1), help="only this turn of the second tier"
    )
    parser.addoption("--rooms", default="", help="and the second tier's tests of these rooms, with commas")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which no test is run."""
    if collection_path.suffix != ".py" or not collection_path.is_relative_to(TESTS):
        return None
    if config.getoption("markexpr") == REALTIME and f"mark.{REALTIME}" not in collection_path.read_text(
        "utf-8"
    ):
        return True
    tier = config.getoption("--tier")
    if tier is None:
        return None
    file = str(collection_path.relative_to(TESTS))
    if tier == "first":
        return second_tier().is_whole(file) or None
    return None if file in _selected_files(config.getoption("--turn"), config.getoption("--rooms")) else True


@functools.cache
def _selected_files(turn: int | None, rooms: str) -> frozenset[str]:
    seconds = second_tier().seconds()
    if turn is None:
        return frozenset(seconds)
    return frozenset(files_of(filter(None, rooms.split(",")), seconds)).union(
        file for file in seconds if turn_of(file) == turn
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the other tier."""
    tier = config.getoption("--tier")
    if tier is None:
        return
    listed = second_tier()
    kept, others = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        is_second = listed.contains(item.nodeid.removeprefix("tests/"))
        (kept if is_second == (tier == "second") else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


def part_of_ci(root: Path = ROOT) -> list[str]:
    """Return the options of CI's part: a turn by the number of commits, and the rooms that were changed.

    Where there is no history, as in a source archive, the day decides.
    """

    def git(*arguments: str) -> list[str]:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    try:
        commits = int(git("rev-list", "--count", "HEAD")[0])
        changed = git("log", f"--max-count={NEWEST_COMMITS}", "--name-only", "--format=")
    except (subprocess.CalledProcessError, FileNotFoundError):
        commits, changed = datetime.date.today().toordinal(), []
    listed = second_tier().seconds()
    rooms = {room_of(path) for path in changed if path} - {""}
    rooms = {room for room in rooms if not room.endswith(".py") or room in listed}
    options = ["--tier=second", f"--turn={commits % TURNS + 1}"]
    return [*options, f"--rooms={','.join(sorted(rooms))}"] if rooms else options


if __name__ == "__main__":
    sys.stdout.write(" ".join(part_of_ci()) + "\n")
