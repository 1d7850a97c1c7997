"""Decides who may read an event channel and publish to it, and which pages of other origins may."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from origin.access.authentication import (
    AdminToken,
    Authenticator,
    Secret,
    UnauthorizedError,
    fits_any,
    presents_key,
)
from origin.access.key_hash import KeyHash
from origin.access.publish_tokens import PublishTokens

READ_KEY_NEEDED = "the channel's read_key is needed"

PUBLISHER, ADMIN = "publisher", "admin"

_FITTING = "headwater.event_keys"
"""Key of a scope with the name of a channel, and those of its readers' secrets that were presented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeys:
    """The keys that let publishers and readers into an event channel.

    Attributes:
        publish_token: which publishers need; empty for none, and then only the administrator publishes.
        read_key: which readers need, or an address signed with it; empty where they need none; None where
            only the other keys let readers in.
        allow_origin: the origin whose pages may read it; None where the server's option says so.
        read_token: the hash of a further one of readers, of a channel that was made at run time.
        publish_token_hash: the hash of a further one of publishers.
    """

    publish_token: str = field(default="", repr=False)
    read_key: str | None = field(default=None, repr=False)
    allow_origin: str | None = None
    read_token: KeyHash | None = field(default=None, repr=False)
    publish_token_hash: KeyHash | None = field(default=None, repr=False)

    @property
    def publishers(self) -> tuple[Secret, ...]:
        """The secrets with which one may publish."""
        return Secret(self.publish_token), *_hashed(self.publish_token_hash)

    @property
    def is_protected(self) -> bool:
        """Whether readers need a key."""
        return self.read_key != "" or self.read_token is not None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may ask a relay.

    Attributes:
        key: names the key that was presented.
        user: of a token, by its ``sub`` or its hash; empty for a key.
        until: when the token expires, in seconds since the epoch.
    """

    key: str
    user: str = ""
    until: float = math.inf


def _hashed(key_hash: KeyHash | None) -> tuple[Secret, ...]:
    """Return the secret of which only the hash is known, if there is one."""
    return () if key_hash is None else (Secret("", key_hash=key_hash),)


class EventAuthorization:
    """Checks tokens, signed addresses and origins of pages.

    Args:
        admin_token: opens every channel; empty for none.
        keys_of: returns the keys of a channel; None for an unknown one, to which the administrator alone
            has access.
        allow_origin: the origin whose pages may read channels that say nothing else; ``*`` for any, empty
            for none but the server's own.
        tokens: check tokens of addresses that are for publishing.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        admin_token: str | AdminToken,
        keys_of: Callable[[str], ChannelKeys | None],
        allow_origin: str = "",
        tokens: PublishTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._authenticator = authenticator
        self.admin = AdminToken.of(admin_token)
        self._keys_of = keys_of
        self._allow_origin = allow_origin

    def is_protected(self, name: str) -> bool:
        """Return whether a channel's readers need a key."""
        return self._of(name).is_protected

    async def reads_until(self, request: Request, name: str) -> float:
        """Return until when a request may read a channel, in seconds since the epoch; 0 for not at all.

        It may for ever with a key, or where readers need none.
        """
        if not self.is_protected(name) or (until := await self._token_reads_until(request, name)):
            return until if self.is_protected(name) else math.inf
        return math.inf if await self._fitting(request, name) else 0.0

    async def is_admin(self, request: Request, name: str) -> bool:
        """Return whether a request presents the administrator's token; a channel's own aren't wrong."""
        return self.admin.secret in await self._fitting(request, name)

    async def _fitting(self, request: Request, name: str) -> frozenset[Secret]:
        """Return those secrets of a channel's readers, and of the administrator, that a request presents.

        A wrong key counts once, however often is asked.
        """
        known: tuple[str, frozenset[Secret]] | None = request.scope.get(_FITTING)
        if known is not None and known[0] == name:
            return known[1]
        secrets = self.admin.secret, *self._readers_secrets(name)
        fitting = await self._authenticator.fitting(request, *secrets)
        request.scope[_FITTING] = name, fitting
        return fitting

    async def may_publish(self, request: Request, name: str) -> bool:
        """Return whether a request has a channel's publish token, or the administrator's."""
        return bool(await self._publisher(request, name))

    async def _publisher(self, request: Request, name: str, *, with_basic: bool = True) -> str:
        """Return with whose key a request may publish: ``admin``, ``publisher``, or "" with none."""
        if await self.has_token(request, name):
            return PUBLISHER
        admin, *own = self._publishers_secrets(name)
        fitting = await self._authenticator.fitting(request, admin, *own, with_basic=with_basic)
        return PUBLISHER if fitting.intersection(own) else ADMIN if admin in fitting else ""

    async def caller(self, request: Request, relay: str) -> Caller | None:
        """Return who asks a relay: somebody with a token for it, or who may publish to its channel.

        Credentials that a browser adds by itself don't count where another site's page asks.
        """
        token = None if self._tokens is None else await self._tokens.caller(request, relay)
        if token is not None:
            return Caller(PUBLISHER, token.name or token.label, token.expires)
        key = await self._publisher(request, relay, with_basic=not self._is_foreign(request))
        return Caller(key) if key else None

    async def rights(self, request: Request, name: str) -> tuple[float, bool]:
        """Return until when a request may read a channel, as `reads_until`, and whether it may publish.

        Credentials that a browser adds by itself don't count where another site's page asks.
        """
        if await self.has_token(request, name):
            return await self._token_reads_until(request, name) or math.inf, True
        if until := await self._token_reads_until(request, name):
            return until, False
        publishers = self._publishers_secrets(name)
        secrets = {*publishers, *self._readers_secrets(name)} - {Secret("")}
        with_basic = not self._is_foreign(request)
        fitting = await self._authenticator.fitting(request, *secrets, with_basic=with_basic)
        may_read = bool(fitting) or not self.is_protected(name)
        return math.inf if may_read else 0.0, bool(fitting.intersection(publishers))

    async def readable(self, request: Request, names: Iterable[str]) -> frozenset[str]:
        """Name the channels of a list that a request may read."""
        names = tuple(names)
        free = frozenset(name for name in names if not self.is_protected(name))
        closed = {name: self._readers_secrets(name) for name in names if name not in free}
        if not closed:
            return free
        secrets = {one for own in closed.values() for one in own} - {Secret("")}
        fitting = await self._authenticator.fitting(request, self.admin.secret, *secrets, with_basic=False)
        is_admin = self.admin.secret in fitting
        # Several channels may have the same token.
        return free | {name for name, own in closed.items() if is_admin or fitting.intersection(own)}

    def readers_secrets(self, names: Iterable[str]) -> Iterator[Secret]:
        """Yield the secrets of channels' readers."""
        closed = (name for name in names if self.is_protected(name))
        return (one for name in closed for one in self._readers_secrets(name) if one != Secret(""))

    async def readable_until(
        self, request: Request, names: Iterable[str], keys: Collection[str] = ()
    ) -> dict[str, float]:
        """Return which channels of some a request may read, and until when, as `reads_until`.

        All are checked at once: a key of one of them isn't wrong.

        Args:
            keys: further ones beside those of the request's query.

        Raises:
            UnauthorizedError: a key is wrong: it opens none of the channels that need keys.
        """
        names = tuple(names)
        found = {name: math.inf for name in names if not self.is_protected(name)}
        closed = [name for name in names if name not in found]
        found |= await self._tokens_read_until(request, closed)
        own = {name: self._readers_secrets(name) for name in closed if name not in found}
        if not own:
            return found
        secrets = {one for several in own.values() for one in several} - {Secret("")}
        with_basic = not self._is_foreign(request)
        fitting = await self._authenticator.fitting(
            request, self.admin.secret, *secrets, with_basic=with_basic, keys=keys
        )
        if not fitting and (keys or presents_key(request, with_basic=with_basic)):
            raise UnauthorizedError(READ_KEY_NEEDED)
        is_admin = self.admin.secret in fitting
        opened = [name for name, several in own.items() if is_admin or fitting.intersection(several)]
        return found | dict.fromkeys(opened, math.inf)

    def is_secret(self, name: str, key: str) -> bool:
        """Return whether a key is a secret with which this server admits somebody, or a token of its own."""
        secrets = {*self._publishers_secrets(name), *self._readers_secrets(name)} - {Secret("")}
        return fits_any(key, secrets) or (self._tokens is not None and self._tokens.is_token(key))

    def admits_page(self, request: Request, name: str) -> bool:
        """Return whether a browser's page may open a WebSocket, to which CORS doesn't apply."""
        if not self._is_foreign(request):
            return True
        own = self._of(name).allow_origin
        allowed = self._allow_origin if own is None else own
        return allowed == "*" or request.headers.get("origin") == allowed

    @staticmethod
    def _is_foreign(request: Request) -> bool:
        """Whether a browser asks for the page of another origin (RFC 6454 §7, RFC 6455 §10.2)."""
        origin = request.headers.get("origin")
        if origin is None:
            return False
        scheme, _, host = origin.lower().partition("://")
        return scheme not in ("http", "https") or host != request.headers.get("host", "").lower()

    async def has_token(self, request: Request, name: str) -> bool:
        """Return whether a request has a token of an address, with which one may publish to the channel."""
        return self._tokens is not None and await self._tokens.admit(request, f"/events/{name}")

    async def _token_reads_until(self, request: Request, name: str) -> float:
        """Return until when a request may read a channel that was made at run time, by a token; 0: never."""
        return (await self._tokens_read_until(request, (name,))).get(name, 0.0)

    async def _tokens_read_until(self, request: Request, names: Iterable[str]) -> dict[str, float]:
        """Return which channels that were made at run time a request may read by a token, and until when.

        Not those of the configuration: a token that their address needs doesn't stand for their key.
        """
        if self._tokens is None:
            return {}
        paths = {f"/events/{name}": name for name in names if self._of(name).read_token is not None}
        found = await self._tokens.read_until(request, paths) if paths else {}
        return {paths[path]: until for path, until in found.items()}

    def _of(self, name: str) -> ChannelKeys:
        keys = self._keys_of(name)
        return ChannelKeys() if keys is None else keys

    def _publishers_secrets(self, name: str) -> tuple[Secret, ...]:
        return self.admin.secret, *self._of(name).publishers

    def _readers_secrets(self, name: str) -> tuple[Secret, ...]:
        keys = self._of(name)
        read_key = Secret(keys.read_key or "", signed_path=f"/events/{name}")
        return read_key, *_hashed(keys.read_token), *keys.publishers
