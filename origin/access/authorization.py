"""Decides what a client may do: the one answer that all wires and all publishers' protocols ask for.

`NEEDS` says for each action and each kind of resource whose keys, and tokens with which right, permit it;
docs/security.md has the table. Whether an address of media needs a token is decided by `TokenGuard`, and
whether a page of another site may ask at all by `AccessPolicy`.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request

from origin.access.address_tokens import Token
from origin.access.authentication import (
    AdminToken,
    Authenticator,
    Secret,
    UnauthorizedError,
    client_address,
    fits_any,
    presented_secrets,
)
from origin.access.request_tokens import addressed_token, cookie_token
from origin.access.token_keys import TokenFault, TokenKeys


class Action(enum.Enum):
    """The actions of clients that need a permission."""

    READ = "read"
    PUBLISH = "publish"
    MANAGE = "manage"
    ASK = "ask"
    CREATE = "create"
    CONFIGURE = "configure"
    ADMINISTER = "administer"


class ResourceKind(enum.Enum):
    """The kinds of resources; the values are the first parts of their addresses."""

    SERVER = ""
    LIVE = "live"
    RADIO = "radio"
    EVENTS = "events"
    RELAY = "relay"


class KeyHolder(enum.Enum):
    """The holders of keys and tokens."""

    ANYBODY = "anybody"
    READER = "reader"
    PUBLISHER = "publisher"
    CREATOR = "creator"
    ADMIN = "admin"


class Right(enum.Enum):
    """The rights of a token at an address that it is valid for."""

    READ = "read"
    PUBLISH = "publish"
    ASK = "ask"
    CREATE = "create"
    CONFIGURE = "configure"


class NamedResource(NamedTuple):
    """A channel, station, relay or the server, for which an action needs a permission.

    Attributes:
        path: the address for which a token has to be valid, where that isn't ``/KIND/NAME``.
    """

    kind: ResourceKind
    name: str = ""
    path: str = ""

    def address(self, kind: ResourceKind) -> str:
        """Return the address for which a token has to be valid, as a resource of a kind."""
        return self.path or f"/{kind.value}/{self.name}"


SERVER = NamedResource(ResourceKind.SERVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKeys:
    """The secrets of a resource.

    Attributes:
        publishers: with which one may publish to it.
        readers: with which one may read it or listen to it; None where everybody may.
        takes_tokens: whether a token for its address stands for a reader's secret.
    """

    publishers: tuple[Secret, ...] = ()
    readers: tuple[Secret, ...] | None = None
    takes_tokens: bool = False


KeysOf = Callable[[str], ResourceKeys]
"""Returns the keys of a resource by its name; of an unknown one those of nobody."""


class Needs(NamedTuple):
    """The keys and tokens that permit an action.

    Attributes:
        line: names them in the answer to a client without them.
        holders: the holders of keys that permit the action.
        known: the holders of keys that permit nothing there, and are no wrong ones either.
        rights: of tokens, each with the kind of the address that the token has to be valid for.
    """

    line: str
    holders: tuple[KeyHolder, ...]
    known: tuple[KeyHolder, ...] = ()
    rights: tuple[tuple[Right, ResourceKind], ...] = ()


NEEDS: Mapping[tuple[Action, ResourceKind], Needs] = {
    (Action.PUBLISH, ResourceKind.LIVE): Needs(
        "the channel's publish_key or server.admin_token is needed",
        (KeyHolder.PUBLISHER, KeyHolder.ADMIN),
        rights=((Right.PUBLISH, ResourceKind.LIVE),),
    ),
    (Action.READ, ResourceKind.RADIO): Needs(
        "this station is for listeners with a password", (KeyHolder.READER, KeyHolder.ADMIN)
    ),
    (Action.PUBLISH, ResourceKind.RADIO): Needs(
        "the password of this station's source is needed",
        (KeyHolder.PUBLISHER,),
        rights=((Right.PUBLISH, ResourceKind.RADIO),),
    ),
    (Action.MANAGE, ResourceKind.RADIO): Needs(
        "the password of the station's source, or server.admin_token is needed",
        (KeyHolder.PUBLISHER, KeyHolder.ADMIN),
        rights=((Right.PUBLISH, ResourceKind.RADIO),),
    ),
    (Action.READ, ResourceKind.EVENTS): Needs(
        "the channel's read_key is needed",
        (KeyHolder.PUBLISHER, KeyHolder.READER, KeyHolder.ADMIN),
        rights=((Right.READ, ResourceKind.EVENTS), (Right.PUBLISH, ResourceKind.EVENTS)),
    ),
    (Action.PUBLISH, ResourceKind.EVENTS): Needs(
        "the channel's publish_token or server.admin_token is needed",
        (KeyHolder.PUBLISHER, KeyHolder.ADMIN),
        (KeyHolder.READER,),
        ((Right.PUBLISH, ResourceKind.EVENTS),),
    ),
    (Action.CREATE, ResourceKind.EVENTS): Needs(
        "server.admin_token or a token with create is needed",
        (KeyHolder.ADMIN,),
        rights=((Right.CREATE, ResourceKind.EVENTS),),
    ),
    (Action.MANAGE, ResourceKind.EVENTS): Needs(
        "server.admin_token or a token with create is needed",
        (KeyHolder.ADMIN,),
        (KeyHolder.READER, KeyHolder.PUBLISHER),
        ((Right.CREATE, ResourceKind.EVENTS),),
    ),
    (Action.ASK, ResourceKind.RELAY): Needs(
        "the relay's token or server.admin_token is needed",
        (KeyHolder.PUBLISHER, KeyHolder.ADMIN),
        rights=((Right.ASK, ResourceKind.RELAY), (Right.PUBLISH, ResourceKind.EVENTS)),
    ),
    **{
        (Action.CONFIGURE, kind): Needs(
            "server.admin_token or a token with configure is needed",
            (KeyHolder.ADMIN,),
            rights=((Right.CONFIGURE, kind),),
        )
        for kind in (ResourceKind.LIVE, ResourceKind.RADIO, ResourceKind.RELAY)
    },
    (Action.ADMINISTER, ResourceKind.SERVER): Needs("server.admin_token is needed", (KeyHolder.ADMIN,)),
}
"""The keys and tokens that permit each action; nothing else does."""


@dataclass(frozen=True, slots=True)
class Permission:
    """The permission to do something.

    Attributes:
        until: in seconds since the epoch; infinite for a key.
        token: that permits it; None for a key, and where nothing is needed.
        text: the text of the token; empty without one.
    """

    holder: KeyHolder
    until: float = math.inf
    token: Token | None = None
    text: str = field(default="", repr=False)

    @property
    def user(self) -> str:
        """The name of who has the token, or the label of its token; empty without one."""
        return "" if self.token is None else self.token.name or self.token.label


OPEN = Permission(KeyHolder.ANYBODY)


class Authorization:
    """Decides what clients may do, by the keys and tokens that they present.

    Args:
        admin: the token of the administrator; empty for none.
        tokens: check tokens of addresses; None where there are none.
        keys: find the keys of resources; those of other kinds have none. More may be added.
    """

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        admin: str | AdminToken = "",
        tokens: TokenKeys | None = None,
        keys: Mapping[ResourceKind, KeysOf] | None = None,
    ) -> None:
        self._authenticator = Authenticator() if authenticator is None else authenticator
        self.admin = AdminToken.of(admin)
        self._tokens = tokens
        self.keys = {} if keys is None else dict(keys)

    async def authorize(
        self, request: Request, action: Action, resource: NamedResource, *, with_basic: bool = True
    ) -> Permission:
        """Return the permission of a request.

        Args:
            with_basic: whether Basic authentication counts, which browsers add of themselves.

        Raises:
            UnauthorizedError: it has none; or a `RefusalError`, if too many keys were presented or guessed.
        """
        found = await self.permission(request, action, resource, with_basic=with_basic)
        if found is None:
            raise UnauthorizedError(NEEDS[action, resource.kind].line)
        return found

    async def permission(
        self, request: Request, action: Action, resource: NamedResource, *, with_basic: bool = True
    ) -> Permission | None:
        """Return the permission of a request, as `authorize`; None for none."""
        found = await self.permissions(request, action, (resource,), with_basic=with_basic)
        return found.get(resource)

    async def permissions(
        self,
        request: Request,
        action: Action,
        resources: Iterable[NamedResource],
        *,
        with_basic: bool = True,
        keys: Collection[str] | None = None,
    ) -> dict[NamedResource, Permission]:
        """Return those resources of one kind for which a request has a permission, as `authorize`.

        A key of one of them isn't wrong at the others.

        Args:
            keys: see `Authenticator.fitting`.
        """
        resources = tuple(resources)
        found = {one: OPEN for one in resources if action is Action.READ and self.is_open(one)}
        rest = [one for one in resources if one not in found]
        if not rest:
            return found
        needs = NEEDS[action, rest[0].kind]
        tokens = await self._tokens_of(request, action) if needs.rights else {}
        for one in rest:
            if (permitted := self._by_token(needs, one, tokens)) is not None:
                found[one] = permitted
        if rest := [one for one in rest if one not in found]:
            path = self._faulty_path(needs, rest, tokens)
            secrets = self._compared(needs, rest)
            fitting = await self._authenticator.fitting(
                request, *secrets, with_basic=with_basic, keys=keys, path=path
            )
            found |= self._by_keys(needs, rest, fitting)
        return found

    async def is_admin(self, request: Request, *others: Secret, with_basic: bool = True) -> bool:
        """Return whether a request presents the administrator's token.

        Args:
            others: secrets that aren't wrong there.
        """
        secrets = self.admin.secret, *others
        fitting = await self._authenticator.fitting(request, *secrets, with_basic=with_basic)
        return self.admin.secret in fitting

    def key_permission(
        self, action: Action, resource: NamedResource, key: str, client: str
    ) -> Permission | None:
        """Return the permission of who presents a key outside of HTTP; None for none. Any thread may call.

        Args:
            client: the IP address of who presents it.
        """
        needs, tokens = NEEDS[action, resource.kind], dict[str, Token]()
        if self._tokens is not None and (token := self._tokens.read(key, client)) is not None:
            tokens[key] = token
        permitted = self._by_token(needs, resource, tokens)
        if permitted is None:
            fitting = fits_any(key, self._compared(needs, [resource]))
            permitted = self._by_keys(needs, [resource], fitting).get(resource)
        return permitted

    def key_fault(self, resource: NamedResource, key: str, client: str) -> TokenFault | None:
        """Return what is wrong with a token in the place of a publisher's key; None for any other text."""
        if self._tokens is None:
            return None
        return self._tokens.fault(key, resource.address(resource.kind), client, publishes=True)

    def secrets(self, action: Action, resource: NamedResource) -> frozenset[Secret]:
        """Return the secrets that permit an action."""
        needs = NEEDS[action, resource.kind]
        return frozenset(secret for one in needs.holders for secret in self._secrets_of(resource, one))

    def is_open(self, resource: NamedResource) -> bool:
        """Return whether everybody may read a resource, or listen to it, if its address needs no token."""
        return self._keys_of(resource).readers is None

    def is_secret(self, resource: NamedResource, key: str) -> bool:
        """Return whether a key is a secret with which this server admits somebody, or a token of its own."""
        secrets = [secret for one in KeyHolder for secret in self._secrets_of(resource, one)]
        return bool(fits_any(key, secrets)) or (self._tokens is not None and self._tokens.is_token(key))

    def readers_secrets(self, resources: Iterable[NamedResource]) -> Iterator[Secret]:
        """Yield the secrets with which one may read some resources, but for the administrator's."""
        for one in resources:
            if not self.is_open(one):
                for holder in NEEDS[Action.READ, one.kind].holders:
                    yield from () if holder is KeyHolder.ADMIN else self._secrets_of(one, holder)

    async def _tokens_of(self, request: Request, action: Action) -> dict[str, Token]:
        """Return the tokens that a request presents which haven't expired, by their texts."""
        if self._tokens is None:
            return {}
        texts = [secret.decode("latin-1") for secret, _ in presented_secrets(request)]
        texts.insert(0, addressed_token(request.scope))
        if action is Action.READ:
            # Pages of other sites can have a browser send a cookie, so it changes nothing.
            texts.append(cookie_token(request.scope["headers"]))
        found: dict[str, Token] = {}
        client = client_address(request)
        for text in filter(None, texts):
            await self._tokens.fetch_missing(text)
            # Each text is read once, however many resources there are.
            if text not in found and (token := self._tokens.read(text, client)) is not None:
                found[text] = token
        return found

    def _by_token(
        self, needs: Needs, resource: NamedResource, tokens: Mapping[str, Token]
    ) -> Permission | None:
        for text, token in tokens.items():
            if time.time() >= token.expires:
                continue
            for right, kind in needs.rights:
                if self._allows(token, right, resource, kind):
                    return Permission(_HOLDERS[right], token.expires, token, text)
        return None

    def _allows(self, token: Token, right: Right, resource: NamedResource, kind: ResourceKind) -> bool:
        if right is Right.CREATE:
            return bool(token.create) and token.is_valid_here
        if right is Right.PUBLISH and not token.may_publish:
            return False
        if right is Right.CONFIGURE and not token.may_configure:
            return False
        if right is Right.READ and not self._keys_of(resource).takes_tokens:
            return False
        # A token for all of a kind is for none of no name.
        if not resource.name:
            return False
        path = resource.address(kind)
        # A token for more than relays, such as ``/``, has to allow publishing: viewers have such tokens.
        if right is Right.ASK and not (token.may_publish or token.names_area(path)):
            return False
        return token.covers(path)

    def _faulty_path(
        self, needs: Needs, resources: Sequence[NamedResource], tokens: Mapping[str, Token]
    ) -> str | None:
        """Return the path at which the refusal names a token's fault; None for the request's own."""
        paths = [one.address(kind) for one in resources for _, kind in needs.rights]
        covered = (
            path for path in (paths if tokens else ()) if any(one.covers(path) for one in tokens.values())
        )
        return next(covered, None)

    def _compared(self, needs: Needs, resources: Iterable[NamedResource]) -> tuple[Secret, ...]:
        """Return the secrets with which keys are compared, none of them twice."""
        holders = (*needs.holders, *needs.known)
        secrets = (
            secret for one in resources for holder in holders for secret in self._secrets_of(one, holder)
        )
        return tuple(dict.fromkeys(secrets))

    def _by_keys(
        self, needs: Needs, resources: Iterable[NamedResource], fitting: frozenset[Secret]
    ) -> dict[NamedResource, Permission]:
        found: dict[NamedResource, Permission] = {}
        for one in resources if fitting else ():
            for holder in needs.holders:
                if not fitting.isdisjoint(self._secrets_of(one, holder)):
                    found[one] = Permission(holder)
                    break
        return found

    def _secrets_of(self, resource: NamedResource, holder: KeyHolder) -> tuple[Secret, ...]:
        if holder is KeyHolder.ADMIN:
            return (self.admin.secret,)
        keys = self._keys_of(resource)
        secrets = keys.publishers if holder is KeyHolder.PUBLISHER else keys.readers
        return () if holder not in (KeyHolder.PUBLISHER, KeyHolder.READER) or secrets is None else secrets

    def _keys_of(self, resource: NamedResource) -> ResourceKeys:
        kind = ResourceKind.EVENTS if resource.kind is ResourceKind.RELAY else resource.kind
        find = self.keys.get(kind)
        return ResourceKeys(readers=()) if find is None else find(resource.name)


_HOLDERS = {
    Right.READ: KeyHolder.READER,
    Right.PUBLISH: KeyHolder.PUBLISHER,
    Right.ASK: KeyHolder.PUBLISHER,
    Right.CREATE: KeyHolder.CREATOR,
    Right.CONFIGURE: KeyHolder.CREATOR,
}
"""In whose place the holder of a token with a right is."""
