"""The protocol class that uvicorn runs: HTTP/1 on a connection, with the limits that a public server needs.

Beside what ASGI has, it offers the extension `http.response.zerocopysend`, ends bodies of unknown length for
HTTP/1.0 by closing, and refuses early what can't become an answer: requests that never end, that are too
large, that don't say for which host they are. And it says who the client is where a trusted proxy has brought
the request, so that uvicorn's way of that is to be off: `uvicorn.Config(app, http=HttpProtocol,
proxy_headers=False)` is all it takes.
"""

from __future__ import annotations

import re
import urllib.parse
import weakref
from typing import Any

import httptools
import structlog
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Scope

from origin.http.client_limits import RETRY_SECONDS, UNLIMITED, ClientLimit
from origin.http.trusted_proxies import TrustedProxies
from origin.http1 import states
from origin.http1.connection import Connection
from origin.http1.exchange import GONE, Exchange
from origin.http1.fast_path import FastAnswer, FastPath
from origin.http1.request_head import HeadEnd, HttpLimits, fault_of, has_unframed_body, split_target
from origin.http1.sendfile import ZERO_COPY

log = structlog.get_logger()

TOO_MANY = PlainTextResponse(
    "too many connections from one address\n",
    429,
    {"connection": "close", "cache-control": "no-store", "retry-after": str(RETRY_SECONDS)},
)
"""RFC 6585 §4: what answers on a connection of a client that has too many."""

UNAVAILABLE = PlainTextResponse("Service Unavailable", 503, {"connection": "close"})
"""What answers on a connection beyond those that are served."""

_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(?: /|$)")


class _RefusedError(httptools.HttpParserError):
    """Raised in the parser's callbacks to make it stop."""


class HttpProtocol(Connection):
    """One connection. Its limits are those of the class: see `http_protocol`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = httptools.HttpRequestParser(self)
        # RFC 9112 §9.3, §9.6: what comes behind a request that asks to close is dropped, not an error of it.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.scope: Scope = {}
        self.expect_100_continue = False
        self._head_end = HeadEnd()
        self._is_taking = False
        # Of the body that is being read, and of what stands around its chunks.
        self._body_bytes = self._framing_bytes = 0
        self._chunks: list[bytes] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        # It refers to the connection.
        del self.parser

    # Reading

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._repeat is not None and self._reply_again(self._repeat, data):
            return
        if self._unread:
            self._unread += data
            self.flow.pause_reading()
        elif not self._answer(data):
            self._take(data, data)

    def _take(self, data: bytes, tried: bytes = b"") -> None:
        """Take bytes head by head, as far as their turn has come; the rest waits, and its client with it.

        Args:
            data: What has come.
            tried: What needs the parser, as is known already.
        """
        start, pieces, self._is_taking = 0, 0, True
        most = self.limits.pieces_at_once
        while start < len(data) and pieces < most and not self._is_behind():
            pieces += 1
            end = self._head_end.find(data, start)
            piece, start = data[start:end], end
            if self._reading is states.UNFRAMED:
                if self.cycle is not None:
                    self.cycle.feed(piece)
            elif self._reading is not states.STOPPED and (piece is tried or not self._answer(piece)):
                self._parse(piece)
        self._is_taking = False
        self._unread = data[start:]
        if self._unread:
            self.flow.pause_reading()
            if pieces == most:
                self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Take more of what is unread, unless it waits for an answer."""
        if self._unread and not self._is_behind():
            self._go_on()

    def _is_behind(self) -> bool:
        """Whether what comes next belongs to a request behind the one that is being answered."""
        if self._active is None or self._reading in (states.UNFRAMED, states.STOPPED):
            return self.transport.is_closing()
        return self._reading is states.IDLE

    def _parse(self, data: bytes) -> None:
        is_all = self._reading is not states.BODY
        bodys, before = None if is_all else self.cycle, self._body_bytes
        try:
            try:
                self.parser.feed_data(data)
            finally:
                self._hand_on_body()
        except httptools.HttpParserUpgrade:
            self._move(states.UPGRADE)
            return
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 §9.1: a method that isn't known, of which only the first bytes may be there yet.
            self._refuse(501 if is_all and _METHOD.match(data) else 400)
            return
        except httptools.HttpParserError:
            # What isn't read any more needs no refusal: a source is served, or the connection is cut.
            if self._reading not in (states.UNFRAMED, states.STOPPED):
                self._refuse(self._refusal or 400)
            return
        if self._reading is states.HEAD:
            if (status := self._gauge.judge(data, is_all=is_all)) is not None:
                self._refuse(status)
        elif self._reading is states.BODY and self.cycle is bodys:
            self._framing_bytes += len(data) - (self._body_bytes - before)
            # RFC 9112 §7.1.1: a server ought to limit the total length of chunk extensions.
            limits = self.limits
            if self._framing_bytes > limits.header_bytes + limits.framing_per_byte * self._body_bytes:
                self._refuse(400)

    def _answer(self, data: bytes) -> bool:
        """Answer a request that needs no parser and no application. Returns whether it was one."""
        if self._reading is not states.IDLE or self._active is not None or not self._may_answer:
            return False
        if self._retired:
            return False
        # What the application wrote may still be on its way.
        if self.transport.get_write_buffer_size():
            return False
        repeat = self.fast_path.repeat(data)
        if repeat is not None and self._reply_again(repeat, data):
            return True
        answer = self._find(data)
        if answer is None:
            return False
        self._active, self._status = answer, 0
        try:
            answer.begin(self)
        except Exception:  # it is this request's alone
            self.fail(answer)
            log.exception("answer failed", path=answer.path)
        if self._active is not answer and answer.keep_alive:
            if answer.request is self._before:
                self._repeat = answer.again(data)
            if repeat is None and (repeat := answer.for_all(data)) is not None:
                self.fast_path.keep(data, repeat)
        self._before = answer.request
        return True

    def _find(self, data: bytes) -> FastAnswer | None:
        """Find who answers a request; where that fails, the application has to."""
        try:
            return self.fast_path.find(data, self.limits, self._told)
        except Exception:
            log.exception("no short way for a request")
            return None

    def _go_on(self) -> None:
        if self._is_taking:
            return
        unread, self._unread = self._unread, b""
        self._take(unread)
        if not self._unread:
            self.flow.resume_reading()
            self._close_behind()

    # The parser's events

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._reading is states.UNFRAMED:
            # Behind a head with bare LFs, the first bytes of its body came along.
            raise _RefusedError
        self._move(states.BEGIN)
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self._body_bytes = self._framing_bytes = 0
        self._gauge.begin()
        if self._active is None:
            self._watch.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            self._stop(414)
        if self.parser.get_method() == b"SOURCE":
            # RFC 9112 §2.2: a line may end with a bare LF, as darkice's do; nothing follows such a request.
            self.parser.set_dangerous_leniencies(
                lenient_optional_cr_before_lf=True, lenient_optional_lf_after_cr=True
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field, which nobody here asks for."""
        # RFC 9112 §5.1: the whitespace behind a value isn't part of it; the parser leaves it there.
        name, value = name.lower(), value.rstrip(b" \t")
        if not self._gauge.add(name, value):
            self._stop(431)
        if self._reading is not states.HEAD:
            return
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The header is complete: the application's turn, or the next in line."""
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        if (status := fault_of(method, version, self._gauge.hosts, self._gauge.codings)) is not None:
            self._stop(status)
        self.scope["method"] = method
        self.scope["http_version"] = version
        upgrading = self.parser.should_upgrade()
        self._set_target()
        if self._told is not None and self.client is not None:
            self._set_client(self.client[0])
        extensions: dict[str, dict[str, object]] = {}
        self.scope["extensions"] = extensions
        if self._zero_copy:
            extensions[ZERO_COPY] = {}
        # After an upgrade that isn't taken, the parser reads nothing more.
        keep_alive = version != "1.0" and not upgrading and self.parser.should_keep_alive()
        exchange = Exchange(
            self,
            self.scope,
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=keep_alive,
        )
        # Weak: what refers to itself is only freed by a full collection.
        extensions[GONE] = {"exchange": weakref.ref(exchange)}
        self.cycle = exchange
        if self._active is None and has_unframed_body(method, self.scope["path"], self.headers):
            self._move(states.END_OF_UNFRAMED_HEAD)
            exchange.keep_alive = False
        else:
            self._move(states.END_OF_HEAD)
        app: ASGIApp = self.app
        if self._is_excess:
            app = TOO_MANY if self._is_too_many else UNAVAILABLE
        if self._active is None:
            self._begin(exchange, app)
        else:
            # Its head stood behind the last bytes of a body; those behind it wait unread.
            self.pipeline.appendleft((exchange, app))

    def on_body(self, body: bytes) -> None:
        """Bytes of the request's body, out of their framing."""
        self._body_bytes += len(body)
        self._chunks.append(body)

    def _hand_on_body(self) -> None:
        """Give the request all chunks of its body that came at once: there may be tens of thousands."""
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            if self.cycle is not None:
                self.cycle.feed(b"".join(chunks))

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._hand_on_body()
        self._move(states.END_OF_MESSAGE)
        if self._reading is not states.UNFRAMED and self.cycle is not None:
            self.cycle.end_body()

    def _set_target(self) -> None:
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        self.scope["path"] = self.root_path + path
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = query

    def _set_client(self, peer: str) -> None:
        """Have the request's scope say who the client behind a trusted proxy is, and what it has asked."""
        client = self.proxies.client(peer, self.headers)
        if client.host != peer:
            # Its port is nobody's business: that of the proxy it isn't.
            self.scope["client"] = client.host, 0
        if client.scheme is not None:
            self.scope["scheme"] = client.scheme

    def _stop(self, status: int) -> None:
        """Make the parser stop, for a reason."""
        self._refusal = status
        raise _RefusedError


def http_protocol(
    limits: HttpLimits,
    fast_path: FastPath | None = None,
    proxies: TrustedProxies | None = None,
    client_connections: ClientLimit = UNLIMITED,
) -> type[HttpProtocol]:
    """A protocol class with limits of one's own, to be given to `uvicorn.Config(http=...)`.

    Args:
        limits: The limits of every connection.
        fast_path: What answers requests before the application; None leaves all to it.
        proxies: Whose word on their clients is taken; None: nobody's.
        client_connections: How many connections one client may have.
    """
    shared = {
        "limits": limits,
        "fast_path": fast_path or FastPath({}),
        "proxies": proxies or TrustedProxies(),
        "client_connections": client_connections,
        "refused_connections": ClientLimit(limits.refused_connections),
    }
    return type("LimitedWireProtocol", (HttpProtocol,), shared)
