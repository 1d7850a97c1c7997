"""The reader of server-sent events gives the same events, whole, byte by byte or cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.token_relay.sse_reader import ServerSentEvent, SseError, SseReader
from tests.eventstream import read

MOST = 64

PIECES = st.sampled_from(
    [
        b"data: ", b"data", b"data:x", b"event: a", b"event:", b"id: 7", b": comment", b"retry: 1", b" ",
        b":", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\xef\xbb\xbf", "ж😀\u2028".encode(), b"\x00",
        b"[DONE]", b"x" * 40,
    ]
)  # fmt: skip


def outcome(chunks: list[bytes]) -> tuple[list[ServerSentEvent], str]:
    """Give all events, and why the stream couldn't be read on."""
    reader = SseReader(MOST)
    events: list[ServerSentEvent] = []
    for chunk in chunks:
        reader.receive_data(chunk)
    reader.receive_eof()
    try:
        events.extend(reader.events())
    except SseError as error:
        # What came before it has been told.
        return events, str(error)
    return events, ""


@settings(deadline=None, max_examples=150)
@given(st.lists(PIECES | st.binary(max_size=8), max_size=30).map(b"".join), st.data())
def test_the_same_stream_gives_the_same_events_however_it_is_cut(stream: bytes, data: st.DataObject) -> None:
    whole = outcome([stream])
    cut = data.draw(st.integers(0, len(stream)))
    assert outcome([stream[:cut], b"", stream[cut:]]) == whole
    assert outcome([bytes([byte]) for byte in stream]) == whole


@settings(deadline=None, max_examples=150)
@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_it_reads_what_a_reader_of_whole_streams_reads(stream: bytes) -> None:
    events, error = outcome([stream])
    expected = [ServerSentEvent(one.name, one.data) for one in read(stream)]
    assert events == (expected[: len(events)] if error else expected)


@pytest.mark.parametrize("size", [MOST - 5, MOST - 6])
def test_a_line_may_be_as_long_as_the_limit(size: int) -> None:
    assert outcome([b"data:" + b"x" * size + b"\n\n"]) == ([ServerSentEvent("message", "x" * size)], "")


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_a_longer_line_ends_the_stream_behind_what_came_before(end: bytes) -> None:
    reader = SseReader(MOST)
    reader.receive_data(b"data: before\n\ndata:" + b"x" * MOST + end)
    events = reader.events()
    assert next(events).data == "before"
    with pytest.raises(SseError, match="a line has more than 64 bytes"):
        next(events)
    # Nothing more of it is kept.
    reader.receive_data(b"y" * 1_000_000)
    assert len(reader._line) <= MOST + 5


def test_an_event_of_many_lines_is_as_bounded_as_one_of_one() -> None:
    assert outcome([b"data: 01234567\n"] * 100) == ([], "an event has more than 64 bytes")


def test_a_letter_that_is_cut_is_whole_again_and_what_is_none_is_replaced() -> None:
    letters = "data: ж😀\n\n".encode()
    assert outcome([letters[:7], letters[7:10], letters[10:]])[0] == [ServerSentEvent("message", "ж😀")]
    # WHATWG Encoding §4.1: UTF-8 decode replaces what is malformed.
    assert outcome([b"data: \xff\xf0\x9f\n\n"])[0] == [ServerSentEvent("message", "\ufffd\ufffd")]


def test_a_stream_that_ends_in_the_middle_of_an_event_has_no_such_event() -> None:
    assert outcome([b'data: {"a": 1}\n\ndata: {"b"'])[0] == [ServerSentEvent("message", '{"a": 1}')]
    assert outcome([b"data: whole line\n"])[0] == []


def test_the_errors_of_llama_cpp_are_events() -> None:
    assert outcome([b'error: {"code": 500}\n\n'])[0] == [ServerSentEvent("error", '{"code": 500}')]


def test_comments_show_that_the_other_side_lives_and_are_no_events() -> None:
    reader = SseReader(MOST)
    reader.receive_data(b": working\n\n")
    assert (list(reader.events()), reader.lines) == ([], 2)
