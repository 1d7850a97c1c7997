"""A connection with many requests at once: who answers them, and whose bytes are sent next.

The wires are in ``origin/http2`` and ``origin/http3``: they read requests and make frames of answers.
"""

from __future__ import annotations

import abc
import functools
import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from origin.answers.pieces import TruncatedFileError
from origin.answers.refusals import refusal_text
from origin.http.answer import Headers
from origin.http.token_bucket import TokenBucket
from origin.http1.body_writer import STREAM
from origin.http1.protocol import HttpProtocol
from origin.http1.request_reader import RequestHead
from origin.http_streams.application_answer import ApplicationAnswer
from origin.http_streams.handler_answer import HandlerAnswer
from origin.http_streams.priority import Priority, read_priority
from origin.http_streams.request_head import read_request
from origin.http_streams.stream import INTERNAL_ERROR, NO_ERROR, HttpStream, Rank, StreamAnswer, value_of

if TYPE_CHECKING:
    from origin.http1.handler_exchange import HandlerExchange

REQUESTS = 20_000
"""Requests after which the client is asked to open another connection."""

RESETS, RESETS_A_SECOND = 200, 20.0
"""Requests that may be cancelled in one go, as a player does that seeks, and how many more in each second."""

EARLY_PRIORITIES = 32
"""Most requests whose priority is remembered before they come."""

RUN_BYTES = 64 * 1024
"""Most bytes of one stream that are sent before another stream has its turn."""

CHECK_SECONDS = 1.0
"""Pause between two checks of what clients have used up their time for."""


class MultiplexedConnection(abc.ABC):
    """A client's connection on which several requests are answered at once.

    Args:
        first: knows what all requests of the connection share, and counts it.

    Attributes:
        version: version of HTTP, such as "2".
        is_over: whether nothing more can be sent.
    """

    version: ClassVar[str]

    def __init__(self, first: HttpProtocol) -> None:
        self._first = first
        self.transport = first.transport
        self.loop = first.loop
        self.limits = first.limits
        self.fast_path = first.fast_path
        self.server_state = first.server_state
        self.tasks = first.tasks
        self._turns = first.turns
        self._connections = first.connections
        self._streams: dict[int, HttpStream] = {}
        self._sending: dict[int, HttpStream] = {}
        # A heap of those that may be able to send in this flush, so that each run costs little.
        self._ranked: list[tuple[Rank, int]] = []
        # Numbers of the last turn, of requests so far, and of the last request's stream.
        self._turn = self._requests = self._last = 0
        self._is_flush_due = False
        # Whether no new requests are answered; whether the connection is at its end.
        self._is_leaving = self.is_over = False
        self._idle_since = self.loop.time()
        self._resets = TokenBucket(RESETS, RESETS_A_SECOND)
        # Priorities of requests that haven't come yet.
        self._early: dict[int, Priority] = {}
        self._connections.add(self)

    @property
    def default_headers(self) -> Headers:
        """The header fields of every response."""
        return self._first.default_headers

    # Requests

    def _begin_request(
        self, number: int, headers: Iterable[tuple[bytes, bytes]], *, is_all: bool
    ) -> HttpStream:
        """Have a request answered.

        Args:
            is_all: whether it has no body.
        """
        fields = list(headers)
        head = read_request(fields, self.limits, self.version, is_all=is_all)
        priority = self._early.pop(number, None) or read_priority(value_of(fields, b"priority"))
        stream = HttpStream(number, priority)
        self._streams[number] = stream
        self._requests += 1
        if self._requests >= REQUESTS:
            self.retire()
        if isinstance(head, int):
            self._refuse(stream, head)
            return stream
        exchange = self._find(head)
        if exchange is not None:
            stream.is_request_over = True
            stream.answer = answer = HandlerAnswer(self, stream, exchange)
            exchange.begin(answer)
            return stream
        scope = self._first.scope_of(head, {STREAM: {}})
        application = ApplicationAnswer(
            self, stream, scope, expects_continue=head.expects_continue, is_socket=head.is_upgrade
        )
        stream.answer = application
        if is_all:
            stream.is_request_over = True
            application.end_body()
        begin = functools.partial(application.start, self._first.application_for(head, scope))
        self._turns.begin(self._turns.requests, begin)
        return stream

    def _reprioritize(self, number: int, value: bytes) -> None:
        """Change the priority of a request, which may not have come yet (RFC 9218 §7)."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.priority = read_priority(value)
        elif number > self._last and (number in self._early or len(self._early) < EARLY_PRIORITIES):
            self._early[number] = read_priority(value)

    def _find(self, head: RequestHead) -> HandlerExchange | None:
        """Have a handler handle a request; None if the application has to answer."""
        if (
            head.method not in ("GET", "HEAD")
            or head.has_body
            or head.is_upgrade
            or not self._first.has_handlers
        ):
            return None
        return self._handle_read(head, self._first.client_of(head.fields))

    def _handle_read(self, head: RequestHead, client: str) -> HandlerExchange | None:
        return self.fast_path.find_read(head, self.limits, client)

    def _refuse(self, stream: HttpStream, status: int) -> None:
        """Answer with an error."""
        self._refuse_silently(stream)
        text = refusal_text(status).encode()
        fields = (
            *self.fast_path.dated(self.default_headers),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
        )
        stream.body.add((text,))
        stream.body.is_complete = True
        self.send_head(stream, status, fields, is_all=False)

    def _refuse_silently(self, stream: HttpStream) -> None:
        """Have no handler answer a request: the connection itself sends a refusal."""
        stream.answer = StreamAnswer()
        stream.is_request_over = True

    def _feed(self, stream: HttpStream, data: bytes) -> None:
        """Pass on bytes of a request's body."""
        stream.unread += len(data)
        stream.answer.feed(data)

    def _end_request(self, number: int) -> None:
        """Note the end of a request's body."""
        stream = self._streams.get(number)
        if stream is not None and not stream.is_request_over:
            stream.is_request_over = True
            stream.answer.end_body()

    # Sending by answers; see `StreamConnection`

    def acknowledge(self, stream: HttpStream, count: int) -> None:
        """Let the client send as many bytes of the request's body more."""
        if count and not self.is_over:
            stream.unread -= count
            self._grow_window(stream.number, count)
            self._schedule()

    def send_head(self, stream: HttpStream, status: int, fields: Headers, *, is_all: bool) -> None:
        """Send the head of an answer, whose body follows unless it is all."""
        if self.is_over or stream.number not in self._streams:
            return
        self._write_head(stream.number, [(b":status", b"%d" % status), *fields], is_all=is_all)
        if is_all:
            self._finish(stream)
        elif stream.body or stream.body.is_complete:
            self._add_sending(stream)
        self._schedule()

    def has_stream(self, stream: HttpStream) -> bool:
        """Return whether an answer isn't over yet."""
        return stream.number in self._streams

    def send_body(self, stream: HttpStream) -> None:
        """Send what was added to the body of a stream."""
        if not self.is_over and stream.number in self._streams:
            self._add_sending(stream)
            self._schedule()

    def _add_sending(self, stream: HttpStream) -> None:
        if stream.number not in self._sending:
            self._sending[stream.number] = stream
            heapq.heappush(self._ranked, (stream.rank(), stream.number))

    def reset(self, stream: HttpStream, code: int) -> None:
        """End a stream at once."""
        if self._remove(stream.number) is not None and not self.is_over:
            self._write_reset(stream.number, code)
            self._release_window(stream)
            stream.answer.hang_up()
            self._schedule()

    def _on_reset(self, number: int) -> bool:
        """Note that the client doesn't want an answer any more; return False if it does so too often.

        CVE-2023-44487: requests that are cancelled at once cost their client nothing.
        """
        stream = self._remove(number)
        if stream is None:
            return True
        stream.answer.hang_up()
        self._release_window(stream)
        return not self._resets.acquire()

    def _remove(self, number: int) -> HttpStream | None:
        self._sending.pop(number, None)
        stream = self._streams.pop(number, None)
        if not self._streams:
            self._idle_since = self.loop.time()
        return stream

    def _release_window(self, stream: HttpStream) -> None:
        """Let other requests send in place of the bytes of a body that nobody reads any more."""
        if stream.unread and not self.is_over:
            count, stream.unread = stream.unread, 0
            self._grow_window(stream.number, count)

    # Sending by the wire

    def _schedule(self) -> None:
        """Have what waits sent, once all that is at hand has been added."""
        if not self._is_flush_due and not self.is_over:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)

    def _rank_all(self) -> None:
        """Rank all streams that have bytes to send, since windows and priorities may have changed."""
        self._ranked = [(stream.rank(), number) for number, stream in self._sending.items()]
        heapq.heapify(self._ranked)

    def _next(self) -> HttpStream | None:
        """Return the stream whose bytes are sent next; `_is_at_end` ranks it again."""
        while self._ranked:
            rank, number = heapq.heappop(self._ranked)
            stream = self._sending.get(number)
            if stream is None:
                continue
            if (now := stream.rank()) != rank:
                heapq.heappush(self._ranked, (now, number))
            elif not stream.body or self._room(stream) > 0:
                return stream
        return None

    def _read_body(self, stream: HttpStream, most: int) -> bytes | memoryview | None:
        """Read the next bytes of an answer's body; None if it had to be broken off."""
        body, count = stream.body, 0
        parts: list[bytes | memoryview] = []
        try:
            while body and count < most:
                data = body.read(most - count)
                count += len(data)
                parts.append(data)
        except (OSError, TruncatedFileError) as error:
            self._remove(stream.number)
            self._write_reset(stream.number, INTERNAL_ERROR)
            self._release_window(stream)
            stream.answer.on_end(error)
            return None
        self._turn += 1
        stream.turn = self._turn
        stream.sent += count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _is_at_end(self, stream: HttpStream) -> bool:
        """Return whether the body has come to its end; if not, ask for more once all of it is sent."""
        if stream.body:
            heapq.heappush(self._ranked, (stream.rank(), stream.number))
            return False
        self._sending.pop(stream.number, None)
        if not stream.body.is_complete:
            stream.answer.on_room()
            return False
        return True

    def _finish(self, stream: HttpStream) -> None:
        """Note that an answer was sent to its end."""
        self._remove(stream.number)
        self.server_state.total_requests += 1
        if not stream.is_request_over:
            # RFC 9113 §8.1, RFC 9114 §4.1: the client needn't send the rest of a request that is answered.
            self._write_stop(stream.number, NO_ERROR)
        self._release_window(stream)
        stream.answer.on_end(None)

    def _check_stream(self, stream: HttpStream, now: float, seconds: float) -> bool:
        """Return whether a client has allowed no byte of an answer for too long, or too few for very long.

        Args:
            seconds: since the check before.
        """
        if self._room(stream) > 0:
            stream.blocked_since = None
            return False
        if stream.blocked_since is None:
            stream.blocked_since = now
        is_stalled = now >= stream.blocked_since + self.limits.stalled_seconds
        return is_stalled or stream.rate.is_missed(seconds, stream.sent, self.limits)

    @property
    def _has_idled(self) -> bool:
        """Whether no request has come for too long."""
        limit = self._first.keep_alive_seconds if self._requests else self.limits.header_seconds
        return not self._streams and self.loop.time() >= self._idle_since + limit

    # The wire's own

    @abc.abstractmethod
    def _flush(self) -> None:
        """Send what waits, as far as the client and the network take it."""

    @abc.abstractmethod
    def _room(self, stream: HttpStream) -> int:
        """Return how many bytes of a stream's answer the client allows now."""

    @abc.abstractmethod
    def _write_head(self, number: int, fields: list[tuple[bytes, bytes]], *, is_all: bool) -> None:
        """Make the frame of an answer's head."""

    @abc.abstractmethod
    def _write_reset(self, number: int, code: int) -> None:
        """Make the frame that ends a stream at once."""

    @abc.abstractmethod
    def _write_stop(self, number: int, code: int) -> None:
        """Make the frame that asks for no more of a request's body."""

    @abc.abstractmethod
    def _grow_window(self, number: int, count: int) -> None:
        """Let the client send as many bytes more."""

    # The end

    @abc.abstractmethod
    def retire(self) -> None:
        """Answer no requests but those that have come, and close behind them: the server is about to end."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Close the connection, on which nothing is under way."""

    def close_idle(self, seconds: float, first_seconds: float) -> None:
        """Close the connection after `seconds` without a request, or `first_seconds` before the first."""
        limit = seconds if self._requests else first_seconds
        if not self.is_over and not self._streams and self.loop.time() >= self._idle_since + limit:
            self._close()

    def shutdown(self) -> None:
        """Close the connection, behind the answers that are being sent."""
        self.retire()

    def _hang_up_all(self) -> None:
        streams = list(self._streams.values())
        self._streams.clear()
        self._sending.clear()
        for stream in streams:
            stream.answer.hang_up()
