"""The keys by which tokens of addresses are checked, which change while the server runs.

They change with the configuration that is read again, and with the sets of keys (RFC 7517 §5) that a backend
publishes at an address.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from origin.access.address_tokens import SigningKeys, Token
from origin.access.revocations import Revocations
from packager.concurrency import wait_within
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from origin.access.web_tokens import WebTokenKey, WebTokenKeys

log = structlog.get_logger()

FETCH_SECONDS = 5.0
"""Longest time in which a set of keys has to come."""

MOST_SET_BYTES = 128 << 10

FRESH_SECONDS = 600.0
"""Pause between two requests for a set of keys."""

RETRY_SECONDS = 30.0
"""Least pause between two requests for a set, however many tokens name unknown keys, or none has come yet."""

WEB_TOKEN = "eyJ"  # noqa: S105  # a beginning
"""Beginning of each JSON Web Token: ``{"`` in base64url."""


class TokenFault(NamedTuple):
    """The reason why a text with a token's form isn't one with which something may be done now.

    Attributes:
        line: a sentence about the token.
        is_signed: whether its signature is right, so that it is no guess of somebody's.
    """

    line: str
    is_signed: bool


NOT_VALID = TokenFault("the token isn't valid for this address", is_signed=False)
EXPIRED = TokenFault("the token has expired", is_signed=True)
NOT_YET = TokenFault("the token isn't valid yet", is_signed=True)
REVOKED = TokenFault("the token was revoked", is_signed=True)
NOT_HERE = TokenFault("the token is for another client", is_signed=True)
ELSEWHERE = TokenFault("the token isn't valid for this address", is_signed=True)
NO_PUBLISHING = TokenFault("the token doesn't allow publishing", is_signed=True)


class TokenKeys:
    """The keys by which tokens are checked in one process.

    Args:
        signing: the keys of our own tokens, as `SigningKeys` has them.
        web: the configured keys of JSON Web Tokens.
        sets: the addresses of key sets with further keys of JSON Web Tokens.
        audience: the required ``aud`` of JSON Web Tokens; empty for any.
        issuer: the required ``iss`` of JSON Web Tokens; empty for any.

    Attributes:
        signing: the keys of our own tokens.
        revocations: the revoked JSON Web Tokens.
    """

    name = "token keys"

    def __init__(
        self,
        signing: Sequence[str] = (),
        web: Sequence[WebTokenKey] = (),
        sets: Sequence[str] = (),
        audience: str = "",
        issuer: str = "",
    ) -> None:
        self.revocations = Revocations()
        self._keys_version = 0
        self._audience = audience
        self._issuer = issuer
        self._sets: dict[str, KeySet] = {}
        self._changed = asyncio.Event()
        self.replace(signing, web, sets)

    @property
    def version(self) -> int:
        """Changes with keys and revocations, so that decisions by former ones are made anew."""
        return self._keys_version + self.revocations.version

    @property
    def has_web(self) -> bool:
        """Whether JSON Web Tokens are valid here."""
        return self._web is not None

    def __bool__(self) -> bool:
        return bool(self.signing or self._configured or self._sets)

    def replace(self, signing: Sequence[str], web: Sequence[WebTokenKey], sets: Sequence[str]) -> None:
        """Replace the keys and the addresses of sets, as of the constructor; known sets keep their keys."""
        self.signing = SigningKeys(signing)
        self._configured = tuple(web)
        self._sets = {url: self._sets.get(url) or KeySet(url, self._join) for url in sets}
        self._join()
        self._changed.set()

    def _join(self) -> None:
        """Put the keys together after a change."""
        fetched = [key for one in self._sets.values() for key in one.keys]
        self._web: WebTokenKeys | None = None
        if self._configured or self._sets:
            # Here and not above: it is slow to import, and most servers have no such keys.
            from origin.access.web_tokens import WebTokenKeys

            self._web = WebTokenKeys((*self._configured, *fetched), self._audience, self._issuer)
        self._keys_version += 1

    def read(self, text: str, client: str = "") -> Token | None:
        """Return the token of a text; None for any other text, and for a web token without validity.

        Args:
            client: the address of who presents it; empty where it isn't known.
        """
        token = self.signing.read(text)
        if token is None and text and self._web is not None:
            token = self._web.read(text)
            if token is not None and token.digest in self.revocations:
                return None
        return token._replace(client=client) if token is not None and token.binding else token

    def is_token(self, text: str) -> bool:
        """Return whether a text is a token, whether it has expired or been revoked or not."""
        return self.signing.read(text) is not None or (
            self._web is not None and self._web.read(text) is not None
        )

    def fault(self, text: str, path: str, client: str, *, publishes: bool = False) -> TokenFault | None:
        """Return why nothing may be done with a text that has a token's form; None for any other text.

        Args:
            path: decoded, without a query.
            client: the address of who presents it; empty where it isn't known.
            publishes: whether a token that may only be read with is faulty.
        """
        own = self.signing.read(text)
        if own is not None:
            own = own._replace(client=client)
            if not own.covers(path):
                return NOT_VALID
            return EXPIRED if time.time() >= own.expires else _unfit(own, publishes=publishes)
        if self._web is None or not text.startswith(WEB_TOKEN):
            return None
        web = self._web.read(text)
        if web is None:
            return TokenFault(*self._web.fault(text))
        if web.digest in self.revocations:
            return REVOKED
        if time.time() >= web.expires:
            return EXPIRED
        if time.time() < web.begins:
            return NOT_YET
        web = web._replace(client=client)
        if not web.is_valid_here:
            return NOT_HERE
        return _unfit(web, publishes=publishes) if web.covers(path) else ELSEWHERE

    async def fetch_missing(self, text: str) -> None:
        """Fetch the sets of keys anew if a text is a token of an unknown key; see `RETRY_SECONDS`."""
        if self._sets and text and self._web is not None and not self._web.knows(text):
            await asyncio.gather(*(one.fetch() for one in self._sets.values()))

    async def run(self) -> None:
        """Keep the sets of keys fresh until cancelled."""
        while True:
            self._changed.clear()
            due = min((one.due for one in self._sets.values()), default=math.inf)
            await wait_within(
                None if math.isinf(due) else max(0.0, due - time.monotonic()), self._changed.wait()
            )
            await asyncio.gather(*(one.fetch() for one in self._sets.values() if one.due <= time.monotonic()))


def _unfit(token: Token, *, publishes: bool) -> TokenFault | None:
    return NO_PUBLISHING if publishes and not token.may_publish else None


class KeySet:
    """A set of keys that a backend publishes at an address.

    Args:
        on_change: called when the keys have changed.

    Attributes:
        keys: as the set was when it last came.
    """

    def __init__(self, url: str, on_change: Callable[[], None]) -> None:
        self._url = url
        self._on_change = on_change
        self._fetching: asyncio.Task[None] | None = None
        self._asked = -FRESH_SECONDS
        self._data: bytes | None = None
        self.keys: tuple[WebTokenKey, ...] = ()

    @property
    def due(self) -> float:
        """When the set is to be fetched, in seconds of the monotonic clock."""
        return self._asked + (RETRY_SECONDS if self._data is None else FRESH_SECONDS)

    async def fetch(self) -> None:
        """Fetch the set, unless that was done a moment ago; several calls share one request."""
        if self._fetching is None:
            if time.monotonic() - self._asked < RETRY_SECONDS:
                return
            self._asked = time.monotonic()
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        # Here and not above: most servers need no client of HTTP.
        import httpx

        from packager.sources.retries import PullError

        try:
            async with asyncio.timeout(FETCH_SECONDS):
                data = await self._read()
            if data != self._data:
                self.keys = await SHARED_THREADS.run(_keys_of, data)
                self._data = data
                log.info("the keys of web tokens have come", keys=len(self.keys))
                self._on_change()
        except TimeoutError:
            log.warning("the keys of web tokens can't be fetched", reason="no answer in time")
        except (httpx.HTTPError, httpx.InvalidURL, PullError, ValueError, OSError) as error:
            log.warning("the keys of web tokens can't be fetched", reason=str(error) or type(error).__name__)
        finally:
            self._fetching = None

    async def _read(self) -> bytes:
        """Return the bytes of the set.

        Raises:
            ValueError: the answer isn't 200, or too long; or an error of the client.
        """
        from packager.sources.pullers.guarded_http import certificates, guarded_client, read_content

        await SHARED_THREADS.run(certificates)
        plain = {"accept": "application/json", "accept-encoding": "identity"}
        async with (
            guarded_client(self._url, timeout=None) as client,
            client.stream("GET", self._url, headers=plain) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"answered with {answer.status_code}")
            return await read_content(answer, MOST_SET_BYTES)


def _keys_of(data: bytes) -> tuple[WebTokenKey, ...]:
    """Return the keys of a set. Blocks.

    Raises:
        ValueError: it is none.
    """
    from origin.access.web_tokens import keys_of_set

    return tuple(keys_of_set(data))
