"""Decides who may listen to a station, publish to it and change its titles, by passwords and tokens.

A station's titles, statistics and playlists need the same permission as its audio. A station's webhook is
asked in `origin.radio.station_webhooks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from origin.access.authentication import AdminToken, Authenticator, Secret, unauthorized
from origin.access.protected_addresses import TokenGuard
from origin.access.publish_tokens import PublishTokens
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


class StationAuthorization:
    """Checks passwords, signed addresses and the administrator's token.

    Args:
        admin_token: lets its holder listen to every station and change titles; empty for none.
        guard: checks the tokens with which stations are listed; None where none needs a token.
        tokens: check tokens that are for publishing; None where there are none.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        admin_token: str | AdminToken = "",
        guard: TokenGuard | None = None,
        tokens: PublishTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._guard = guard
        self._authenticator = authenticator
        self.admin = AdminToken.of(admin_token)

    async def may_listen(self, request: Request, mount: NamedStation) -> bool:
        """Return whether a request carries what the station's listeners need, if anything.

        Args:
            request: an address signed for ``/radio/NAME`` is valid for the station's other addresses too.
        """
        if not is_protected(mount):
            return True
        return await self._authenticator.admits(request, self.admin.secret, _listening(mount))

    def is_open(self, mount: NamedStation) -> bool:
        """Return whether everybody may listen to a station: no password, token or webhook decides."""
        needs_token = self._guard is not None and not self._guard.shows(None, f"/radio/{mount.name}")
        return not (needs_token or is_protected(mount) or mount.options.has_listener_webhook)

    async def accessible_stations(self, request: Request, mounts: Iterable[NamedStation]) -> frozenset[str]:
        """Name the stations of a list that a request may listen to.

        Args:
            request: with a password in its query or as Bearer, or a query signed for a station.
        """
        mounts, guard, token = tuple(mounts), self._guard, None
        shown = mounts
        if guard is not None:
            token = token_of(request.scope, guard.keys)
            shown = tuple(mount for mount in mounts if guard.shows(token, f"/radio/{mount.name}"))
        secrets = {_listening(mount): mount.name for mount in shown if is_protected(mount)}
        free = frozenset(mount.name for mount in shown if not is_protected(mount))
        if not secrets and (token is not None or len(shown) == len(mounts)):
            return free
        fitting = await self._authenticator.fitting(request, self.admin.secret, *secrets, with_basic=False)
        if self.admin.secret in fitting:
            return frozenset(mount.name for mount in mounts)
        return free | {name for secret, name in secrets.items() if secret in fitting}

    def listeners_secrets(self, mounts: Iterable[NamedStation]) -> Iterator[Secret]:
        """Yield the passwords of stations' listeners."""
        return (_listening(mount) for mount in mounts if is_protected(mount))

    async def may_send(self, request: Request, station: str, password: str) -> bool:
        """Return whether a request has the password of the station's source client, or a token for it."""
        if await self._has_token(request, station):
            return True
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER))

    async def may_administer(self, request: Request, station: str, password: str) -> bool:
        """Return whether a request may do what the station's source client may, or is the administrator's."""
        if await self._has_token(request, station):
            return True
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER), self.admin.secret)

    async def destinations(
        self, request: Request, station: str, password: str
    ) -> Callable[[NamedStation], bool]:
        """Return a function that says whether a request may move listeners to another station.

        The password of a source lets nobody hear what needs another one, a token or a webhook.

        Args:
            station: the station that the request administers, which was checked.
            password: that of its source client.
        """
        if await self._has_token(request, station):
            return self.is_open
        secrets = Secret(password, SOURCE_USER), self.admin.secret
        is_admin = self.admin.secret in await self._authenticator.fitting(request, *secrets)
        return (lambda _: True) if is_admin else self.is_open

    async def may_administer_any(self, request: Request, passwords: Mapping[str, str]) -> bool:
        """Return whether a request may administer at least one station.

        Args:
            passwords: of the stations' source clients, by the name of the station.
        """
        if self._tokens is not None and await self._tokens.admit_any(
            request, (f"/radio/{name}" for name in passwords)
        ):
            return True
        sources = {Secret(one, SOURCE_USER) for one in passwords.values() if one}
        return await self._authenticator.admits(request, *sources, self.admin.secret)

    async def _has_token(self, request: Request, station: str) -> bool:
        return (
            self._tokens is not None
            and bool(station)
            and await self._tokens.admit(request, f"/radio/{station}")
        )


def is_protected(mount: NamedStation) -> bool:
    """Return whether a station's listeners need a password."""
    return bool(mount.options.listener_password)


def refusal() -> Response:
    """Answer 401, asking for the password."""
    return unauthorized("this station is for listeners with a password")


def _listening(mount: NamedStation) -> Secret:
    return Secret(mount.options.listener_password, signed_path=f"/radio/{mount.name}")
