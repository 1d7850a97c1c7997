"""Tokens of addresses with which one may publish, in the place of a channel's or a station's key."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from origin.access.authentication import client_address, presented_secrets
from origin.access.token_keys import TokenKeys
from origin.access.token_middleware import addressed_token


class PublishTokens:
    """Checks whether a request that publishes presents a token for it, wherever a key could be."""

    def __init__(self, keys: TokenKeys) -> None:
        self._keys = keys

    async def admit(self, request: Request, path: str) -> bool:
        """Return whether a request presents a token for publishing to a path.

        Args:
            path: the address that the request changes something at, such as ``/live/demo/ingest``.
        """
        return await self.admit_any(request, (path,))

    async def admit_any(self, request: Request, paths: Iterable[str]) -> bool:
        """Return whether a request presents a token for publishing to at least one of some paths."""
        presented = [secret.decode("latin-1") for secret, _ in presented_secrets(request)]
        # A cookie doesn't count: pages of other sites can have a browser send it.
        tokens = [text for text in (addressed_token(request.scope), *presented) if text]
        for text in tokens:
            await self._keys.fetch_missing(text)
        client = client_address(request)
        return any(self._keys.may_publish(text, path, client) for path in paths for text in tokens)
