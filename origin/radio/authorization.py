"""Who may hear a station, send to it, and change its titles.

What is told of a station (its titles, its listeners, its playlists) needs what its sound needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response

from origin.access.credentials import Authenticator, Secret, unauthorized
from origin.radio.mount import Mount

SOURCE_USER = "source"
"""By which user sources present their password, as Icecast has it."""


class Admission:
    """Decides by passwords, signed addresses and the administrator's token.

    Args:
        authenticator: checks them.
        admin_token: opens every station to listeners, and its titles to changes; empty: there is none.
    """

    def __init__(self, authenticator: Authenticator, admin_token: str = "") -> None:
        self._authenticator = authenticator
        self._admin = Secret(admin_token)

    async def may_listen(self, request: Request, mount: Mount) -> bool:
        """Tell whether a request has the station's password, or an address signed with it; or it needs none.

        Args:
            request: for its sound, or for what is told of it; an address signed for ``/radio/NAME`` does
            mount: the station.
        """
        if not is_protected(mount):
            return True
        return await self._authenticator.admits(request, self._admin, _listening(mount))

    async def opened(self, request: Request, mounts: Iterable[Mount]) -> frozenset[str]:
        """Name the stations of a list that a request may hear: those without a password, and its own.

        Args:
            request: with a password in its query or as Bearer, or a query signed for a station.
            mounts: those of the list.
        """
        mounts = tuple(mounts)
        secrets = {_listening(mount): mount.name for mount in mounts if is_protected(mount)}
        free = frozenset(mount.name for mount in mounts if not is_protected(mount))
        if not secrets:
            return free
        fitting = await self._authenticator.fitting(request, self._admin, *secrets, with_basic=False)
        return free | {name for secret, name in secrets.items() if {secret, self._admin} & fitting}

    async def may_send(self, request: Request, password: str) -> bool:
        """Tell whether a request is from the station's source, whose password this is."""
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER))

    async def may_change_titles(self, request: Request, password: str) -> bool:
        """Tell whether a request is from the source whose password this is, or from the administrator."""
        return await self._authenticator.admits(request, Secret(password, SOURCE_USER), self._admin)


def is_protected(mount: Mount) -> bool:
    """Tell whether a station's listeners need a password."""
    return bool(mount.options.listener_password)


def refusal() -> Response:
    """Ask for the password."""
    return unauthorized("this station is for listeners with a password")


def _listening(mount: Mount) -> Secret:
    return Secret(mount.options.listener_password, signed_path=f"/radio/{mount.name}")
