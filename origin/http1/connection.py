"""An HTTP/1 connection: which request is being answered on it, its time limits, and how it ends.

``origin/http1/protocol.py`` adds the reading: it parses what the client sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import structlog
import uvicorn
from starlette.types import ASGIApp

from origin.http.answer import Headers
from origin.http.byte_ranges import SelectedRange
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http.trusted_proxies import TrustedProxies
from origin.http1 import states
from origin.http1.exchange import Exchange, log_failure
from origin.http1.fast_path import FastAnswer, FastPath, RepeatedRequest, Reply, encoded
from origin.http1.handover_target import OtherProcess
from origin.http1.limits import HttpLimits
from origin.http1.pipeline_turns import PipelineTurns
from origin.http1.request_head import HeadLimits, RequestLine
from origin.http1.response_head import FAILURE, FAILURE_TEXT, STATUS_LINE, refusal
from origin.http1.sendfile import FileSender, TruncatedFileError
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


class HttpConnection(asyncio.Protocol):
    """A client's connection, without the parsing of requests.

    uvicorn makes one for each client, as it does with the class that ``uvicorn.Config(http=...)`` names.
    Limits and everything that connections share are attributes of the class.
    """

    limits: ClassVar[HttpLimits] = HttpLimits()
    fast_path: ClassVar[FastPath] = FastPath({})
    proxies: ClassVar[TrustedProxies] = TrustedProxies()
    client_connections: ClassVar[ClientLimit] = UNLIMITED
    refused_connections: ClassVar[ClientLimit] = UNLIMITED
    other_process: ClassVar[OtherProcess | None] = None
    pipeline_turns: ClassVar[PipelineTurns] = PipelineTurns(HttpLimits().pipelined_seconds)

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
        self.transport: asyncio.Transport
        self.flow: FlowControl
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        # The request that was read last, and the requests that wait for the answers before theirs.
        self.cycle: Exchange | None = None
        self.pipeline: list[tuple[Exchange, ASGIApp]] = []
        self._keep_alive_seconds = config.timeout_keep_alive
        self.sender: FileSender | None = None
        self._active: Exchange | FastAnswer | None = None
        # The status of the current fast answer, and the bytes sent on the connection before its body.
        self._status = self._body_from = 0
        self._watch: ConnectionTimeouts
        self._zero_copy = False
        self._is_excess = self._is_too_many = self._may_answer = False
        # The limit that has counted this connection for its client's address.
        self._counted_by = UNLIMITED
        # Reads the client's address from the fields of a trusted proxy; None where the peer isn't one.
        self._told: Callable[[Headers], str] | None = None
        # The previous request, and what answers it if it is repeated while nothing else is under way.
        self._before: RequestLine | None = None
        self._repeat: RepeatedRequest | None = None
        # The head of the current request, as long as its fast answer may leave it to the application.
        self._undecided = b""
        # The head that is being read, if another process may have to read it again.
        self._head = b""
        # What the next byte belongs to; only `_move` changes it.
        self._reading = states.IDLE
        # Measures the head that is being read.
        self._gauge = HeadLimits(self.limits)
        # Bytes of requests whose turn hasn't come; reading from the client is paused meanwhile.
        self._unread = b""
        # Whether the client has ended its side; what it sent before may still be unread.
        self._ended = False
        # The error status that follows once the earlier requests are answered, behind which we close.
        self._refusal: int | None = None
        # Whether the server is about to end, so that the next answer is the connection's last.
        self._retired = False

    # asyncio says `BaseTransport`, as pipes have protocols, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client that has connected."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client, self.server = remote_address(transport), local_address(transport)
        self.scheme = "https" if is_encrypted(transport) else "http"
        # Beyond the limit new connections are refused, and older ones are served on.
        self._is_excess = len(self.connections) > self.limits.connections
        self._count_client()
        if len(self.connections) > self.limits.connections + self.limits.refused_connections:
            transport.abort()
        if self.proxies and self.client is not None and self.proxies.trusts(self.client[0]):
            self._told = self._client_told
        self._zero_copy = self.scheme == "http" and transport.get_extra_info("socket") is not None
        self._may_answer = self._zero_copy and not self._is_excess
        self._watch = ConnectionTimeouts(self, transport, self.loop, self.limits, self._keep_alive_seconds)
        if self._unread:
            # In a turn of its own: a loop may begin to read whatever was said here about pausing.
            self.loop.call_soon(self._take_turn)

    def take_over(self, data: bytes) -> None:
        """Go on with a connection that another process has begun; called before it is made.

        Args:
            data: what that process has read and not answered.
        """
        self._unread = data

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that sends to the client or waits for it: the connection is gone."""
        self._counted_by.give_back(self.client_host or "")
        self._counted_by = UNLIMITED
        self._watch.stop()
        self._unread = self._undecided = b""
        for exchange in self._exchanges():
            exchange.hang_up()
        self.pipeline.clear()
        self.connections.discard(self)
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        if self.sender is not None:
            self.sender.close()
        if isinstance(self._active, FastAnswer):
            self._end_answer(self._active)
        # Exchanges refer to their connection: without these two no cycle is left for the garbage collector.
        self._active = self.cycle = None

    def _count_client(self) -> None:
        """Count the connection for its client address; refuse one beyond the limit, and cut it far beyond."""
        host = self.client_host or ""
        for limit in (self.client_connections, self.refused_connections):
            if limit.acquire(host):
                self._counted_by = limit
                return
            self._is_excess = self._is_too_many = True
        self.transport.abort()

    def pause_writing(self) -> None:
        """Make senders wait: the transport's buffer is full."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Resume senders: the transport's buffer has room again."""
        self.flow.resume_writing()
        if self._reading is states.LEAVING:
            self._leave()

    def eof_received(self) -> bool | None:
        """Note the end of the client's data; the client may still read answers."""
        # A request that another process has read isn't taken yet.
        self._take_turn()
        exchanges = self._exchanges()
        if not exchanges or self.scheme == "https":
            return None
        for exchange in exchanges:
            if isinstance(exchange, Exchange):
                exchange.half_close()
        self._ended = True
        self._close_behind()
        return True

    def _close_behind(self) -> None:
        """Close the connection behind the last answer, once all that an ended client has asked is taken."""
        if not self._ended or self._unread or self._undecided or self._reading is states.STOPPED:
            return
        self._move(states.END_OF_INPUT)
        exchanges = self._exchanges()
        if exchanges:
            exchanges[-1].keep_alive = False
        else:
            self.transport.close()

    def retire(self) -> None:
        """Make the next answer the last and have it say so: the server is about to end (RFC 9112 §9.6)."""
        self._retired = True
        self._repeat = None
        # A header that was sent has promised already that another request may follow.
        active = self._active
        begun = self._status if isinstance(active, FastAnswer) else active and active.response_started
        if active is not None and not begun:
            active.keep_alive = False

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
        self._repeat = None
        if self._active is None:
            self.transport.close()
        else:
            self._active.keep_alive = False

    def file_sender(self) -> FileSender:
        """Return the connection's sender of file bytes; it is made when it is first needed."""
        if self.sender is None:
            self.sender = FileSender(self.loop, self.transport)
        return self.sender

    def _exchanges(self) -> list[Exchange | FastAnswer]:
        """Return the requests that aren't fully answered yet, in the order in which they came."""
        waiting = [exchange for exchange, _ in self.pipeline]
        return [*waiting] if self._active is None else [self._active, *waiting]

    # Reading

    def _move(self, event: states.ReadingEvent) -> None:
        """Change what the connection is reading, as ``states.TRANSITIONS`` says.

        Raises:
            IllegalTransitionError: the table has no such change; the connection is cut, since its state is
                unknown.
        """
        try:
            self._reading = states.TRANSITIONS[self._reading, event]
        except KeyError:
            reason = f"{event.name} while reading is {self._reading.name}"
            self._reading = states.STOPPED
            log.error("cut a connection in a state that can't be", client=self._asking, reason=reason)
            self.transport.abort()
            raise states.IllegalTransitionError(reason) from None

    # Time

    @property
    def awaited(self) -> AwaitedFromClient:
        """The part of a request that the client has to send now."""
        reading = self._reading
        is_over = reading is states.STOPPED or reading is states.LEAVING
        if self._active is not None or is_over or self.transport.is_closing():
            return AwaitedFromClient.NOTHING
        return AwaitedFromClient.HEAD if reading is states.HEAD else AwaitedFromClient.REQUEST

    def expire(self, awaited: AwaitedFromClient) -> None:
        """End a connection whose client has used up its time for what is awaited."""
        if awaited is AwaitedFromClient.NOTHING:
            log.info("dropped a client that takes nothing", client=self._asking)
            self.transport.abort()
        elif awaited is AwaitedFromClient.HEAD:
            self._refuse(408)
        else:
            self.transport.close()

    # One answer after the other

    def _begin(self, exchange: Exchange, app: ASGIApp) -> None:
        """Start the application's task for a request."""
        self._active = exchange
        exchange.keep_alive = exchange.keep_alive and not self._retired
        # The exchange itself leaves the set at its end: a callback would cost the loop another turn.
        self.tasks.add(self.loop.create_task(exchange.run(app)))

    def on_response_complete(self) -> None:
        """Begin the next answer: the last byte of the one before has been handed on."""
        self.server_state.total_requests += 1
        self._active = None
        self._watch.served = True
        self._watch.since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._begin(*self.pipeline.pop(0))
        elif self._refusal is not None:
            self._close_refused(self._refusal)
        if self._unread or self._ended or self.flow.read_paused:
            self._go_on()

    def _go_on(self) -> None:
        """Read the bytes that came behind the request that has been answered."""
        raise NotImplementedError

    def _take_turn(self) -> None:
        """Handle more of the unread bytes, unless they wait for an answer."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Hand the connection over, as soon as the kernel has all earlier answers."""
        if self.other_process is None:
            raise RuntimeError("there is no other process")
        self.flow.pause_reading()
        if self.transport.get_write_buffer_size():
            # What is written in two processes would be mixed up; `resume_writing` is called at the end.
            self.transport.set_write_buffer_limits(0)
        elif not self.transport.is_closing():
            data, self._head, self._unread = self._head + self._unread, b"", b""
            self.other_process.hand_over(self.transport.get_extra_info("socket").fileno(), data)
            self.transport.abort()

    def _parse(self, data: bytes) -> None:
        """Have a request read by the parser and answered by the application."""
        raise NotImplementedError

    # Answers without the application (origin/http1/fast_path.py)

    @property
    def client_host(self) -> str | None:
        """The address of the connection's peer, which may be a proxy."""
        return self.client[0] if self.client else None

    @property
    def _asking(self) -> str | None:
        """The address of the client that is being answered, for the log."""
        active = self._active
        if isinstance(active, Exchange):
            return active.scope["client"][0] if active.scope["client"] else None
        return (active and active.client_host) or self.client_host

    def _client_told(self, fields: Headers) -> str:
        return self.proxies.client(self.client_host or "", fields).host

    def fields(self, answer: FastAnswer) -> bytes:
        """Return the encoded header fields that every answer has at this moment."""
        common = self.fast_path.fields(self.server_state.default_headers)
        # RFC 9112 §9.6: a server that is going to close the connection says so.
        return common if answer.keep_alive else common + CLOSING

    def reply(self, answer: FastAnswer, reply: Reply) -> bool:
        """Send the bytes of the current fast answer; return whether it has ended."""
        if self._active is not answer or self.transport.is_closing():
            return True
        if self._status:
            raise RuntimeError("an answer replies once")
        sender = self.sender or self.file_sender()
        status, pieces, _, file_bytes, file = reply
        self._status = status
        self._undecided = b""
        self._body_from = sender.sent + len(pieces[0])
        try:
            if not sender.begin(pieces, file_bytes, file, self._on_sent):
                return False
        except (OSError, TruncatedFileError) as error:
            self._end_answer(answer, error)
        else:
            self._end_answer(answer)
        return True

    def decline(self, answer: FastAnswer) -> None:
        """Leave the request of the current fast answer to the application; what came behind it waits on."""
        if self._active is not answer or self.transport.is_closing():
            return
        head, self._undecided = self._undecided, b""
        self._active = None
        self._parse(head)
        for exchange in self._exchanges():
            exchange.keep_alive = exchange.keep_alive and answer.keep_alive
            if self._ended and isinstance(exchange, Exchange):
                exchange.half_close()
        self._go_on()

    def fail(self, answer: FastAnswer) -> None:
        """Answer 500; if the answer has begun already, cut the connection."""
        if self._active is not answer or self.transport.is_closing():
            return
        if self._status:
            # RFC 9112 §8: an answer that was cut short must not look complete.
            self.transport.abort()
            return
        # RFC 9110 §15.6.1.
        head = b"%b%b%b%b\r\n" % (
            STATUS_LINE[500],
            self.fields(answer),
            encoded(FAILURE),
            answer.common_headers,
        )
        self.reply(answer, Reply(500, (head, FAILURE_TEXT), len(FAILURE_TEXT)))

    def _reply_again(self, repeat: RepeatedRequest, data: bytes) -> bool:
        """Answer a repeated request; return False if the bytes aren't that request."""
        server = self.server_state
        again = repeat.reply(data, self.fast_path.fields(server.default_headers))
        if again is None:
            self._repeat = None
            return False
        head, first, last, file = again
        sender = self.sender or self.file_sender()
        sent = sender.sent
        error: Exception | None = None
        try:
            if sender.begin_range(head, first, last, file, self._on_sent):
                repeat.count(last + 1 - first)
                server.total_requests += 1
                self._watch.since = self.loop.time()
                self._repeat = repeat
                return True
        except (OSError, TruncatedFileError) as caught:
            error = caught
        self._repeat = None
        self._status, self._body_from = repeat.status, sent + len(head)
        answer = self._active = repeat.answer(SelectedRange(first, last))
        if error is not None:
            self._end_answer(answer, error)
        return True

    def _on_sent(self, error: Exception | None) -> None:
        if isinstance(self._active, FastAnswer):
            self._end_answer(self._active, error)

    def _end_answer(self, answer: FastAnswer, error: Exception | None = None) -> None:
        """Finish a fast answer, whether it was sent to its end or failed."""
        sent = self.sender.sent - self._body_from if self.sender is not None and self._status else 0
        answer.ended(self._status, max(0, sent), self)
        if error is not None:
            log_failure(answer.path, error)
            # RFC 9112 §8: closing marks a message with fewer bytes than promised as incomplete.
            self.transport.abort()
        elif not answer.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # Refusing

    def _give_up_body(self) -> bool:
        """End the wait for a body whose framing is broken; return whether its request has no answer yet.

        RFC 9112 §8: a request that an error has left incomplete is answered with an error. An answer that has
        begun can only be completed.
        """
        if self.pipeline and self.pipeline[-1][0] is self.cycle:
            self.pipeline.pop()
            return True
        if isinstance(self._active, Exchange) and self.cycle is self._active:
            if not self._active.response_started:
                self._active.hang_up()
                self._active = None
                return True
            self._active.keep_alive = False
            self._active.half_close()
        return False

    def _refuse(self, status: int) -> None:
        """Answer with an error behind the answers to earlier requests, and close."""
        was_in_body = self._reading is states.BODY
        self._move(states.FAULT)
        # A fault in a body whose request is answered already isn't answered again.
        unanswered = status if not was_in_body or self._give_up_body() else None
        if self._active is None:
            self._close_refused(unanswered)
        else:
            self._refusal = unanswered

    def _close_refused(self, status: int | None) -> None:
        """Write the error, if there is one, and close."""
        self._refusal = None
        if status is not None:
            self.transport.write(refusal(status, self.server_state.default_headers))
        if self.scheme == "https":
            self.transport.close()
            return
        # Closing with unread bytes would make the kernel reset the connection, and the answer would be lost.
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(self.limits.linger_seconds, self.transport.close)
