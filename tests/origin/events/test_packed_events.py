"""Long logs of events take about as much memory as their bytes, and are read like short ones."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from origin.events.event_log import Event, EventLog
from origin.events.formats import SSE
from origin.fan_out.ring import LaggedError


def texts(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.identity, event.data) for event in events]


@pytest.mark.parametrize("seed", range(6))
def test_a_long_log_is_read_like_a_list_of_its_newest_events(seed: int) -> None:
    chance = random.Random(seed)
    capacity = chance.choice([700, 1500, 6000])
    log, model = EventLog("e", capacity, most_bytes=3 << 20), list[Event]()
    for number in range(5000):
        text = f"{number} " + "ä" * chance.choice([0, 10, 300, 300, 300, 20_000 if seed % 2 else 300])
        model.append(log.append("delta", text))
        if chance.random() < 0.01:
            first = chance.randrange(log.first, log.end)
            most = chance.choice([None, 1, 5000])
            events = log.between(first, first + chance.randrange(1, 300), most)
            expected = model[first : first + len(events)]
            assert events
            assert texts(events) == texts(expected)
            assert [event.start for event in events] == [event.start for event in expected]
            assert log.lag(first) == sum(event.size for event in model[first:])
    assert log.size == sum(event.size for event in model[log.first :])
    assert log.end - log.first <= capacity
    assert texts(log.between(log.first, log.end)) == texts(model[log.first :])
    with pytest.raises(LaggedError):
        log.between(log.first - 1, log.end)
    assert log.lag(log.first - 1) == log.size


@pytest.mark.parametrize("room", [1900, 9000])
@pytest.mark.parametrize("later", [0, 100, 3000])
def test_earlier_events_come_before_those_of_which_the_first_have_gone(later: int, room: int) -> None:
    now = 0.0
    log, source = EventLog("e", 9000, seconds=1000.0, clock=lambda: now), EventLog("e", 9000)
    events = [source.append("delta", f"{number} " + "x" * 50) for number in range(6000)]
    log.skip_to(2000)
    for number, event in enumerate(events[2000:4000], 2000):
        log.put(Event("e", event.offset, event.name, event.data, float(number), size=event.size))
    now = 3300.5
    log.expire()
    assert log.first == 2301
    log.resize(room, 4 << 20, 0.0)
    earlier = events[500:2301]
    log.put_before([Event("e", old.offset, old.name, old.data, now, size=old.size) for old in earlier])
    assert texts(log.between(log.first, log.end)) == texts(events[max(500, 4000 - room) : 4000])
    log.resize(9000, 4 << 20, 0.0)
    first = log.first
    for event in events[4000 : 4000 + later]:
        log.put(Event("e", event.offset, event.name, event.data, now, size=event.size))
    assert log.first == first
    assert texts(log.between(first, log.end)) == texts(events[max(500, 4000 - room) : 4000 + later])


def test_a_long_answer_takes_about_as_much_memory_as_its_bytes_also_once_it_was_read() -> None:
    text = '{"choices":[{"index":0,"delta":{"content":" word"}}]}'.ljust(300)
    tracemalloc.start()
    try:
        log = EventLog("e", 1 << 20, most_bytes=1 << 30)
        for number in range(40_000):
            log.append("message", f"{text}{number}")
        unread = tracemalloc.get_traced_memory()[0]
        read = 0
        for first in range(0, log.end, 500):
            read += sum(len(event.written(SSE)) for event in log.between(first, first + 500))
        once_read = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert read > 40_000 * 300
    assert unread < 1.2 * log.size
    assert once_read < 1.3 * log.size
