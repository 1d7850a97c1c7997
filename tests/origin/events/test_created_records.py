"""The lines in which channels survive a restart, and the bodies that ask for them: any bytes harm nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.access.key_hash import KeyHash
from origin.events.created.records import (
    ADMINISTRATOR,
    ChannelSettings,
    CreatedChannel,
    Records,
    line_of,
    line_of_gone,
)
from origin.events.created.requests import read_changes, read_wanted
from origin.http.channel_patterns import is_name, is_template, matches
from origin.responses.refusal import RefusalError

T = TypeVar("T")

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(/[A-Za-z0-9._-]{0,19}[A-Za-z0-9_-]){0,3}", fullmatch=True).filter(
    lambda name: not name.startswith("radio/")
)
CHANNEL = CreatedChannel("talk", ADMINISTRATOR, 1.0, ChannelSettings(), read_token=KeyHash.of("a key"))
BODIES = (b'{"name":"a/b","keep":3,"keep_for":"10m","expires":"2h","history":60}', b'{"expires":null}')


@given(
    NAMES,
    st.integers(1, 1_000_000),
    st.floats(0, 1e9),
    st.one_of(st.just(math.inf), st.floats(0, 1e10)),
    st.booleans(),
)
def test_a_line_that_was_written_is_read_as_the_same_channel(
    name: str, keep: int, keep_for: float, expires: float, has_tokens: bool
) -> None:
    token = KeyHash.of("a key") if has_tokens else None
    settings = ChannelSettings("room/*", keep, keep_for)
    written = CreatedChannel(name, "sub:anna", 5.0, settings, expires, read_token=token)
    records = Records(10)
    records.read(line_of(written))
    (found,) = records.channels.values()
    assert (found.name, found.creator, found.made, found.expires) == (name, "sub:anna", 5.0, expires)
    assert (found.settings, found.read_token, found.publish_token) == (settings, token, None)
    records.read(line_of_gone(name, 7.0))
    assert (records.channels, records.gone, records.unreadable) == ({}, {name: 7.0}, 0)


def damaged(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return texts that differ from seeds in a place, and any others."""
    cut = st.tuples(st.sampled_from(seeds), st.integers(0, 200), st.integers(0, 9), st.binary(max_size=9))
    return cut.map(lambda one: one[0][: one[1]] + one[3] + one[0][one[1] + one[2] :]) | st.binary(
        max_size=200
    )


@given(st.lists(damaged((line_of(CHANNEL), line_of_gone("talk", 5.0))), max_size=9))
def test_a_damaged_line_is_passed_over_and_makes_no_other_name(lines: list[bytes]) -> None:
    records = Records(3)
    for line in lines:
        records.read(line)
    assert records.lines == len(lines)
    assert len(records.channels) <= 3
    assert all(is_name(name) for name in (*records.channels, *records.gone))


def refused(read: Callable[[], T]) -> tuple[RefusalError, T | None]:
    """Return what a reader returns, or else why it refuses."""
    try:
        return RefusalError(200, ""), read()
    except RefusalError as error:
        return error, None


@given(damaged(BODIES))
def test_a_damaged_body_is_refused_or_describes_a_channel_within_the_limits(body: bytes) -> None:
    refusal, wanted = refused(lambda: read_wanted(body, 1000.0, lambda _: None))
    if wanted is None:
        assert (refusal.status, "\n" in str(refusal)) == (400, False)
        return
    assert is_name(wanted.name) or is_template(wanted.name)
    assert 1 <= wanted.settings.keep <= 1_000_000
    assert wanted.expires > 1000
    assert 0 <= wanted.settings.history < math.inf


@given(damaged(BODIES))
def test_a_damaged_change_is_refused_or_within_the_limits(body: bytes) -> None:
    refusal, changed = refused(lambda: read_changes(body, CHANNEL, 1000.0))
    if changed is None:
        assert (refusal.status, "\n" in str(refusal)) == (400, False)
        return
    assert 1 <= changed.settings.keep <= 1_000_000
    assert changed.expires > 1000
    assert changed.new_tokens <= {"read", "publish"}


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("room/*", "room/1", True),
        ("room/*", "room/1/2", False),
        ("room/*", "room", False),
        ("room/*", "rooms/1", False),
        ("*", "room", True),
        ("*", "room/1", False),
        ("room/1", "room/1", True),
        ("room/1", "room/2", False),
        ("a/b/*", "a/b/c", True),
    ],
)
def test_a_star_stands_for_one_segment(pattern: str, name: str, fits: bool) -> None:
    assert (is_template(pattern), is_name(name)) == (pattern.endswith("*"), True)
    assert matches(pattern, name) is fits
