"""Decides who may listen to a station, publish to it and change its titles, by passwords and tokens.

A station's titles, statistics and playlists need the same permission as its audio. A station's webhook is
asked in `origin.radio.station_webhooks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from origin.access.authentication import Authenticator, Secret, unauthorized
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


class StationAuthorization:
    """Checks passwords, signed addresses and the administrator's token.

    Args:
        authenticator: compares them with a request.
        admin_token: lets its holder listen to every station and change titles; empty for none.
    """

    def __init__(self, authenticator: Authenticator, admin_token: str = "") -> None:
        self._authenticator = authenticator
        self._admin = Secret(admin_token)

    async def may_listen(self, request: Request, mount: NamedStation) -> bool:
        """Return whether a request carries what the station's listeners need, if anything.

        Args:
            request: an address signed for ``/radio/NAME`` is valid for the station's other addresses too.
        """
        if not is_protected(mount):
            return True
        return await self._authenticator.admits(request, self._admin, _listening(mount))

    async def accessible_stations(self, request: Request, mounts: Iterable[NamedStation]) -> frozenset[str]:
        """Name the stations of a list that a request may listen to.

        Args:
            request: with a password in its query or as Bearer, or a query signed for a station.
        """
        mounts = tuple(mounts)
        secrets = {_listening(mount): mount.name for mount in mounts if is_protected(mount)}
        free = frozenset(mount.name for mount in mounts if not is_protected(mount))
        if not secrets:
            return free
        fitting = await self._authenticator.fitting(request, self._admin, *secrets, with_basic=False)
        return free | {name for secret, name in secrets.items() if {secret, self._admin} & fitting}

    async def may_send(self, request: Request, password: str) -> bool:
        """Return whether a request has the password of the station's source client."""
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER))

    async def may_administer(self, request: Request, password: str) -> bool:
        """Return whether a request has the source client's password or the administrator's token."""
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER), self._admin)


def is_protected(mount: NamedStation) -> bool:
    """Return whether a station's listeners need a password."""
    return bool(mount.options.listener_password)


def refusal() -> Response:
    """Answer 401, asking for the password."""
    return unauthorized("this station is for listeners with a password")


def _listening(mount: NamedStation) -> Secret:
    return Secret(mount.options.listener_password, signed_path=f"/radio/{mount.name}")
