"""Decides who may publish to a live channel, and end and begin its events: by its key or the admin token."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from origin.access.credentials import Authenticator, Secret, UnauthorizedError


class Publishers:
    """Lets in who may change a live channel.

    Args:
        authenticator: checks keys.
        admin_token: opens every channel; empty: there is none.
        keys: ``publish_key`` by the channel's name, of those that have one.
    """

    def __init__(self, authenticator: Authenticator, admin_token: str, keys: Mapping[str, str]) -> None:
        self._authenticator = authenticator
        self._admin = Secret(admin_token)
        self._keys = {name: Secret(key) for name, key in keys.items()}

    async def authorize(self, request: Request, channel: str) -> None:
        """Let a publisher in, wherever the request comes from.

        Args:
            request: with the channel's key or the administrator's token.
            channel: its name.

        Raises:
            UnauthorizedError: it has neither.
        """
        secrets = [self._admin, *filter(None, (self._keys.get(channel),))]
        if not await self._authenticator.admits(request, *secrets):
            raise UnauthorizedError("the channel's publish_key or server.admin_token is needed")
