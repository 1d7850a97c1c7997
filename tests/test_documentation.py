"""The README and the pages of ``docs/``: their form, links, commands, and what they say of the code."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from origin.cli.main import cli
from origin.config.load import validate
from origin.live.requests.playlist_requests import refusal_max_age
from origin.server.tables.config_reload import TAKEN, TAKEN_ACCESS, TAKEN_LIMITS
from tests.configuration_reference import PAGE, described_options, generated_page

ROOT = Path(__file__).parent.parent
FLOORS = ("media", "packager", "origin")
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
OTHERS = (
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    ROOT / "deploy" / "README.md",
)
DOCUMENTS = (README, *PAGES, *OTHERS)

MOST_README_LINES = 150
MOST_PARAGRAPH_LINES = 6
MOST_STATIONS = 10
"""Modules of one journey that a newcomer reads one after the other."""

LEAST_REPEATED_WORDS = 9
"""Sentences that are shorter than this may occur on two pages."""

ENTRIES = ("HTTPS in front", "protect it", "limits", "back up", "upgrade")
"""What a person looks up in the index, and finds in one step."""

TARGETS = ("dev", "check", "test", "quick", "coverage", "clauses", "format", "bench", "audit", "fuzz", "soak")

ROOM = re.compile(r"`([a-z0-9_/]+)`")
STATION = re.compile(r"    ((?:media|packager|origin)/\S+\.py) +\S")
COMMAND = re.compile(r"(?:^|^[A-Z_]+=\S+ )headwater ([a-z]+\b.*)", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]*)\)")
NAMED_FILE = re.compile(
    r"\b(?:media|packager|origin|player|tests|deploy)/[\w/-]+\.(?:py|js|md|conf|png|toml|yaml)\b"
)


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def paragraphs(text: str) -> Iterator[list[str]]:
    """Yield the paragraphs of a document, each item of a list for itself; no headings, tables or code."""
    lines: list[str] = []
    for line in [*prose(text).splitlines(), ""]:
        is_item = re.match(r"\s{0,3}(?:[-*]|\d+\.) ", line) is not None
        if (not line.strip() or is_item) and lines:
            yield lines
            lines = []
        is_other = (
            not line.strip() or line.startswith(("#", "|", "![")) or (line.startswith("    ") and not lines)
        )
        if not is_other:
            lines.append(line)


def anchors(path: Path) -> set[str]:
    """Return the fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_blocks(text: str) -> list[str]:
    """Return the indented blocks of a document, without their indentation."""
    found = re.findall(r"(?:\n\n)((?:(?:    .*)?\n)*    .*\n)", text)
    return [textwrap.dedent(block) for block in found]


def told_rooms() -> list[str]:
    """Read the README's table; a name without a floor is on that of the name before it."""
    rooms: list[str] = []
    table = README.read_text().partition("| room | what lives there |\n|---|---|\n")[2].partition("\n\n")[0]
    for row in table.splitlines():
        floor = ""
        for name in ROOM.findall(row.split("|")[1]):
            above, slash, below = name.rpartition("/")
            floor = above or floor
            rooms.append(f"{floor}/{below}" if slash or floor else name)
    return [room.removesuffix("/") for room in rooms]


def journeys() -> dict[str, list[str]]:
    """Read the modules of each journey, which begins with a line in bold type."""
    text = (DOCS / "architecture.md").read_text()
    found = re.findall(r"^\*\*(.+?)\*\*.*:\n\n((?:    .+\n)+)", text, re.MULTILINE)
    return {name: STATION.findall(block) for name, block in found}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_paragraph_is_long(path: Path) -> None:
    long = [lines[0] for lines in paragraphs(path.read_text("utf-8")) if len(lines) > MOST_PARAGRAPH_LINES]
    assert long == []


def test_no_sentence_stands_on_two_pages() -> None:
    pages: Counter[str] = Counter()
    for path in (README, *PAGES):
        text = " ".join(" ".join(lines) for lines in paragraphs(path.read_text("utf-8")))
        sentences = {
            one for one in re.split(r"(?<=[.:;]) ", text) if len(one.split()) >= LEAST_REPEATED_WORDS
        }
        pages.update(sentences)
    assert [sentence for sentence, count in pages.items() if count > 1] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_begins_with_what_its_reader_can_do_then(path: Path) -> None:
    assert re.match(r"# [^\n]+\n\nAfter this page you ", path.read_text("utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(path: Path) -> None:
    links = [link for _, link in LINK.findall(prose(path.read_text("utf-8"))) if ":" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_names_every_page() -> None:
    linked = {link.partition("#")[0] for _, link in LINK.findall((DOCS / "README.md").read_text())}
    assert [path.name for path in PAGES if path.name not in linked | {"README.md"}] == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_index_leads_straight_to_what_people_look_up(entry: str) -> None:
    (link,) = [link for text, link in LINK.findall((DOCS / "README.md").read_text()) if text == entry]
    assert "#" in link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_repository_that_a_document_names_exists(path: Path) -> None:
    named = set(NAMED_FILE.findall(path.read_text("utf-8")))
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_makefile_has_the_targets_that_a_document_names(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+)\b[^:=\n]*:(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^    |`)make ([a-z]+)", path.read_text("utf-8"), re.MULTILINE)
    assert [target for target in named if target not in targets | {"coverage"}] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_command_has_the_subcommands_and_options_that_a_document_names(path: Path) -> None:
    text = path.read_text("utf-8")
    written = "\n".join([*code_blocks(text), *re.findall(r"`([^`\n]+)`", text)])
    for found in COMMAND.findall(written):
        name, *words = found.partition("  #")[0].split()
        command = cli.commands.get(name)
        assert command is not None, found
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        options = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
        assert options <= known, found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_in_a_document_is_valid(path: Path) -> None:
    """Blocks that begin with a table are whole sections; a comment may name the file before it."""
    blocks = [
        one for one in code_blocks(path.read_text("utf-8")) if re.match(r"(?:#.*\n)?\[\[?\w+\]\]?\n", one)
    ]
    for block in blocks:
        for part in re.split(r"(?m)^(?=# \S+\.toml$)", block):
            validate(tomllib.loads(part.replace("…", "long-enough")), str(path))


def test_the_table_of_keys_is_the_one_that_the_code_gives() -> None:
    text = PAGE.read_text("utf-8")
    assert text == generated_page(text), "run `make docs`"


def test_options_that_need_no_restart_exist() -> None:
    assert {option.key for option in described_options()} >= TAKEN | TAKEN_ACCESS | TAKEN_LIMITS


def test_every_key_says_what_it_means_and_in_which_unit() -> None:
    numbers = ("number", "whole number")
    for option in described_options():
        assert len(option.meaning.split()) >= 4, option.key
        measures = re.search(r"_(?:seconds|bytes|rate|duration|interval)$", option.key)
        assert option.unit or not (measures and option.kind.startswith(numbers)), option.key


def test_every_room_is_named_once_and_no_other() -> None:
    rooms = [
        f"{floor}/{path.name}"
        for floor in FLOORS
        for path in (ROOT / floor).iterdir()
        if (path / "__init__.py").is_file()
    ]
    assert sorted(told_rooms()) == sorted([*rooms, "player"])


def test_there_is_a_journey_for_each_kind_of_stream() -> None:
    vod = ["A VOD segment", "A segment that is encoded on request"]
    names = ["A range", "A part", "An MP3 frame", *vod, "A publisher's stream", "An event"]
    names += ["A language model's answer", "A permission"]
    assert list(journeys()) == names


@pytest.mark.parametrize("name", journeys())
def test_a_journey_has_few_stations_all_of_which_exist(name: str) -> None:
    stations = journeys()[name]
    assert 0 < len(stations) <= MOST_STATIONS
    assert [station for station in stations if not (ROOT / station).is_file()] == []


def test_developers_are_told_of_every_target_that_checks_or_measures() -> None:
    text = (DOCS / "developing.md").read_text()
    for target in (
        "dev",
        "check",
        "test",
        "quick",
        "coverage",
        "clauses",
        "format",
        "bench",
        "audit",
        "fuzz",
        "soak",
    ):
        assert f"\n    make {target} " in text


def test_how_long_failures_may_be_kept_is_told_as_the_headers_say_it() -> None:
    text = " ".join((DOCS / "caches.md").read_text("utf-8").split())
    found = re.search(r"at most (\w+) target duration \(`max-age`\), one for .{,40} directives (\w+),", text)
    assert found is not None
    numbers = {"a": 1, "four": 4}
    assert [numbers[word] for word in found.groups()] == [
        refusal_max_age(1, is_blocking=False),
        refusal_max_age(1, is_blocking=True),
    ]
