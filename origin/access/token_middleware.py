"""ASGI middleware of tokens: takes them from addresses, and refuses requests that lack a valid one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any
from urllib.parse import unquote, urljoin

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.access.address_tokens import PLAYLISTS, Token
from origin.access.authentication import presented_secrets
from origin.access.protected_addresses import Grant, TokenGuard
from origin.access.request_tokens import (
    LEAST_DOTS,
    PARAMETER,
    TOKEN,
    addressed_token,
    client_of,
    cookie_token,
    unaddressed_token,
)
from origin.access.token_keys import EXPIRED, TokenKeys
from origin.access.viewer_sessions import ViewerSession
from origin.answers.heads import private_fields
from origin.http.path_prefixes import ADMIN, TOKEN_PREFIX, split_token
from origin.http1.access_log import TOKEN_LABEL
from origin.http1.application_exchange import exchange_of
from origin.http1.body_writer import STREAM, Stream, stay
from origin.responses.json_response import UNCACHED
from origin.responses.refusal import plain_refusal

LISTS = (*PLAYLISTS, "/thumbnails.vtt")
"""Endings of paths of what has relative addresses, behind which a query's token isn't."""


def token_of(scope: MutableMapping[str, Any], keys: TokenKeys) -> Token | None:
    """Return the token of a request; None without one that hasn't expired."""
    token = keys.read(_text_of(scope), client_of(scope))
    return None if token is None or time.time() >= token.expires else token


def refusal_of(scope: MutableMapping[str, Any], guard: TokenGuard, path: str) -> str:
    """Return why a request with its token isn't shown what an address has; empty where it is.

    Args:
        path: decoded, without token and query.
    """
    grant = guard.decide(_text_of(scope), path, client=client_of(scope))
    if grant is None:
        return ""
    # Media are answered for a while longer, which the grant allows.
    return grant.refusal or (EXPIRED.line if time.time() >= grant.expires else "")


async def has_token(scope: Scope, keys: TokenKeys) -> bool:
    """Return whether a request has a token that hasn't expired; keys that it lacks are fetched."""
    await keys.fetch_missing(_text_of(scope))
    return token_of(scope, keys) is not None


def _text_of(scope: MutableMapping[str, Any]) -> str:
    return unaddressed_token(scope["headers"], addressed_token(scope))


def base_path(scope: MutableMapping[str, Any], keys: TokenKeys) -> str:
    """Return the beginning of absolute paths that have the request's token; empty without one."""
    is_valid = token_of(scope, keys) is not None and addressed_token(scope)
    return f"{TOKEN_PREFIX}{_text_of(scope)}" if is_valid else ""


def take_token(scope: Scope) -> None:
    """Take the token out of a scope's path, if there is one."""
    # Of the path as it was sent: handlers read that one, and a decoded one could be split elsewhere. Beneath
    # /admin/ no token is valid, and a proxy that refuses these addresses needn't know them with one.
    token, raw = split_token(scope["raw_path"].decode("ascii"))
    if token and not (path := unquote(raw)).startswith(ADMIN):
        scope.update({"path": path, "raw_path": raw.encode("ascii"), TOKEN: token})
        scope["app_root_path"] = f"{TOKEN_PREFIX}{token}"


class TokenPaths:
    """ASGI middleware that takes the token from the path: the rest of the server knows the path behind it.

    Absolute addresses that the application makes of `base_url` have the token again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            # In this very scope, of which the connection logs the path.
            take_token(scope)
        await self._app(scope, receive, send)


class EndingStreams:
    """Ends the streams of a request with the token that it has presented.

    Args:
        ends: seconds since the epoch; infinite for a token without an end.
    """

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self._streams: list[Stream] = []
        self._timers: list[asyncio.TimerHandle] = []

    def add(self, message: Message) -> None:
        """Note the stream that an ASGI message which was sent has begun, if it has."""
        if message["type"] == STREAM and (stream := message.get("stream")) is not None:
            self._streams.append(stream)
            if not math.isinf(self._ends):
                left = self._ends - time.time()
                self._timers.append(asyncio.get_running_loop().call_later(left, stream.abort))

    def cut(self) -> None:
        """Cut the connections of all streams."""
        for stream in self._streams:
            stream.abort()

    def close(self) -> None:
        """End no stream any more."""
        for timer in self._timers:
            timer.cancel()


class RevocableRequests:
    """ASGI middleware that ends requests whose token is revoked while they are answered."""

    def __init__(self, app: ASGIApp, keys: TokenKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        digests = await self._digests(scope) if scope["type"] == "http" and self._keys.has_web else ()
        if not digests:
            await self._app(scope, receive, send)
            return
        streams = EndingStreams(math.inf)

        def cut() -> None:
            if (exchange := exchange_of(scope)) is not None:
                exchange.cut()
            streams.cut()

        async def sending(message: Message) -> None:
            await send(message)
            streams.add(message)

        stay(scope)
        for digest in digests:
            self._keys.revocations.hold(digest, cut)
        try:
            await self._app(scope, receive, sending)
        finally:
            for digest in digests:
                self._keys.revocations.release(digest, cut)

    async def _digests(self, scope: Scope) -> set[str]:
        """Return the digests of the identifiers of those tokens of a request that are valid now."""
        presented = presented_secrets(Request(scope))
        key = Headers(scope=scope).get("x-api-key", "")
        texts = {_text_of(scope), key, *(secret.decode("latin-1") for secret, _ in presented)}
        digests = set[str]()
        for text in texts:
            if text.count(".") != LEAST_DOTS:
                continue
            await self._keys.fetch_missing(text)
            token = self._keys.read(text, client_of(scope))
            if token is not None and token.digest:
                digests.add(token.digest)
        return digests


class TokenChecks:
    """ASGI middleware that refuses requests without a valid token, and ends streams with the token."""

    def __init__(self, app: ASGIApp, guard: TokenGuard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        grant: Grant | None = None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            query, token = scope["query_string"].decode("latin-1"), _text_of(scope)
            await self._guard.keys.fetch_missing(token)
            grant = self._guard.decide(token, scope["path"], query, client_of(scope))
        if grant is None:
            await self._app(scope, receive, send)
            return
        scope[TOKEN_LABEL] = grant.label
        session: ViewerSession | str | None = grant.refusal or None
        if session is None and scope["method"] == "GET":
            agent = Headers(scope=scope).get("user-agent", "")
            session = self._guard.session(grant, client_of(scope), agent)
        if isinstance(session, str):
            await plain_refusal(403, session, UNCACHED)(scope, receive, send)
        else:
            await self._answer(grant, session, scope, receive, send)

    async def _answer(
        self, grant: Grant, session: ViewerSession | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        target = ""
        if TOKEN not in scope and addressed_token(scope):
            fields = scope["query_string"].split(b"&")
            query = b"&".join(field for field in fields if not field.startswith(PARAMETER.encode()))
            prefix = scope["app_root_path"] = f"{TOKEN_PREFIX}{_text_of(scope)}"
            scope["query_string"] = query
            target = f"{prefix}{scope['raw_path'].decode('ascii')}"
            if scope["path"].endswith(LISTS):
                # The addresses in a playlist are relative to its own, and so have the token, too.
                location = f"{target}{'?' * bool(query)}{query.decode('latin-1')}"
                await RedirectResponse(location, 307, UNCACHED)(scope, receive, send)
                return
        # A cache that checks tokens leaves those of paths out of its keys, and may itself send Authorization.
        # A copy for a query's token would outlive the token, and a copy for a cookie's would be everybody's.
        is_public = self._guard.keeps_public and (
            TOKEN in scope or not (target or cookie_token(scope["headers"]))
        )
        stay(scope)
        streams = EndingStreams(grant.ends)

        def cut() -> None:
            exchange = exchange_of(scope)
            if exchange is not None:
                exchange.cut()
            streams.cut()

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields = message.get("headers", ())
                fields = [*_led_from(target, fields)] if target else fields
                message["headers"] = [*(fields if is_public else private_fields(fields))]
            await send(message)
            streams.add(message)

        if session is not None:
            session.begin(cut)
        try:
            await self._app(scope, receive, send_private)
        finally:
            streams.close()
            if session is not None:
                session.end(cut)


def _led_from(target: str, fields: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield header fields, of which a relative ``Location`` leads from an address that has the token."""
    for name, value in fields:
        is_relative = name == b"location" and not value.startswith(b"/") and b"://" not in value
        yield name, urljoin(target, value.decode("latin-1")).encode("latin-1") if is_relative else value
