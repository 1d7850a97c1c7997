"""Sends events to one webhook: signed, again after failures, and those of one subject in their order.

Messages are signed as Standard Webhooks says:

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import structlog

from origin.webhooks.state_events import MEDIA_TYPE, StateEvent
from packager.record_book import RecordBook
from packager.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from origin.access.webhook import Webhook

log = structlog.get_logger()

KIND = "webhook"
"""The kind of records that keep events."""

RETRY_DIGITS = 4
"""Most digits of a Retry-After that is heeded, in seconds."""

GONE = 410
"""Status by which a server wants nothing any more."""

SECRET_PREFIX = "whsec_"  # noqa: S105  # what a secret begins with


_EVENT = msgspec.json.Decoder(StateEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """The limits of one webhook's deliveries.

    Attributes:
        events: most events that wait; further ones are lost.
        subjects: most subjects whose events are sent at the same time.
        seconds: for how long an event is sent again.
        retries: the pauses before.
    """

    events: int = 10_000
    subjects: int = 8
    seconds: float = 86_400.0
    retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(1.0, 3600.0))


class KeptEvents:
    """Events that couldn't be sent to a webhook, in the record book, so that they survive a restart.

    Args:
        book: None without a data folder, where none are kept.
        webhook: names the webhook in the book.
    """

    def __init__(self, book: RecordBook | None, webhook: str) -> None:
        self._book = book
        self._webhook = webhook

    async def read(self) -> list[StateEvent]:
        """Return the events of earlier processes, in their order."""
        found = list[StateEvent]()
        if self._book is not None:
            try:
                records = await self._book.read(KIND)
            except OSError as error:
                log.warning("events of before can't be read", reason=str(error))
                records = {}
            for name, data in records.items():
                if name.startswith(f"{self._webhook}/"):
                    with contextlib.suppress(msgspec.DecodeError):
                        found.append(_EVENT.decode(data))
        return sorted(found, key=lambda one: one.id)

    async def write(self, event: StateEvent) -> None:
        """Keep an event."""
        await self._write(event, msgspec.json.encode(event))

    async def remove(self, event: StateEvent) -> None:
        """Keep an event no more."""
        await self._write(event, None)

    async def _write(self, event: StateEvent, data: bytes | None) -> None:
        if self._book is None:
            return
        try:
            await self._book.write(KIND, f"{self._webhook}/{event.id}", data)
        except OSError as error:
            log.warning("an event isn't kept for the next start", message=event.id, reason=str(error))


def signature(secret: str, name: str, timestamp: int, body: bytes) -> str:
    """Sign a message.

    Args:
        secret: ``whsec_`` and the key in Base64.
        name: of the message, its ``webhook-id``.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.digest(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


@dataclass(frozen=True, slots=True)
class Destination:
    """A webhook, and what it is sent.

    Attributes:
        name: of the webhook, in the log.
        url: where the events are sent.
        secret: by which they are signed.
        base: the server's own URL, with which addresses in events begin.
    """

    name: str
    url: Webhook
    secret: str
    base: str


class Delivery:
    """Sends the events of one webhook.

    Args:
        kept: the events that couldn't be sent at once.

    Attributes:
        trouble: why events aren't delivered, in one line; empty where they are.
    """

    def __init__(
        self,
        destination: Destination,
        kept: KeptEvents,
        limits: DeliveryLimits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = destination.name
        self.trouble = ""
        self._destination = destination
        self._kept = kept
        self._limits = limits
        self._clock = clock
        self._queues: dict[str, deque[StateEvent]] = {}
        self._waiting = 0
        self._free = asyncio.Semaphore(limits.subjects)
        self._tasks: asyncio.TaskGroup | None = None
        self._is_gone = self._has_read = False
        self._is_kept = set[str]()

    def put(self, event: StateEvent) -> None:
        """Send an event after those of its subject before; never waits."""
        if self._is_gone:
            return
        if self._waiting >= self._limits.events:
            self._note_trouble(f"{self._limits.events} events wait already: further ones are lost")
            return
        self._waiting += 1
        queue = self._queues.setdefault(event.subject, deque())
        queue.append(event)
        if len(queue) == 1 and self._tasks is not None:
            self._tasks.create_task(self._deliver(event.subject, queue))

    async def run(self) -> None:
        """Send events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            try:
                for event in () if self._has_read else await self._kept.read():
                    self._is_kept.add(event.id)
                    self.put(event)
                self._has_read = True
                for subject, queue in tuple(self._queues.items()):
                    tasks.create_task(self._deliver(subject, queue))
                self._tasks = tasks
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def _deliver(self, subject: str, queue: deque[StateEvent]) -> None:
        """Send the events of a subject, one after another."""
        while queue and not self._is_gone:
            await self._deliver_one(queue[0])
            queue.popleft()
            self._waiting -= 1
        self._waiting -= len(queue)
        queue.clear()
        del self._queues[subject]

    async def _deliver_one(self, event: StateEvent) -> None:
        """Send an event until it is taken, or too old."""
        failures = 0
        while True:
            async with self._free:
                reason, pause = await self._attempt(event)
            if not reason or self._is_gone:
                break
            failures += 1
            if event.id not in self._is_kept:
                self._is_kept.add(event.id)
                await self._kept.write(event)
            self._note_trouble(reason)
            pause = max(pause, self._limits.retries.pause(failures))
            if self._clock() + pause > event.time + self._limits.seconds:
                log.error("an event was lost", webhook=self.name, message=event.id, reason=reason)
                break
            await asyncio.sleep(pause)
        if event.id in self._is_kept:
            self._is_kept.discard(event.id)
            await self._kept.remove(event)

    async def _attempt(self, event: StateEvent) -> tuple[str, float]:
        """Send an event once; return why it wasn't taken, empty if it was, and the pause that is wanted."""
        body, timestamp = event.as_cloud_event(self._destination.base), int(self._clock())
        fields = {
            "content-type": MEDIA_TYPE,
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._destination.secret, event.id, timestamp, body),
        }
        # Here and not above: an HTTP client takes long to import, and most servers have no webhook.
        from origin.access.webhook import UnansweredError

        try:
            status, answered = await self._destination.url.send(body, fields)
        except UnansweredError as error:
            return f"it {error}", 0.0
        if status == GONE:
            self._is_gone = True
            self._note_trouble("it wants no more events (410): its table can go")
        elif 200 <= status < 300:
            self.trouble = ""
            return "", 0.0
        pause = answered.get("retry-after", "")
        is_number = pause.isascii() and pause.isdigit() and len(pause) <= RETRY_DIGITS
        return f"it answers {status}", float(pause) if is_number else 0.0

    def _note_trouble(self, reason: str) -> None:
        """Log a trouble once, however many events have it."""
        if self.trouble != reason:
            log.warning("events can't be delivered", webhook=self.name, reason=reason)
        self.trouble = reason
