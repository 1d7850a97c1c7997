"""The log's own thread: what it can't write holds nobody up, and what it drops it tells."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from origin.config.logging_setup import (
    LINES_WAITING,
    TRACEBACK_SECONDS,
    TRACEBACKS_AT_ONCE,
    LineQueue,
    TracebackLimit,
)
from tests.waiting import wait_for


class Stuck(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait()
        return super().write(text)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stream = Stuck()
    yield stream
    stream.let_go.set()


def line(text: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


def test_lines_without_room_are_dropped_at_once_and_counted_behind_the_next_line(stuck: Stuck) -> None:
    log = LineQueue(stuck, "json")
    log.handle(line("first"))
    assert stuck.reached.wait(60)
    for number in range(LINES_WAITING + 25):
        log.handle(line(f"line {number}"))
    stuck.let_go.set()
    wait_for(lambda: f"line {LINES_WAITING - 1}\n" in stuck.getvalue())
    log.handle(line("last"))
    log.close()
    written = stuck.getvalue().splitlines()
    told = [json.loads(text) for text in written if text.startswith("{")]
    assert [one["count"] for one in told] == [25]
    assert len(written) == 1 + LINES_WAITING + 1 + 1
    assert written[-1] == "last"


def test_the_end_does_not_wait_for_a_stream_that_takes_nothing(stuck: Stuck) -> None:
    log = LineQueue(stuck, "text")
    log.handle(line("first"))
    assert stuck.reached.wait(60)
    log.close()  # the test's own limit of time would be reached
    assert stuck.getvalue() == ""


def test_a_line_that_cannot_be_written_as_text_is_dropped_with_what_is_in_it(
    stuck: Stuck, capfd: pytest.CaptureFixture[str]
) -> None:
    stuck.let_go.set()
    log = LineQueue(stuck, "text")
    log.handle(logging.makeLogRecord({"msg": "%d tries", "args": ("a secret",)}))
    log.handle(line("next"))
    log.close()
    assert stuck.getvalue() == "next\n[warning] log lines were dropped: count=1\n"
    assert "secret" not in capfd.readouterr().err


@pytest.mark.clause("CWE-779")
def test_tracebacks_have_a_rate_and_behind_it_a_line_names_the_error() -> None:
    now = 0.0
    limit = TracebackLimit(lambda: now)

    def logged() -> dict[str, object]:
        try:
            raise ValueError("a title that can't be written")
        except ValueError:
            return dict(limit(None, "error", {"event": "request failed", "exc_info": True}))

    lines = [logged() for _ in range(1000)]
    assert sum("Traceback" in str(one.get("exception")) for one in lines) == TRACEBACKS_AT_ONCE
    assert lines[-1] == {"event": "request failed", "error": "ValueError: a title that can't be written"}
    now += TRACEBACK_SECONDS
    assert ["exception" in logged() for _ in range(2)] == [True, False]
