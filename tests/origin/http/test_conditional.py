"""Preconditions, dates and entity-tags, decided without a server."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.http.conditional import (
    PreconditionOutcome,
    Validators,
    evaluate,
    format_date,
    parse_date,
    parse_tags,
    range_applies,
)

NOW = 1_800_000_000.0
# RFC 9110 §5.6.7's own example in its three formats.
EXAMPLE = 784111777
LONG_AGO = Validators('"a"', EXAMPLE, date_is_strong=True)


@pytest.mark.clause("RFC 9110 §5.6.7")
@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_formats_are_one_moment(text: str) -> None:
    assert parse_date(text, NOW) == EXAMPLE
    assert parse_date(f" {text}\t", NOW) == EXAMPLE


@pytest.mark.clause("RFC 9110 §5.6.7")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 0\u0666 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT" + " GMT" * 10_000,
    ],
)
def test_what_is_no_http_date_is_none(text: str) -> None:
    """Case-sensitive, GMT, two digits, real days."""
    assert parse_date(text, NOW) is None


@pytest.mark.clause("RFC 9110 §5.6.7")
@pytest.mark.parametrize(
    ("digits", "year"), [("27", 2027), ("77", 2077), ("78", 1978), ("94", 1994), ("00", 2000)]
)
def test_two_digits_are_at_most_fifty_years_ahead(digits: str, year: int) -> None:
    """In the year 2027."""
    moment = parse_date(f"Sunday, 06-Nov-{digits} 08:49:37 GMT", NOW)
    assert moment is not None
    assert datetime.datetime.fromtimestamp(moment, datetime.UTC).year == year


@pytest.mark.clause("RFC 9110 §5.6.7")
def test_a_leap_second_is_the_next_ones_start() -> None:
    """Second 60 is legal."""
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == parse_date(
        "Sun, 01 Jan 2017 00:00:00 GMT", NOW
    )


@pytest.mark.clause("RFC 9110 §5.6.7")
@given(st.integers(0, 4_102_444_800))
@settings(max_examples=100, deadline=None)
def test_dates_are_written_as_they_are_read(moment: int) -> None:
    """Against the C library's formatting."""
    text = format_date(moment + 0.9)
    assert text == time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(moment))
    assert parse_date(text, NOW) == moment


@pytest.mark.clause("RFC 9110 §8.8.3", "RFC 9110 §5.6.1")
@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ('"xyzzy"', ['"xyzzy"']),
        ('W/"xyzzy"', ['W/"xyzzy"']),
        ('""', ['""']),
        ('"xyzzy", "r2d2xxxx", "c3piozzzz"', ['"xyzzy"', '"r2d2xxxx"', '"c3piozzzz"']),
        ('"a,b" ,\t"c", ,', ['"a,b"', '"c"']),
        (', "a"', ['"a"']),
        ('"\u00e4"', ['"\u00e4"']),
        ("", None),
        (",", None),
        ("xyzzy", None),
        ('w/"a"', None),
        ('W/ "a"', None),
        ('"a" "b"', None),
        ('"a""b"', None),
        ('"a', None),
        ('"a b"', None),
        ('"a", b', None),
        ('*, "a"', None),
        ('"a", *', None),
    ],
)
def test_lists_of_entity_tags(field: str, tags: list[str] | None) -> None:
    """The first and the list are §13.1's own examples."""
    assert parse_tags(field) == tags


@pytest.mark.clause("RFC 9110 §13.1")
@given(st.text(alphabet='W/", \t*a\u00a0é', max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_list_of_tags_gives_an_outcome(field: str) -> None:
    """Whatever stands there."""
    for name in ("if-match", "if-none-match"):
        assert evaluate("GET", {name: field}, LONG_AGO, NOW) in PreconditionOutcome
    range_applies(field, LONG_AGO, NOW)


@pytest.mark.clause("RFC 9110 §13.1.3", "RFC 9110 §13.1.4")
@given(st.text(max_size=40), st.sampled_from(["if-modified-since", "if-unmodified-since"]))
@settings(max_examples=100, deadline=None)
def test_any_text_that_is_no_date_changes_nothing(text: str, name: str) -> None:
    assert evaluate("GET", {name: text}, LONG_AGO, NOW) is PreconditionOutcome.PROCEED


@pytest.mark.clause("RFC 9110 §13.1.2")
@pytest.mark.parametrize("field", ['"a"', 'W/"a"', "*"])
def test_a_failed_if_none_match_of_another_method_is_412(field: str) -> None:
    """304 is for GET and HEAD."""
    assert evaluate("PUT", {"if-none-match": field}, LONG_AGO, NOW) is PreconditionOutcome.FAILED
    assert evaluate("GET", {"if-none-match": field}, LONG_AGO, NOW) is PreconditionOutcome.NOT_MODIFIED


@pytest.mark.clause("RFC 9110 §13.1.3")
def test_a_date_is_no_condition_for_other_methods() -> None:
    fields = {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert evaluate("POST", fields, LONG_AGO, NOW) is PreconditionOutcome.PROCEED


@pytest.mark.clause(
    "RFC 9110 §13.1.1", "RFC 9110 §13.1.2", "RFC 9110 §13.1.3", "RFC 9110 §13.1.4", "RFC 9110 §13.1.5"
)
def test_a_representation_without_validators_matches_only_the_asterisk() -> None:
    nothing = Validators()
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert evaluate("GET", {"if-match": "*"}, nothing, NOW) is PreconditionOutcome.PROCEED
    assert evaluate("GET", {"if-match": '"a"'}, nothing, NOW) is PreconditionOutcome.FAILED
    assert evaluate("GET", {"if-none-match": '"a"'}, nothing, NOW) is PreconditionOutcome.PROCEED
    assert evaluate("GET", {"if-modified-since": date}, nothing, NOW) is PreconditionOutcome.PROCEED
    assert evaluate("GET", {"if-unmodified-since": date}, nothing, NOW) is PreconditionOutcome.PROCEED
    assert not range_applies('"a"', nothing, NOW)
    assert not range_applies(date, nothing, NOW)


@pytest.mark.clause("RFC 9110 §13.1.5", "RFC 9110 §8.8.2.2")
def test_a_weak_validator_continues_nothing() -> None:
    """Neither a weak tag nor a date that two versions could share."""
    weak = Validators('W/"a"', EXAMPLE, date_is_strong=False)
    assert not range_applies('W/"a"', weak, NOW)
    assert not range_applies('"a"', weak, NOW)
    assert not range_applies("Sun, 06 Nov 1994 08:49:37 GMT", weak, NOW)
    assert evaluate("GET", {"if-match": 'W/"a"'}, weak, NOW) is PreconditionOutcome.FAILED
    assert evaluate("GET", {"if-none-match": '"a"'}, weak, NOW) is PreconditionOutcome.NOT_MODIFIED


@pytest.mark.clause("RFC 9110 §13.1.1", "RFC 9110 §13.1.2")
def test_a_list_that_does_not_parse_matches_nothing() -> None:
    """Step 3 of each: what is no list of entity-tags is false, or true."""
    assert evaluate("GET", {"if-match": "a"}, LONG_AGO, NOW) is PreconditionOutcome.FAILED
    assert evaluate("GET", {"if-none-match": "a"}, LONG_AGO, NOW) is PreconditionOutcome.PROCEED


def test_no_list_of_tags_costs_more_than_linear_time() -> None:
    """Also those that almost parse."""
    for unit in ('"a",', ", ", '"', " ", "W/", '"a" '):
        # The best of some: a processor that another system takes away counts as ours.
        costs: list[float] = []
        while len(costs) < 5 and min(costs, default=1.0) >= 1:
            started = time.process_time()
            for prefix in ("", '"a"'):
                parse_tags(prefix + unit * (200_000 // len(unit)) + "!")
            costs.append(time.process_time() - started)
        assert min(costs) < 1
