"""The streams of a connection send in the order of their ranks, which costs little for each of their runs."""

from __future__ import annotations

import pytest

from origin.http2.connection import Http2Connection
from origin.http2.engine import STREAMS
from origin.http_streams.priority import Priority
from origin.http_streams.stream import HttpStream

RUN = 1000


class Sending(Http2Connection):
    """The order of a connection's streams without a client, whose windows have room for each run.

    Attributes:
        looks: how often a stream's window was looked at.
    """

    def __init__(self) -> None:
        self._sending, self._ranked, self._turn = {}, [], 0
        self.looks = 0
        self.blocked: set[int] = set()

    def _room(self, stream: HttpStream) -> int:
        self.looks += 1
        return 0 if stream.number in self.blocked else RUN

    def add(self, number: int, priority: Priority, nbytes: int) -> None:
        stream = HttpStream(number, priority)
        stream.body.add((bytes(nbytes),))
        stream.body.is_complete = True
        self._add_sending(stream)

    def flush(self) -> list[int]:
        """Send all that may be sent, and return whose runs these were."""
        runs = []
        self._rank_all()
        while (stream := self._next()) is not None:
            runs.append(stream.number)
            self._read_body(stream, RUN)
            self._is_at_end(stream)
        return runs


@pytest.mark.clause("CWE-400")
def test_each_run_costs_little_however_many_streams_there_are() -> None:
    sending, runs_of_each = Sending(), 4
    for number in range(STREAMS):
        sending.add(2 * number + 1, Priority(3, True), runs_of_each * RUN)
    runs = sending.flush()
    numbers = [2 * number + 1 for number in range(STREAMS)]
    assert sorted(runs[:STREAMS]) == numbers, "each has a run before any has two"
    assert runs == runs[:STREAMS] * runs_of_each
    assert sending.looks <= 2 * len(runs)


def test_the_most_urgent_is_first_and_one_without_room_is_passed_over_until_the_next_flush() -> None:
    sending = Sending()
    sending.add(1, Priority(5, False), 2 * RUN)
    sending.add(3, Priority(1, False), 2 * RUN)
    sending.add(5, Priority(3, False), RUN)
    sending.add(7, Priority(0, False), RUN)
    sending.blocked = {7, 5}
    assert sending.flush() == [3, 3, 1, 1]
    sending.blocked = {5}
    assert sending.flush() == [7]
    sending.blocked = set()
    assert sending.flush() == [5]
