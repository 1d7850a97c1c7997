"""What has to be shown has a test that says so by its marker, and what markers say is well-formed."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest

from media.hls.media_playlist import MediaPlaylist, Segment
from tests.clauses import MARKER, is_clause, is_sentence
from tests.conformance.requirements import NOT_TESTED, REQUIREMENTS, SERVER_RULES, Rule
from tests.markers import ROOT, table

COUNTS = {
    "6.2.1": (24, 8),
    "6.2.2": (12, 2),
    "6.2.3": (5, 0),
    "6.2.4": (2, 2),
    "6.2.5.1": (5, 0),
    "6.2.5.2": (6, 3),
    "6.2.6": (3, 6),
}
"""How many rules with MUST and with SHOULD each section has; those of the second of 6.2.4 are lettered."""


@functools.cache
def shown() -> dict[str, list[str]]:
    return table([ROOT / "tests"], MARKER)


@pytest.mark.parametrize("rule", SERVER_RULES, ids=lambda rule: rule.clause)
def test_a_rule_for_servers_has_a_test_or_a_reason(rule: Rule) -> None:
    assert (rule.clause in shown()) != bool(rule.reason)


def test_no_rule_of_the_draft_is_missing() -> None:
    expected = {
        f"RFC 8216bis §{section} {word} {n}"
        for section, counts in COUNTS.items()
        for word, count in zip(("MUST", "SHOULD"), counts, strict=True)
        for n in range(1, count + 1)
    }
    expected |= {f"RFC 8216bis §6.2.4 MUST 2{letter}" for letter in "abcdefghij"}
    expected.add("RFC 8216bis §6.2.3 SHALL 1")
    assert sorted(rule.clause for rule in SERVER_RULES) == sorted(expected)


def test_every_requirement_has_a_test() -> None:
    assert len(set(REQUIREMENTS)) == len(REQUIREMENTS)
    assert [one for one in REQUIREMENTS if one not in shown()] == []
    assert not NOT_TESTED.keys() & shown().keys()


def test_what_markers_say_is_a_known_standards_clause_or_a_sentence_of_the_list() -> None:
    rules = {rule.clause for rule in SERVER_RULES}
    for clause, tests in shown().items():
        if is_clause(clause):
            # A numbered rule is one of those of the draft.
            assert clause in rules or not re.search("MUST|SHOULD|SHALL", clause), (clause, tests)
        else:
            assert is_sentence(clause), (clause, tests)
            assert clause in REQUIREMENTS, (clause, tests)
        for test in tests:
            path, _, function = test.partition("::")
            assert path.rpartition("/")[2].startswith("test_"), test
            assert function.startswith("test_"), test


@pytest.mark.parametrize(
    "text",
    [
        "RFC 9110 §14.1.2",
        "RFC 8216bis Appendix B",
        "RFC 8216bis §6.2.4 MUST 2c",
        "ISO/IEC 14496-12 §8.8.7",
        "WHATWG Fetch §3.3",
        "CVE-2011-3192",
        "CWE-22",
    ],
)
def test_clauses_of_standards_are_known(text: str) -> None:
    assert is_clause(text)
    assert not is_sentence(text)


@pytest.mark.parametrize(
    "text",
    [
        "RFC 9110",
        "RFC 9110 14.1.2",
        "RFC9110 §14",
        "RFC 9110 §",
        "9110 §14.1.2",
        "ISO 14496 §8",
        "line 23",
        "A17",
        "",
        "CVE-2011",
        "W3C §4",
        "§14.1.2",
        "RFC 9110 §14.1.2 and what follows it",
        "Two words",
        "No full stops. Here",
    ],
)
def test_what_is_neither_a_clause_nor_a_sentence_is_refused(text: str) -> None:
    assert not is_clause(text)
    assert not is_sentence(text)


def test_the_command_prints_each_clause_with_its_tests() -> None:
    path = "tests/conformance/test_clauses.py"
    done = subprocess.run(
        [sys.executable, "-m", "tests.clauses", path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == (
        "RFC 8216bis §6.2.1 SHOULD 5\n"
        f"    {path}::test_the_version_is_what_the_tags_need\n"
        "RFC 8216bis §6.2.2 MUST 2\n"
        f"    {path}::test_the_media_sequence_number_is_the_first_segments\n"
        "RFC 8216bis §8\n"
        f"    {path}::test_the_version_is_what_the_tags_need\n"
    )


@pytest.mark.clause("RFC 8216bis §8", "RFC 8216bis §6.2.1 SHOULD 5")
def test_the_version_is_what_the_tags_need() -> None:
    """It is 6 for EXT-X-MAP outside of I-frame playlists, and 9 for EXT-X-SKIP."""
    assert MediaPlaylist(1, [Segment("a")]).version == 6
    assert MediaPlaylist(1, [Segment("a")], skipped_segments=3).version == 9


@pytest.mark.clause("RFC 8216bis §6.2.2 MUST 2")
def test_the_media_sequence_number_is_the_first_segments() -> None:
    playlist = MediaPlaylist(1, [Segment("7.m4s")], media_sequence_number=7)
    assert "#EXT-X-MEDIA-SEQUENCE:7\n" in playlist.render()
