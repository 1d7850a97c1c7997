"""The events that webhooks are sent: their kinds, and their JSON as CloudEvents 1.0 has it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from origin.config.option_types import EventKind

MEDIA_TYPE = "application/cloudevents+json"

RANDOM_BYTES = 8


class StateEvent(msgspec.Struct, frozen=True):
    """An event, as it is sent and kept.

    Attributes:
        id: unlike all others; of two events, the later one's is greater.
        subject: ``live/NAME`` or ``radio/NAME``.
        time: seconds since the epoch.
        data: such as ``{"title": "Artist - Title"}``.
    """

    id: str
    type: EventKind
    subject: str
    time: float
    data: Mapping[str, Any]

    @classmethod
    def now(cls, kind: EventKind, subject: str, data: Mapping[str, Any]) -> StateEvent:
        """Make an event of this moment."""
        # Standard Webhooks advises identifiers with a prefix.
        name = f"msg_{time.time_ns():016x}{secrets.token_hex(RANDOM_BYTES)}"
        return cls(name, kind, subject, time.time(), data)

    def as_cloud_event(self, base: str) -> bytes:
        """Write the event in CloudEvents' JSON format (CloudEvents 1.0.2 §3; JSON event format §3).

        Args:
            base: the server's own URL, with which addresses begin.
        """
        moment = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        return msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": self.id,
                "source": f"{base}/{quote(self.subject)}",
                "type": self.type,
                "subject": self.subject,
                "time": moment.replace("+00:00", "Z"),
                "datacontenttype": "application/json",
                "data": self.data,
            }
        )


@dataclass(frozen=True, slots=True)
class SeenState:
    """The state of a live channel or a station, from which events are made.

    Attributes:
        is_on_air: whether parts of a channel, or audio of a station, come now.
        source: the program of the source client of a station; None where there is none.
        title: of the newest song of a station; None without one, and of a live channel.
    """

    is_on_air: bool = False
    source: str | None = None
    title: str | None = None


def events_between(before: SeenState, now: SeenState, subject: str, reason: str) -> list[StateEvent]:
    """Return the events that lead from one state to the next, in their order.

    Args:
        reason: why a channel is off air; empty where its publisher has just gone.
    """
    area = subject.partition("/")[0]
    found = list[StateEvent]()
    if area == "radio" and before.source != now.source:
        data = {"connected": now.source is not None, "agent": now.source or before.source}
        found.append(StateEvent.now("radio.source", subject, data))
    if before.is_on_air != now.is_on_air:
        started: EventKind = "live.started" if area == "live" else "radio.started"
        ended: EventKind = "live.ended" if area == "live" else "radio.ended"
        data = {} if now.is_on_air else {"reason": reason or None}
        found.append(StateEvent.now(started if now.is_on_air else ended, subject, data))
    if now.title and before.title != now.title:
        found.append(StateEvent.now("radio.title", subject, {"title": now.title}))
    return found
