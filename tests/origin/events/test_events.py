"""Server-sent events as they are written, and which of them a reader that comes again gets."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.events import sse_writer
from origin.events.event_log import Event, EventLog, Past, PastEpoch
from tests.eventstream import Message, read


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_out_with_its_lines_joined_by_lf(text: str) -> None:
    expected = re.sub("\r\n|\r", "\n", text)
    assert read(sse_writer.event(text, name="title", identity="a-1")) == [Message("title", expected, "a-1")]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("one", b"data: one\n\n"),
        ("", b"data: \n\n"),
        ("a\rb\nc\r\nd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ("\n", b"data: \ndata: \n\n"),
        ("data: x\n\nevent: y", b"data: data: x\ndata: \ndata: event: y\n\n"),
        ("\ud800", b"data: ?\n\n"),
    ],
)
def test_every_line_of_data_is_a_field_of_its_own(text: str, written: bytes) -> None:
    assert sse_writer.event(text) == written


@pytest.mark.parametrize("bad", ["a\0", "a\r", "a\nb"])
def test_an_id_that_readers_would_ignore_or_misread_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="id"):
        sse_writer.event("x", identity=bad)


def test_an_event_without_an_id_leaves_the_last_one_as_it_was() -> None:
    stream = sse_writer.event("1", identity="a-1") + sse_writer.event("2", name="listening")
    assert read(stream + sse_writer.comment("x\ny") + sse_writer.retry(2000)) == [
        Message("message", "1", "a-1"),
        Message("listening", "2", "a-1"),
    ]


@settings(deadline=None)
@given(
    capacity=st.integers(1, 8), before=st.integers(0, 20), seen=st.integers(0, 20), after=st.integers(0, 20)
)
def test_a_reader_that_comes_again_gets_each_event_once_or_is_told_how_many_are_gone(
    capacity: int, before: int, seen: int, after: int
) -> None:
    log = EventLog("e", capacity)
    published = [log.append("n", str(number)) for number in range(before + after)]
    if seen >= len(published):
        return
    last = published[seen]
    found = log.since(last.identity)
    missed = published[seen + 1 :]
    assert log.between(found.sequence, log.end) == missed[-capacity:]
    assert found.lost == max(len(missed) - capacity, 0)
    assert found.complete == (found.lost == 0)


@pytest.mark.parametrize(
    "identity", ["other-1", "e-7", "e-00", "e-", "e", "-", "e-x", "e-\u0661", "9" * 9999]
)
def test_an_id_of_another_epoch_is_told_apart(identity: str) -> None:
    log = EventLog("e", 10)
    events = [log.append("n", str(number)) for number in range(3)]
    found = log.since(identity)
    assert (log.between(found.sequence, log.end), found.complete, found.lost) == (events, False, None)


def test_a_new_reader_gets_what_is_kept_and_has_missed_nothing() -> None:
    log = EventLog("e", 2)
    for number in range(3):
        log.append("n", str(number))
    found = log.since(None)
    assert [event.identity for event in log.between(found.sequence, log.end)] == ["e-2", "e-3"]
    assert found.complete


def test_a_new_reader_gets_one_text_from_its_beginning_or_is_told_what_is_gone_of_it() -> None:
    log = EventLog("e", 3)
    for number in range(5):
        log.append("n", str(number))
    found = log.since(None, beginning=3)
    assert [event.data for event in log.between(found.sequence, log.end)] == ["3", "4"]
    assert found.complete
    late = log.since("", beginning=1)
    assert (late.sequence, late.reason, late.lost) == (2, "expired", 1)
    assert log.since("e-5", beginning=1).complete


def test_behind_a_past_event_for_which_there_is_no_room_no_older_one_is_restored() -> None:
    sizes = {1: 100, 2: 900, 3: 100}
    past = tuple(Event("a", offset, "message", str(offset), size=size) for offset, size in sizes.items())
    log = EventLog("b", 10, most_bytes=500)
    log.restore(Past((PastEpoch("a", 3),), past))
    assert [event.identity for event in log.between(log.first, log.end)] == ["a-3"]
    assert (log.since("a-1").reason, log.since("a-1").lost) == ("expired", 1)
    assert log.since("a-2").complete
