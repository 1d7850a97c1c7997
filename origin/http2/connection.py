"""One HTTP/2 connection: its streams, in which order their bytes are sent, and how it ends (RFC 9113).

The library h2 reads and writes the frames, but for two kinds. Those with the bytes of bodies are made without
it (`outgoing_frames`). And a request that comes again, whose reply is short, needs no h2 at all
(`known_requests`), which would take ten times as long for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from typing import Any

import structlog
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    UnknownFrameReceived,
)
from h2.exceptions import H2Error

from origin.answers.reply import Reply
from origin.http1.connection_end import ConnectionEnd
from origin.http1.handler_exchange import HandlerExchange, PreparedRequest
from origin.http1.protocol import HttpProtocol
from origin.http1.request_reader import RequestHead
from origin.http1.timeouts import SendProgress
from origin.http2.engine import FrameEngine
from origin.http2.frames import (
    CONTINUATION,
    EMPTY_FRAMES,
    HEAD_BYTES,
    HEADERS,
    PRIORITY_UPDATE,
    FrameHead,
    IncomingFrames,
    RefusedFrameError,
    goaway_frame,
)
from origin.http2.known_requests import END_HEADERS, KnownRequests, whole_block, whole_body
from origin.http2.outgoing_frames import Frames, OutgoingFrames
from origin.http_streams.connection import CHECK_SECONDS, REQUESTS, RUN_BYTES, MultiplexedConnection
from origin.http_streams.stream import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    REFUSED_STREAM,
    HttpStream,
)

log = structlog.get_logger()

STEP_BYTES = 1024 * 1024
"""Most bytes that one connection sends before other connections get their turn."""

UNSENT_BYTES = 128 * 1024
"""Bytes that the kernel keeps unsent (TCP_NOTSENT_LOWAT), behind which what is more urgent waits."""

SUSPECT_SECONDS = 0.1
"""Time after which a suspect client's new connection is read from: it may open one after the other."""

_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Http2Connection(MultiplexedConnection, asyncio.Protocol):
    """A client's connection behind the preface of HTTP/2.

    Args:
        first: the protocol that has read the preface.
    """

    version = "2"

    def __init__(self, first: HttpProtocol) -> None:
        super().__init__(first)
        self._h2 = FrameEngine(self.limits.header_bytes)
        self._known = KnownRequests(self._h2.decoder)
        self._frames = IncomingFrames(self.limits.header_bytes)
        self._budget = self._frames.budget
        self._out = OutgoingFrames(self._h2, self._budget)
        # Whether the next frame belongs to a header block.
        self._is_in_block = False
        # The exchange of a known request whose frame the library has to read all the same.
        self._prepared: HandlerExchange | None = None
        self._is_read_due = self._is_blocked = False
        self._progress = SendProgress(self.transport)
        self._unread_since = self.loop.time()
        self._ending: ConnectionEnd | None = None
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)
        self._host = first.client_host or ""
        # Until when others have their turn before this connection, which has waited for one.
        self._busy_until = self._turns.busy_until(self._host)
        self._has_suspect = self._turns.is_suspect(self._host)
        if self._has_suspect:
            self._is_read_due = True
            first.flow.pause_reading()
            self.loop.call_later(SUSPECT_SECONDS, self._read_later)
        if _NOTSENT_LOWAT is not None and (connection := self.transport.get_extra_info("socket")):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)
        self._schedule()

    # The transport's events

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        if self.is_over:
            if self._ending is not None:
                self._ending.ignore(len(data))
            return
        now, since = self.loop.time(), self._unread_since
        if not self._frames.unread:
            self._unread_since = now
        self._frames.unread += data
        if self._is_read_due:
            # libuv would read on before any frame is handled.
            self._first.flow.pause_reading()
        elif self._is_suspect():
            self._read_later()
        elif self._turns.asked < self._turns.unwatched or self._turns.admits(
            now - since, self._host, self._busy_until
        ):
            before = self._requests
            self._read()
            self._turns.asked += self._requests - before or 1
        else:
            # Very many others ask in this step of the loop.
            self._is_read_due = True
            self._turns.defer(self._read, self._host)

    def eof_received(self) -> bool | None:
        """Note the end of the client's data: without it no window grows, so nobody waits for answers."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """End all streams: the connection is gone."""
        self.is_over = True
        self._timer.cancel()
        if self._ending is not None:
            self._ending.cancel()
        self._connections.discard(self)
        self._hang_up_all()
        self._frames.unread.clear()
        if exc is None:
            self.transport.close()
        self._first.forget_client()

    def pause_writing(self) -> None:
        """Send and read nothing more: the transport's buffer is full."""
        self._is_blocked = True
        if not self.is_over:
            self._first.flow.pause_reading()

    def resume_writing(self) -> None:
        """Send and read on."""
        self._is_blocked = False
        if not self.is_over:
            if not self._is_read_due:
                self._read()
            self._schedule()

    # Reading

    def _read(self) -> None:
        """Read frames until there are no whole ones, or others have to have their turn."""
        self._is_read_due = False
        frames = self._frames
        while frames.unread and not self.is_over and not self._is_blocked:
            try:
                if (found := frames.read()) is None:
                    break
                head, frame = found
                if head.kind not in (HEADERS, CONTINUATION) or not self._is_answered(head, frame):
                    for event in self._h2.receive_data(frame):
                        self._handle(event)
            except RefusedFrameError as error:
                self._end(error.code, str(error))
                return
            except H2Error as error:
                self._fail(str(error))
                return
            finally:
                if self._prepared is not None:
                    self._prepared.drop()
                    self._prepared = None
            self._unread_since = self.loop.time()
            if frames.unread and not self._turns.has_time():
                break
        if self.is_over:
            return
        if self._is_blocked:
            self._first.flow.pause_reading()
        elif frames.unread and frames.has_next:
            self._read_later()
        else:
            self._first.flow.resume_reading()
        self._schedule()

    def _read_later(self) -> None:
        """Read frames once others have had their turn."""
        if self.is_over:
            return
        self._first.flow.pause_reading()
        self._is_read_due = True
        if self._budget.is_hasty:
            # Whether this connection is ended for it or its client begins another one.
            self._first.suspect()
        self._busy_until = self._turns.append(self._read, self._host, is_suspect=self._is_suspect())

    def _suspect(self) -> None:
        """Suspect the client, on this connection and on those that it opens next."""
        self._first.suspect()
        self._has_suspect = True

    def _is_suspect(self) -> bool:
        """Return whether the client floods, or has flooded another connection lately."""
        return self._budget.is_hasty or (self._has_suspect and self._turns.is_suspect(self._host))

    def _is_answered(self, head: FrameHead, frame: bytes) -> bool:
        """Answer a request that is known, if a handler has a short reply; return whether that was done.

        The library isn't needed for it: its stream is over when the next frame is read.
        """
        # Whatever this frame is: what is read next is the block that was looked for last, or none.
        known, number = self._known.find(b"" if self._is_in_block else whole_block(head, frame)), head.stream
        self._is_in_block = not head.flags & END_HEADERS
        if self._is_leaving or self._frames.has_client_left:
            return False
        if known is None and (known := self._similar()) is None:
            return False
        if self._sending and self._are_short():
            # The first requests of a connection, which h2 had to read: a player sends many at once.
            self._flush()
        if self._sending or self.is_over:
            return False
        if not number & 1 or number <= self._h2.highest_inbound_stream_id:
            return False
        exchange = self._prepared = self.fast_path.handle(known)
        reply = None if exchange is None else exchange.outcome
        if exchange is None or not isinstance(reply, Reply):
            return False
        data = whole_body(reply)
        if not self._out.fits(reply, data):
            return False
        self._prepared = None
        self._early.pop(number, None)
        # RFC 9113 §5.1.1: the library takes the stream for one that is closed.
        self._h2.highest_inbound_stream_id = self._last = number
        self._requests += 1
        self.server_state.total_requests += 1
        exchange.send_at_once(reply, lambda reply: self._send_known(number, reply, data))
        if self._out.nbytes >= UNSENT_BYTES:
            self._flush()
        if self._requests >= REQUESTS:
            self.retire()
        return True

    def _are_short(self) -> bool:
        """Return whether the answers that wait to be sent lie in memory, and the kernel takes all of them."""
        left = UNSENT_BYTES - self._out.nbytes
        for stream in self._sending.values():
            left -= stream.body.buffered
            if left < 0 or not stream.body.is_in_memory:
                return False
        return left >= 0 and not self._is_blocked

    def _similar(self) -> PreparedRequest | None:
        """Return the request of the frame that is read, if only its path differs from one that is known."""
        found = self._known.similar(self.limits.header_bytes)
        if found is None:
            return None
        prepared = self.fast_path.prepare_similar(*found, self.limits)
        if prepared is not None:
            self._known.keep(prepared)
        return prepared

    def _handle_read(self, head: RequestHead, client: str) -> HandlerExchange | None:
        exchange, self._prepared = self._prepared, None
        if exchange is not None:
            return exchange
        prepared = self.fast_path.prepare(head, self.limits, client)
        if prepared is None:
            return None
        self._known.keep(prepared, head)
        return self.fast_path.handle(prepared)

    def _send_known(self, number: int, reply: Reply, data: bytes | memoryview | None) -> int:
        """Send a reply that fits the windows, whose stream is over then; see `OutgoingFrames.add_reply`."""
        try:
            dated = self.fast_path.dated(self.default_headers)
            return self._out.add_reply(number, reply, data, (dated, self.fast_path.headers))
        finally:
            self._idle_since = self.loop.time()

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._on_request(event)
        elif isinstance(event, DataReceived):
            self._on_data(event)
        elif isinstance(event, StreamEnded):
            self._end_request(event.stream_id)
        elif isinstance(event, StreamReset):
            if not self._on_reset(event.stream_id):
                self._end(ENHANCE_YOUR_CALM, "the client cancels its requests")
        elif isinstance(event, UnknownFrameReceived):
            self._on_unknown(event.frame)

    def _on_request(self, event: RequestReceived) -> None:
        self._last = event.stream_id
        if self._is_leaving:
            self._h2.reset_stream(event.stream_id, REFUSED_STREAM)
        else:
            self._begin_request(event.stream_id, event.headers, is_all=event.stream_ended is not None)

    def _on_data(self, event: DataReceived) -> None:
        data, unused = event.data, event.flow_controlled_length
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._feed(stream, data)
            unused -= len(data)
        if unused:
            # Padding is nobody's, nor is a body behind its answer's end.
            self._h2.acknowledge_received_data(unused, event.stream_id)

    def _on_unknown(self, frame: Any) -> None:
        if frame.type == PRIORITY_UPDATE and len(frame.body) >= 4:
            self._reprioritize(int.from_bytes(frame.body[:4]) & 0x7FFF_FFFF, frame.body[4:])

    def _grow_window(self, number: int, count: int) -> None:
        self._h2.acknowledge_received_data(count, number)

    # Sending

    def _flush(self) -> None:
        """Send what h2 has made, and bytes of bodies as far as the client and the socket take them."""
        self._is_flush_due = False
        if self.is_over:
            return
        left = STEP_BYTES
        self._rank_all()
        while not self.is_over:
            frames, size = self._out.collect(), 0
            while size < RUN_BYTES and not self._is_blocked and (stream := self._next()) is not None:
                size += self._send_run(stream, frames)
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            if data:
                self.transport.write(data)
            left -= size
            if not size or self._is_blocked:
                break
            if left <= 0:
                self._schedule()
                break
        if (self._is_leaving or self._frames.has_client_left) and not self._streams and not self.is_over:
            self._finish_sending(self._h2.data_to_send()).close_in_time()

    def _room(self, stream: HttpStream) -> int:
        own: int = self._h2.streams[stream.number].outbound_flow_control_window
        return min(own, self._h2.outbound_flow_control_window)

    def _write_head(self, number: int, fields: list[tuple[bytes, bytes]], *, is_all: bool) -> None:
        self._h2.send_headers(number, fields, end_stream=is_all)

    def _write_reset(self, number: int, code: int) -> None:
        self._h2.reset_stream(number, code)

    def _write_stop(self, number: int, code: int) -> None:
        self._h2.reset_stream(number, code)

    def _send_run(self, stream: HttpStream, frames: Frames) -> int:
        """Make frames of the next bytes of a stream, and return how many bytes these are."""
        data = self._read_body(stream, min(RUN_BYTES, self._room(stream)))
        if data is None:
            return 0
        if data:
            self._out.add_data(stream.number, data, frames)
            self._h2.streams[stream.number].outbound_flow_control_window -= len(data)
        if not self._is_at_end(stream):
            return len(data)
        if stream.trailers:
            self._h2.send_headers(stream.number, stream.trailers, end_stream=True)
        else:
            self._h2.end_stream(stream.number)
        self._finish(stream)
        frames.append(self._h2.data_to_send())
        return len(data) + HEAD_BYTES

    # Time

    def _check(self) -> None:
        """End what its client has used up its time for."""
        now, limits = self.loop.time(), self.limits
        # Connections are checked together, so that they wake the loop once.
        self._timer = self.loop.call_at(math.ceil(now + CHECK_SECONDS / 2), self._check)
        if self._progress.seconds_without(now, None) >= limits.stalled_seconds:
            log.info("dropped a client that takes nothing", client=self._first.client_host)
            self.transport.abort()
            return
        for stream in list(self._sending.values()):
            if self._check_stream(stream, now, CHECK_SECONDS):
                self.reset(stream, CANCEL)
        if self._has_idled and self._budget.is_hasty:
            # Its frames are read so slowly that it can't have come to the end of its budget.
            self._end(ENHANCE_YOUR_CALM, EMPTY_FRAMES)
        elif self._has_idled:
            self._end(NO_ERROR, "")
        elif self._frames.awaits_head and now >= self._unread_since + limits.header_seconds:
            self._end(ENHANCE_YOUR_CALM, "a frame doesn't come to its end")

    # The end

    def retire(self) -> None:
        """Answer no requests but those that have come, and close behind them: the server is about to end."""
        if not self._is_leaving and not self.is_over:
            self._is_leaving = True
            # RFC 9113 §6.8: what comes later may be sent again elsewhere.
            frame = goaway_frame(self._last, NO_ERROR)
            self.transport.write(self._h2.data_to_send() + frame)
            self._schedule()

    def _fail(self, reason: str) -> None:
        """End the connection of a client that breaks the protocol; h2 has made the frame that says so."""
        log.debug("a client breaks the rules of HTTP/2", client=self._first.client_host, reason=reason)
        self._suspect()
        self._finish_sending(self._h2.data_to_send()).cut_off()

    def _end(self, code: int, reason: str) -> None:
        """End the connection."""
        if self.is_over:
            return
        if reason:
            log.info("ended an HTTP/2 connection", client=self._first.client_host, reason=reason)
            self._suspect()
        self._finish_sending(self._h2.data_to_send() + goaway_frame(self._last, code)).cut_off()

    def _finish_sending(self, last: bytes) -> ConnectionEnd:
        """Send the last bytes, and answer nothing more."""
        self.is_over = True
        self._frames.unread.clear()
        self._hang_up_all()
        self._timer.cancel()
        self._ending = ConnectionEnd(self.loop, self.limits, self.transport, self._first.flow, last)
        return self._ending

    def _close(self) -> None:
        self.is_over = True
        self.transport.write(self._h2.data_to_send())
        self.transport.close()
