"""An event channel that another process publishes has the same events with the same ids, come what may."""

from __future__ import annotations

import asyncio

import pytest

from media.errors import MalformedError
from origin.events.channel import ChannelEntry, EventChannel, EventChannelOptions
from origin.events.channel_replication import FollowedEventLog, ServedEventLog
from origin.events.event_log import Event, Past, PastEpoch
from origin.events.limits import ChannelLimits
from packager.replication.log_entries import Place

LIMITS = ChannelLimits(history=5)


class Pair:
    """A channel where it is published, and one that follows it, as far as the connection lets it."""

    def __init__(self) -> None:
        self.made = EventChannel("test", "e1", LIMITS)
        self.made.on_entry = self.append
        self.served: dict[str, EventChannel] = {}
        self.log = ServedEventLog(self.made)
        self.follower = FollowedEventLog("test", self.make, self.served)
        self.connected = False

    def make(self, epoch: str) -> EventChannel:
        return EventChannel("test", epoch, EventChannelOptions(limits=LIMITS))

    @property
    def followed(self) -> EventChannel:
        return self.served["test"]

    def append(self, entry: ChannelEntry) -> None:
        if not self.connected:
            return
        if self.log.begins_anew(entry):
            self.connect()
        else:
            self.send(entry)

    def connect(self) -> None:
        """Begin with a snapshot."""
        self.connected = True
        places = [self.send(entry) for entry in self.log.snapshot()]
        assert places[0] is Place.BEGIN
        assert places[-1] is Place.END
        assert {*places[1:-1]} == {Place.ELSEWHERE}
        self.follower.offer()

    def send(self, entry: object) -> Place:
        place, read = self.follower.read(self.log.encode(entry))  # type: ignore[arg-type]
        self.follower.fold(read)
        return place

    def report(self) -> None:
        for message in self.follower.reports():
            self.log.take_report("a worker", message)

    def same(self) -> None:
        made, followed = self.made, self.followed
        assert shown(followed) == shown(made)
        assert followed.ended == made.ended
        assert followed.last_id == made.last_id
        for identity in (None, "e0-1", "e0-2", "e1-0", "e1-3", "e1-9", "e1-99", "other-1", "nonsense"):
            assert followed.since(identity) == made.since(identity), identity


def shown(channel: EventChannel) -> list[tuple[str, str, str, float, int]]:
    events = channel.log.between(channel.log.first, channel.log.end)
    return [(one.identity, one.name, one.data, one.time, one.size) for one in events]


async def test_who_follows_has_the_same_events_with_the_same_ids() -> None:
    pair = Pair()
    for number in range(8):
        pair.made.publish_text(f"zwölf\r\n{number}", "news")
    pair.connect()
    pair.same()
    for number in range(3):
        pair.made.publish_text(str(number))
        pair.same()
    pair.made.end()
    pair.same()
    pair.made.begin()
    pair.same()
    pair.made.publish_text("again")
    pair.same()


async def test_events_of_earlier_epochs_come_even_behind_the_first_of_this_one() -> None:
    pair = Pair()
    pair.connect()
    pair.made.publish_text("new")
    old = tuple(Event("e0", number, "message", str(number), size=65) for number in (1, 2))
    pair.made.restore(Past((PastEpoch("e0", 2),), old))
    assert [one[0] for one in shown(pair.followed)] == ["e0-1", "e0-2", "e1-1"]
    pair.same()


@pytest.mark.parametrize("missed", [0, 3, 30])
async def test_readers_go_on_over_a_connection_that_was_lost(missed: int) -> None:
    pair = Pair()
    pair.connect()
    pair.made.publish_text("before")
    waiting = asyncio.ensure_future(pair.followed.news(1))
    channel = pair.followed
    pair.connected = False
    pair.follower.withdraw()
    assert not pair.served
    for number in range(missed):
        pair.made.publish_text(str(number))
    pair.connect()
    assert pair.followed is channel
    pair.same()
    pair.made.publish_text("behind")
    await asyncio.wait_for(waiting, 60)
    pair.same()


async def test_a_gap_in_which_nothing_is_kept_is_one_for_readers() -> None:
    pair = Pair()
    pair.made.publish_text("gone")
    pair.made.log.skip_to(1)
    pair.connect()
    assert pair.followed.since("e1-0").reason == "expired"
    pair.same()


async def test_readers_are_counted_over_all_processes_and_told_to_them() -> None:
    pair = Pair()
    pair.connect()
    with pair.followed.polling(), pair.made.polling():
        pair.report()
        assert pair.made.readers == 2
        pair.made.beat()
        assert pair.followed.readers == 2
        assert pair.followed.readers_here == 1
        assert list(pair.follower.reports()) == []
        pair.connect()
        pair.report()
        assert pair.made.readers == 2
    pair.report()
    assert pair.made.readers == 0
    pair.made.readers_elsewhere["a worker"] = 7
    pair.log.forget("a worker")
    assert pair.made.readers == 0


async def test_what_is_no_entry_and_no_report_is_refused() -> None:
    pair = Pair()
    no_text, nested = b"\x81\xa4type\xa1\xff", b"\x81\xa1x" + b"\x91" * 100_000
    for message in (b"", b"\xc1", b"\x80", b"\x81\xa4type\xa5other", no_text, nested):
        with pytest.raises(MalformedError):
            pair.follower.read(message)
        with pytest.raises(MalformedError):
            pair.log.take_report("a worker", message)
    with pytest.raises(MalformedError):
        pair.send(pair.made.told)


async def test_an_id_that_is_ahead_is_one_of_this_epoch_that_is_not_here_yet() -> None:
    pair = Pair()
    pair.made.publish_text("one")
    assert pair.made.log.is_ahead("e1-2")
    assert not any(map(pair.made.log.is_ahead, ("e1-1", "e1-0", "e2-2", "e1-x", "")))
