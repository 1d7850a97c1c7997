"""``docs/from-icecast.md`` names every key of Icecast's configuration, and keys that there are here."""

from __future__ import annotations

import re
import tomllib
import typing
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import msgspec
import pytest

from origin.config.load import validate
from origin.config.options import Config

DOCUMENT = Path(__file__).parent.parent / "docs" / "from-icecast.md"
EXAMPLE = Path("/etc/icecast2/icecast.xml")
CODE = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[list[str], list[str]]]:
    """Read the table: Icecast's keys, and those that are theirs here."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    cells = [line.split("|") for line in lines]
    return [(CODE.findall(cell[1]), CODE.findall(cell[2])) for cell in cells]


def known() -> set[str]:
    """Name all keys of the configuration as ``section.key``."""
    found = set[str]()
    for section, hint in typing.get_type_hints(Config).items():
        table = hint if isinstance(hint, type) else typing.get_args(hint)[0]
        found |= {f"{section}.{field.name}" for field in msgspec.structs.fields(table)}
    return found


def test_every_key_that_it_names_exists() -> None:
    named = {key for _, ours in rows() for key in ours}
    assert len(named) > 20
    assert named <= known()
    # So do those in the third column.
    spoken = {key for key in CODE.findall(DOCUMENT.read_text()) if re.fullmatch(r"[a-z]+\.[a-z_]+", key)}
    assert {key for key in spoken if key.partition(".")[0] in {"server", "radio", "limits", "log"}} <= known()


def test_no_key_of_icecasts_is_told_twice() -> None:
    theirs = [key for keys, _ in rows() for key in keys]
    assert len(theirs) == len(set(theirs)) > 60


@pytest.mark.skipif(not EXAMPLE.exists(), reason="Icecast's example isn't installed (Debian: icecast2)")
def test_it_names_every_key_of_icecasts_example() -> None:
    told = {key.partition(" (")[0] for keys, _ in rows() for key in keys}
    text = EXAMPLE.read_text()
    # Most of the example is commented out, and the comments are partly prose.
    uncommented = re.sub(r"<!--(?!\s*<)(?:.|\n)*?-->", "", text).replace("<!--", "").replace("-->", "")
    uncommented = re.sub(
        r"(?m)^\s*(You don't|Please refer|Only define|like alternative|4 Debug).*$", "", uncommented
    )
    top = ElementTree.fromstring(re.sub(r"&(?!\w+;)", "&amp;", uncommented))
    found = set[str]()
    for one in top:
        found |= {f"{one.tag}/{child.tag}" for child in one} or {one.tag}
    assert len(found) > 40
    assert found - told == set()


def test_its_configuration_is_valid() -> None:
    block = re.search(
        r"(?:^    .*\n|^\n)+", DOCUMENT.read_text().partition("`server.admin_token`.\n")[2], re.MULTILINE
    )
    assert block is not None
    config = validate(tomllib.loads(block[0].replace("…", "secret")), "the document")
    assert [one.name for one in config.radio] == ["morning.mp3", "night.mp3"]
