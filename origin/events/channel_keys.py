"""The keys of event channels, and the pages of other origins that may read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from origin.access.authentication import Secret
from origin.access.authorization import KeysOf, ResourceKeys
from origin.access.key_hash import KeyHash


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

    def of(self, name: str) -> ResourceKeys:
        """Return the keys as those of the channel of a name."""
        publishers = _secrets(Secret(self.publish_token), self.publish_token_hash)
        # A token for the address of a channel of the configuration doesn't stand for its key.
        takes_tokens = self.read_token is not None
        if self.read_key == "" and not takes_tokens:
            return ResourceKeys(publishers=publishers)
        read_key = Secret(self.read_key or "", signed_path=f"/events/{name}")
        readers = _secrets(read_key, self.read_token)
        return ResourceKeys(publishers=publishers, readers=readers, takes_tokens=takes_tokens)


UNKNOWN = ChannelKeys()
"""The keys of a channel that there isn't, to which the administrator alone has access."""


def resource_keys(keys_of: Callable[[str], ChannelKeys | None]) -> KeysOf:
    """Return what finds the keys of event channels for `Authorization`."""

    def find(name: str) -> ResourceKeys:
        keys = keys_of(name)
        return (UNKNOWN if keys is None else keys).of(name)

    return find


class ReadingPages:
    """Decides which pages may open a WebSocket, to which CORS doesn't apply.

    Args:
        keys_of: returns the keys of a channel; None for an unknown one.
        allow_origin: the origin whose pages may read channels that say nothing else; ``*`` for any, empty
            for none but the server's own.
    """

    def __init__(self, keys_of: Callable[[str], ChannelKeys | None], allow_origin: str = "") -> None:
        self._keys_of = keys_of
        self._allow_origin = allow_origin

    def admit(self, request: Request, name: str) -> bool:
        """Return whether the page that sends a request may read a channel."""
        if not is_foreign(request):
            return True
        keys = self._keys_of(name)
        own = None if keys is None else keys.allow_origin
        allowed = self._allow_origin if own is None else own
        return allowed == "*" or request.headers.get("origin") == allowed


def is_foreign(request: Request) -> bool:
    """Return whether a browser asks for the page of another origin (RFC 6454 §7, RFC 6455 §10.2)."""
    origin = request.headers.get("origin")
    if origin is None:
        return False
    scheme, _, host = origin.lower().partition("://")
    return scheme not in ("http", "https") or host != request.headers.get("host", "").lower()


def _secrets(secret: Secret, key_hash: KeyHash | None) -> tuple[Secret, ...]:
    """Return a secret that there is, and one of which only the hash is known."""
    hashed = () if key_hash is None else (Secret("", key_hash=key_hash),)
    return (secret, *hashed) if secret.text else hashed
