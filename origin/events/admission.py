"""Whether there is room for one more reader: of a channel, of all channels, of one client."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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


class HasReaders(Protocol):
    """An event channel or a relay."""

    @property
    def readers(self) -> int:
        """Number of the channel's readers."""
        ...


class Admission:
    """Admits readers of event channels as long as there is room for them.

    Args:
        counted: event channels and relays, whose readers are counted together; may change.
        most_readers: of all channels together; None for no limit.
        client_readers: most readers from one client's address.
    """

    def __init__(
        self,
        counted: Collection[HasReaders] = (),
        most_readers: int | None = None,
        client_readers: ClientLimit = UNLIMITED,
    ) -> None:
        self._counted = counted
        self._most_readers = most_readers
        self._client_readers = client_readers

    def has_room(self, channel: EventChannel) -> bool:
        """Return whether one more reader of a channel is admitted, if its client has no others."""
        return not channel.full and not self._is_full(0)

    def _is_full(self, more: int) -> bool:
        """Whether all channels together have as many readers as they may, and so many more."""
        total = sum(one.readers for one in self._counted)
        return self._most_readers is not None and total >= self._most_readers + more

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
