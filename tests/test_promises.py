"""Each promise of the documentation is held by a test of the first tier, which names it by its marker."""

from __future__ import annotations

import click

from origin.cli.main import cli
from tests.markers import table
from tests.promises import (
    SHOWN_BY_PARTS,
    addresses,
    commands,
    configures,
    held,
    is_in_first_tier,
    keys,
    missing,
    named,
    promises,
)
from tests.tiers import TESTS


def test_each_address_command_and_key_is_held_by_a_test_of_the_first_tier() -> None:
    assert missing() == []


def test_all_clauses_but_a_few_are_held_by_a_test_of_the_first_tier() -> None:
    """The number of the others may only get smaller."""
    clauses = table([TESTS], "clause").items()
    others = [
        clause
        for clause, tests in clauses
        if not any(is_in_first_tier(test.removeprefix("tests/")) for test in tests)
    ]
    assert len(others) <= 28, others


def test_keys_that_are_shown_by_parts_alone_have_a_test_of_the_first_tier_too() -> None:
    assert len(SHOWN_BY_PARTS) <= 5
    assert SHOWN_BY_PARTS.keys() & held().keys() == set()
    assert SHOWN_BY_PARTS.keys() <= set(keys())
    for test in SHOWN_BY_PARTS.values():
        file, _, name = test.partition("::")
        assert is_in_first_tier(test), test
        assert f"def {name}" in TESTS.joinpath(file).read_text("utf-8"), test


def test_what_tests_say_that_they_hold_is_documented() -> None:
    assert sorted(set(named()) - set(promises())) == []


def test_who_holds_a_key_gives_it_a_value() -> None:
    known = held()
    wrong = [(key, test) for key in keys() for test in known.get(key, ()) if not configures(test, key)]
    assert wrong == []


def test_each_command_is_documented() -> None:
    assert isinstance(cli, click.Group)
    assert sorted(commands()) == sorted(f"headwater {name}" for name in cli.commands)


def test_promises_are_read_from_the_pages() -> None:
    assert {"/live/CHANNEL/clip.m4a?…", "/t/TOKEN/…", "POST /events", "/admin/killsource"} <= set(addresses())
    assert len(addresses()) > 90
    assert len(keys()) > 200
    assert len(promises()) == len(set(promises()))
