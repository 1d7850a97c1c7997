"""The table of server rules is whole, and what it names is there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from media.hls.media_playlist import MediaPlaylist, Segment
from tests.conformance.ll_hls_rules import LINES, RULES, Rule

ROOT = Path(__file__).parent.parent.parent

COUNTS = {
    "6.2.1": (24, 8),
    "6.2.2": (12, 2),
    "6.2.3": (5, 0),
    "6.2.4": (2, 2),
    "6.2.5.1": (5, 0),
    "6.2.5.2": (6, 3),
    "6.2.6": (3, 6),
}
"""How many rules with MUST and with SHOULD each section has; those of 6.2.4-M2 are lettered a to j."""


@functools.cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def assert_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert name.startswith("test_"), test
    assert name in functions_of(path), f"no such test: {test}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_tests_that_exist_or_a_reason(rule: Rule) -> None:
    assert bool(rule.tests) != bool(rule.reason)
    for test in rule.tests:
        assert_exists(test)


def test_no_rule_of_the_draft_is_missing() -> None:
    names = [rule.name for rule in RULES]
    expected = {
        f"{section}-{kind}{n}"
        for section, counts in COUNTS.items()
        for kind, count in zip("MS", counts, strict=True)
        for n in range(1, count + 1)
    }
    expected |= {f"6.2.4-M2{letter}" for letter in "abcdefghij"} | {"6.2.3-SHALL1"}
    assert sorted(names) == sorted(expected)


def test_every_line_of_the_list_has_a_test_that_names_it_or_a_reason() -> None:
    named: set[int] = set()
    for path in sorted((ROOT / "tests/conformance").glob("test_live_*.py")):
        for name in functions_of(str(path.relative_to(ROOT))):
            if found := re.match(r"test_line_(\d+)(?:_and_(\d+))?_", name):
                named |= {int(number) for number in found.groups() if number}
    for line, tests in LINES.items():
        named.add(line)
        for test in tests:
            if not test.startswith("reason: "):
                assert_exists(test)
    assert named == set(range(1, 29))


def test_the_version_is_what_the_tags_need() -> None:
    """§8: 6 for EXT-X-MAP outside of I-frame playlists, 9 for EXT-X-SKIP."""
    assert MediaPlaylist(1, [Segment("a")]).version == 6
    assert MediaPlaylist(1, [Segment("a")], skipped_segments=3).version == 9


def test_the_media_sequence_number_is_the_first_segments() -> None:
    playlist = MediaPlaylist(1, [Segment("7.m4s")], media_sequence_number=7)
    assert "#EXT-X-MEDIA-SEQUENCE:7\n" in playlist.render()
