"""Makes event channels from the configuration, with their histories on disk and their relays."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from origin.config.limit_options import LimitOptions
from origin.config.options import (
    AnswerRelayOptions,
    Config,
    EventOptions,
    data_folder,
    event_channels,
    event_templates,
    seconds,
)
from origin.events.admission import HasReaders
from origin.events.channel import NO_EPOCH, EventChannel, EventChannelOptions, new_epoch
from origin.events.channel_keys import ChannelKeys
from origin.events.created.channels import CreatedChannels
from origin.events.created.journal import ChannelJournal
from origin.events.created.open_channels import ChannelMaker, Template
from origin.events.created.records import ChannelSettings
from origin.events.created.store import ChannelStore
from origin.events.disk_history import EventHistory
from origin.events.history_files import HistoryRoom
from origin.events.limits import EventLimits
from origin.server.services.limits import Limits
from origin.token_relay.answer_channels import last_events
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.relay import RelayMaker, TokenRelay, answer_options, relay_limits
from packager.safe_files import DataFolder
from packager.threads import ThreadLimits, Threads

CREATED = "created_channels"
"""Folder of the server's data with the channels that were made at run time."""

HISTORIES = "history"
"""Folder in it with their events, in a folder for each."""

HISTORY_FOLDER_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class EventServices:
    """The event channels of a server, by name.

    Attributes:
        histories: the histories on disk, of channels that have one.
        relays: the relays of token streams, of channels that have one.
        keys: of publishers and readers; a reload changes them.
        created: the channels that are made at run time.
        origins: whose pages may read channels and ask relays, by path or pattern.
        answers: the options of the channels of relays' answers, by the relay's name.
    """

    channels: dict[str, EventChannel]
    histories: dict[str, EventHistory]
    relays: dict[str, TokenRelay]
    keys: dict[str, ChannelKeys]
    created: CreatedChannels
    origins: dict[str, tuple[str, ...]]
    answers: dict[str, EventChannelOptions]
    maker: RelayMaker
    table_options: EventChannelOptions

    def add_relay(self, table: AnswerRelayOptions) -> TokenRelay:
        """Make the relay of a table."""
        self.answers[table.name] = answer_options(self.table_options.limits, self.maker.limits)
        self.keys[table.name] = ChannelKeys(publish_token=table.token or "", read_key=table.read_key or "")
        self.origins[f"/relay/{table.name}"] = table.relay_allow_origins
        relay = self.relays[table.name] = self.maker.of_table(table, self.table_options)
        return relay

    def remove_relay(self, name: str) -> TokenRelay:
        """Remove the relay of a table; its answers stay for as long as they are kept."""
        relay = self.relays.pop(name)
        del self.keys[name], self.origins[f"/relay/{name}"]
        relay.close()
        return relay

    def keys_of(self, name: str) -> ChannelKeys | None:
        """Return the keys of a channel of the configuration, or of one that was made; None for neither."""
        keys = self.keys.get(name)
        return self.created.keys_of(name) if keys is None else keys


class ReadChannels:
    """All that has readers of events: channels, relays, and what was made at run time."""

    def __init__(self, events: EventServices) -> None:
        self._parts = events.channels, events.relays
        self._created = events.created.open

    def __iter__(self) -> Iterator[HasReaders]:
        return chain(*(one.values() for one in self._parts), (self._created,))


def make_event_services(config: Config, limits: Limits, count: Callable[[str, int], None]) -> EventServices:
    """Make the event channels of a configuration, with their histories and relays.

    Args:
        count: called with the area of requests and the number of bytes written to their clients.
    """
    relaying = relay_limits(config.limits, limits.relay)
    is_shared, configured = bool(config.cluster.url), event_channels(config)
    epoch, count_events = NO_EPOCH if is_shared else new_epoch(), functools.partial(count, "events")
    channels: dict[str, EventChannel] = {}
    # Channels whose options are equal share them.
    alike: dict[EventChannelOptions, EventChannelOptions] = {}
    for one in configured:
        made = event_channel_options(one, config.limits, limits.events, relaying)
        channels[one.name] = EventChannel(one.name, epoch, alike.setdefault(made, made), count=count_events)
    threads = Threads(ThreadLimits(threads=limits.events.history_threads), "history")
    histories = {
        options.name: EventHistory(
            channels[options.name],
            place,
            history_limits(options, channels[options.name].limits.history_bytes, limits.events),
            threads,
        )
        for options in configured
        # Redis keeps the events that nodes share.
        if seconds(options.history)
        and not is_shared
        and (place := data_folder(config, "events", options.name)) is not None
    }
    keys = {
        one.name: ChannelKeys(
            publish_token=one.publish_token or "",
            read_key=one.read_key or "",
            allow_origin=one.allow_origin,
        )
        for one in config.events
    }
    answers = {
        one.name: answer_options(channels[one.name].options.limits, relaying)
        for one in configured
        if one.relay is not None
    }
    table_options = event_channel_options(
        EventOptions("table", relay=""), config.limits, limits.events, relaying
    )
    created = _make_created(config, limits, keys, answers, count_events, threads)
    maker = RelayMaker(relaying, created, functools.partial(count, "relay"))
    relays = {
        one.name: maker.of_channel(one, channels[one.name]) for one in configured if one.relay is not None
    }
    services = EventServices(
        channels, histories, relays, keys, created, own_origins(config), answers, maker, table_options
    )
    for table in config.relay:
        services.add_relay(table)
    return services


def _make_created(
    config: Config,
    limits: Limits,
    keys: dict[str, ChannelKeys],
    answers: Mapping[str, EventChannelOptions],
    count: Callable[[int], None],
    threads: Threads,
) -> CreatedChannels:
    """Make what makes event channels at run time.

    Args:
        answers: the options of the channels of relays' answers, by the relay's name.
        count: called with the number of bytes written to readers.
        threads: that read and write histories.
    """
    templates = {one.name: one for one in event_templates(config)}
    relaying = relay_limits(config.limits, limits.relay)

    def options(settings: ChannelSettings) -> EventChannelOptions:
        if (answer := answers.get(settings.template)) is not None:
            return answer
        given = templates.get(settings.template) or EventOptions("made")
        made = event_channel_options(given, config.limits, limits.events, relaying)
        kept = replace(made.limits, history=settings.keep, history_seconds=settings.keep_for)
        return replace(made, limits=kept)

    place = None if config.cluster.url else data_folder(config, CREATED)
    histories = None
    if place is not None:
        # Folders of channels that nobody uses count, too: their events are still to be read.
        room = HistoryRoom(Path(str(place / HISTORIES)), config.limits.created_history_bytes)
        histories = _Histories(place / HISTORIES, limits.events, threads, room)
    maker = ChannelMaker(
        options,
        count,
        histories,
        event_limits(config.limits, limits.events),
        {
            name: Template(
                ChannelSettings(name, one.keep, seconds(one.keep_for), seconds(one.history)),
                seconds(one.expires) or math.inf,
                one.create == "publish",
            )
            for name, one in templates.items()
        },
        keys,
        last_events,
    )
    bounds = replace(
        limits.events,
        created_channels=config.limits.created_channels,
        per_creator=config.limits.created_channels_per_token,
        per_address=config.limits.created_channels_per_address,
        created_bytes=config.limits.created_channel_bytes,
    )

    journal = None if place is None else ChannelJournal(place, bounds.journal_bytes)
    return CreatedChannels(maker, bounds, None if journal is None else ChannelStore(journal, bounds))


@dataclass(frozen=True, slots=True)
class _Histories:
    """Makes the histories of channels that are made at run time.

    Attributes:
        threads: for the files of all histories.
        room: on the disk, for all histories.
    """

    place: DataFolder
    limits: EventLimits
    threads: Threads
    room: HistoryRoom

    def __call__(self, channel: EventChannel, settings: ChannelSettings) -> EventHistory:
        """Make the history of a channel."""
        # Names have slashes, and may differ in what a file system takes for the same.
        folder = hashlib.sha256(channel.name.encode()).hexdigest()[:HISTORY_FOLDER_CHARACTERS]
        size = 2 * channel.limits.history_bytes
        bounds = replace(self.limits, history_seconds=settings.history, disk_bytes=size)
        return EventHistory(channel, self.place / folder, bounds, self.threads, self.room)


def own_origins(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the origins whose pages may read event channels and ask relays, by path or pattern."""
    channels = {
        f"/events/{one.name}": (one.allow_origin,) for one in config.events if one.allow_origin is not None
    }
    return channels | {f"/relay/{one.name}": one.relay_allow_origins for one in config.relay}


def is_followed(options: EventOptions) -> bool:
    """Return whether other processes serve an event channel, too.

    Not where its readers need a key, or are counted at once, since a relay ends with the last of them.
    """
    return options.relay is None and not options.read_key


def event_channel_options(
    options: EventOptions, configured: LimitOptions, limits: EventLimits, relay: TokenRelayLimits
) -> EventChannelOptions:
    """Convert an event channel's configuration to its options; that of a relay has room for most answers.

    The longest answers are whole in rings of their own, which go with their readers; this one stays.
    """
    relayed, relayed_bytes = (
        (0, 0) if options.relay is None else (relay.kept_events // 8, relay.kept_bytes // 8)
    )
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


def history_limits(options: EventOptions, kept_bytes: int, limits: EventLimits) -> EventLimits:
    """Return the limits of an event channel's history on disk, by its configuration.

    Args:
        kept_bytes: most bytes of events in memory; on disk there is room for twice as many.
    """
    return replace(limits, history_seconds=seconds(options.history), disk_bytes=2 * kept_bytes)


def event_limits(configured: LimitOptions, limits: EventLimits) -> EventLimits:
    """Return publishers' limits, with the configured ones."""
    message_bytes = max(limits.sockets.message_bytes, 3 * configured.event_bytes)
    return replace(
        limits,
        event_bytes=configured.event_bytes,
        publish_rate=float(configured.event_rate),
        channels_per_reader=configured.event_channels_per_reader,
        sockets=replace(limits.sockets, message_bytes=message_bytes),
    )
