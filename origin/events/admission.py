"""Whether there is room for one more reader: of a channel, of all channels, of one client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response

from origin.access.credentials import client_address
from origin.events.channel import EventChannel
from origin.http.client_limits import UNLIMITED, ClientLimit, TooManyError
from origin.responses.refusal import plain_refusal

NOT_KEPT: Mapping[str, str] = {"cache-control": "no-store"}


class NoRoomError(Exception):
    """There is no room; the answer is this status with this line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status

    def response(self, channel: EventChannel) -> Response:
        """Make the answer, which says when to come again."""
        headers = {**NOT_KEPT, "retry-after": str(channel.limits.retry_seconds)}
        return plain_refusal(self.status, str(self), headers)


class Admission:
    """Counts readers.

    Args:
        channels: whose readers are counted together.
        most_readers: of them all; None for no limit.
        client_readers: limit of one client.
    """

    def __init__(
        self,
        channels: Mapping[str, EventChannel] | None = None,
        most_readers: int | None = None,
        client_readers: ClientLimit = UNLIMITED,
    ) -> None:
        self._channels = channels or {}
        self._most_readers = most_readers
        self._client_readers = client_readers

    @contextmanager
    def held(self, channel: EventChannel, request: Request) -> Iterator[None]:
        """Have room for one reader while the context is open.

        Raises:
            NoRoomError: there is none.
        """
        total = sum(one.readers for one in self._channels.values())
        if channel.full or (self._most_readers is not None and total >= self._most_readers):
            raise NoRoomError(503, "too many readers")
        try:
            with self._client_readers.held(client_address(request)):
                yield
        except TooManyError:
            raise NoRoomError(429, "too many readers of one address") from None
