"""The files by which a project introduces itself say what the project's own files say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    assert project()["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) ")


def test_the_changelog_has_a_section_for_what_comes_and_one_for_this_version() -> None:
    sections = re.findall(
        r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == project()["version"]
    assert all(date for _, date in sections[1:])


def test_the_hooks_run_what_make_check_runs_and_download_nothing() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck: setup\n")[2].partition("\n\n")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"- repo: (.+)", hooks) == ["local"]
    entries = re.findall(r"entry: (.+)", hooks)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert entries == [command.partition(" || ")[0] for command in commands]
    for setting in ("language: system", "pass_filenames: false"):
        assert hooks.count(f"        {setting}\n") == len(entries), setting


def test_what_a_contributor_reads_first_is_short() -> None:
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        assert len((ROOT / name).read_text().splitlines()) <= 50, name
