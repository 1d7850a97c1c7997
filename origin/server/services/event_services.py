"""Makes event channels from the configuration, with their histories on disk and their relays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from origin.config.limit_options import LimitOptions
from origin.config.options import Config, EventOptions, data_folder, seconds
from origin.events.authorization import ChannelKeys
from origin.events.channel import NO_EPOCH, EventChannel, EventChannelOptions, new_epoch
from origin.events.disk_history import EventHistory
from origin.events.limits import EventLimits, HistoryLimits
from origin.server.services.limits import Limits
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.relay import TokenRelay, make_relays, relay_limits
from packager.concurrency import Threads


@dataclass(frozen=True, slots=True)
class EventServices:
    """The event channels of a server, by name.

    Attributes:
        histories: the histories on disk, of channels that have one.
        relays: the relays of token streams, of channels that have one.
        keys: of publishers and readers; a reload changes them.
    """

    channels: dict[str, EventChannel]
    histories: dict[str, EventHistory]
    relays: dict[str, TokenRelay]
    keys: dict[str, ChannelKeys]


def make_event_services(config: Config, limits: Limits, count: Callable[[str, int], None]) -> EventServices:
    """Make the event channels of a configuration, with their histories and relays.

    Args:
        count: called with the area of requests and the number of bytes written to their clients.
    """
    relaying = relay_limits(config.limits, limits.relay)
    is_shared = bool(config.cluster.url)
    channels = {
        options.name: EventChannel(
            options.name,
            NO_EPOCH if is_shared else new_epoch(),
            event_channel_options(options, config.limits, limits.events, relaying),
            count=functools.partial(count, "events"),
        )
        for options in config.events
    }
    threads = Threads(limits.events.history.threads, "history")
    histories = {
        options.name: EventHistory(
            channels[options.name],
            place,
            history_limits(options, channels[options.name].limits.history_bytes, limits.events.history),
            threads,
        )
        for options in config.events
        # Redis keeps the events that nodes share.
        if seconds(options.history)
        and not is_shared
        and (place := data_folder(config, "events", options.name)) is not None
    }
    relays = make_relays(config.events, channels, relaying, functools.partial(count, "relay"))
    keys = {
        one.name: ChannelKeys(
            publish_token=one.publish_token or "",
            read_key=one.read_key or "",
            allow_origin=one.allow_origin,
        )
        for one in config.events
    }
    return EventServices(channels, histories, relays, keys)


def own_origins(config: Config) -> dict[str, str]:
    """Return the origins whose pages may read event channels, by path, where a channel says so itself."""
    return {f"/events/{one.name}": one.allow_origin for one in config.events if one.allow_origin is not None}


def is_followed(options: EventOptions) -> bool:
    """Return whether other processes serve an event channel, too.

    Not where its readers need a key, or are counted at once, since a relay ends with the last of them.
    """
    return options.relay is None and not options.read_key


def event_channel_options(
    options: EventOptions, configured: LimitOptions, limits: EventLimits, relay: TokenRelayLimits
) -> EventChannelOptions:
    """Convert an event channel's configuration to its options; that of a relay has room for an answer."""
    relayed, relayed_bytes = (0, 0) if options.relay is None else (relay.kept_events, relay.kept_bytes)
    return EventChannelOptions(
        replay=options.replay,
        presence=options.presence,
        presence_seconds=limits.presence_seconds,
        stays_open=options.relay is not None,
        limits=replace(
            limits.channel,
            history=max(options.keep, relayed),
            history_seconds=seconds(options.keep_for),
            history_bytes=max(limits.channel.history_bytes, 2 * configured.event_bytes, relayed_bytes),
            readers=configured.event_readers,
            # A slow reader costs nothing while the whole answer is kept.
            queue_bytes=max(configured.event_queue_bytes, relayed_bytes),
            flush_seconds=options.flush_interval,
        ),
    )


def history_limits(options: EventOptions, kept_bytes: int, limits: HistoryLimits) -> HistoryLimits:
    """Return the limits of an event channel's history on disk, by its configuration.

    Args:
        kept_bytes: most bytes of events in memory; on disk there is room for twice as many.
    """
    return replace(limits, seconds=seconds(options.history), disk_bytes=2 * kept_bytes)


def event_limits(configured: LimitOptions, limits: EventLimits) -> EventLimits:
    """Return publishers' limits, with the configured ones."""
    publish = replace(limits.publish, event_bytes=configured.event_bytes, rate=float(configured.event_rate))
    message_bytes = max(limits.sockets.message_bytes, 3 * configured.event_bytes)
    return replace(limits, publish=publish, sockets=replace(limits.sockets, message_bytes=message_bytes))
