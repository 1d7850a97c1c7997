"""What the README says is true: the rooms of the code, its journeys, and how long failures are kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from origin.live.playlist_request import refusal_max_age

ROOT = Path(__file__).parent.parent
FLOORS = ("media", "packager", "origin")

MOST_STATIONS = 10
"""Modules of one journey that a newcomer reads one after the other."""

ROOM = re.compile(r"`([a-z0-9_/]+)`")
STATION = re.compile(r"    ((?:media|packager|origin)/\S+\.py) +\S")


def architecture() -> str:
    text = (ROOT / "README.md").read_text()
    return text.partition("\n## Architecture\n")[2].partition("\n## ")[0]


def told_rooms() -> list[str]:
    """Read the table; a name without a floor is on that of the name before it."""
    rooms: list[str] = []
    table = architecture().partition("|---|---|\n")[2].partition("\n\n")[0]
    for row in table.splitlines():
        floor = ""
        for name in ROOM.findall(row.split("|")[1]):
            above, slash, below = name.rpartition("/")
            floor = above or floor
            rooms.append(f"{floor}/{below}" if slash or floor else name)
    return [room.removesuffix("/") for room in rooms]


def journeys() -> dict[str, list[str]]:
    """Read the modules of each journey, which begins with a line in bold type."""
    found = re.findall(r"^\*\*(.+?)\*\*.*:\n\n((?:    .+\n)+)", architecture(), re.MULTILINE)
    return {name: STATION.findall(block) for name, block in found}


def test_every_room_is_named_once_and_no_other() -> None:
    rooms = [
        f"{floor}/{path.name}"
        for floor in FLOORS
        for path in (ROOT / floor).iterdir()
        if (path / "__init__.py").is_file()
    ]
    assert sorted(told_rooms()) == sorted([*rooms, "player"])


def test_there_is_a_journey_for_each_kind_of_stream() -> None:
    names = ["A range", "A part", "An MP3 frame", "A VOD segment", "A publisher's stream", "An event"]
    assert list(journeys()) == names


@pytest.mark.parametrize("name", journeys())
def test_a_journey_has_few_stations_all_of_which_exist(name: str) -> None:
    stations = journeys()[name]
    assert 0 < len(stations) <= MOST_STATIONS
    assert [station for station in stations if not (ROOT / station).is_file()] == []


def test_every_module_and_document_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\b(?:media|packager|origin|player|tests)/[\w/]+\.(?:py|js|md|conf|png)\b", text))
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []


@pytest.mark.parametrize(
    "target", ["check", "test", "coverage", "clauses", "format", "bench", "audit", "soak"]
)
def test_the_makefile_has_the_targets_that_the_readme_names(target: str) -> None:
    assert f"\n    make {target} " in (ROOT / "README.md").read_text()
    assert re.search(rf"^{target}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_link_from_one_document_to_another_leads_somewhere() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")]
    for document in documents:
        links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == [], document


def test_how_long_failures_may_be_kept_is_told_as_the_headers_say_it() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    found = re.search(r"at most (\w+) target duration \(`max-age`\), one for .{,40} directives (\w+),", text)
    assert found is not None
    numbers = {"a": 1, "four": 4}
    assert [numbers[word] for word in found.groups()] == [
        refusal_max_age(b"", 1),
        refusal_max_age(b"_HLS_msn=7&_HLS_part=1", 1),
    ]
