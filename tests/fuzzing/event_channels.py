"""Targets of event channels: stored records, bodies that make channels, and ids of several channels."""

from __future__ import annotations

import math

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
from origin.events.multiplexing.positions import read_positions, write_positions
from origin.http.channel_patterns import is_name, is_template
from origin.responses.refusal import RefusalError
from tests.fuzzing.formats import of_whole
from tests.fuzzing.fuzzer import Target
from tests.fuzzing.mutation import Parts

MOST = 3
CHANNEL = CreatedChannel(
    "room/lobby",
    ADMINISTRATOR,
    1000.5,
    ChannelSettings("room/*", 5, 60.0),
    2e9,
    read_token=KeyHash.of("a key"),
)


def read_records(data: bytes) -> None:
    """Read lines as a start does: no more channels than may be there, each with a name."""
    records = Records(MOST)
    for line in data.splitlines(keepends=True):
        records.read(line)
    assert max(len(records.channels), len(records.gone)) <= MOST
    assert all(is_name(name) for name in (*records.channels, *records.gone))
    for channel in records.channels.values():
        records.read(line_of(channel))
    assert records.lines >= len(records.channels)


def read_creation(data: bytes) -> str:
    """Read a body that makes a channel, and the same as one that changes one."""
    told = ""
    try:
        wanted = read_wanted(data, 1000.0, lambda _: None)
        assert is_name(wanted.name) or is_template(wanted.name)
        assert 1 <= wanted.settings.keep <= 1_000_000
        assert 0 <= wanted.settings.keep_for < math.inf
        assert wanted.expires > 1000
    except RefusalError as error:
        told = str(error)
    try:
        changes = read_changes(data, CHANNEL, 1000.0)
        assert 1 <= changes.settings.keep <= 1_000_000
        assert changes.expires > 1000
    except RefusalError as error:
        told = str(error)
    assert "\n" not in told
    return told


def read_identity(data: bytes) -> None:
    """Read an id of several channels; what is one is written as it was."""
    text = data.decode("latin-1")
    found = read_positions(text, MOST)
    assert found is None or write_positions(next(iter(found)), found) == text


def bodies() -> list[Parts]:
    """Return bodies that make and change channels."""
    return [
        [b'{"name":"a/b","keep":3,', b'"keep_for":"10m","expires":"2h",', b'"history":60}'],
        [b'{"keep":9,"keep_for":1.5,', b'"expires":"2026-11-26T20:14:03Z"}'],
        [b'{"name":"room/*"}', b""],
    ]


TARGETS = {
    "channel_records": Target(
        seeds=lambda: [[line_of(CHANNEL), line_of_gone("room/1", 5.0), line_of_gone("room/lobby", 7.0)]],
        read=of_whole(read_records),
        words=[b"null", b"1e999", b"-1", b"[" * 300, b"\\ud800", b'"..",', b"NaN"],
    ),
    "channel_bodies": Target(
        seeds=bodies,
        read=of_whole(read_creation),
        words=[b"null", b"1e999", b"-1", b"[" * 300, b"\\ud800", b'"../a"', b"99999999d"],
    ),
    "channel_ids": Target(
        seeds=lambda: [[b"a=1f-3,", b"room/1=2e-0,", b"b=0-7"]],
        read=of_whole(read_identity),
        words=[b",", b"=", b"..", b"\0", b"a=1f-3"],
    ),
}
