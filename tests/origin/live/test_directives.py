"""origin.live.requests.directives: what may be asked of a live playlist (RFC 8216bis §6.2.5)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.live.requests.directives import DirectiveError, Directives, check, parse
from packager.window.cadence import cadence

CADENCE = cadence(Fraction(30), 2.0, 0.333)


@pytest.mark.clause("RFC 8216bis §6.2.5.2 MUST 6")
@pytest.mark.parametrize(
    "query",
    [
        [("_HLS_part", "0")],
        [("_HLS_msn", "-1")],
        [("_HLS_msn", "+1")],
        [("_HLS_msn", "1_0")],
        [("_HLS_msn", "")],
        [("_HLS_msn", " 1")],
        [("_HLS_msn", "\u0661")],
        [("_HLS_msn", "1.0")],
        [("_HLS_msn", "9" * 5000)],
        [("_HLS_msn", "1"), ("_HLS_part", "a")],
        [("_HLS_msn", "1"), ("_HLS_msn", "1")],
        [("token", "x" * 5000)],
    ],
)
def test_what_can_not_be_obeyed_is_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(DirectiveError):
        parse(query)


def test_directives_are_read_and_kept_out_of_the_suffix() -> None:
    query = [
        ("_HLS_msn", "12"),
        ("a", "1"),
        ("_HLS_part", "3"),
        ("_HLS_skip", "YES"),
        ("_HLS_new", "1"),
        ("b", ""),
    ]
    assert parse(query, ("a", "b")) == Directives(12, 3, skip=True, suffix="?a=1&b=")
    assert parse(query) == Directives(12, 3, skip=True)


@pytest.mark.clause("RFC 8216bis §6.2.5")
def test_directives_that_nobody_knows_are_ignored_however_often_they_come() -> None:
    """Their names are reserved, and what they will mean isn't known."""
    assert parse([("_HLS_new", "1"), ("_HLS_new", "2"), ("_HLS_report", "x"), ("_HLS_", "")]) == Directives()
    # Names are compared as they are: these are parameters like others.
    assert parse([("_hls_msn", "x"), ("_HLS_MSN", "x"), (" _HLS_msn", "x")]) == Directives()


@pytest.mark.clause("RFC 8216bis §6.2.5.1 MUST 1")
@pytest.mark.parametrize(("value", "skip"), [("YES", True), ("v2", True), ("yes", False), ("v9", False)])
def test_only_yes_and_v2_ask_for_a_delta_update(value: str, skip: bool) -> None:
    assert parse([("_HLS_skip", value)]).skip == skip


@pytest.mark.clause("A query parameter never ends an attribute or a line of a playlist")
@settings(max_examples=60, deadline=None)
@given(query=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=5))
def test_a_suffix_never_ends_an_attribute_or_a_line(query: list[tuple[str, str]]) -> None:
    try:
        suffix = parse(query, {name for name, _ in query}).suffix
    except DirectiveError:
        return
    assert not set(suffix) & set('"\r\n <>')


@pytest.mark.clause("RFC 8216bis §6.2.5.2 SHOULD 1")
@pytest.mark.parametrize(
    ("number", "part", "fine"),
    [
        (10, None, True),
        (11, None, True),
        (12, None, True),
        (13, None, False),  # more than two beyond the last
        (10, 12, True),  # nine parts beyond (10, 3): the Advance Part Limit, 3 / 0.334
        (10, 13, False),
        (11, 5, True),  # what hls.js asks for behind a finished segment of six parts
        (11, 99999, False),
        (3, 99999, True),  # long finished: the current playlist
        (10**19, None, False),
    ],
)
def test_what_lies_too_far_ahead_is_refused(number: int, part: int | None, fine: bool) -> None:
    asked = Directives(number, part)
    if fine:
        check(asked, (10, 3), CADENCE)
    else:
        with pytest.raises(DirectiveError):
            check(asked, (10, 3), CADENCE)
