"""Sessions of viewers with names: which one ends, who stays out how long, what processes tell each other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

import msgspec
import pytest

from origin.access.limits import AccessLimits
from origin.access.viewer_sessions import (
    ANNOUNCE_SECONDS,
    ELSEWHERE,
    ENDED,
    FULL,
    IDLE_SECONDS,
    KEPT_OUT_SECONDS,
    RECORDS_WAITING,
    REFUSED_SECONDS,
    SAME_DEVICE_SECONDS,
    SessionRecord,
    ViewerSession,
    ViewerSessions,
)

EXPIRES = 1e9
LIMITS = AccessLimits()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Process:
    """A process with viewers."""

    def __init__(
        self,
        clock: Clock,
        most: int = 1,
        *,
        ends_oldest: bool = True,
        limits: AccessLimits = LIMITS,
    ) -> None:
        self.clock = clock
        self.sessions = ViewerSessions(most, limits, ends_oldest=ends_oldest, clock=clock)
        self.feed = self.sessions.feed()
        self.cut: list[str] = []

    def ask(self, player: str, token: str = "t", *, is_stream: bool = False) -> ViewerSession | str:
        """Request something as a player, a tenth of a second after what was before."""
        self.clock.now += 0.1
        return self.sessions.enter("anna", token, EXPIRES, player, "Player/1", is_stream=is_stream)

    def watch(self, player: str, token: str = "t", *, is_stream: bool = False) -> ViewerSession:
        """Begin something long, whose cut is noted."""
        session = self.ask(player, token, is_stream=is_stream)
        assert isinstance(session, ViewerSession)
        session.begin(lambda: self.cut.append(player))
        return session


def exchange(processes: Sequence[Process]) -> None:
    """Let processes tell each other all that they know."""
    for _ in processes:
        for one in processes:
            while records := one.sessions._feeds[0].next_records():
                for other in processes:
                    if other is not one:
                        sent = msgspec.msgpack.encode(records)
                        other.sessions.merge(
                            msgspec.msgpack.decode(sent, type=list[SessionRecord]), other.feed
                        )


def test_a_new_session_ends_the_oldest_one_and_keeps_it_out_for_a_minute() -> None:
    process = Process(Clock())
    process.watch("a")
    assert isinstance(process.ask("a"), ViewerSession), "the same player goes on"
    assert isinstance(process.ask("b"), ViewerSession)
    assert process.cut == ["a"]
    assert process.ask("a") == ELSEWHERE
    process.clock.now += KEPT_OUT_SECONDS / 2
    assert isinstance(process.ask("b"), ViewerSession)
    assert process.ask("a") == ELSEWHERE
    process.clock.now += KEPT_OUT_SECONDS / 2
    assert isinstance(process.ask("a"), ViewerSession)
    assert process.ask("b") == ELSEWHERE


def test_as_many_as_are_allowed_go_on() -> None:
    process = Process(Clock(), most=3)
    for player in "abcabcabc":
        assert isinstance(process.ask(player), ViewerSession)
    assert isinstance(process.ask("d"), ViewerSession)
    assert process.ask("a") == ELSEWHERE
    assert isinstance(process.ask("b"), ViewerSession)
    assert [one.address for one in process.sessions.listed()] == ["b", "c", "d"]


def test_names_do_not_count_for_each_other() -> None:
    process = Process(Clock())
    assert isinstance(process.ask("a"), ViewerSession)
    other = process.sessions.enter("berta", "t", EXPIRES, "b", "", is_stream=False)
    assert isinstance(other, ViewerSession)
    assert isinstance(process.ask("a"), ViewerSession)


def test_a_session_without_requests_does_not_count_and_begins_anew() -> None:
    process = Process(Clock())
    process.ask("a")
    process.clock.now += IDLE_SECONDS + 1
    assert isinstance(process.ask("b"), ViewerSession)
    assert isinstance(process.ask("a"), ViewerSession), "nothing of it was ended"
    assert process.ask("b") == ELSEWHERE


def test_a_session_with_an_open_reply_counts_however_long_that_takes() -> None:
    process = Process(Clock())
    session = process.watch("a")
    process.clock.now += 10 * IDLE_SECONDS
    process.sessions._look_at("anna")
    process.ask("b")
    assert process.cut == ["a"]
    assert session.is_over


def test_where_the_first_ones_stay_a_further_session_is_refused_until_one_ends() -> None:
    process = Process(Clock(), ends_oldest=False)
    process.watch("a")
    assert process.ask("b") == FULL
    assert process.cut == []
    assert isinstance(process.ask("a"), ViewerSession)
    process.clock.now += IDLE_SECONDS + 1
    assert process.ask("b") == FULL
    process.sessions.end("anna")
    process.clock.now += REFUSED_SECONDS
    assert isinstance(process.ask("b", "t2"), ViewerSession), "the former token is out"


def test_another_token_of_one_player_ends_its_own_session_first_and_may_go_back_soon() -> None:
    """Somebody goes from film to film while somebody else watches."""
    process = Process(Clock(), most=2)
    process.ask("a", "film 1")
    process.ask("b")
    for film in ("film 2", "film 3", "film 4"):
        assert isinstance(process.ask("a", film), ViewerSession)
        assert isinstance(process.ask("b"), ViewerSession)
    assert process.ask("a", "film 3") == ELSEWHERE
    process.clock.now += SAME_DEVICE_SECONDS
    assert isinstance(process.ask("a", "film 3"), ViewerSession)
    assert isinstance(process.ask("b"), ViewerSession)


def test_each_stream_of_a_station_is_a_session_and_may_be_begun_again_at_once() -> None:
    """A player that connects anew has a connection that nobody knows yet to be dead."""
    process = Process(Clock())
    process.watch("a", is_stream=True)
    again = process.watch("a", is_stream=True)
    assert process.cut == ["a"]
    assert not again.is_over
    process.watch("b", is_stream=True)
    assert process.cut == ["a", "a"]
    assert process.ask("a", is_stream=True) == ELSEWHERE


def test_a_stream_that_ended_leaves_its_place() -> None:
    process = Process(Clock(), ends_oldest=False)
    session = process.ask("a", is_stream=True)
    assert isinstance(session, ViewerSession)
    session.begin(print)
    assert process.ask("b", is_stream=True) == FULL
    session.end(print)
    process.clock.now += REFUSED_SECONDS
    assert isinstance(process.ask("b", is_stream=True), ViewerSession)


def test_the_administrator_ends_sessions_whose_players_stay_out() -> None:
    process = Process(Clock(), most=2)
    process.watch("a")
    process.watch("b")
    first = process.sessions.listed("anna")[0]
    assert process.sessions.end("anna", first.id) == 1
    assert process.cut == ["a"]
    assert process.sessions.end("anna") == 1
    assert process.sessions.end("anna") == 0
    process.clock.now += 100 * KEPT_OUT_SECONDS
    assert process.ask("a") == process.ask("b") == ENDED
    assert process.ask("c") == ENDED, "who says that it is another player has the same token"
    assert isinstance(process.ask("a", "t2"), ViewerSession)


def test_a_token_whose_viewer_was_ended_is_out_at_all_processes_with_any_player() -> None:
    clock = Clock()
    processes = [Process(clock), Process(clock)]
    processes[0].ask("a")
    exchange(processes)
    assert processes[1].sessions.end("anna") == 1
    exchange(processes)
    for process in processes:
        assert [process.ask(player) for player in "abc"] == [ENDED] * 3


def test_one_session_that_is_ended_leaves_the_token_to_other_players() -> None:
    process = Process(Clock(), most=2)
    process.watch("a")
    assert process.sessions.end("anna", process.sessions.listed("anna")[0].id) == 1
    assert (process.ask("a"), isinstance(process.ask("b"), ViewerSession)) == (ENDED, True)


def test_an_ended_token_may_come_again_when_it_has_expired() -> None:
    process = Process(Clock(), most=2)
    process.ask("a")
    process.sessions.end("anna")
    process.clock.now = EXPIRES + 1
    assert isinstance(process.ask("a"), ViewerSession), "its token has expired, which others check"


def test_processes_come_to_the_same_decision_whoever_is_told_first() -> None:
    for order in permutations(range(3)):
        clock = Clock()
        processes = [Process(clock, most=2) for _ in range(3)]
        for number in range(3):
            processes[number].watch(f"player {number}")
        exchange([processes[one] for one in order])
        assert [one.cut for one in processes] == [["player 0"], [], []]
        listed = [{one.address for one in process.sessions.listed()} for process in processes]
        assert listed == [{"player 1", "player 2"}] * 3
        assert processes[1].ask("player 0") == ELSEWHERE, "it is refused everywhere"


def test_sessions_that_begin_at_once_in_several_processes_are_cut_down_to_the_newest() -> None:
    clock = Clock()
    processes = [Process(clock, most=1) for _ in range(4)]
    for number, process in enumerate(processes):
        process.watch(f"player {number}")
    exchange(processes)
    assert [one.cut for one in processes] == [["player 0"], ["player 1"], ["player 2"], []]


def test_a_session_that_begins_again_elsewhere_is_known_again() -> None:
    clock = Clock()
    one, other = Process(clock), Process(clock)
    one.ask("a")
    exchange([one, other])
    other.ask("b")
    exchange([one, other])
    assert one.ask("a") == ELSEWHERE
    for _ in range(2):
        clock.now += KEPT_OUT_SECONDS / 2
        other.ask("b")
    assert isinstance(other.ask("a"), ViewerSession)
    exchange([one, other])
    assert [each.address for each in one.sessions.listed()] == ["a"]
    assert one.ask("b") == ELSEWHERE


def test_others_hear_of_a_session_now_and_then_and_not_of_each_request() -> None:
    process = Process(Clock())
    for _ in range(50):
        process.ask("a")
    assert len(process.feed.next_records()) == 1
    assert process.feed.next_records() == []
    process.clock.now += ANNOUNCE_SECONDS
    process.ask("a")
    assert len(process.feed.next_records()) == 1


def test_what_is_told_comes_to_an_end() -> None:
    """However processes are told of things twice and in another order."""
    clock, source = Clock(), random.Random(1)
    processes = [Process(clock, most=2) for _ in range(3)]
    told: list[SessionRecord] = []
    for _ in range(300):
        processes[source.randrange(3)].ask(f"player {source.randrange(6)}", is_stream=source.random() < 0.3)
        clock.now += source.random() * 20
        for process in processes:
            told += process.feed.next_records()
            process.sessions.merge(source.sample(told, min(len(told), 5)), process.feed)
    for _ in range(3):
        exchange(processes)
    assert all(process.feed.next_records() == [] for process in processes)
    assert all(len(process.sessions.listed()) <= 2 for process in processes)


def test_a_new_process_is_told_of_what_is_and_of_what_has_ended() -> None:
    clock = Clock()
    process, new = Process(clock), Process(clock)
    process.ask("a")
    process.ask("b")
    for records in process.sessions.snapshot():
        new.sessions.merge(records)
    assert [one.address for one in new.sessions.listed()] == ["b"]
    assert new.ask("a") == ELSEWHERE


def test_what_waits_for_a_process_that_can_not_be_reached_is_bounded() -> None:
    process = Process(Clock(), most=1000)
    for number in range(RECORDS_WAITING + 50):
        session = process.ask("a" * 100, is_stream=True)
        assert isinstance(session, ViewerSession), number
        session.begin(print)
        session.end(print)
    count = 0
    while records := process.feed.next_records():
        count += len(records)
        sent = msgspec.msgpack.encode(records)
        assert msgspec.msgpack.decode(sent, type=list[SessionRecord]) == records
    assert count == RECORDS_WAITING


def test_memory_is_bounded_however_many_players_come_with_a_token() -> None:
    process = Process(Clock(), limits=AccessLimits(sessions=60, ended=50))
    for number in range(500):
        assert isinstance(process.ask(f"player {number}"), ViewerSession)
    for number in range(500):
        process.sessions.enter(f"name {number}", "t", EXPIRES, "a", "")
    assert len(process.sessions._ended) == len(process.sessions._kept_out) == 50
    assert sum(map(len, process.sessions._names.values())) == process.sessions._count == 60
    assert isinstance(process.sessions.enter("name 499", "t", EXPIRES, "a", ""), ViewerSession)


@pytest.mark.parametrize(
    "wrong",
    [
        ["x" * 16, "anna", "0" * 16, 1.0, 1.0, 2.0],
        ["0" * 40, "anna", "0" * 16, 1.0, 1.0, 2.0],
        ["0" * 16, "a" * 129, "0" * 16, 1.0, 1.0, 2.0],
        ["0" * 16, "anna", "", 1.0, 1.0, 2.0],
        ["0" * 16, "anna", "0" * 16, "now", 1.0, 2.0],
        ["0" * 16, "anna", "0" * 16, 1.0, 1.0, 2.0, "a" * 65],
        [],
    ],
)
def test_a_malformed_message_is_refused(wrong: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([wrong]), type=list[SessionRecord])
