"""Serves event channels in a worker from their logs; publishers and clients with keys are handed over."""

from __future__ import annotations

import functools
from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Scope

from origin.access.authorization import Authorization, ResourceKind
from origin.config.options import Config, EventOptions, event_channels
from origin.events.admission import Admission
from origin.events.beats import ChannelBeats
from origin.events.channel import EventChannel
from origin.events.channel_keys import ChannelKeys, ReadingPages, resource_keys
from origin.events.channel_replication import FollowedEventLog
from origin.events.reading import identity_of
from origin.events.routes import routes
from origin.http.client_limits import ClientLimits
from origin.http1 import websocket
from origin.server.services.event_services import event_channel_options, event_limits, is_followed
from origin.server.services.limits import Limits
from origin.token_relay.relay import relay_limits

KEYS_IN_QUERY = (b"key=", b"signature=")
"""Parts of a query with which a client may show that it may publish."""


class _OwnReaders(Admission):
    """Admits readers as long as this worker's own leave room, once ``is_answered`` has counted all.

    The reported readers of other processes may be a second old. A reader beyond the limit by these is handed
    over to the control process, which knows better; here it would be refused though there may be room.
    """

    def has_room(self, channel: EventChannel) -> bool:
        """Return whether one more reader of a channel is admitted."""
        return channel.readers_here < channel.limits.readers


class WorkerEventChannels:
    """The event channels that a worker serves.

    Args:
        count: called with the number of bytes written to readers.
    """

    def __init__(self, config: Config, limits: Limits, count: Callable[[int], None]) -> None:
        self._config = config
        self._limits = limits
        self._count = count
        self._options = {one.name: one for one in event_channels(config) if is_followed(one)}
        self._served: dict[str, EventChannel] = {}
        self._logs: dict[str, FollowedEventLog] = {}
        self._admission = Admission(self._served.values(), config.limits.all_event_readers)

    def follow(self, name: str) -> FollowedEventLog:
        """Make what folds the log of a channel."""
        make = functools.partial(self._make, self._options[name])
        found = self._logs[name] = FollowedEventLog(name, make, self._served)
        return found

    def _make(self, options: EventOptions, epoch: str) -> EventChannel:
        relaying = relay_limits(self._config.limits, self._limits.relay)
        offered = event_channel_options(options, self._config.limits, self._limits.events, relaying)
        return EventChannel(options.name, epoch, offered.without_presence(), count=self._count)

    @property
    def channels(self) -> dict[str, EventChannel]:
        """All that have readers here, or may have, by name."""
        return {name: one.channel for name, one in self._logs.items() if one.channel is not None}

    async def run(self) -> None:
        """Keep the readers' connections alive until cancelled."""
        await ChannelBeats(self.channels.values, self._limits.events.channel.beat_seconds).run()

    def is_answered(self, scope: Scope, *, upgrading: bool) -> bool:
        """Return whether a worker answers a request below ``/events/``.

        Args:
            upgrading: whether it asks for another protocol.
        """
        channel = self._served.get(scope["path"].removeprefix("/events/"))
        if scope["method"] not in ("GET", "HEAD") or channel is None or not self._admission.has_room(channel):
            return False
        if upgrading and (not websocket.is_upgrade(scope["method"], scope["headers"]) or _has_key(scope)):
            # A client with a key may publish.
            return False
        request = Request(scope)
        identity = identity_of(request)
        # A reader from a process or a node that is ahead of this one needs the process with all events.
        log = channel.log
        is_ahead = log.may_be_elsewhere if self._config.cluster.url else log.is_ahead
        return not (identity and is_ahead(identity))

    def routes(self, client_limits: ClientLimits) -> list[BaseRoute]:
        """Make their routes."""
        config = self._config
        # No channel whose readers need a key is here.
        keys = {
            name: ChannelKeys(read_key="", allow_origin=one.allow_origin)
            for name, one in self._options.items()
        }
        authorization = Authorization(keys={ResourceKind.EVENTS: resource_keys(keys.get)})
        pages = ReadingPages(keys.get, config.server.allow_origin)
        admission = _OwnReaders(client_readers=client_limits.event_readers)
        limits = event_limits(config.limits, self._limits.events)
        return routes(self._served, authorization, pages, limits, admission, publishes=False)


def _has_key(scope: Scope) -> bool:
    """Return whether a request presents something that may be a key."""
    query: bytes = scope["query_string"]
    return any(name == b"authorization" for name, _ in scope["headers"]) or any(
        one in query for one in KEYS_IN_QUERY
    )
