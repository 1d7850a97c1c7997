"""packager.replication.frames: what is written comes whole, however it is cut, and nothing else is read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError
from packager.replication.frames import LogFrame, LogFrameReader, write_frame, write_gone
from packager.replication.live_log import Audience, read_audience, read_entry, write_audience
from packager.window.log import DiscontinuityEntry, EndEntry, Entry, SegmentDoneEntry
from packager.window.log_encoding import encode

LIMIT = 1000
ENTRIES: tuple[Entry, ...] = (
    DiscontinuityEntry("240p"),
    SegmentDoneEntry("captions-en", b"WEBVTT"),
    EndEntry("240p"),
)
WRITTEN = b"".join(write_frame("ü", number, encode(entry)) for number, entry in enumerate(ENTRIES))
WRITTEN += write_gone("a")


def read(*pieces: bytes) -> list[LogFrame]:
    reader, found = LogFrameReader(LIMIT), list[LogFrame]()
    for piece in pieces:
        reader.receive_data(piece)
        found += reader.frames()
    return found


@given(st.lists(st.integers(1, 60)))
def test_frames_that_are_cut_anywhere_come_as_they_were(sizes: list[int]) -> None:
    data, pieces = WRITTEN, []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    *entries, gone = read(*pieces, data)
    assert [(one.log, one.position) for one in entries] == [("ü", 0), ("ü", 1), ("ü", 2)]
    assert [read_entry(one.message) for one in entries] == [*ENTRIES]
    assert gone == LogFrame("a", 0, b"")


def test_an_audience_comes_as_it_was() -> None:
    audience = Audience(3, (("192.0.2.1", 0xFFFFFFFF), ("2001:db8::1", 0)))
    assert read_audience(write_audience(audience)) == audience


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", LIMIT + 1),
        struct.pack(">IH", 2, 9),
        struct.pack(">IH", 10, 2) + b"\xff\xff" + bytes(6),
        struct.pack(">IH", 10, 0) + bytes(7),
    ],
    ids=["too long", "a name that isn't there", "no UTF-8", "cut off, which waits for more"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    if len(data) == 13:
        assert read(data) == []
        return
    with pytest.raises(MalformedError):
        read(data)


@pytest.mark.parametrize("message", [b"", encode(ENTRIES[0])[:-1], encode(ENTRIES[0]) * 2, b"\0\0\0\1\xc1"])
def test_a_frame_that_has_not_one_whole_entry_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedError):
        read_entry(message)


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x81\xa7waiting\xa1a"])
def test_what_is_no_audience_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedError):
        read_audience(message)
