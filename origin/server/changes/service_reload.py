"""Applies the keys and the titles of stations and event channels of a configuration that is read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from origin.config.options import Config, EventOptions, RadioOptions
from origin.events.channel_keys import ChannelKeys
from origin.radio.mounts.mount import Mount
from origin.radio.station_factory import Stations
from origin.token_relay.relay import TokenRelay, keys_of_table


class ServiceReload:
    """Applies what the requests for stations and event channels are compared with.

    Args:
        keys: of the event channels, by name; changed in place.
        relays: the relays of token streams, by name, whose keys of their upstream servers change.
        stations: the stations, and the passwords of their source clients; changed in place.
    """

    def __init__(
        self, keys: dict[str, ChannelKeys], relays: Mapping[str, TokenRelay], stations: Stations
    ) -> None:
        self._keys = keys
        self._relays = relays
        self._stations = stations

    async def follow(self, new: Config) -> None:
        """Apply a configuration; keys that it doesn't have stay, as generated ones aren't configured."""
        for channel in new.events:
            if (keys := self._keys.get(channel.name)) is not None:
                self._keys[channel.name] = _changed(keys, channel)
            if channel.relay and (relaying := self._relays.get(channel.name)) is not None:
                relaying.change_keys({channel.relay: channel.relay_key or ""})
        for relay in new.relay:
            if (keys := self._keys.get(relay.name)) is not None:
                self._keys[relay.name] = replace(
                    keys, publish_token=relay.token or keys.publish_token, read_key=relay.read_key or ""
                )
            if (relaying := self._relays.get(relay.name)) is not None:
                relaying.change_keys(dict(keys_of_table(relay)))
        for station in new.radio:
            if (mount := self._stations.mounts.get(station.name)) is not None:
                self._change(mount, station, station.max_listeners or new.limits.listeners)

    def _change(self, mount: Mount, station: RadioOptions, most: int) -> None:
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
        if station.source_password and station.name in self._stations.passwords:
            self._stations.passwords[station.name] = station.source_password


def _changed(keys: ChannelKeys, channel: EventOptions) -> ChannelKeys:
    read_key = channel.read_key if keys.read_key and channel.read_key else keys.read_key
    return replace(keys, publish_token=channel.publish_token or keys.publish_token, read_key=read_key)
