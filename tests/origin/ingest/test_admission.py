"""Who may publish where, by whatever protocol: channels, keys, guesses, and room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import structlog.testing

from origin.access.guess_delay import GuessDelay
from origin.access.publish_keys import PublishKeys
from origin.http1.shared_turns import turns_of
from origin.ingest.admission import IngestAdmission, RefusalReason, RefusedError
from origin.ingest.limits import IngestLimits
from packager.sources.publication import Publication, Publisher
from packager.sources.published_source import PublishedSource, Takeover
from packager.step_budget import PORTION_BYTES
from tests.permissions import live_authorization

ADMIN, KEY = "of-the-admin", "the-key-of-the-studio"
SOMEBODY = Publisher("rtmp", "192.0.2.1")


def admission(publishers: int = 64) -> IngestAdmission:
    sources = {
        "studio": PublishedSource("studio"),
        "field": PublishedSource("field", Takeover.REFUSE),
        "film": None,
    }
    delay = GuessDelay(2, 5.0)
    return IngestAdmission(
        sources, live_authorization({"studio": KEY}, ADMIN), delay, IngestLimits(publishers=publishers)
    )


def admit(door: IngestAdmission, channel: str, key: str, publisher: Publisher = SOMEBODY) -> Publication:
    """Take the steps of a protocol in which a publisher presents the key, where no webhook is asked."""
    door.find(channel)
    door.check_key(channel, key, publisher.address)
    return door.begin(channel, publisher)


@pytest.mark.parametrize(
    ("channel", "key", "reason"),
    [
        ("nowhere", KEY, RefusalReason.UNKNOWN_CHANNEL),
        ("../../tmp/x", KEY, RefusalReason.UNKNOWN_CHANNEL),
        ("", ADMIN, RefusalReason.UNKNOWN_CHANNEL),
        ("film", ADMIN, RefusalReason.OTHER_SOURCE),
        ("studio", "", RefusalReason.WRONG_KEY),
        ("studio", KEY[:-1], RefusalReason.WRONG_KEY),
        ("studio", KEY + "\0", RefusalReason.WRONG_KEY),
        ("studio", "\udcff", RefusalReason.WRONG_KEY),
        ("field", KEY, RefusalReason.WRONG_KEY),
        ("field", "", RefusalReason.WRONG_KEY),
    ],
)
async def test_a_stranger_is_refused(channel: str, key: str, reason: RefusalReason) -> None:
    with pytest.raises(RefusedError) as told:
        admit(admission(), channel, key)
    assert told.value.reason is reason


@pytest.mark.parametrize("key", [KEY, ADMIN])
async def test_a_publisher_with_the_key_is_let_in(key: str) -> None:
    assert not admit(admission(), "studio", key).end_reason


async def test_who_presents_no_key_has_guessed_none() -> None:
    door = admission()
    for key in [""] * 20 + ["wrong"] * 2:
        with pytest.raises(RefusedError) as told:
            admit(door, "studio", key)
        assert told.value.delay_seconds == 0


@pytest.mark.clause("CWE-779")
@pytest.mark.parametrize("key", ["", "wrong"])
async def test_strangers_cant_fill_the_log(key: str) -> None:
    door = admission()
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            with pytest.raises(RefusedError):
                admit(door, "studio", key, Publisher("rtmp", f"198.51.100.{number % 200}"))
    assert {line["event"] for line in lines} == {"publisher refused"}
    assert 1 < len(lines) <= IngestLimits().refusal_log.lines
    assert lines[0]["reason"] == "wrong key"


@pytest.mark.clause("CWE-307", "The answer to a wrong key comes later and later, but within seconds")
async def test_who_guesses_is_answered_later_and_later() -> None:
    door, delays = admission(), list[float]()
    for _ in range(20):
        with pytest.raises(RefusedError) as told:
            admit(door, "studio", "a-long-wrong-key")
        delays.append(told.value.delay_seconds)
    assert delays[:2] == [0, 0]
    assert delays[2:] == sorted(delays[2:])
    assert delays[2] > 0
    assert delays[-1] == 5.0
    # A short one isn't compared meanwhile, be it right.
    with pytest.raises(RefusedError, match="wait a little") as told:
        admit(door, "field", ADMIN)
    assert told.value.delay_seconds == 0
    assert admit(door, "field", ADMIN, Publisher("srt", "192.0.2.98"))
    with pytest.raises(RefusedError) as told:
        admit(door, "studio", "wrong", Publisher("srt", "192.0.2.99"))
    assert told.value.delay_seconds == 0
    assert admit(door, "studio", KEY)


async def test_there_is_room_for_so_many_and_no_more() -> None:
    door = admission(publishers=2)
    first, _ = (admit(door, "studio", KEY) for _ in range(2))
    with pytest.raises(RefusedError) as told:
        admit(door, "field", ADMIN)
    assert told.value.reason is RefusalReason.TOO_MANY
    first.end()
    assert admit(door, "field", ADMIN)


async def test_a_channel_that_ends_takes_nobody() -> None:
    door = admission()
    source = door.find("studio")
    assert source is not None
    source.close()
    with pytest.raises(RefusedError) as told:
        admit(door, "studio", KEY)
    assert told.value.reason is RefusalReason.CLOSED


async def test_another_key_is_valid_from_the_moment_it_is_taken() -> None:
    keys = PublishKeys({"studio": KEY, "field": "a", "old": "b"})
    door = IngestAdmission(
        {"studio": PublishedSource("studio")}, live_authorization(keys), GuessDelay(2, 5.0)
    )
    assert keys.rotate({"studio": "other", "field": "a", "new": "c"}) == {"studio"}
    with pytest.raises(RefusedError):
        admit(door, "studio", KEY)
    assert admit(door, "studio", "other")


class CountedNames(dict[str, PublishedSource | None]):
    """Channels whose names are counted when they are looked through."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        self.looks += 1
        return super().__iter__()


async def test_strangers_have_no_more_names_compared_than_the_log_has_lines() -> None:
    sources = CountedNames({f"channel-{number}": None for number in range(1000)})
    door = IngestAdmission(sources, live_authorization({}), GuessDelay(2, 5.0))
    with structlog.testing.capture_logs() as lines:
        for number in range(500):
            with pytest.raises(RefusedError):
                door.find(f"chanel-{number}", f"198.51.100.{number % 200}")
    assert sources.looks == len(lines) == IngestLimits().refusal_log.lines
    # The names of about its length are compared, a few of them.
    assert lines[7]["similar"].startswith("channel-")


class Portions:
    """Counts the portions that a publication parses."""

    fault = ""

    def __init__(self) -> None:
        self.count = 0

    def receive_data(self, data: bytes) -> list[object]:
        self.count += 1
        return []


async def test_a_publishers_bytes_are_parsed_in_the_turns_of_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the protocol is, a neighbour has its turn between two portions."""
    turns = turns_of(asyncio.get_running_loop(), 0.0)
    publication = admit(admission(), "studio", KEY, Publisher("srt", "192.0.2.1"))
    publication._set_container("mpegts")
    portions = Portions()
    monkeypatch.setattr(publication, "_reader", portions)
    feeding = asyncio.create_task(publication.receive_data(bytes(100 * PORTION_BYTES)))
    await asyncio.create_task(turns.next_turn("192.0.2.2"))
    assert portions.count <= 10
    await feeding
    assert portions.count == 100
