"""The webhooks of a server, which are sent what changes on its live channels and stations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from origin.access.limits import WebhookLimits
from origin.config.option_types import EventKind
from origin.config.options import Config, WebhookOptions
from origin.webhooks.delivery import Delivery, DeliveryLimits, Destination, KeptEvents
from origin.webhooks.state_events import SeenState, StateEvent, events_between
from packager.record_book import RecordBook
from packager.redaction import redacted_url

LOOK_SECONDS = 0.5
"""Pause between two comparisons of the states of all channels and stations."""

NAME_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Looked:
    """A live channel or a station as it is now.

    Attributes:
        subject: ``live/NAME`` or ``radio/NAME``.
        reason: why it is off air.
    """

    subject: str
    state: SeenState
    reason: str


class StateWebhooks:
    """Sends webhooks what happens on live channels and stations.

    Args:
        options: the webhooks of the configuration, which may change.
        base: the server's own URL, without a slash at its end.
        look: returns all channels and stations whose changes this node sends.
        book: keeps events that couldn't be sent; None without a data folder.
    """

    name = "webhooks"

    def __init__(
        self,
        options: Sequence[WebhookOptions],
        base: str,
        look: Callable[[], Iterable[Looked]],
        book: RecordBook | None,
        limits: DeliveryLimits,
        requests: WebhookLimits,
    ) -> None:
        self._options = tuple(options)
        self._base = base
        self._look = look
        self._book = book
        self._limits = limits
        self._requests = requests
        self._deliveries: dict[str, Delivery] = {}
        self._wanted: dict[str, frozenset[EventKind]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, SeenState] = {}
        self._closed = self._is_running = False

    @property
    def trouble(self) -> str:
        """Why events aren't delivered, in one line; empty where all are."""
        return "; ".join(f"{one.name}: {one.trouble}" for one in self._deliveries.values() if one.trouble)

    async def run(self) -> None:
        """Compare states and send events until this is closed, or the task is cancelled."""
        try:
            self._is_running = True
            self._begin()
            self._seen = {one.subject: one.state for one in self._look()}
            while not self._closed:
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
        finally:
            self._is_running = False
            for task in self._running.values():
                task.cancel()
            if self._running:
                await asyncio.wait(self._running.values())
            self._running = {}

    def close(self) -> None:
        """Compare no more: the end of the server is no event of its channels."""
        self._closed = True

    async def follow(self, new: Config) -> None:
        """Send to the webhooks of a configuration; those that stay go on with what they have."""
        self._options = new.webhooks
        if self._is_running:
            self._begin()

    def _begin(self) -> None:
        """Send to the webhooks of now, and to no others."""
        wanted = {_name_of(one): one for one in self._options}
        for name in self._deliveries.keys() - wanted.keys():
            del self._deliveries[name], self._wanted[name]
            if (task := self._running.pop(name, None)) is not None:
                task.cancel()
        for name, one in wanted.items():
            self._wanted[name] = frozenset(one.events)
            delivery = self._deliveries.setdefault(name, self._make(name, one))
            if name not in self._running:
                self._running[name] = asyncio.get_running_loop().create_task(delivery.run())

    def _make(self, name: str, one: WebhookOptions) -> Delivery:
        # Here and not above: an HTTP client takes long to import, and most servers have no webhook.
        from origin.access.webhook import Webhook

        shown, url = redacted_url(one.url, with_path=False), Webhook(one.url, self._requests)
        to = Destination(shown, url, one.secret, self._base)
        return Delivery(to, KeptEvents(self._book, name), self._limits)

    def look(self) -> None:
        """Send what has changed since the last look."""
        if not self._deliveries:
            return
        seen = dict[str, SeenState]()
        for one in self._look():
            seen[one.subject] = one.state
            # A channel that was just made begins off air.
            before = self._seen.get(one.subject, SeenState())
            if before != one.state:
                for event in events_between(before, one.state, one.subject, one.reason):
                    self._put(event)
        for subject in self._seen.keys() - seen.keys():
            for event in events_between(self._seen[subject], SeenState(), subject, "it was removed"):
                self._put(event)
        self._seen = seen

    def announce_recording(self, subject: str, recording: Mapping[str, Any]) -> None:
        """Send that a recording is ready.

        Args:
            recording: as the lists describe it.
        """
        self._put(StateEvent.now("recording.ready", subject, recording))

    def _put(self, event: StateEvent) -> None:
        for name, delivery in self._deliveries.items():
            if event.type in self._wanted[name]:
                delivery.put(event)


def _name_of(options: WebhookOptions) -> str:
    """Name a webhook without its secrets, which may be in its URL."""
    return sha256(f"{options.url} {options.secret}".encode()).hexdigest()[:NAME_CHARACTERS]
