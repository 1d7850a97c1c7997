"""Dependencies are those of the lock file and of docs/dependencies.md, and none is known as unsafe."""

from __future__ import annotations

import functools
import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

CLASSIFIED = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
}
"""SPDX identifiers of what older packages say in classifiers, or as the name of their licence."""

PLAYERS = ("hls.js", "shaka-player")
"""What the page plays with, from npm."""

FLOORS = {"starlette": (1, 3, 1), "h11": (0, 16, 0), "uvicorn": (0, 52, 1)}
"""Below these there are known holes: CVE-2025-62727, CVE-2025-43859, and those of uvicorn's changelog."""


class Row(NamedTuple):
    """A dependency as docs/dependencies.md describes it."""

    name: str
    version: str
    released: str
    licence: str
    use: str


@functools.cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@functools.cache
def locked() -> dict[str, list[dict[str, Any]]]:
    """Give the packages of the lock file by name; newest first where older Pythons have another."""
    found: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        found.setdefault(package["name"], []).append(package)
    for several in found.values():
        several.sort(key=lambda package: version(package.get("version", "0")), reverse=True)
    return found


@functools.cache
def player() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "player" / "package-lock.json").read_text())["packages"]
    return found


@functools.cache
def told() -> dict[str, Row]:
    """Read the table of dependencies."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    lines = text.partition("| dependency | version | released | licence | what for |\n")[2].splitlines()
    rows = [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in _table(lines)]
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row for row in rows}


def _table(lines: list[str]) -> list[str]:
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return lines[1:end]


@functools.cache
def direct() -> set[str]:
    """Name what pyproject.toml asks for."""
    named = project()
    wanted = [*named["project"]["dependencies"], *named["build-system"]["requires"]]
    for group in (*named["project"]["optional-dependencies"].values(), *named["dependency-groups"].values()):
        wanted += group
    return {re.split(r"[^A-Za-z0-9._-]", one)[0].lower() for one in wanted}


def licence_of(name: str) -> str:
    """Give the licence that an installed package's metadata name, as an SPDX expression."""
    fields = metadata(name).json
    if expression := fields.get("license_expression"):
        return str(expression)
    named = str(fields.get("license", "")).strip()
    # Some have the whole text there.
    if (title := named.partition("\n")[0]) in CLASSIFIED:
        return CLASSIFIED[title]
    if named and named != "UNKNOWN" and len(named) < 60:
        return CLASSIFIED.get(named, named)
    classifiers = [
        line for line in fields.get("classifier", []) if line.startswith("License :: OSI Approved")
    ]
    return " OR ".join(CLASSIFIED[line.rpartition(" :: ")[2]] for line in classifiers)


def test_the_documentation_tells_of_every_direct_dependency_and_of_no_other() -> None:
    assert set(told()) == direct() | set(PLAYERS)
    assert all(row.use for row in told().values())


@pytest.mark.parametrize("name", sorted(direct()))
def test_the_documentation_tells_what_the_lock_file_and_the_package_say(name: str) -> None:
    row, packages = told()[name], locked()[name]
    package = packages[0]
    assert row.version == package["version"]
    files = [package["sdist"]] if "sdist" in package else package["wheels"]
    assert row.released == files[0]["upload-time"][:10]
    try:
        installed = metadata(name)["Version"]
    except PackageNotFoundError:
        pytest.skip("not installed here: an extra, or for tests that weren't set up")
    assert installed in [one["version"] for one in packages]
    assert row.licence == licence_of(name)


@pytest.mark.parametrize("name", PLAYERS)
def test_the_documentation_tells_what_the_players_lock_file_says(name: str) -> None:
    row, package = told()[name], player()[f"node_modules/{name}"]
    assert (row.version, row.licence) == (package["version"], package["license"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.released)
    assert set(player()) == {"", *(f"node_modules/{one}" for one in PLAYERS)}


def test_every_locked_file_is_named_with_its_hash() -> None:
    """What is fetched is what was locked, or isn't installed."""
    for name, package in ((name, one) for name, several in locked().items() for one in several):
        if name == "headwater":
            continue
        assert package["source"] == {"registry": "https://pypi.org/simple"}, name
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, name
        for file in files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), name
            assert file["url"].startswith("https://files.pythonhosted.org/"), name
    for name in PLAYERS:
        assert player()[f"node_modules/{name}"]["integrity"].startswith("sha512-")


def test_nothing_is_locked_below_what_is_safe_and_nothing_older_is_allowed() -> None:
    asked = " ".join(project()["project"]["dependencies"])
    for name, floor in FLOORS.items():
        if name not in locked():
            continue
        assert all(version(one["version"]) >= floor for one in locked()[name]), name
        allowed = re.search(rf"\b{name}>=([0-9.]+)", asked)
        assert name == "h11" or (allowed is not None and version(allowed[1]) >= floor), name


def version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
