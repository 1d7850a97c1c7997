"""``python -m tests.promises``: the promises of the documentation that no test of the first tier holds.

A promise is what users rely on: an address of ``docs/addresses.md``, a command of ``docs/command.md``, a key
of the table of ``docs/configuration.md``. Tests that use one as a user does name it by their markers
(``@pytest.mark.promise``).
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping

from tests.markers import ROOT, table
from tests.syntax import nodes, tree_of
from tests.tiers import TESTS, second_tier

MARKER = "promise"

COMMAND = re.compile(r"^ {4}(headwater [a-z]+)", re.MULTILINE)
ADDRESS = re.compile(r"`(?:([A-Z]+) )?(/[^`]*|…[/?][^`]*)`")
KEY = re.compile(r"`([a-z_0-9]+\.[a-z_0-9]+)`")

SHOWN_BY_PARTS: Mapping[str, str] = {
    "library.cache": (
        "packager/s3/test_object_reader.py::test_what_is_cached_stays_within_its_limit_and_the_oldest_goes"
    ),
    "radio.recordings_size": (
        "packager/recordings/test_recordings.py"
        "::test_the_oldest_go_where_all_are_too_much_but_never_the_latest"
    ),
    "radio.lagging": (
        "origin/radio/mounts/test_radio_events.py::test_a_listener_that_is_set_forward_is_told_where_it_goes_on"
    ),
    "limits.dvr_waiting_bytes": (
        "packager/dvr/test_dvr_faults.py"
        "::test_a_disk_that_hangs_costs_the_dvr_once_its_memory_is_full_and_no_line_changes_twice"
    ),
    "limits.vod_index_bytes": (
        "packager/vod/index/test_index_memory_budget.py"
        "::test_many_that_are_asked_for_at_once_take_no_more_than_their_limit"
    ),
}
"""Keys whose effect a server shows only with a device, a slow disk or a full memory, or after minutes, by the
test of the part of the program that has it."""


def first_cells(page: str) -> Iterator[str]:
    """Yield the first cell of each row of a page's tables."""
    for line in ROOT.joinpath("docs", page).read_text("utf-8").splitlines():
        if line.startswith("| "):
            yield line.split("|")[1]


def addresses() -> list[str]:
    """Return the addresses that are documented, each of them whole, after its method where it has one.

    "…/" stands for the folder of the address before, unless it is the first one.
    """
    listed, folder = dict[str, None](), ""
    for cell in first_cells("addresses.md"):
        for method, path in ADDRESS.findall(cell):
            if path.startswith("/"):
                folder = path.partition("?")[0].rpartition("/")[0]
            listed[f"{method} {path.replace('…', folder, 1) if path.startswith('…/') else path}".strip()] = (
                None
            )
    return list(listed)


def commands() -> list[str]:
    """Return the commands that are documented."""
    text = ROOT.joinpath("docs", "command.md").read_text("utf-8")
    return list(dict.fromkeys(COMMAND.findall(text)))


def keys() -> list[str]:
    """Return the keys of the configuration that are documented."""
    return [key for cell in first_cells("configuration.md") for key in KEY.findall(cell)]


def promises() -> list[str]:
    """Return all promises."""
    return [*addresses(), *commands(), *keys()]


def named() -> dict[str, list[str]]:
    """Return the tests that name each promise, below the folder of the tests."""
    return {
        promise: [test.removeprefix("tests/") for test in tests]
        for promise, tests in table([TESTS], MARKER).items()
    }


def held() -> dict[str, list[str]]:
    """Return the tests of the first tier that name each promise."""
    return {
        promise: first for promise, tests in named().items() if (first := [*filter(is_in_first_tier, tests)])
    }


def is_in_first_tier(test: str) -> bool:
    """Return whether a test, or a case of it, is in the first tier."""
    tier = second_tier()
    return not tier.contains(test) or any(name.startswith(f"{test}[") for name in tier.exceptions)


def sources(test: str) -> Iterator[str]:
    """Yield the text of a test's file, of each ``conftest.py`` for it, and of the modules that it imports."""
    path = TESTS / test.partition("::")[0]
    files = {path, *(folder / "conftest.py" for folder in path.parents if folder.is_relative_to(TESTS))}
    for node in nodes(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests."):
            files.add(ROOT.joinpath(*node.module.split(".")).with_suffix(".py"))
    for file in sorted(files):
        if file.is_file():
            yield file.read_text("utf-8")


def configures(test: str, key: str) -> bool:
    """Tell whether a test's sources give a key a value, in a table, a variable or an option."""
    section, _, name = key.partition(".")
    text = "\n".join(sources(test))
    variable = f"HEADWATER_{key.replace('.', '_').upper()}"
    is_in_table = re.search(rf"\[{section}\]", text) is not None and (
        re.search(rf"(?:\b|\\n){name}[\"']?(?: = |: )", text) is not None
    )
    return is_in_table or variable in text or f'"--{name.replace("_", "-")}"' in text


def missing() -> list[str]:
    """Return the promises that no test of the first tier holds."""
    known = held().keys() | SHOWN_BY_PARTS.keys()
    return [promise for promise in promises() if promise not in known]


if __name__ == "__main__":
    sys.stdout.writelines(f"{promise}\n" for promise in missing())
