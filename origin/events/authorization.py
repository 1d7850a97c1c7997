"""Decides who may read an event channel and publish to it, and which pages of other origins may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from origin.access.authentication import AdminToken, Authenticator, Secret
from origin.access.publish_tokens import PublishTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelKeys:
    """The keys that let publishers and readers into an event channel.

    Attributes:
        publish_token: which publishers need; empty for none, and then only the administrator publishes.
        read_key: which readers need, or an address signed with it; empty for none.
        allow_origin: the origin whose pages may read it; None where the server's option says so.
    """

    publish_token: str = field(default="", repr=False)
    read_key: str = field(default="", repr=False)
    allow_origin: str | None = None


class EventAuthorization:
    """Checks tokens, signed addresses and origins of pages.

    Args:
        admin_token: opens every channel; empty for none.
        keys: of the channels, by name.
        allow_origin: the origin whose pages may read channels that say nothing else; ``*`` for any, empty
            for none but the server's own.
        tokens: check tokens of addresses that are for publishing.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        admin_token: str | AdminToken = "",
        keys: Mapping[str, ChannelKeys] | None = None,
        allow_origin: str = "",
        tokens: PublishTokens | None = None,
    ) -> None:
        self._tokens = tokens
        self._authenticator = authenticator
        self.admin = AdminToken.of(admin_token)
        self._keys = keys or {}
        self._allow_origin = allow_origin

    def is_protected(self, name: str) -> bool:
        """Return whether a channel's readers need a key."""
        return bool(self._of(name).read_key)

    async def may_read(self, request: Request, name: str) -> bool:
        """Return whether a request carries what a channel's readers need, if anything."""
        if not self.is_protected(name):
            return True
        return await self._authenticator.admits(request, self.admin.secret, *self._readers_secrets(name))

    async def may_publish(self, request: Request, name: str) -> bool:
        """Return whether a request has a channel's publish token, or the administrator's."""
        return bool(await self.publisher(request, name))

    async def publisher(self, request: Request, name: str) -> str:
        """Return with whose key a request may publish: ``admin``, ``publisher``, or "" with none."""
        if await self._has_token(request, name):
            return "publisher"
        admin, own = self._publishers_secrets(name)
        fitting = await self._authenticator.fitting(request, admin, own)
        return "publisher" if own in fitting else "admin" if admin in fitting else ""

    async def rights(self, request: Request, name: str) -> tuple[bool, bool]:
        """Return whether a request may read a channel, and whether it may publish.

        Credentials that a browser adds by itself don't count where another site's page asks.
        """
        if await self._has_token(request, name):
            return True, True
        publishers = self._publishers_secrets(name)
        secrets = {*publishers, *self._readers_secrets(name)} - {Secret("")}
        with_basic = not self._is_foreign(request)
        fitting = await self._authenticator.fitting(request, *secrets, with_basic=with_basic)
        return bool(fitting) or not self.is_protected(name), bool(fitting.intersection(publishers))

    async def readable(self, request: Request, names: Iterable[str]) -> frozenset[str]:
        """Name the channels of a list that a request may read."""
        names = tuple(names)
        free = frozenset(name for name in names if not self.is_protected(name))
        secrets = {one: name for name in names if name not in free for one in self._readers_secrets(name)}
        if not secrets:
            return free
        fitting = await self._authenticator.fitting(request, self.admin.secret, *secrets, with_basic=False)
        is_admin = self.admin.secret in fitting
        return free | {name for secret, name in secrets.items() if is_admin or secret in fitting}

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

    async def _has_token(self, request: Request, name: str) -> bool:
        """Return whether a request has a token of an address, with which one may publish to the channel."""
        return self._tokens is not None and await self._tokens.admit(request, f"/events/{name}")

    def _of(self, name: str) -> ChannelKeys:
        return self._keys.get(name, ChannelKeys())

    def _publishers_secrets(self, name: str) -> tuple[Secret, ...]:
        return self.admin.secret, Secret(self._of(name).publish_token)

    def _readers_secrets(self, name: str) -> tuple[Secret, ...]:
        keys = self._of(name)
        return Secret(keys.read_key, signed_path=f"/events/{name}"), Secret(keys.publish_token)
