"""Makes what decides what clients may do with live channels, with stations or with event channels alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from origin.access.authentication import Authenticator
from origin.access.authorization import Authorization, ResourceKind
from origin.access.protected_addresses import TokenGuard
from origin.access.publish_keys import PublishKeys
from origin.access.token_keys import TokenKeys
from origin.events.channel_keys import ChannelKeys, resource_keys
from origin.radio.station_access import NamedStation, StationAccess, station_keys


def live_authorization(keys: Mapping[str, str] | PublishKeys, admin: str = "") -> Authorization:
    """Admit publishers to live channels by their keys."""
    found = keys if isinstance(keys, PublishKeys) else PublishKeys(keys)
    return Authorization(admin=admin, keys={ResourceKind.LIVE: found.of})


def event_authorization(
    keys_of: Callable[[str], ChannelKeys | None],
    admin: str = "",
    authenticator: Authenticator | None = None,
    tokens: TokenKeys | None = None,
) -> Authorization:
    """Admit readers and publishers of event channels."""
    return Authorization(authenticator, admin, tokens, {ResourceKind.EVENTS: resource_keys(keys_of)})


def station_access(
    stations: Mapping[str, NamedStation],
    passwords: Mapping[str, str] | None = None,
    admin: str = "",
    authenticator: Authenticator | None = None,
    guard: TokenGuard | None = None,
) -> StationAccess:
    """Admit listeners and sources of stations."""
    keys = station_keys(stations, {} if passwords is None else passwords)
    return StationAccess(Authorization(authenticator, admin, keys={ResourceKind.RADIO: keys}), guard)
