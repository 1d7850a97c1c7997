"""The protocol class that uvicorn runs: parses HTTP/1 requests, within the limits of a public server.

Requests that are too large, never end or don't name their host are refused early. Bodies of unknown length
end by closing for HTTP/1.0. The scope names the client behind a trusted proxy, so uvicorn's own way is turned
off: ``uvicorn.Config(app, http=HttpProtocol, proxy_headers=False)``.
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
from origin.http1.connection import HttpConnection
from origin.http1.exchange import GONE, Exchange
from origin.http1.fast_path import FastAnswer, FastPath
from origin.http1.handover_target import OtherProcess
from origin.http1.limits import HttpLimits
from origin.http1.pipeline_turns import PipelineTurns
from origin.http1.request_head import (
    HeadEnd,
    fault_of,
    has_unframed_body,
    split_target,
)
from origin.http1.sendfile import ZERO_COPY

log = structlog.get_logger()

TOO_MANY = PlainTextResponse(
    "too many connections from one address\n",
    429,
    {"connection": "close", "cache-control": "no-store", "retry-after": str(RETRY_SECONDS)},
)
"""RFC 6585 §4: the answer on a connection whose client has too many of them."""

UNAVAILABLE = PlainTextResponse(
    "Service Unavailable",
    503,
    {"connection": "close", "cache-control": "no-store", "retry-after": str(RETRY_SECONDS)},
)
"""The answer on a connection beyond the number that is served."""

_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(?: /|$)")

PIECES_AT_ONCE = 32
"""Most pieces, such as heads, that are read before another connection has a turn."""

FRAMING_PER_BYTE = 16
"""Most bytes of framing per byte of a chunked body; tiny chunks have 5."""


class _RequestRefusedError(httptools.HttpParserError):
    """Raised in the parser's callbacks to make it stop."""


class HttpProtocol(HttpConnection):
    """A client's connection, and the parser of its requests; `http_protocol` makes one with other limits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = httptools.HttpRequestParser(self)
        # RFC 9112 §9.3, §9.6: bytes behind a request that asks to close are dropped; they are no error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.scope: Scope = {}
        self.expect_100_continue = False
        self._head_end = HeadEnd()
        self._is_taking = False
        # Bytes of the body that is being read, and of the framing around its chunks.
        self._body_bytes = self._framing_bytes = 0
        self._chunks: list[bytes] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, which is gone, and let go of the parser."""
        super().connection_lost(exc)
        # The parser refers to the connection: without it no cycle is left for the garbage collector.
        del self.parser

    # Reading

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        if self._repeat is not None and self._reply_again(self._repeat, data):
            return
        if self._unread:
            self._unread += data
            self.flow.pause_reading()
        elif not self._answer(data):
            self._handle_data(data, data)

    def _handle_data(self, data: bytes, tried: bytes = b"") -> None:
        """Handle requests one by one as far as their turn has come; the rest waits, and reading pauses.

        The bytes in `tried` are known already to need the parser.
        """
        start, pieces, self._is_taking = 0, 0, True
        most = PIECES_AT_ONCE
        while start < len(data) and pieces < most and not self._is_behind():
            if pieces and not self.pipeline_turns.has_time():
                break
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
            if not self._is_behind():
                self.pipeline_turns.append(self._take_turn)
        if self._reading is states.LEAVING:
            self._leave()

    def _take_turn(self) -> None:
        """Handle more of the unread bytes, unless they wait for an answer."""
        if self._unread and not self._is_behind():
            self._go_on()

    def _is_behind(self) -> bool:
        """Return whether the next bytes belong to a request behind the one that is being answered."""
        if self._reading is states.LEAVING:
            return True
        if self._active is None or self._reading in (states.UNFRAMED, states.STOPPED):
            return self.transport.is_closing()
        return self._reading is states.IDLE

    def _parse(self, data: bytes) -> None:
        is_all = self._reading is not states.BODY
        bodys, before = None if is_all else self.cycle, self._body_bytes
        if self.other_process is not None:
            self._head = self._head + data if self._reading is states.HEAD else data
        try:
            try:
                self.parser.feed_data(data)
            finally:
                self._hand_on_body()
        except httptools.HttpParserUpgrade:
            self._move(states.UPGRADE)
            return
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 §9.1: 501 is for an unknown method, of which only the first bytes may have come.
            self._refuse(501 if is_all and _METHOD.match(data) else 400)
            return
        except httptools.HttpParserError:
            # Bytes that aren't parsed any more need no refusal: a source is served, or the connection is cut
            # or handed over.
            if self._reading not in (states.UNFRAMED, states.STOPPED, states.LEAVING):
                self._refuse(self._refusal or 400)
            return
        if self._reading is states.HEAD:
            if (status := self._gauge.judge(data, is_all=is_all)) is not None:
                self._refuse(status)
        elif self._reading is states.BODY and self.cycle is bodys:
            self._framing_bytes += len(data) - (self._body_bytes - before)
            # RFC 9112 §7.1.1: a server ought to limit the total length of chunk extensions.
            limits = self.limits
            if self._framing_bytes > limits.header_bytes + FRAMING_PER_BYTE * self._body_bytes:
                self._refuse(400)

    def _answer(self, data: bytes) -> bool:
        """Answer a request on the fast path; return False if the parser has to read it."""
        if self._reading is not states.IDLE or self._active is not None or not self._may_answer:
            return False
        if self._retired:
            return False
        # A fast answer goes past the transport, so what the application wrote must have left its buffer.
        if self.transport.get_write_buffer_size():
            return False
        repeat = self.fast_path.repeat(data)
        if repeat is not None and self._reply_again(repeat, data):
            return True
        answer = self._find(data)
        if answer is None:
            return False
        self._active, self._status = answer, 0
        if answer.may_decline:
            self._undecided = data
        try:
            answer.begin(self)
        except Exception:  # it concerns this request alone
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
        """Find the fast answer to a request; None if there is none, or if looking for it fails."""
        try:
            return self.fast_path.find(data, self.limits, self._told)
        except Exception:
            log.exception("no short way for a request")
            return None

    def _go_on(self) -> None:
        if self._is_taking:
            return
        unread, self._unread = self._unread, b""
        self._handle_data(unread)
        if not self._unread and self._reading is not states.LEAVING:
            self.flow.resume_reading()
            self._close_behind()

    # The parser's events

    def on_message_begin(self) -> None:
        """Begin a request: its first byte was read."""
        if self._reading is states.UNFRAMED:
            # Behind a head with bare LFs, these are the first bytes of its body.
            raise _RequestRefusedError
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
        """Append a piece of the request target."""
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            self._stop(414)
        if self.parser.get_method() == b"SOURCE":
            # RFC 9112 §2.2: a line may end with a bare LF, as darkice's do; no other request follows.
            self.parser.set_dangerous_leniencies(
                lenient_optional_cr_before_lf=True, lenient_optional_lf_after_cr=True
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field; trailer fields are only counted."""
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
        """Hand the request to the application, or let it wait for its turn: its header is complete."""
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        if (status := fault_of(method, version, self._gauge.hosts, self._gauge.codings)) is not None:
            self._stop(status)
        self.scope["method"] = method
        self.scope["http_version"] = version
        upgrading = self.parser.should_upgrade()
        self._set_target()
        app: ASGIApp = self.app
        if self._is_excess:
            app = TOO_MANY if self._is_too_many else UNAVAILABLE
        elif self.other_process is not None and not self._is_answered_here(self.other_process):
            if self.other_process.has_room:
                self._move(states.HAND_OVER)
                raise _RequestRefusedError
            app = UNAVAILABLE
        if self._told is not None and self.client is not None:
            self._set_client(self.client[0])
        extensions: dict[str, dict[str, object]] = {}
        self.scope["extensions"] = extensions
        if self._zero_copy:
            extensions[ZERO_COPY] = {}
        # Behind a request for an upgrade the parser reads nothing more, even if the upgrade is ignored, and
        # behind a SOURCE it would be lenient with heads that a proxy has let pass as something else.
        has_next = method != "SOURCE" and not upgrading
        keep_alive = version != "1.0" and has_next and self.parser.should_keep_alive()
        exchange = Exchange(
            self,
            self.scope,
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=keep_alive,
        )
        # The reference is weak, because a cycle would only be freed by the garbage collector.
        extensions[GONE] = {"exchange": weakref.ref(exchange)}
        self.cycle = exchange
        if self._active is None and has_unframed_body(method, self.scope["path"], self.headers):
            self._move(states.END_OF_UNFRAMED_HEAD)
            exchange.keep_alive = False
        else:
            self._move(states.END_OF_HEAD)
        if self._active is None:
            self._begin(exchange, app)
        else:
            # This head came with the last bytes of the body before it; what follows it waits unread.
            self.pipeline.append((exchange, app))

    def on_body(self, body: bytes) -> None:
        """Pass on bytes of the request's body, without its framing."""
        self._body_bytes += len(body)
        self._chunks.append(body)

    def _hand_on_body(self) -> None:
        """Pass all chunks of the body to the exchange at once: a single read may have tens of thousands."""
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            if self.cycle is not None:
                self.cycle.feed(b"".join(chunks))

    def on_message_complete(self) -> None:
        """Complete the request: its last byte was read."""
        self._hand_on_body()
        self._move(states.END_OF_MESSAGE)
        if self._reading is not states.UNFRAMED and self.cycle is not None:
            self.cycle.end_body()

    def _is_answered_here(self, other: OtherProcess) -> bool:
        """Return whether this process answers the request, and no other.

        Requests with bodies are left to the other process: no bytes of them can lie in a parser when the
        connection is handed over at the head of the next request.
        """
        has_body = self._gauge.codings or any(
            name == b"content-length" and value != b"0" for name, value in self.headers
        )
        return not has_body and not other.answers(self.scope, upgrading=self.parser.should_upgrade())

    def _set_target(self) -> None:
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        self.scope["path"] = self.root_path + path
        self.scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        self.scope["query_string"] = query

    def _set_client(self, peer: str) -> None:
        """Set the scope's client and scheme to what a trusted proxy says."""
        client = self.proxies.client(peer, self.headers)
        if client.host != peer:
            # The client's port isn't known, and the proxy's would be wrong.
            self.scope["client"] = client.host, 0
        if client.scheme is not None:
            self.scope["scheme"] = client.scheme

    def _stop(self, status: int) -> None:
        """Stop the parser; the request is refused with this status."""
        self._refusal = status
        raise _RequestRefusedError


def http_protocol(
    limits: HttpLimits,
    fast_path: FastPath | None = None,
    proxies: TrustedProxies | None = None,
    client_connections: ClientLimit = UNLIMITED,
    other_process: OtherProcess | None = None,
) -> type[HttpProtocol]:
    """Make a protocol class with its own limits, to be given to ``uvicorn.Config(http=...)``.

    Args:
        fast_path: answers requests before the application; None leaves all to the application.
        proxies: the proxies that are trusted; None: no proxy.
        client_connections: how many connections one client may have.
        other_process: answers what this process can't; None: this one answers all.
    """
    shared = {
        "limits": limits,
        "fast_path": fast_path or FastPath({}),
        "proxies": proxies or TrustedProxies(),
        "client_connections": client_connections,
        "refused_connections": ClientLimit(limits.refused_connections),
        "other_process": other_process,
        "pipeline_turns": PipelineTurns(limits.pipelined_seconds),
    }
    return type("LimitedWireProtocol", (HttpProtocol,), shared)
