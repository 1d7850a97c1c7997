"""One HTTP/2 connection: its streams, in which order their bytes are sent, and how it ends (RFC 9113).

The library h2 reads and writes the frames, but for two kinds. Those with the bytes of bodies are made here,
in runs of 64 KiB, because h2 copies each of them several times. And a request that comes again, whose reply
is short, needs no h2 at all (`known_requests`), which would take ten times as long for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from typing import Any, ClassVar

import structlog
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    UnknownFrameReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Reply
from origin.http1 import suspects
from origin.http1.handler_exchange import HandlerExchange, PreparedRequest
from origin.http1.protocol import HTTP2_PREFACE, HttpProtocol
from origin.http1.request_reader import RequestHead
from origin.http1.shared_turns import UNWATCHED_REQUESTS
from origin.http1.timeouts import SendProgress
from origin.http1.transport import unconfirmed_bytes
from origin.http2.frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    GOAWAY_BYTES,
    HEAD_BYTES,
    HEADERS,
    MOST_PAYLOAD,
    PRIORITY_UPDATE,
    RST_STREAM,
    UNKNOWN,
    FrameBudget,
    FrameHead,
    frame_head,
    frame_start,
    goaway_frame,
)
from origin.http2.header_block import BlockDecoder, StatelessEncoder
from origin.http2.known_requests import (
    END_HEADERS,
    END_STREAM,
    HeadBlocks,
    KnownRequests,
    body_bytes,
    whole_block,
    whole_body,
)
from origin.http_streams.connection import CHECK_SECONDS, REQUESTS, RUN_BYTES, MultiplexedConnection
from origin.http_streams.outgoing_body import OutgoingBody
from origin.http_streams.stream import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    HttpStream,
)

log = structlog.get_logger()

NO_RFC7540_PRIORITIES = 0x9
"""RFC 9218 §2.1: the setting that says that the tree of priorities of RFC 7540 isn't used."""

PREFACE = FrameHead(len(HTTP2_PREFACE) - HEAD_BYTES, UNKNOWN, 0, 0)
"""The head in whose place the client's preface stands, before the first frame."""

STREAMS = 128
"""Most requests under way at once: a page with live channels has dozens that wait for parts."""

STREAM_WINDOW, CONNECTION_WINDOW = 128 * 1024, 1024 * 1024
"""Bytes of a request's body that may come before the application has read them, and of all together."""

STEP_BYTES = 1024 * 1024
"""Most bytes that one connection sends before other connections get their turn."""

READ_SECONDS = 0.001
"""Time after which the frames of other connections are read."""

UNSENT_BYTES = 128 * 1024
"""Bytes that the kernel keeps unsent (TCP_NOTSENT_LOWAT), behind which what is more urgent waits."""

SUSPECT_SECONDS = 0.1
"""Time after which a suspect client's new connection is read from: it may open one after the other."""

IGNORED_SECONDS = 0.02
"""Pause between two reads of what a client at fault sends behind its connection's end."""

IGNORED_BYTES = 16 * 1024
"""Bytes behind the end of a connection's answers that show that its client is still reading these."""

EMPTY_FRAMES = "the client sends frames that carry nothing"
"""Reason for the end of a connection that has flooded."""

_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class _FrameEngine(H2Connection):
    """The library's connection, which remembers fewer streams that have ended."""

    MAX_CLOSED_STREAMS = 256


class Http2Connection(MultiplexedConnection, asyncio.Protocol):
    """A client's connection behind the preface of HTTP/2.

    Args:
        first: the protocol that has read the preface.
    """

    version = "2"
    head_blocks: ClassVar[HeadBlocks] = HeadBlocks()

    def __init__(self, first: HttpProtocol) -> None:
        super().__init__(first)
        self._h2 = _FrameEngine(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._h2.decoder = BlockDecoder()
        self._h2.encoder = StatelessEncoder()  # type: ignore[assignment]  # it has what h2 uses
        settings: dict[Any, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            NO_RFC7540_PRIORITIES: 1,
        }
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self._known = KnownRequests(self._h2.decoder)
        # Frames that aren't h2's and wait to be sent, how many bytes are in them, and whether the next frame
        # belongs to a header block.
        self._own_frames: list[bytes | memoryview] = []
        self._own_bytes = 0
        self._is_in_block = False
        # The exchange of a known request whose frame the library has to read all the same.
        self._prepared: HandlerExchange | None = None
        self._budget = FrameBudget(self.limits.header_bytes)
        # Bytes that aren't whole frames yet, and whether the preface is among them.
        self._unread = bytearray()
        self._is_preface = True
        self._is_read_due = self._is_blocked = self._has_client_left = False
        self._progress = SendProgress(self.transport)
        self._unread_since = self.loop.time()
        # Bytes that have come since the connection is at its end, and when a client at fault is cut off.
        self._ignored, self._cut_at = 0, math.inf
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)
        self._turns = first.request_turns
        self._suspects = first.suspects
        self._has_suspect = (first.client_host or "") in self._suspects
        if self._has_suspect:
            self._is_read_due = True
            first.flow.pause_reading()
            self.loop.call_later(SUSPECT_SECONDS, self._suspects.turns.append, self._read)
        if _NOTSENT_LOWAT is not None and (connection := self.transport.get_extra_info("socket")):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)
        self._schedule()

    # The transport's events

    def data_received(self, data: bytes) -> None:
        """Handle bytes from the client."""
        if self.is_over:
            self._ignore(len(data))
            return
        now, since = self.loop.time(), self._unread_since
        if not self._unread:
            self._unread_since = now
        self._unread += data
        if self._is_read_due:
            # libuv would read on before any frame is handled.
            self._first.flow.pause_reading()
        elif self._is_suspect():
            self._read_later()
        elif self._turns.asked < UNWATCHED_REQUESTS or self._turns.admits(now - since):
            before = self._requests
            self._read_until(now + READ_SECONDS)
            self._turns.asked += self._requests - before or 1
        else:
            # Very many others ask in this step of the loop.
            self._is_read_due = True
            self._turns.append(self._read)

    def eof_received(self) -> bool | None:
        """Note the end of the client's data: without it no window grows, so nobody waits for answers."""
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """End all streams: the connection is gone."""
        self.is_over = True
        self._timer.cancel()
        self._connections.discard(self)
        self._hang_up_all()
        self._unread.clear()
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
        """Read frames in this connection's turn."""
        self._is_read_due = False
        if self._is_suspect():
            # To answer a request takes longer than to read it.
            self._read_until(self.loop.time() + suspects.READ_SECONDS, self._requests + 1)
        else:
            self._read_until(self.loop.time() + READ_SECONDS)

    def _read_until(self, end: float, last_request: float = math.inf) -> None:
        """Read frames until there are no whole ones, or others have to have their turn.

        Args:
            last_request: number of the request behind which others have it.
        """
        while self._unread and not self.is_over and not self._is_blocked:
            head, frame = self._next_frame()
            if not frame:
                break
            try:
                if head.kind not in (HEADERS, CONTINUATION) or not self._is_answered(head, frame):
                    for event in self._h2.receive_data(frame):
                        self._handle(event)
            except H2Error as error:
                self._fail(str(error))
                return
            finally:
                if self._prepared is not None:
                    self._prepared.drop()
                    self._prepared = None
            self._unread_since = self.loop.time()
            if self._unread_since > end or self._requests >= last_request:
                break
        if self.is_over:
            return
        if self._is_blocked:
            self._first.flow.pause_reading()
        elif self._unread and self._whole_frame() is not None:
            self._read_later()
        else:
            self._first.flow.resume_reading()
        self._schedule()

    def _read_later(self) -> None:
        """Read frames once others have had their turn."""
        self._first.flow.pause_reading()
        self._is_read_due = True
        if self._budget.is_hasty:
            # Whether this connection is ended for it or its client begins another one.
            self._suspects.add(self._first.client_host or "")
        if self._is_suspect():
            self._suspects.turns.append(self._read)
        else:
            self._turns.append(self._read)

    def _suspect(self) -> None:
        """Suspect the client, on this connection and on those that it opens next."""
        self._suspects.add(self._first.client_host or "")
        self._has_suspect = True

    def _is_suspect(self) -> bool:
        """Return whether the client floods, or has flooded another connection lately."""
        return self._budget.is_hasty or (
            self._has_suspect and (self._first.client_host or "") in self._suspects
        )

    def _ignore(self, count: int) -> None:
        """Note bytes that have come behind the end; a client at fault gets others read only now and then."""
        self._ignored += count
        if self._cut_at < math.inf:
            self._first.flow.pause_reading()
            self._timer.cancel()
            due = min(self.loop.time() + IGNORED_SECONDS, self._cut_at)
            self._timer = self.loop.call_at(due, self._ignore_on)

    def _ignore_on(self) -> None:
        if self.loop.time() >= self._cut_at:
            self.transport.abort()
        else:
            self._timer = self.loop.call_at(self._cut_at, self.transport.abort)
            self._first.flow.resume_reading()

    def _whole_frame(self) -> FrameHead | None:
        """Return the head of the next frame if all of it has come; too long a frame ends the connection."""
        unread = self._unread
        if self._is_preface:
            return PREFACE if len(unread) >= len(HTTP2_PREFACE) else None
        if len(unread) < HEAD_BYTES or self.is_over:
            return None
        head = frame_head(unread, 0)
        if head.is_too_long:
            self._end(FRAME_SIZE_ERROR, "a frame is too long")
            return None
        return head if len(unread) >= HEAD_BYTES + head.length else None

    def _next_frame(self) -> tuple[FrameHead, bytes]:
        """Remove a whole frame from what has come, and return it; b"" if there is none that is accepted.

        h2 gets one at a time: it would forget the frames before an error in the same bytes.
        """
        head = self._whole_frame()
        if head is None:
            return PREFACE, b""
        if self._is_preface:
            self._is_preface = False
        elif not self._budget.admits(head):
            self._end(ENHANCE_YOUR_CALM, EMPTY_FRAMES)
            return head, b""
        elif head.kind == GOAWAY and not head.stream and head.length >= GOAWAY_BYTES:
            # RFC 9113 §6.8: requests before it are still answered; h2 would send nothing more.
            self._has_client_left = True
            self._unread[3] = UNKNOWN
        end = HEAD_BYTES + head.length
        frame = bytes(self._unread[:end])
        del self._unread[:end]
        return head, frame

    def _is_answered(self, head: FrameHead, frame: bytes) -> bool:
        """Answer a request that is known, if a handler has a short reply; return whether that was done.

        The library isn't needed for it: its stream is over when the next frame is read.
        """
        # Whatever this frame is: what is read next is the block that was looked for last, or none.
        known, number = self._known.find(b"" if self._is_in_block else whole_block(head, frame)), head.stream
        self._is_in_block = not head.flags & END_HEADERS
        if self._is_leaving or self._has_client_left:
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
        if not self._fits(reply, data):
            return False
        self._prepared = None
        self._early.pop(number, None)
        # RFC 9113 §5.1.1: the library takes the stream for one that is closed.
        self._h2.highest_inbound_stream_id = self._last = number
        self._requests += 1
        self.server_state.total_requests += 1
        exchange.send_at_once(reply, lambda reply: self._send_known(number, reply, data))
        if self._own_bytes >= UNSENT_BYTES:
            self._flush()
        if self._requests >= REQUESTS:
            self.retire()
        return True

    def _are_short(self) -> bool:
        """Return whether the answers that wait to be sent lie in memory, and the kernel takes all of them."""
        waiting = self._sending.values()
        left = UNSENT_BYTES - self._own_bytes - sum(one.body.buffered for one in waiting)
        return left >= 0 and not self._is_blocked and all(one.body.is_in_memory for one in waiting)

    def _similar(self) -> PreparedRequest | None:
        """Return the request of the frame that is read, if only its path differs from one that is known."""
        found = self._known.similar(self.limits.header_bytes)
        if found is None:
            return None
        prepared = self.fast_path.prepare_similar(*found, self.limits)
        if prepared is not None:
            self._known.keep(prepared)
        return prepared

    def _fits(self, reply: Reply, data: bytes | memoryview | None) -> bool:
        """Return whether all of a reply can be sent at once.

        Args:
            data: its body, where that lies in memory in one piece.
        """
        if data is not None:
            size: float = len(data)
        elif reply.stream is not None or (reply.source is not None and reply.source.descriptor() is None):
            return False
        else:
            size = body_bytes(reply.body)
        h2 = self._h2
        if size > RUN_BYTES or size > h2.outbound_flow_control_window:
            return False
        return size <= h2.remote_settings.initial_window_size

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
        """Send a reply that fits the windows, whose stream is over then; return how many bytes its body has.

        Args:
            data: its body, where that lies in memory in one piece.

        Raises:
            OSError, TruncatedFileError: its file can't be read; the stream was ended.
        """
        dated = self.fast_path.dated(self.default_headers)
        block = self.head_blocks.of(reply.head, dated, self.fast_path.headers)
        frames, sent = self._own_frames, 0
        if data is not None:
            sent = len(data)
            flags = END_HEADERS if sent else END_HEADERS | END_STREAM
            frames += frame_start(len(block), HEADERS, flags, number), block
            if sent:
                self._append_data(number, data, frames, END_STREAM)
            self._own_bytes += len(block) + sent
            self._idle_since = self.loop.time()
            return sent
        body = OutgoingBody()
        body.add_all(reply.body, reply.source)
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        frames += frame_start(len(block), HEADERS, flags, number), block
        try:
            while body:
                data = body.read(RUN_BYTES)
                sent += len(data)
                self._append_data(number, data, frames, END_STREAM * (not body))
        except (OSError, TruncatedFileError):
            frames += frame_start(4, RST_STREAM, 0, number), INTERNAL_ERROR.to_bytes(4)
            raise
        finally:
            self._own_bytes += len(block) + sent
            self._idle_since = self.loop.time()
        return sent

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
        while not self.is_over:
            frames: list[bytes | memoryview] = [self._h2.data_to_send(), *self._own_frames]
            self._own_frames.clear()
            self._own_bytes = size = 0
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
        if (self._is_leaving or self._has_client_left) and not self._streams and not self.is_over:
            self._finish_sending(self._h2.data_to_send())
            self._close_in_time((self._untaken(), 0))

    def _room(self, stream: HttpStream) -> int:
        own: int = self._h2.streams[stream.number].outbound_flow_control_window
        return min(own, self._h2.outbound_flow_control_window)

    def _write_head(self, number: int, fields: list[tuple[bytes, bytes]], *, is_all: bool) -> None:
        self._h2.send_headers(number, fields, end_stream=is_all)

    def _write_reset(self, number: int, code: int) -> None:
        self._h2.reset_stream(number, code)

    def _write_stop(self, number: int, code: int) -> None:
        self._h2.reset_stream(number, code)

    def _send_run(self, stream: HttpStream, frames: list[bytes | memoryview]) -> int:
        """Make frames of the next bytes of a stream, and return how many bytes these are."""
        data = self._read_body(stream, min(RUN_BYTES, self._room(stream)))
        if data is None:
            return 0
        if data:
            self._append_frames(stream, data, frames)
        if not self._is_at_end(stream):
            return len(data)
        if stream.trailers:
            self._h2.send_headers(stream.number, stream.trailers, end_stream=True)
        else:
            self._h2.end_stream(stream.number)
        self._finish(stream)
        frames.append(self._h2.data_to_send())
        return len(data) + HEAD_BYTES

    def _append_frames(
        self, stream: HttpStream, data: bytes | memoryview, frames: list[bytes | memoryview]
    ) -> None:
        """Append DATA frames with some bytes, and take these off the client's windows."""
        self._append_data(stream.number, data, frames)
        self._h2.streams[stream.number].outbound_flow_control_window -= len(data)

    def _append_data(
        self, number: int, data: bytes | memoryview, frames: list[bytes | memoryview], flags: int = 0
    ) -> None:
        """Append DATA frames with some bytes, of which the last one has the flags."""
        count, start = len(data), 0
        if count > MOST_PAYLOAD:
            data = memoryview(data)
            for start in range(0, count - MOST_PAYLOAD, MOST_PAYLOAD):
                frames += frame_start(MOST_PAYLOAD, DATA, 0, number), data[start : start + MOST_PAYLOAD]
            start += MOST_PAYLOAD
        frames += frame_start(count - start, DATA, flags, number), data[start:]
        self._h2.outbound_flow_control_window -= count
        self._budget.sent(-(-count // MOST_PAYLOAD))

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
        elif self._is_head_due() and now >= self._unread_since + limits.header_seconds:
            self._end(ENHANCE_YOUR_CALM, "a frame doesn't come to its end")

    def _is_head_due(self) -> bool:
        """Return whether an incomplete frame isn't bytes of a body, which have times of their own."""
        unread = self._unread
        return bool(unread) and not (len(unread) >= HEAD_BYTES and frame_head(unread, 0).kind == DATA)

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
        self._linger(self._h2.data_to_send())

    def _end(self, code: int, reason: str) -> None:
        """End the connection."""
        if self.is_over:
            return
        if reason:
            log.info("ended an HTTP/2 connection", client=self._first.client_host, reason=reason)
            self._suspect()
        self._linger(self._h2.data_to_send() + goaway_frame(self._last, code))

    def _linger(self, last: bytes) -> None:
        """Send the last bytes, and close once the client can have read them."""
        self._finish_sending(last)
        self._cut_at = self.loop.time() + self.limits.linger_seconds
        self._timer = self.loop.call_at(self._cut_at, self.transport.abort)

    def _finish_sending(self, last: bytes) -> None:
        """Send the last bytes, and read on.

        Closing with unread bytes, such as those that open windows, would make the kernel reset the
        connection: the client would lose what it hasn't read yet. Most clients close by themselves.
        """
        self.transport.write(last)
        self.is_over = True
        self._unread.clear()
        self._hang_up_all()
        self._timer.cancel()
        self._first.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close_in_time(self, before: tuple[int, int]) -> None:
        """Close once the client has neither taken nor sent anything for some time; so much it had before."""
        seconds = self.limits.stalled_seconds if before[0] else self.limits.linger_seconds
        self._timer = self.loop.call_later(seconds, self._close_if_done, before)

    def _close_if_done(self, before: tuple[int, int]) -> None:
        now = self._untaken(), min(self._ignored, IGNORED_BYTES)
        if now == before:
            self.transport.abort()
        else:
            self._close_in_time(now)

    def _untaken(self) -> int:
        """Return how many bytes the client's system hasn't confirmed."""
        return self.transport.get_write_buffer_size() + unconfirmed_bytes(self.transport)

    def _close(self) -> None:
        self.is_over = True
        self.transport.write(self._h2.data_to_send())
        self.transport.close()
