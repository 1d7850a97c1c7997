"""ASGI middleware for every response: CORS and other common header fields, metrics, and the request log."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.access.policy import port_of, private_area
from origin.http1.access_log import AccessLog, RequestCounters, area_of, log
from origin.http1.sendfile import ZERO_COPY, TruncatedFileError
from origin.http1.stream import Stream

SHARED_AREAS = frozenset({"media", "vod", "live", "radio", "status-json.xsl", "events", "api"})
"""Areas with CORS header fields; lists only if one origin is configured by name."""

EXPOSED = (
    b"Accept-Ranges, Content-Encoding, Content-Length, Content-Range, Date, ETag, Last-Modified, "
    b"icy-br, icy-description, icy-genre, icy-metaint, icy-name, icy-pub, icy-url"
)
ALLOWED = (
    b"Accept, Authorization, Cache-Control, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, "
    b"Content-Type, Icy-MetaData, "
    b"If-Match, If-Modified-Since, If-None-Match, If-Range, Last-Event-ID, Range"
)
PREFLIGHT_SECONDS = b"86400"


NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""The default X-Content-Type-Options of every response."""


def common_headers(allow_origin: str) -> list[tuple[bytes, bytes]]:
    """Make the common header fields of responses that other origins may read.

    Args:
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
    """
    return [*cross_origin_headers(allow_origin), NO_SNIFFING]


def cross_origin_headers(allow_origin: str) -> list[tuple[bytes, bytes]]:
    """Make the CORS header fields that let other origins read a response.

    Args:
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
    """
    if not allow_origin:
        return []
    headers = [
        (b"access-control-allow-origin", allow_origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSED),
    ]
    return headers if allow_origin == "*" else [*headers, (b"vary", b"Origin")]


class CommonHeaders:
    """ASGI middleware that adds common header fields, counts, logs, and answers CORS preflights.

    Args:
        app: the application.
        traffic: the counters to keep.
        allow_origin: value of Access-Control-Allow-Origin; "*" for any, "" for none.
        log_requests: whether each request becomes a log line.
        loopback_ports: those that only this machine reaches: no page of another origin reads lists there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        traffic: RequestCounters,
        allow_origin: str,
        log_requests: bool,
        loopback_ports: frozenset[int] = frozenset(),
    ) -> None:
        self._app = app
        self._access_log = AccessLog(traffic, log_requests=log_requests)
        self._cross_origin = cross_origin_headers(allow_origin)
        self._cross_origin_lists = [] if allow_origin == "*" else self._cross_origin
        self._loopback_ports = loopback_ports

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
                await send({**message, "headers": headers})
                return
            if kind != ZERO_COPY:
                size = len(message.get("body", b""))
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
            if shared and _is_preflight(scope):
                await _answer_preflight(count)
            elif scope["method"] == "OPTIONS" and scope["path"] == "*":
                await _answer_server_options(count)
            else:
                await _answer_or_500(self._app, scope, receive, count, lambda: status)
        finally:
            self._access_log.count_request(area, status)
            if self._access_log.log_requests:
                client = scope["client"][0] if scope.get("client") else None
                sent += sum(stream.sent for stream in streams)
                self._access_log.write(scope["method"], scope["path"], status, sent, started, client)

    def _shared(self, scope: Scope, area: str) -> list[tuple[bytes, bytes]]:
        """Return the CORS header fields for a request, empty if other origins may not read the response."""
        if area not in SHARED_AREAS:
            return []
        if private_area(scope["path"]) is None:
            return self._cross_origin
        return [] if port_of(scope) in self._loopback_ports else self._cross_origin_lists


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


async def _answer_server_options(send: Send) -> None:
    """Answer `OPTIONS *` (RFC 9110 §9.3.7), with which libshout asks for TLS; any 2xx means none."""
    headers = [(b"allow", b"GET, HEAD, POST, PUT, OPTIONS")]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _with_default_headers(status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Add the default header fields that a response doesn't set itself."""
    names = {name for name, _ in headers}
    if NO_SNIFFING[0] not in names:
        headers.append(NO_SNIFFING)
    if status == 500 and b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    return headers


async def _answer_or_500(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, status: Callable[[], int]
) -> None:
    """Call the application; log an exception, and answer 500 if no response has begun.

    Args:
        app: the application.
        scope: its scope.
        receive: its receive function.
        send: its send function.
        status: returns the status of the response so far, 0 before it begins.
    """
    try:
        await app(scope, receive, send)
    except TruncatedFileError:
        raise  # logged where files are sent
    except Exception:
        log.exception("request failed", method=scope["method"], path=scope["path"])
        if not status():
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": b"Internal Server Error\n"})
        elif status() != 500:
            raise  # RFC 9112 §8: an answer that has begun must not look complete


async def _answer_preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
        (b"access-control-allow-headers", ALLOWED),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
