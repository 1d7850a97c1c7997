"""ASGI middleware for every response: CORS and other common header fields, metrics, and the request log."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from starlette.datastructures import Headers as RequestHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.answers.asgi import ZERO_COPY
from origin.answers.pieces import TruncatedFileError
from origin.http.answer import Headers
from origin.http.channel_patterns import template_of
from origin.http.path_prefixes import area_of, has_controls, port_of, private_area, relay_path
from origin.http1.access_log import TOKEN_LABEL, AccessLog, RequestCounters, log
from origin.http1.body_writer import Stream, at_end
from origin.responses.refusal import plain_refusal

SHARED_AREAS = frozenset({"media", "vod", "live", "radio", "status-json.xsl", "events", "relay", "api"})
"""Areas with CORS header fields; lists only if one origin is configured by name."""

EXPOSED = (
    b"Accept-Ranges, Content-Encoding, Content-Length, Content-Range, Date, ETag, Last-Modified, "
    b"Location, Retry-After, X-Available-From, X-Read-Token, "
    b"icy-br, icy-description, icy-genre, icy-metaint, icy-name, icy-pub, icy-url"
)
ALLOWED = (
    "Accept, Authorization, Cache-Control, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, "
    "Content-Type, Icy-MetaData, "
    "If-Match, If-Modified-Since, If-None-Match, If-Range, Last-Event-ID, Range"
)

PREFLIGHT = Response(
    status_code=204,
    headers={
        "access-control-allow-methods": "GET, HEAD, OPTIONS",
        "access-control-allow-headers": ALLOWED,
        "access-control-max-age": "86400",
    },
)
"""The response to a CORS preflight, which browsers may keep for a day."""

MOST_NAMED = 2048
"""Most characters of the names of fields that a page asks for."""

SERVER_OPTIONS = Response(status_code=204, headers={"allow": "GET, HEAD, POST, PUT, OPTIONS"})
"""The response to `OPTIONS *` (RFC 9110 §9.3.7), with which libshout asks for TLS; any 2xx means none."""

CONTROLS_IN_PATH = plain_refusal(400, "control characters in the path")
"""The response to every request of such a path, whatever the method."""

FAILURE = plain_refusal(500)
"""The response to a request for which the application failed."""

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""The default X-Content-Type-Options of every response."""


def common_headers(allow_origin: str) -> list[tuple[bytes, bytes]]:
    """Make the common header fields of responses that other origins may read.

    Args:
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
    """
    return [*cross_origin_headers(allow_origin), NO_SNIFFING]


@functools.lru_cache(maxsize=256)
def cross_origin_headers(allow_origin: str) -> Sequence[tuple[bytes, bytes]]:
    """Make the CORS header fields that let other origins read a response.

    Args:
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
    """
    if not allow_origin:
        return ()
    headers = (
        (b"access-control-allow-origin", allow_origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSED),
    )
    return headers if allow_origin == "*" else (*headers, (b"vary", b"Origin"))


class LoggedRequest(NamedTuple):
    """A request as the log has it.

    Attributes:
        started: when it came, in seconds of `time.monotonic`.
        token: the label of the token by which it was let in; empty without one.
    """

    method: str
    path: str
    area: str
    status: int
    started: float
    client: str | None
    token: str


class CommonHeaders:
    """ASGI middleware that adds common header fields, counts, logs, and answers CORS preflights.

    Args:
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
        log_requests: whether each request becomes a log line.
        loopback_ports: ports that only this machine reaches, where no page of another origin may read lists.
        own_origins: replaces ``allow_origin`` at paths, and those of patterns such as ``/events/room/*``; may
            change.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        traffic: RequestCounters,
        allow_origin: str,
        log_requests: bool,
        loopback_ports: frozenset[int] = frozenset(),
        own_origins: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._app = app
        self._access_log = AccessLog(traffic, log_requests=log_requests)
        self._cross_origin = cross_origin_headers(allow_origin)
        self._cross_origin_lists = () if allow_origin == "*" else self._cross_origin
        self._loopback_ports = loopback_ports
        self._own = {} if own_origins is None else own_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        area = area_of(scope["path"])
        shared = self._shared(scope, area)
        status, sent, started = 0, 0, time.monotonic()
        streams: list[Stream] = []

        async def count(message: Message) -> None:
            nonlocal status, sent
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                headers = _with_default_headers(status, [*message.get("headers", ()), *shared])
                message["headers"] = headers
                await send(message)
                return
            if kind != ZERO_COPY:
                size = body_bytes(scope, message)
                sent += size
                self._access_log.count_bytes(area, size)
            try:
                await send(message)
            finally:
                if kind == ZERO_COPY:
                    size = scope["extensions"][ZERO_COPY].pop("sent", 0)
                    sent += size
                    self._access_log.count_bytes(area, size)
                elif "stream" in message:
                    # The stream's owner counts its bytes; here they are only logged.
                    streams.append(message["stream"])

        try:
            await self._app_for(scope, shared)(scope, receive, count)
        except TruncatedFileError:
            raise  # logged where files are sent
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if not status:
                await FAILURE(scope, receive, count)
            elif status != 500:
                raise  # RFC 9112 §8: an answer that has begun must not look complete
        finally:
            finish = partial(self._access_log.count_request, area, status)
            if self._access_log.log_requests:
                client = scope["client"][0] if scope.get("client") else None
                answered = LoggedRequest(
                    scope["method"], scope["path"], area, status, started, client, scope.get(TOKEN_LABEL, "")
                )
                finish = partial(self._finish, answered, sent, streams)
            at_end(scope, finish)

    def _finish(self, answered: LoggedRequest, sent: int, streams: Sequence[Stream]) -> None:
        """Count and log a request, whose response has come to its end."""
        method, path, area, status, started, client, label = answered
        self._access_log.count_request(area, status)
        sent += sum(stream.sent for stream in streams)
        self._access_log.write(method, path, status, sent, started, client, label)

    def _shared(self, scope: Scope, area: str) -> Sequence[tuple[bytes, bytes]]:
        """Return the CORS header fields for a request, empty if other origins may not read the response."""
        if area not in SHARED_AREAS:
            return ()
        if area != "api" or private_area(scope["path"]) is None:
            path = scope["path"]
            own = self._own.get(relay_path(path) or path) or self._own.get(template_of(path))
            if not own:
                return () if area == "relay" else self._cross_origin
            # Browsers refuse the first one to pages of others.
            page = RequestHeaders(scope=scope).get("origin", "")
            return cross_origin_headers(page if page in own else own[0])
        return () if port_of(scope) in self._loopback_ports else self._cross_origin_lists

    def _app_for(self, scope: Scope, shared: Sequence[tuple[bytes, bytes]]) -> ASGIApp:
        """Choose what answers a request: the application, except for some OPTIONS and malformed paths."""
        if has_controls(scope["path"]):
            return CONTROLS_IN_PATH
        if scope["method"] != "OPTIONS":
            return self._app
        if shared and _has(scope["headers"], b"access-control-request-method"):
            return _relay_preflight(scope) if relay_path(scope["path"]) else PREFLIGHT
        return SERVER_OPTIONS if scope["path"] == "*" else self._app


def _relay_preflight(scope: Scope) -> Response:
    """Return the response to a preflight for a relay, whose clients have fields like ``X-Stainless-OS``."""
    named = RequestHeaders(scope=scope).get("access-control-request-headers", "")
    fits = len(named) <= MOST_NAMED and named.isascii() and named.isprintable()
    headers = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": named if fits and named else ALLOWED,
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=headers)


def body_bytes(scope: Scope, message: Message) -> int:
    """Return how many bytes of a message's body are sent: none in response to HEAD (RFC 9110 §9.3.2)."""
    return 0 if scope["method"] == "HEAD" else len(message.get("body", b""))


def _with_default_headers(status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Add the default header fields that a response doesn't set itself."""
    if NO_SNIFFING not in headers and not _has(headers, NO_SNIFFING[0]):
        headers.append(NO_SNIFFING)
    if status == 500 and not _has(headers, b"cache-control"):
        headers.append((b"cache-control", b"no-store"))
    return headers


def _has(headers: Headers, wanted: bytes) -> bool:
    return any(name == wanted for name, _ in headers)
