"""Tokens with which one may publish, read or make channels, in the place of a service's key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import Request

from origin.access.authentication import client_address, presented_secrets
from origin.access.request_tokens import TOKEN_PATH, addressed_token, unaddressed_token
from origin.access.token_keys import Token, TokenKeys, may_publish_now
from origin.access.token_middleware import token_of
from origin.http.channel_patterns import matches

DIGEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Creator:
    """Who may make event channels with a token.

    Attributes:
        name: the ``sub`` of the token; empty for none.
        patterns: of the names of channels that may be made.
        digest: tells the token from others where it has no name.
    """

    name: str
    patterns: tuple[str, ...]
    digest: str

    def may_create(self, name: str) -> bool:
        """Return whether a channel of a name may be made, or channels of a pattern."""
        return any(matches(pattern, name) for pattern in self.patterns)


class PublishTokens:
    """Checks whether a request that publishes presents a token for it, wherever a key could be."""

    def __init__(self, keys: TokenKeys) -> None:
        self._keys = keys

    def is_token(self, text: str) -> bool:
        """Return whether a text is a token of this server, whether it is valid now or not."""
        return self._keys.is_token(text)

    async def admit(self, request: Request, path: str) -> bool:
        """Return whether a request presents a token for publishing to a path.

        Args:
            path: the address that the request changes something at, such as ``/live/demo/ingest``.
        """
        return await self.admit_any(request, (path,))

    async def admit_any(self, request: Request, paths: Iterable[str]) -> bool:
        """Return whether a request presents a token for publishing to at least one of some paths."""
        client, texts = client_address(request), await self._presented(request)
        # Each text is read once, however many paths there are.
        tokens = [token for text in texts if (token := self._keys.read(text, client)) is not None]
        named = [(path, token) for path in (paths if tokens else ()) for token in tokens]
        covered = [(path, token) for path, token in named if self._keys.covers(token, path)]
        if covered:
            # A refusal names the token's fault at the path that it is for.
            request.scope[TOKEN_PATH] = covered[0][0]
        return any(may_publish_now(token) for _, token in covered)

    async def caller(self, request: Request, relay: str) -> Token | None:
        """Return the token with which a request may ask a relay; None for none."""
        client, path = client_address(request), f"/relay/{relay}"
        for text in await self._presented(request):
            if (token := self._keys.asking(text, path, client)) is not None:
                return token
        return None

    async def _presented(self, request: Request) -> list[str]:
        """Return the texts of a request that may be tokens, whose keys are here as far as they can be had."""
        presented = [secret.decode("latin-1") for secret, _ in presented_secrets(request)]
        # A cookie doesn't count: pages of other sites can have a browser send it.
        tokens = [text for text in (addressed_token(request.scope), *presented) if text]
        for text in tokens:
            await self._keys.fetch_missing(text)
        return tokens

    async def creator(self, request: Request) -> Creator | None:
        """Return who makes channels with the token that a request presents; None where nobody does."""
        client = client_address(request)
        for text in await self._presented(request):
            token = self._keys.creator(text, client)
            if token is not None:
                digest = sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]
                return Creator(token.name, token.create, digest)
        return None

    async def read_until(self, request: Request, paths: Iterable[str]) -> dict[str, float]:
        """Return which event channels' paths a request may read with its token, and until when."""
        text = unaddressed_token(request.scope["headers"], addressed_token(request.scope))
        await self._keys.fetch_missing(text)
        token = token_of(request.scope, self._keys)
        if token is None:
            return {}
        return {path: token.expires for path in paths if self._keys.covers(token, path)}
