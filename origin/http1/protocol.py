"""The protocol class that uvicorn runs: one HTTP/1 connection, its requests, their answers, and how it ends.

Bytes of the client become requests in `RequestReader`. A plain GET or HEAD is answered by a handler at once
(`FastPath`), and what only the application answers by a task (`Exchange`). The scope names the client behind
a trusted proxy, so uvicorn's own way is turned off:
``uvicorn.Config(app, http=HttpProtocol, proxy_headers=False)``.
"""

from __future__ import annotations

import asyncio
import functools
import urllib.parse
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Scope

from origin.answers.asgi import GONE, ZERO_COPY
from origin.http.answer import Headers
from origin.http.client_limits import RETRY_SECONDS, UNLIMITED, ClientLimit
from origin.http.path_prefixes import split_token
from origin.http.trusted_proxies import TrustedProxies
from origin.http1 import states
from origin.http1.body_writer import MAY_OUTLIVE, STREAM
from origin.http1.connection_end import ConnectionEnd
from origin.http1.exchange import Exchange
from origin.http1.fast_answering import FastAnswering
from origin.http1.fast_path import FastPath
from origin.http1.handler_exchange import HandlerExchange
from origin.http1.handover_target import RELAYED, OtherProcess, RelayedFrom
from origin.http1.limits import HttpLimits
from origin.http1.request_head import has_unframed_body, split_target
from origin.http1.request_reader import RequestHead, RequestReader
from origin.http1.response_head import AddedHeaders, refusal
from origin.http1.sendfile import FileSender
from origin.http1.shared_turns import turns_of
from origin.http1.timeouts import AwaitedFromClient, ConnectionTimeouts
from origin.http1.transport import (
    FlowControl,
    is_encrypted,
    local_address,
    remote_address,
    unread_bytes,
)

if TYPE_CHECKING:
    from uvicorn.server import ServerState

log = structlog.get_logger()

CLOSING = b"connection: close\r\n"

_BYTES = (bytes, memoryview)

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 §3.4: what a client begins a connection with that is to speak HTTP/2."""

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

LATE_BYTES = 16 * 1024
"""Most bytes of a body that are read after its answer, so that another request can follow.

An answer to a request of whose body more is to come, or nobody knows how much, says that it is the last one.
"""

REFUSED_CONNECTIONS = 16
"""Most connections that get 503; further ones are cut."""


class HttpProtocol(asyncio.Protocol):
    """A client's connection; `http_protocol` makes a class with other limits.

    uvicorn makes one for each client, as it does with the class that ``uvicorn.Config(http=...)`` names.
    Limits and everything that connections share are attributes of the class.
    """

    __slots__ = (
        "_answering",
        "_body_left",
        "_body_of",
        "_busy_until",
        "_counted_by",
        "_ended",
        "_ending",
        "_is_deferred",
        "_is_preface",
        "_is_taking",
        "_peer",
        "_pipeline",
        "_reader",
        "_refusal",
        "_refusing",
        "_relayed_from",
        "_retired",
        "_runs_handlers",
        "_told",
        "_unread",
        "_watch",
        "_zero_copy",
        "active",
        "app",
        "app_state",
        "asgi_version",
        "client",
        "connections",
        "fast_answering",
        "flow",
        "has_handlers",
        "keep_alive_seconds",
        "loop",
        "root_path",
        "scheme",
        "sender",
        "server",
        "server_state",
        "tasks",
        "transport",
        "turns",
    )

    limits: ClassVar[HttpLimits] = HttpLimits()
    fast_path: ClassVar[FastPath] = FastPath({})
    proxies: ClassVar[TrustedProxies] = TrustedProxies()
    client_connections: ClassVar[ClientLimit] = UNLIMITED
    refused_connections: ClassVar[ClientLimit] = UNLIMITED
    other_process: ClassVar[OtherProcess | None] = None
    redirects_plain: ClassVar[bool] = False
    alternatives: ClassVar[AddedHeaders | None] = None
    http2: ClassVar[Callable[[HttpProtocol], asyncio.Protocol] | None] = None

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.app: ASGIApp = config.loaded_app
        self.root_path = config.root_path
        self.app_state = app_state
        self.asgi_version = config.asgi_version
        self.server_state = server_state
        self.connections: set[Any] = server_state.connections
        self.tasks = server_state.tasks
        self.loop = _loop or asyncio.get_running_loop()
        self.turns = turns_of(self.loop, self.limits.turn_seconds)
        # Until when others have their turn before this connection, which has waited for one.
        self._busy_until = 0.0
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self.client: tuple[str, int] | None = None
        self._peer = ""
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.sender: FileSender | None = None
        self.keep_alive_seconds = config.timeout_keep_alive
        self._watch: ConnectionTimeouts
        self._zero_copy = False
        self._runs_handlers = self.has_handlers = False
        # The application that answers all requests of a connection beyond the limits; None on others.
        self._refusing: ASGIApp | None = None
        # The limit that has counted this connection for its client's address.
        self._counted_by = UNLIMITED
        # Reads the client's address from the fields of a trusted proxy; None where the peer isn't one.
        self._told: Callable[[Headers], str] | None = None
        self._reader = RequestReader(self, self.limits, keeps_head=self.other_process is not None)
        # Bytes of requests whose turn hasn't come; reading from the client is paused meanwhile.
        self._unread = b""
        self._relayed_from: RelayedFrom | None = None
        self._is_taking = self._is_preface = self._is_deferred = False
        # Whether the client has ended its side; what it sent before may still be unread.
        self._ended = False
        # How far the answer is; only `_move` changes it. The request that is being answered, those that wait
        # for the answers before theirs, and the one whose body is read.
        self._answering = states.NO_ANSWER
        self.active: Exchange | HandlerExchange | None = None
        self._pipeline: list[tuple[Exchange, ASGIApp]] = []
        self._body_of: Exchange | None = None
        # The error status that follows once the earlier requests are answered, behind which we close.
        self._refusal: int | None = None
        # Bytes of the body that are still to come; what drops all that comes after the last answer.
        self._body_left = 0.0
        self._ending: ConnectionEnd | None = None
        self.fast_answering = FastAnswering(self)
        # Whether the server is about to end, so that the next answer is the connection's last.
        self._retired = False

    # The transport's events

    # asyncio says `BaseTransport`, as pipes have protocols, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client that has connected."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client, self.server = remote_address(transport), local_address(transport)
        self._peer = self.client_host or ""
        self.scheme = "https" if is_encrypted(transport) else "http"
        if self._relayed_from is not None:
            self.client, self.server, self.scheme = self._relayed_from
            self._peer = self.client_host or ""
        self._busy_until = self.turns.busy_until(self._peer)
        # Beyond the limit new connections are refused, and older ones are served on.
        if len(self.connections) > self.limits.connections:
            self._refusing = UNAVAILABLE
        self._count_client()
        if len(self.connections) > self.limits.connections + REFUSED_CONNECTIONS:
            transport.abort()
        if self.proxies and self.client is not None and self.proxies.trusts(self.client[0]):
            self._told = self._client_told
        sends_files = self.scheme == "http" or transport.get_extra_info("tls_output") is not None
        sends_files = sends_files and self._relayed_from is None
        self._zero_copy = sends_files and transport.get_extra_info("socket") is not None
        is_redirected = self.redirects_plain and self.scheme == "http"
        self.has_handlers = self._refusing is None and not is_redirected
        self._runs_handlers = self._zero_copy and self.has_handlers
        self._watch = ConnectionTimeouts(self, transport, self.loop, self.limits, self.keep_alive_seconds)
        if self._unread:
            # In a turn of its own: a loop may begin to read whatever was said here about pausing.
            self.loop.call_soon(self._take_turn)

    def take_over(self, data: bytes, relayed_from: RelayedFrom | None = None) -> None:
        """Adopt a connection that another process has begun; called before `connection_made`.

        Args:
            data: the bytes that the other process has read and not answered.
            relayed_from: the addresses and scheme of the client's connection, of which this relays a request.
        """
        self._unread = data
        self._relayed_from = relayed_from

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that sends to the client or waits for it: the connection is gone."""
        self.forget_client()
        self._watch.stop()
        if self._ending is not None:
            self._ending.cancel()
        self._unread = b""
        for exchange in self._exchanges():
            exchange.hang_up()
        self._pipeline.clear()
        self.connections.discard(self)
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        if self.sender is not None:
            self.sender.close()
        if isinstance(self.active, HandlerExchange):
            self.active.ended(0 if self.sender is None else self.sender.sent)
        self._move(states.LOSS)
        # These refer to their connection: without them no cycle is left for the garbage collector.
        self.active = self._body_of = None
        del self.fast_answering
        self._reader.close()

    def forget_client(self) -> None:
        """Count the connection no more for its client's address."""
        self._counted_by.give_back(self.client_host or "")
        self._counted_by = UNLIMITED

    def _count_client(self) -> None:
        """Count the connection for its client address; refuse one beyond the limit, and cut it far beyond."""
        if self._relayed_from is not None:
            # The process that has the client's connection counts it.
            return
        host = self.client_host or ""
        for limit in (self.client_connections, self.refused_connections):
            if limit.acquire(host):
                self._counted_by = limit
                return
            self._refusing = TOO_MANY
        self.transport.abort()

    def pause_writing(self) -> None:
        """Make senders wait: the transport's buffer is full."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Resume senders: the transport's buffer has room again."""
        self.flow.resume_writing()
        if self._reader.state is states.LEAVING:
            self._leave()

    def eof_received(self) -> bool | None:
        """Note the end of the client's data; the client may still read answers."""
        # A request that another process has read isn't taken yet.
        self._take_turn()
        exchanges = self._exchanges()
        if not (exchanges or self._unread) or self.scheme == "https":
            return None
        for exchange in exchanges:
            exchange.half_close()
        self._ended = True
        self._close_behind()
        return True

    def _close_behind(self) -> None:
        """Close the connection behind the last answer, once all that an ended client has asked is taken."""
        if not self._ended or self._unread or self._reader.state is states.STOPPED:
            return
        self._reader.move(states.END_OF_INPUT)
        exchanges = self._exchanges()
        if exchanges:
            exchanges[-1].keep_alive = False
        else:
            self.transport.close()

    # The server's end

    def retire(self) -> None:
        """Make the next answer the last and have it say so: the server is about to end (RFC 9112 §9.6)."""
        self._retired = True
        self.fast_answering.forget()
        # A header that was sent has promised already that another request may follow.
        if self.active is not None and self._answering is states.AWAITED:
            self.active.keep_alive = False

    def close_idle(self, seconds: float, first_seconds: float) -> None:
        """Close the connection if nothing has come for `seconds` since the last answer.

        Before the first answer and within a request, it is closed after `first_seconds`.
        """
        awaited = self.awaited
        if awaited is AwaitedFromClient.NOTHING:
            return
        expected = awaited is AwaitedFromClient.REQUEST and self._watch.served
        if self.loop.time() < self._watch.since + (seconds if expected else first_seconds):
            return
        # Closing with unread bytes would make the kernel reset the connection, so they are read first.
        if not unread_bytes(self.transport):
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection, behind the answer that is being sent if there is one: the server ends.

        `uvicorn.Server` asks each of its connections for this; the server of ``origin/server/server.py`` uses
        `retire` and `close_idle` instead.
        """
        self._unread = b""
        self.fast_answering.forget()
        if self.active is None:
            self.transport.close()
        else:
            self.active.keep_alive = False

    # Time

    @property
    def awaited(self) -> AwaitedFromClient:
        """The part of a request that the client has to send now."""
        reading = self._reader.state
        is_over = reading is states.STOPPED or reading is states.LEAVING or self.transport.is_closing()
        # Bytes that wait for their turn have come: the time that they wait isn't the client's.
        has_turn = self._is_deferred or (bool(self._unread) and not self._is_preface)
        if self.active is not None or is_over or has_turn:
            return AwaitedFromClient.NOTHING
        return AwaitedFromClient.HEAD if reading is states.HEAD else AwaitedFromClient.REQUEST

    def expire(self, awaited: AwaitedFromClient) -> None:
        """End a connection whose client has used up its time for what is awaited."""
        if awaited is AwaitedFromClient.NOTHING:
            log.info("dropped a client that takes nothing", client=self._asking)
            self.transport.abort()
        elif awaited is AwaitedFromClient.HEAD:
            self.refuse(408)
        else:
            self.transport.close()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client, or have them wait where many others have something to do."""
        turns = self.turns
        turns.asked += 1
        if turns.asked > turns.unwatched and self._defers(data):
            return
        self._answer(data)

    def _defers(self, data: bytes) -> bool:
        """Have bytes wait for their turn, unless they are to be handled now; return whether they wait."""
        if self._unread or self._ending is not None:
            return False
        is_busy = self._busy_until > 0.0
        is_request = self.active is None and self._reader.state is states.IDLE
        if not is_request and not is_busy:
            return False
        now = self.loop.time()
        if self.turns.admits(now - self._watch.since, self._peer, self._busy_until):
            return False
        self._unread, self._watch.since = data, now
        if is_request and not self.turns.is_busy(self._busy_until):
            self._is_deferred = True
            self.turns.defer(self._take_deferred, self._peer)
        else:
            self._wait_for_turn()
        return True

    def _wait_for_turn(self) -> None:
        """Read the unread bytes in one of the next turns, and no others before."""
        self.flow.pause_reading()
        self.flow.has_unread = True
        self._busy_until = self.turns.append(self._take_turn, self._peer)

    def _take_deferred(self) -> None:
        """Handle the bytes of a request that has waited for its turn."""
        self._is_deferred = False
        if self.flow.read_paused:
            self._take_turn()
        elif self._unread:
            data, self._unread = self._unread, b""
            self._answer(data)

    def _answer(self, data: bytes) -> None:
        if self._unread:
            self._unread += data
            if self._is_preface:
                self._is_preface = False
                self._go_on()
            else:
                self.flow.pause_reading()
            return
        if not self.fast_answering.answer_again(data) and not self.fast_answering.answer(data):
            self._handle_data(data, data)

    def _handle_data(self, data: bytes, tried: bytes = b"") -> None:
        """Handle requests one by one as far as their turn has come; the rest waits, and reading pauses.

        The bytes in `tried` are known already to need the parser.
        """
        if self._ending is not None:
            self._ending.ignore(len(data))
        if self._reader.state is states.STOPPED:
            return
        if HTTP2_PREFACE.startswith(data[:3]) and self._begins_http2(data):
            return
        start, self._is_taking = 0, True
        while start < len(data) and not self._is_behind():
            if start and not self.turns.has_time():
                break
            end = self._reader.end_of_piece(data, start)
            piece, start = data[start:end], end
            if piece is tried or not self.fast_answering.answer(piece):
                self._reader.receive_data(piece)
            if self._reader.state is states.STOPPED:
                start = len(data)
        self._is_taking = False
        self._unread = data[start:]
        if self._unread:
            if self._is_behind():
                self.flow.pause_reading()
                self.flow.has_unread = True
            else:
                self._wait_for_turn()
        if self._reader.state is states.LEAVING:
            self._leave()

    def _drop_rest(self) -> None:
        """Parse no more of a body that its answer hasn't waited for, and close."""
        self._reader.move(states.FAULT)
        self._end(b"")

    def _begins_http2(self, data: bytes) -> bool:
        """Have HTTP/2 spoken, if the client begins with its preface; return whether it does."""
        is_first = self._reader.state is states.IDLE and not self._watch.served and self.active is None
        begin = type(self).http2
        if begin is None or not is_first or not HTTP2_PREFACE.startswith(data[: len(HTTP2_PREFACE)]):
            return False
        if len(data) < len(HTTP2_PREFACE):
            self._unread, self._is_preface = data, True
            return True
        self.step_aside()
        successor = begin(self)
        self.transport.set_protocol(successor)
        successor.data_received(data)
        return True

    def step_aside(self) -> None:
        """Leave the connection to the protocol of another wire, which goes on counting its client."""
        self._watch.stop()
        self.connections.discard(self)
        self._reader.close()
        del self.fast_answering

    def _is_behind(self) -> bool:
        """Return whether the next bytes belong to a request behind the one that is being answered."""
        reading = self._reader.state
        if reading is states.LEAVING:
            return True
        if self.active is None or reading is states.UNFRAMED or reading is states.STOPPED:
            return self.transport.is_closing()
        return reading is states.IDLE

    def _take_turn(self) -> None:
        """Handle more of the unread bytes, unless they wait for an answer."""
        if self._unread and not self._is_behind():
            self._go_on()

    def _go_on(self) -> None:
        """Read the bytes that came behind the request that has been answered."""
        if self._is_taking:
            return
        if self._unread and self.active is None and not self.turns.has_time():
            # A request that came with the one before it.
            self._wait_for_turn()
            return
        unread, self._unread = self._unread, b""
        self.flow.has_unread = False
        self._handle_data(unread)
        if not self._unread and self._reader.state is not states.LEAVING and self._ending is None:
            if self._body_of is None or not self._body_of.is_full:
                self.flow.resume_reading()
            self._close_behind()

    def _leave(self) -> None:
        """Hand the connection over, as soon as the kernel has all earlier answers."""
        if self.other_process is None:
            raise RuntimeError("there is no other process")
        self.flow.pause_reading()
        if self.transport.get_write_buffer_size():
            # Bytes that two processes write would be mixed up; `resume_writing` is called at the end.
            self.transport.set_write_buffer_limits(0)
        elif not self.transport.is_closing():
            data, self._reader.head, self._unread = self._reader.head + self._unread, b"", b""
            self.other_process.hand_over(self.transport.get_extra_info("socket").fileno(), data)
            self.transport.abort()

    # The reader's events

    def request_begun(self) -> None:
        """Note the time of a request's first byte."""
        if self.active is None:
            self._watch.since = self.loop.time()

    def head_read(self, head: RequestHead) -> states.ReadingEvent:
        """Have the application answer a request, now or when its turn comes; see `RequestConsumer`."""
        stream = {MAY_OUTLIVE: True}
        scope = self.scope_of(head, {STREAM: stream, ZERO_COPY: {}} if self._zero_copy else {STREAM: stream})
        app = self.application_for(head, scope)
        other = self.other_process
        # The keys of an encrypted connection stay in this process.
        if other is not None and app == other.relay and self.scheme == "http":
            return states.HAND_OVER
        exchange = Exchange(
            self, scope, expect_100_continue=head.expects_continue, keep_alive=head.keep_alive
        )
        # The reference is weak, because a cycle would only be freed by the garbage collector.
        scope["extensions"][GONE] = {"exchange": weakref.ref(exchange)}
        self._body_of, self._body_left = exchange, head.body_bytes
        if self.active is not None:
            # This head came with the last bytes of the body before it; what follows it waits unread.
            self._pipeline.append((exchange, app))
            return states.END_OF_HEAD
        is_unframed = has_unframed_body(head.method, split_token(scope["path"])[1], head.fields)
        exchange.keep_alive = exchange.keep_alive and not is_unframed
        self._begin(exchange, app)
        return states.END_OF_UNFRAMED_HEAD if is_unframed else states.END_OF_HEAD

    def body_read(self, data: bytes) -> None:
        """Pass bytes of a body on to its request."""
        if self._body_of is not None:
            self._body_left -= len(data)
            self._body_of.feed(data)

    def body_complete(self) -> None:
        """End the body of the request that is read."""
        if self._body_of is not None:
            self._body_of.end_body()

    def cut(self, error: states.IllegalTransitionError) -> None:
        """Cut the connection, whose state is unknown."""
        log.error("cut a connection in a state that can't be", client=self._asking, reason=str(error))
        self._reader.state = states.STOPPED
        self.transport.abort()

    @property
    def application(self) -> ASGIApp:
        """The application, or the refusal of all requests on a connection beyond the limits."""
        return self.app if self._refusing is None else self._refusing

    def application_for(self, head: RequestHead, scope: Scope) -> ASGIApp:
        """Return what answers a request: the application, a refusal, or the relay to the other process."""
        other = self.other_process if self._refusing is None else None
        # Requests with bodies are left to the other process: no bytes of them can lie in a parser when the
        # connection is handed over at the head of the next request.
        if other is None or not (head.has_body or other.answers(scope, upgrading=head.is_upgrade)):
            return self.application
        scope["extensions"][RELAYED] = {"has_body": head.has_body}
        return other.relay if other.has_room else UNAVAILABLE

    def scope_of(self, head: RequestHead, extensions: dict[str, dict[str, Any]]) -> Scope:
        """Make the ASGI scope of a request.

        Args:
            extensions: the extensions of ASGI that its exchange has.
        """
        raw_path, query = split_target(head.target)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        scope: Scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "method": head.method,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": head.fields,
            "state": self.app_state.copy(),
            "extensions": extensions,
        }
        if self._told is not None and self.client is not None:
            self._set_client(scope, head, self.client[0])
        return scope

    def _set_client(self, scope: Scope, head: RequestHead, peer: str) -> None:
        """Set the scope's client and scheme to what a trusted proxy says."""
        client = self.proxies.client(peer, head.fields)
        if client.host != peer:
            # The client's port isn't known, and the proxy's would be wrong.
            scope["client"] = client.host, 0
        if client.scheme is not None:
            scope["scheme"] = client.scheme

    # One answer after the other

    def _move(self, event: states.AnsweringEvent) -> None:
        """Change how far the answer is, as ``states.ANSWERING`` says.

        Raises:
            IllegalTransitionError: the table has no such change; the connection is cut.
        """
        try:
            self._answering = states.ANSWERING[self._answering, event]
        except states.IllegalTransitionError as error:
            self.cut(error)
            raise

    def _exchanges(self) -> list[Exchange | HandlerExchange]:
        """Return the requests that aren't fully answered yet, in the order in which they came."""
        waiting = [exchange for exchange, _ in self._pipeline]
        return [*waiting] if self.active is None else [self.active, *waiting]

    def _begin(self, exchange: Exchange, app: ASGIApp) -> None:
        """Start the application's task for a request, whose turn has come."""
        self._move(states.TURN)
        self.active = exchange
        exchange.keep_alive = exchange.keep_alive and not self._retired
        # The exchange itself leaves the set at its end: a callback would cost the loop another turn.
        begin = functools.partial(self.loop.create_task, exchange.run(app))
        self.tasks.add(self.turns.begin(self.turns.requests, begin))

    def on_response_start(self) -> None:
        """Note that the application's answer begins."""
        self._move(states.REPLY)

    def close_after_answer(self) -> None:
        """Close the connection, whose last answer was sent, though perhaps before all of its request came."""
        if self._reader.state is states.BODY:
            self._drop_rest()
        else:
            self.transport.close()

    @property
    def leaves_body(self) -> bool:
        """Whether the rest of the body is dropped after the answer: more may be to come than is read then."""
        is_read = self._reader.state is states.BODY and self._body_of is self.active
        return is_read and self._body_left > LATE_BYTES

    def on_response_complete(self) -> None:
        """Begin the next answer: the last byte of the one before has been handed on."""
        self._move(states.COMPLETE)
        self.server_state.total_requests += 1
        self.active = None
        self._watch.served = True
        self._watch.since = self.loop.time()
        if self.transport.is_closing() or self._ending is not None:
            return
        if self._pipeline:
            self._begin(*self._pipeline.pop(0))
        elif self._refusal is not None:
            self._close_refused(self._refusal)
        if self._unread or self._ended or self.flow.read_paused:
            self._go_on()

    @property
    def default_headers(self) -> Headers:
        """The header fields of every response, in a list that is another one once they change."""
        base = self.server_state.default_headers
        if self.alternatives is None or self.scheme == "http":
            return base
        return self.alternatives.added_to(base)

    @property
    def client_host(self) -> str | None:
        """The address of the connection's peer, which may be a proxy."""
        return self.client[0] if self.client else None

    @property
    def _asking(self) -> str | None:
        """The address of the client that is being answered, for the log."""
        return self.client_host if self.active is None else self.active.client_host

    def client_of(self, fields: Headers) -> str:
        """Return the address of a request's client."""
        return self._peer if self._told is None else self._told(fields)

    def _client_told(self, fields: Headers) -> str:
        return self.proxies.client(self.client_host or "", fields).host

    # Handlers, which answer without the application

    @property
    def may_handle(self) -> bool:
        """Whether a handler may answer now, past the transport."""
        if self._reader.state is not states.IDLE or self.active is not None or not self._runs_handlers:
            return False
        # A reply goes past the transport, so what the application wrote must have left its buffer.
        return not self._retired and not self.transport.get_write_buffer_size()

    def find_handled(self, data: bytes) -> HandlerExchange | None:
        """Return the exchange of a request that a handler handles; None if the application has to answer."""
        return self.fast_path.find(data, self.limits, self._peer, self._told)

    def begin_answer(self, exchange: HandlerExchange) -> None:
        """Begin the answer of a handler."""
        self._move(states.TURN)
        self.active = exchange

    def replace_answer(self, exchange: Exchange, run: Coroutine[Any, Any, None]) -> None:
        """Continue an answer of a handler in a task, as one of the application."""
        if self._ended:
            exchange.half_close()
        self.active = exchange
        self.tasks.add(self.loop.create_task(run))

    def note_repeated(self) -> None:
        """Note an answer that needed no exchange."""
        self.server_state.total_requests += 1
        self._watch.since = self.loop.time()

    def file_sender(self) -> FileSender:
        """Return the connection's sender of file bytes; it is made when it is first needed."""
        if self.sender is None:
            self.sender = FileSender(self.loop, self.transport)
        return self.sender

    # Refusing

    def refuse(self, status: int) -> None:
        """Answer with an error behind the answers to earlier requests, and close."""
        was_in_body = self._reader.state is states.BODY
        self._reader.move(states.FAULT)
        # A fault in a body whose request is answered already isn't answered again.
        unanswered = status if not was_in_body or self._withdraw() else None
        if self.active is None:
            self._close_refused(unanswered)
        else:
            self._refusal = unanswered

    def _withdraw(self) -> bool:
        """End the wait for a body whose framing is broken; return whether its request has no answer yet.

        RFC 9112 §8: a request that an error has left incomplete is answered with an error. An answer that has
        begun can only be completed.
        """
        if self._pipeline and self._pipeline[-1][0] is self._body_of:
            self._pipeline.pop()
            return True
        if self.active is not None and self._body_of is self.active:
            if self._answering is states.AWAITED:
                self._move(states.WITHDRAWAL)
                self.active.hang_up()
                self.active = None
                return True
            self.active.keep_alive = False
            self.active.half_close()
        return False

    def _close_refused(self, status: int | None) -> None:
        """Write the error, if there is one, and close."""
        self._refusal = None
        self._end(b"" if status is None else refusal(status, self.default_headers))

    def _end(self, last: bytes) -> None:
        """Send the last bytes, drop what comes, and close once the client can have read them."""
        self._unread = b""
        self.flow.has_unread = False
        self.fast_answering.forget()
        if self.transport.can_write_eof():
            self._ending = ConnectionEnd(self.loop, self.limits, self.transport, self.flow, last)
            self._ending.cut_off()
        else:
            self.transport.write(last)
            self.transport.close()

    def suspect(self) -> None:
        """Leave a client that has flooded a small part of the loop's time, unless it is a trusted proxy."""
        if not self.proxies.trusts(self._peer):
            self.turns.suspect(self._peer)


def http_protocol(
    limits: HttpLimits,
    fast_path: FastPath | None = None,
    proxies: TrustedProxies | None = None,
    client_connections: ClientLimit = UNLIMITED,
    other_process: OtherProcess | None = None,
    *,
    http2: Callable[[HttpProtocol], asyncio.Protocol] | None = None,
    redirects_plain: bool = False,
    alternatives: Headers = (),
) -> type[HttpProtocol]:
    """Make a protocol class with its own limits, to be given to ``uvicorn.Config(http=...)``.

    Args:
        fast_path: answers requests before the application; None leaves all to the application.
        proxies: the proxies that are trusted; None: no proxy.
        client_connections: how many connections one client may have.
        other_process: answers what this process can't; None: this one answers all.
        http2: makes the protocol of a connection that begins with the preface of HTTP/2; None: it is refused.
        redirects_plain: whether the application leads requests without encryption elsewhere.
        alternatives: header fields of responses on encrypted connections, which name other wires.
    """
    shared = {
        "limits": limits,
        "fast_path": fast_path or FastPath({}),
        "proxies": proxies or TrustedProxies(),
        "client_connections": client_connections,
        "refused_connections": ClientLimit(REFUSED_CONNECTIONS),
        "other_process": other_process,
        "http2": http2,
        "redirects_plain": redirects_plain,
        "alternatives": AddedHeaders(alternatives) if alternatives else None,
        "__slots__": (),
    }
    return type("LimitedWireProtocol", (HttpProtocol,), shared)
