"""Decides who may publish to a live channel, and end and begin its events: by its key or the admin token."""

from __future__ import annotations

from starlette.requests import Request

from origin.access.authentication import Authenticator, UnauthorizedError
from origin.access.publish_keys import PublishKeys
from origin.access.publish_tokens import PublishTokens


class Publishers:
    """Checks who may change a live channel.

    Args:
        keys: of the channels, and the administrator's.
        tokens: check tokens of addresses that are for publishing.
    """

    def __init__(
        self, authenticator: Authenticator, keys: PublishKeys, tokens: PublishTokens | None = None
    ) -> None:
        self._authenticator = authenticator
        self._keys = keys
        self._tokens = tokens

    async def authorize(self, request: Request, channel: str) -> None:
        """Admit a publisher, wherever the request comes from.

        Args:
            request: with the channel's key or the administrator's token.

        Raises:
            UnauthorizedError: it has neither.
        """
        if self._tokens is not None and await self._tokens.admit(request, request.url.path):
            return
        if not await self._authenticator.admits(request, *self._keys.secrets(channel)):
            raise UnauthorizedError("the channel's publish_key or server.admin_token is needed")
