"""The keys of stations, and which stations a request may listen to and move listeners to.

A station's titles, statistics and playlists need the same permission as its audio. A station's webhook is
asked in `origin.radio.station_webhooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from starlette.requests import Request

from origin.access.authentication import Secret
from origin.access.authorization import (
    Action,
    Authorization,
    KeyHolder,
    KeysOf,
    NamedResource,
    ResourceKeys,
    ResourceKind,
)
from origin.access.protected_addresses import TokenGuard
from origin.access.token_middleware import token_of
from origin.radio.mounts.options import MountOptions

SOURCE_USER = "source"
"""User name of source clients, as in Icecast."""


class NamedStation(Protocol):
    """A station, in the process that makes it or in another one."""

    @property
    def name(self) -> str:
        """The name of the station, as addresses have it."""

    @property
    def options(self) -> MountOptions:
        """The options of the station, with its listeners' password."""


def station_keys(stations: Mapping[str, NamedStation], passwords: Mapping[str, str]) -> KeysOf:
    """Return what finds the keys of stations for `Authorization`.

    Args:
        stations: by name; may change.
        passwords: of stations that take a source client, by their names; may change.
    """

    def find(name: str) -> ResourceKeys:
        station, password = stations.get(name), passwords.get(name, "")
        publishers = (Secret(password, SOURCE_USER),) if password else ()
        listening = "" if station is None else station.options.listener_password
        # Addresses signed for /radio/NAME are valid for the station's other addresses, too.
        readers = (Secret(listening, signed_path=f"/radio/{name}"),) if listening else None
        return ResourceKeys(publishers=publishers, readers=readers)

    return find


class StationAccess:
    """Finds which of several stations a request may listen to.

    Args:
        guard: checks the tokens with which stations are listed; None where none needs a token.
    """

    def __init__(self, authorization: Authorization, guard: TokenGuard | None = None) -> None:
        self.authorization = authorization
        self._guard = guard

    async def authorize_listener(self, request: Request, station: str) -> None:
        """Admit a listener.

        Raises:
            RefusalError: it hasn't what the station's listeners need.
        """
        await self.authorization.authorize(request, Action.READ, NamedResource(ResourceKind.RADIO, station))

    def is_open(self, mount: NamedStation) -> bool:
        """Return whether everybody may listen to a station: no password, token or webhook decides."""
        needs_token = self._guard is not None and not self._guard.shows(None, f"/radio/{mount.name}")
        needs_key = not self.authorization.is_open(NamedResource(ResourceKind.RADIO, mount.name))
        return not (needs_token or needs_key or mount.options.has_listener_webhook)

    async def accessible(self, request: Request, mounts: Iterable[NamedStation]) -> frozenset[str]:
        """Name the stations of a list that a request may listen to.

        Args:
            request: with a password in its query or as Bearer, or a query signed for a station.
        """
        names, guard, token = [mount.name for mount in mounts], self._guard, None
        shown = names
        if guard is not None:
            token = token_of(request.scope, guard.keys)
            shown = [name for name in names if guard.shows(token, f"/radio/{name}")]
        resources = [NamedResource(ResourceKind.RADIO, name) for name in shown]
        heard = await self.authorization.permissions(request, Action.READ, resources, with_basic=False)
        is_admin = any(one.holder is KeyHolder.ADMIN for one in heard.values())
        if not is_admin and token is None and len(shown) < len(names):
            keys = self.authorization.readers_secrets(resources)
            is_admin = await self.authorization.is_admin(request, *keys, with_basic=False)
        return frozenset(names if is_admin else (one.name for one in heard))

    async def destinations(self, request: Request, station: str) -> Callable[[NamedStation], bool]:
        """Return a function that says whether a request may move listeners to another station.

        The password of a source lets nobody hear what needs another one, a token or a webhook.

        Args:
            station: the station that the request administers, which was checked.
        """
        resource = NamedResource(ResourceKind.RADIO, station)
        found = await self.authorization.permission(request, Action.MANAGE, resource)
        is_admin = found is not None and found.holder is KeyHolder.ADMIN
        return (lambda _: True) if is_admin else self.is_open
