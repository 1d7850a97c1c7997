"""Whether there is room for one more reader: of a channel, of all channels, of one client."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from starlette.requests import Request

from origin.access.authentication import client_address
from origin.events.channel import EventChannel
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http1.body_writer import at_end
from origin.responses.refusal import RefusalError

FULL = "too many readers"

RECOUNT_SECONDS = 0.1
"""Pause between two counts of all readers where there is room for many more."""

NEAR_READERS = 64
"""Places below the limit from which on all readers are counted for each one that comes."""


class HasReaders(Protocol):
    """An event channel or a relay."""

    @property
    def readers(self) -> int:
        """Number of the channel's readers."""
        ...


class Admission:
    """Admits readers of event channels as long as there is room for them.

    Args:
        clock: returns monotonic seconds.
        counted: event channels and relays, whose readers are counted together; may change.
        most_readers: of all channels together; None for no limit.
        client_readers: most readers from one client's address.
    """

    def __init__(
        self,
        counted: Iterable[HasReaders] = (),
        most_readers: int | None = None,
        client_readers: ClientLimit = UNLIMITED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counted = counted
        self._most_readers = most_readers
        self._client_readers = client_readers
        self._clock = clock
        # The last count of all readers, when it was made, and how many have asked for a place since.
        self._total = self._asked = 0
        self._counted_at = -math.inf

    def has_room(self, channel: EventChannel) -> bool:
        """Return whether one more reader of a channel is admitted, if its client has no others."""
        return not channel.full and not self._is_full(0)

    def _is_full(self, more: int) -> bool:
        """Whether all channels together have as many readers as they may, and so many more."""
        if self._most_readers is None:
            return False
        self._asked += 1
        now, most = self._clock(), self._most_readers + more
        if self._total + self._asked + NEAR_READERS < most and now < self._counted_at + RECOUNT_SECONDS:
            # There is room for all who have asked, and thousands of channels take a millisecond to count.
            return False
        self._total, self._asked = sum(one.readers for one in self._counted), 0
        self._counted_at = now
        return self._total >= most

    @contextmanager
    def held(self, channel: EventChannel, request: Request) -> Iterator[None]:
        """Hold a place for one reader while the context is open.

        Raises:
            RefusalError: there is none; the answer says when to come again.
        """
        if not self.has_room(channel):
            raise RefusalError(503, FULL, {"retry-after": str(channel.limits.retry_seconds)})
        with self.held_for_client(request, channel.limits.retry_seconds):
            yield

    def check(self, retry_seconds: int) -> None:
        """Check that there is room for the readers of all channels, the newest among them already.

        Raises:
            RefusalError: there is none; the answer says when to come again.
        """
        if self._is_full(1):
            raise RefusalError(503, FULL, {"retry-after": str(retry_seconds)})

    @contextmanager
    def held_for_client(self, request: Request, retry_seconds: int) -> Iterator[None]:
        """Hold a place for one reader of a client's address while the context is open.

        Raises:
            RefusalError: there is none; the answer says when to come again.
        """
        client = client_address(request)
        if not self._client_readers.acquire(client):
            headers = {"retry-after": str(retry_seconds)}
            raise RefusalError(429, "too many readers of one address", headers)
        try:
            yield
        finally:
            at_end(request.scope, partial(self._client_readers.give_back, client))
