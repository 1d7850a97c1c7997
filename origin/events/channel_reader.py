"""A reader of an event channel, and the counters of all of a channel's readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from origin.events.event_log import Resumption
from origin.events.formats import SSE, Format
from origin.http1.body_writer import Stream

NO_LIMIT = 1 << 62
"""Number of an event that never comes."""


class ChannelReader:
    """A connection that receives events.

    Args:
        token: the reader's own name, for events that are sent to it alone; None without one.

    Attributes:
        done: completes when the reader has left.
        entered: when its response began, by the loop's clock; None before.
        sequence: number of its next event, until it has caught up and joined a group.
        limit: number of the event before which it ends.
        is_pinged: whether it hasn't answered the last ping yet.
        is_catching_up: whether it has never caught up yet.
        is_taking: whether it has taken all that was written to it since the last flush.
        gone: when its connection was found to be lost; None if it is there, or was ended by this server.
    """

    __slots__ = (
        "done",
        "entered",
        "form",
        "gone",
        "is_catching_up",
        "is_pinged",
        "is_taking",
        "limit",
        "resumption",
        "sequence",
        "stream",
        "token",
    )

    stream: Stream

    def __init__(self, resumption: Resumption, form: Format = SSE, token: str | None = None) -> None:
        self.resumption = resumption
        self.form = form
        self.token = token
        self.sequence = resumption.sequence
        self.limit = NO_LIMIT
        self.entered: float | None = None
        self.gone: float | None = None
        self.is_pinged = False
        self.is_catching_up = True
        self.is_taking = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        """Complete ``done``."""
        if not self.done.done():
            self.done.set_result(None)


class ReaderCounters:
    """Counters of a channel's readers since its start.

    Attributes:
        dropped: fell too far behind, or answered no ping.
        lagged: fell too far behind, and got a notice of a gap.
        resumed: came again with an id, and missed nothing.
        reset: came again with an id, and had missed events.
        on_first_event: called with the seconds that a reader waited for its first event.
    """

    __slots__ = ("dropped", "lagged", "on_first_event", "reset", "resumed")

    def __init__(self, on_first_event: Callable[[float], None]) -> None:
        self.dropped = self.lagged = self.resumed = self.reset = 0
        self.on_first_event = on_first_event
