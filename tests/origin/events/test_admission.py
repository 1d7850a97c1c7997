"""Room for readers of all event channels together: its limit holds, and thousands of channels cost little."""

from __future__ import annotations

from dataclasses import dataclass

from origin.events.admission import NEAR_READERS, RECOUNT_SECONDS, Admission
from origin.events.channel import EventChannel
from origin.events.limits import ChannelLimits


@dataclass
class Counted:
    """Something with readers, which counts how often they are asked for."""

    entered: int = 0
    asked: int = 0

    @property
    def readers(self) -> int:
        self.asked += 1
        return self.entered


def admission(counted: Counted, most: int, now: list[float]) -> Admission:
    return Admission((counted,), most, clock=lambda: now[0])


def test_thousands_come_while_all_readers_are_counted_a_few_times() -> None:
    channel, counted = EventChannel("test", "e", ChannelLimits()), Counted()
    open_to = admission(counted, 100_000, [0.0])
    for _ in range(5000):
        assert open_to.has_room(channel)
        counted.entered += 1
    assert counted.asked == 1


def test_no_more_are_let_in_than_the_limit_whoever_leaves_and_comes() -> None:
    channel, counted = EventChannel("test", "e", ChannelLimits()), Counted()
    most = 10 * NEAR_READERS
    open_to = admission(counted, most, [0.0])
    for _ in range(2 * most):
        counted.entered += open_to.has_room(channel)
    assert counted.entered == most
    counted.entered -= 1
    assert open_to.has_room(channel)
    counted.entered += 1
    assert not open_to.has_room(channel)


def test_readers_of_other_processes_count_soon() -> None:
    channel, counted, now = EventChannel("test", "e", ChannelLimits()), Counted(), [0.0]
    open_to = admission(counted, 10 * NEAR_READERS, now)
    assert open_to.has_room(channel)
    counted.entered = 10 * NEAR_READERS
    now[0] += RECOUNT_SECONDS
    assert not open_to.has_room(channel)
