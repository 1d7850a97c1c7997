"""The answers that relays of this node publish in a cluster: their records and events, on their way to Redis.

The node numbers the events of its answers itself, so that its callers wait for nothing, and Redis gets them
as soon as it can be reached. An answer whose node is gone is ended by another one that reads it, and Redis
takes no more of it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from origin.events.channel import EventChannel
from origin.events.created.records import CreatedChannel, line_of
from origin.events.shared_event_channel import encoded
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.event_streams import EventRetention, EventStreams, PutOutcome
from packager.cluster.event_writer import APPEND_BYTES, APPEND_EVENTS
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from packager.cluster.shared_records import RecordRefusedError, SharedRecords
from packager.concurrency import wait_within

log = structlog.get_logger()

LOST = "lost"
"""Reason for which an answer is stopped that other nodes have ended, as its own seemed to be gone."""


@dataclass(slots=True, eq=False)
class OwnAnswer:
    """An answer that this node publishes.

    Attributes:
        kept: how many of its events Redis keeps.
        following: number of the next event that Redis gets.
        is_registered: whether Redis has the record.
        is_changed: whether its record has changed since Redis got it.
        is_checked: whether Redis has all events that it has taken, as far as this node knows.
        settled: set once it is known whether it is registered, or that it takes longer.
        refusal: why there is no room for it; empty if there is.
    """

    record: CreatedChannel
    channel: EventChannel
    kept: EventRetention
    following: int = 1
    is_registered: bool = False
    is_changed: bool = False
    is_checked: bool = True
    is_sending: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str = ""

    @property
    def stream(self) -> str:
        """Name of its events in Redis."""
        return self.record.stream

    @property
    def is_level(self) -> bool:
        """Whether Redis has all of it."""
        has_events = self.following > self.channel.log.offset
        return self.is_registered and not self.is_changed and self.is_checked and has_events

    @property
    def is_due(self) -> bool:
        """Whether Redis is to get more of it."""
        return not self.is_level and not self.refusal


class OwnAnswers:
    """Sends the answers that this node publishes to Redis, and learns how many readers they have elsewhere.

    Args:
        most: returns the largest number of channels of the cluster.
    """

    def __init__(
        self,
        connection: RedisConnection,
        streams: EventStreams,
        records: SharedRecords,
        most: Callable[[], int],
        limits: ClusterLimits,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._records = records
        self._most = most
        self._limits = limits
        self._answers: dict[str, OwnAnswer] = {}
        self._news = asyncio.Event()
        self._changed: set[str] = set()
        self._lost = connection.lost
        self._told_at = -math.inf

    def begin(self, record: CreatedChannel, channel: EventChannel, kept: EventRetention) -> OwnAnswer:
        """Send an answer from now on, whose channel has no events yet."""
        answer = self._answers[record.name] = OwnAnswer(record, channel, kept)
        self.note_news(record.name)
        return answer

    def get(self, name: str) -> OwnAnswer | None:
        """Return an answer that is sent; None for none."""
        return self._answers.get(name)

    def forget(self, name: str) -> None:
        """Send an answer no longer."""
        answer = self._answers.pop(name, None)
        if answer is not None:
            answer.settled.set()

    def note_news(self, name: str) -> None:
        """Send what is new of an answer."""
        self._changed.add(name)
        self._news.set()

    def note_change(self, name: str) -> None:
        """Send a record that has changed."""
        if (answer := self._answers.get(name)) is not None:
            answer.is_changed = True
            self.note_news(name)

    def check(self, name: str) -> None:
        """Check what Redis has of an answer, and whether it takes more."""
        if (answer := self._answers.get(name)) is not None:
            answer.is_checked = False
            self.note_news(name)

    async def settle(self, name: str) -> str:
        """Wait until all nodes know of an answer, unless that takes long; return why there is no room."""
        answer = self._answers.get(name)
        if answer is None:
            return ""
        await wait_within(
            self._limits.register_seconds if self._connection.is_up else 0.0, answer.settled.wait()
        )
        return answer.refusal

    # Sending

    async def run(self) -> None:
        """Send until cancelled; what waits then is sent if it goes quickly."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold())
                group.create_task(self._count_readers())
                while True:
                    await self._news.wait()
                    self._news.clear()
                    changed, self._changed = self._changed, set()
                    for answer in filter(None, map(self._answers.get, changed)):
                        if not answer.is_sending and answer.is_due:
                            answer.is_sending = True
                            group.create_task(self._send_all(answer))
        finally:
            with contextlib.suppress(TimeoutError, RedisUnavailableError):
                async with asyncio.timeout(self._limits.last_seconds):
                    for answer in tuple(self._answers.values()):
                        while self._is_sent(answer) and answer.is_due:
                            await self._send(answer)

    def _is_sent(self, answer: OwnAnswer) -> bool:
        return self._answers.get(answer.record.name) is answer

    async def _send_all(self, answer: OwnAnswer) -> None:
        try:
            while self._is_sent(answer) and answer.is_due:
                await self._connection.wait_until_up()
                try:
                    await self._send(answer)
                except RedisUnavailableError:
                    answer.settled.set()
                    await asyncio.sleep(self._limits.pause_seconds)
        finally:
            answer.is_sending = False

    async def _send(self, answer: OwnAnswer) -> None:
        """Send what is new of an answer.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        try:
            if not answer.is_registered:
                await self._register(answer)
            elif answer.is_changed:
                await self._change(answer)
            else:
                await self._put(answer)
        except RecordRefusedError as error:
            if answer.is_registered:
                await self._look_again()
                return
            log.warning("other nodes don't get an answer", reason=error.reason)
            answer.refusal = error.reason
            answer.settled.set()

    async def _look_again(self) -> None:
        """Wait until this node knows what others have changed, or deleted, or what Redis had lost is back."""
        await self._records.catch_up()
        await asyncio.sleep(self._limits.pause_seconds)

    async def _register(self, answer: OwnAnswer) -> None:
        record = answer.record
        if time.monotonic() - self._told_at >= self._limits.hold_seconds:
            # Before anybody can look whether this node is there.
            await self._note_publishing()
        answer.is_changed = False
        line = line_of(record).rstrip(b"\n")
        try:
            await self._records.create(record.name, record.number, line, self._most(), None, is_repeated=True)
        except RedisUnavailableError:
            answer.is_changed = True  # Redis may have the record without what changed meanwhile
            raise
        answer.is_registered = True
        answer.settled.set()
        if not self._is_sent(answer):
            self._records.undo(record.name, record.number)

    async def _change(self, answer: OwnAnswer) -> None:
        answer.is_changed = False
        following = answer.record.revision + 1
        line = line_of(replace(answer.record, revision=following)).rstrip(b"\n")
        try:
            await self._records.change(answer.record.name, line)
        except (RedisUnavailableError, RecordRefusedError):
            answer.is_changed = True
            raise
        answer.record.revision = max(answer.record.revision, following)

    async def _put(self, answer: OwnAnswer) -> None:
        log_here = answer.channel.log
        behind = log_here.begin + answer.following - 1
        most = min(log_here.end, behind + APPEND_EVENTS)
        events = log_here.between(behind, most, APPEND_BYTES)
        first = EntryId(int(log_here.epoch, 16), answer.following)
        messages = [encoded(event.name, event.data) for event in events]
        place = await self._streams.put(answer.stream, first, messages, answer.kept, is_last=False)
        if place.outcome is PutOutcome.ENDED:
            self._stop(answer)
        elif place.outcome is PutOutcome.UNKNOWN:
            await self._look_again()
        else:
            answer.following = place.following
            answer.is_checked = True

    def _stop(self, answer: OwnAnswer) -> None:
        """Stop an answer of which Redis takes nothing more."""
        answer.record.is_own = False
        self.forget(answer.record.name)
        if answer.record.stop is not None:
            answer.record.stop(LOST)

    # Readers, and the sign of life

    async def _hold(self) -> None:
        """Publish that this node is there, and check what Redis has when it comes back."""
        while True:
            await asyncio.sleep(self._limits.hold_seconds)
            await self._connection.wait_until_up()
            with contextlib.suppress(RedisUnavailableError):
                if self._answers:
                    await self._note_publishing()
                if self._lost != self._connection.lost:
                    self._lost = self._connection.lost
                    for name in self._answers:
                        self.check(name)

    async def _note_publishing(self) -> None:
        await self._streams.note_publishing()
        self._told_at = time.monotonic()

    async def _count_readers(self) -> None:
        """Ask how many readers the answers that go on have at other nodes."""
        while True:
            await asyncio.sleep(self._limits.answer_look_seconds)
            asked = [one for one in self._answers.values() if one.is_registered and not one.channel.ended]
            for begin in range(0, len(asked), self._limits.looked_at_once):
                some = asked[begin : begin + self._limits.looked_at_once]
                await self._connection.wait_until_up()
                with contextlib.suppress(RedisUnavailableError):
                    found = await self._streams.readers([one.stream for one in some])
                    for answer, readers in zip(some, found, strict=True):
                        answer.channel.readers_of_other_nodes = readers
