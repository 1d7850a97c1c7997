"""Applies the keys and the titles of stations and event channels of a configuration that is read again."""

from __future__ import annotations

from dataclasses import replace

from origin.config.options import Config, RadioOptions
from origin.radio.station_factory import Stations
from origin.server.services.event_services import EventServices
from origin.token_relay.relay import keys_of_table


async def take_event_keys(events: EventServices, new: Config) -> None:
    """Apply the keys of event channels and relays; those that a configuration doesn't have stay."""
    keys, relays = events.keys, events.relays
    for channel in new.events:
        if (known := keys.get(channel.name)) is not None:
            read_key = channel.read_key if known.read_key and channel.read_key else known.read_key
            publish_token = channel.publish_token or known.publish_token
            keys[channel.name] = replace(known, publish_token=publish_token, read_key=read_key)
        if channel.relay and (relay := relays.get(channel.name)) is not None:
            relay.change_keys({channel.relay: channel.relay_key or ""})
    for table in new.relay:
        if (known := keys.get(table.name)) is not None:
            publish_token = table.token or known.publish_token
            keys[table.name] = replace(known, publish_token=publish_token, read_key=table.read_key or "")
        if (relay := relays.get(table.name)) is not None:
            relay.change_keys(dict(keys_of_table(table)))


async def take_stations(stations: Stations, new: Config) -> None:
    """Apply the titles and passwords of stations; passwords that a configuration doesn't have stay."""
    for station in new.radio:
        if station.name in stations.mounts:
            _change(stations, station, station.max_listeners or new.limits.listeners)


def _change(stations: Stations, station: RadioOptions, most: int) -> None:
    mount = stations.mounts[station.name]
    password = mount.options.listener_password
    # A station that comes to need a password, or needs none any more, is served in another way.
    if password and station.listener_password:
        password = station.listener_password
    mount.options = replace(
        mount.options,
        title=station.title or "",
        genre=station.genre or "",
        listener_password=password,
        max_listeners=most,
    )
    mount.append_facts()
    if station.source_password and station.name in stations.passwords:
        stations.passwords[station.name] = station.source_password
