"""One HTTP/3 connection: its streams, in which order their bytes are sent, and how it ends (RFC 9114)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import structlog
from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events

from origin.http1.protocol import HttpProtocol
from origin.http3.alarm import Alarm
from origin.http3.engines import Http3Engine, QuicEngine
from origin.http3.idle_datagrams import ExcessTurns, IdleDatagrams
from origin.http_streams.connection import CHECK_SECONDS, RESETS, RUN_BYTES, MultiplexedConnection
from origin.http_streams.stream import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    HttpStream,
)

if TYPE_CHECKING:
    from aioquic.h3.events import H3Event
    from aioquic.quic.connection import NetworkAddress
    from aioquic.quic.events import QuicEvent

log = structlog.get_logger()

CODES = {
    NO_ERROR: ErrorCode.H3_NO_ERROR,
    INTERNAL_ERROR: ErrorCode.H3_INTERNAL_ERROR,
    REFUSED_STREAM: ErrorCode.H3_REQUEST_REJECTED,
    CANCEL: ErrorCode.H3_REQUEST_CANCELLED,
    ENHANCE_YOUR_CALM: ErrorCode.H3_EXCESSIVE_LOAD,
}
"""Error codes (RFC 9114 §8.1) of what HTTP/2 has others for."""

UNSENT_BYTES = 64 * 1024
"""Bytes of answers that wait for the network, behind which what is more urgent waits."""

BUFFERED_BYTES = 512 * 1024
"""Most bytes of answers in memory that the client hasn't confirmed."""

GATHER_SECONDS = 0.001
"""Time for which confirmations are gathered before more is sent."""

PING_SECONDS = 20.0
"""Time after which a client with requests under way is asked whether it is still there."""

Send = Callable[[list[tuple[bytes, "NetworkAddress"]]], bool]
"""Sends datagrams; returns whether there is room for more."""

CONFIRMED_BYTES = 600
"""Bytes of a longer answer for which a client may send one datagram, with which it confirms them."""

SUSPECT_SHARE = 0.1
"""Share of what others may do at once that is left to a client that has flooded lately."""

USEFUL_BYTES = 64
"""Least bytes of requests' bodies in a datagram that brings something."""


class Http3Connection(MultiplexedConnection):
    """A client's connection by QUIC.

    Args:
        first: the protocol that has counted the client.
        send: sends datagrams; it returns whether there is room for more.
        on_event: called with each event of QUIC about the connection itself.
    """

    version = "3"
    _excess: ClassVar[ExcessTurns] = ExcessTurns()

    def __init__(
        self,
        first: HttpProtocol,
        quic: QuicEngine,
        send: Send,
        on_event: Callable[[Http3Connection, QuicEvent], None],
    ) -> None:
        super().__init__(first)
        self._quic = quic
        self._send = send
        self._on_event = on_event
        # Made once the protocol is agreed on.
        self._h3: Http3Engine | None = None
        self._idle_datagrams = IdleDatagrams(self._excess)
        self._host = first.client_host or ""
        # Whether events wait for their turn.
        self._has_rest = False
        if self._turns.is_suspect(self._host):
            self._idle_datagrams.suspect(SUSPECT_SHARE)
            self._resets.add(-RESETS * (1 - SUSPECT_SHARE))
        # Bytes that came in the last datagram.
        self._brought = 0
        # Bytes of answers that wait for the network.
        self._unsent = 0
        self._began = self._pinged = self.loop.time()
        self._wake = Alarm(self.loop, self._on_time)
        self._timer = self.loop.call_later(CHECK_SECONDS, self._check)

    # Reading

    def receive_datagram(self, data: bytes, address: NetworkAddress) -> float:
        """Handle a datagram of the client.

        Returns:
            Until when the next ones are lost because the client has begun to flood, else 0.
        """
        now = self.loop.time()
        if self.is_over or self._idle_datagrams.loses(now):
            return 0.0
        self._brought, requests = 0, self._requests
        try:
            is_admitted = self._quic.admits_datagram(data, address, now)
            has_events = self._handle_events()
        except Exception as error:  # noqa: BLE001  # it concerns this client alone, and is logged
            self._break(error)
            return 0.0
        lost_until = 0.0
        if self._brought < USEFUL_BYTES and self._requests == requests and not self._has_rest:
            is_excess = self._idle_datagrams.count(now)
            if is_excess and self._idle_datagrams.is_flood:
                self._suspect()
                lost_until = self._idle_datagrams.lost_until
        if not is_admitted:
            self._end(ENHANCE_YOUR_CALM, "the client sends frames that carry nothing")
        elif self._sending and not has_events:
            # A confirmation: with the next ones, there is room for many packets at a time.
            self._wake.set_by(self.loop.time() + GATHER_SECONDS)
        else:
            self._schedule()
        return lost_until

    def _break(self, error: Exception) -> None:
        """End a connection on which the library has failed."""
        log.warning("an HTTP/3 connection has failed", client=self._first.client_host, reason=repr(error))
        self._end(INTERNAL_ERROR, "")

    def _handle_events(self) -> bool:
        """Handle what QUIC has read; return whether there was anything but confirmations."""
        has_events, self._has_rest = False, False
        while not self.is_over and (event := self._quic.next_event()) is not None:
            has_events = True
            self._on_event(self, event)
            if isinstance(event, events.StreamDataReceived):
                self._brought += len(event.data)
            if isinstance(event, events.ConnectionTerminated):
                self._lose()
            elif isinstance(event, events.ProtocolNegotiated):
                self._h3 = Http3Engine(self._quic, self.limits.header_bytes, self._reprioritize)
            elif self._h3 is not None:
                for found in self._h3.handle_event(event):
                    self._handle(found)
                if isinstance(event, events.StreamReset | events.StopSendingReceived):
                    self._on_cancel(event)
            if not self._turns.has_time():
                # A datagram may have dozens of requests.
                self._has_rest = True
                self._turns.append(self._handle_rest, self._host)
                break
        return has_events

    def _handle_rest(self) -> None:
        """Handle in this connection's turn what QUIC has read before."""
        if self.is_over:
            return
        try:
            self._handle_events()
        except Exception as error:  # noqa: BLE001  # it concerns this client alone, and is logged
            self._break(error)
            return
        self._schedule()

    def _handle(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if event.headers[:1] and event.headers[0][0].startswith(b":"):
                self._on_request(event)
            elif event.stream_ended:
                # Trailers; nobody reads them.
                self._end_request(event.stream_id)
        elif isinstance(event, DataReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None and event.data:
                self._quic.count_unread(event.stream_id, len(event.data))
                self._feed(stream, event.data)
            if event.stream_ended:
                self._end_request(event.stream_id)

    def _on_request(self, event: HeadersReceived) -> None:
        if self._is_leaving:
            self._write_reset(event.stream_id, REFUSED_STREAM)
            return
        self._last = max(self._last, event.stream_id)
        if self._quic.is_reset(event.stream_id):
            # The client has taken it back in the same datagram.
            if self._resets.acquire():
                self._end(ENHANCE_YOUR_CALM, "the client cancels its requests")
            return
        self._begin_request(event.stream_id, event.headers, is_all=event.stream_ended)

    def _on_cancel(self, event: events.StreamReset | events.StopSendingReceived) -> None:
        number = event.stream_id
        if number not in self._streams:
            return
        if isinstance(event, events.StreamReset):
            # The answer isn't wanted, either, unless it needs no more of the request (RFC 9114 §4.1.1).
            self._write_reset(number, CANCEL)
        if not self._on_reset(number):
            self._end(ENHANCE_YOUR_CALM, "the client cancels its requests")

    # Frames

    def _room(self, stream: HttpStream) -> int:
        return self._quic.room(stream.number, self._unsent)

    def _write_head(self, number: int, fields: list[tuple[bytes, bytes]], *, is_all: bool) -> None:
        if self._h3 is not None:
            self._h3.send_headers(number, fields, end_stream=is_all)

    def _write_reset(self, number: int, code: int) -> None:
        self._quic.reset_stream(number, CODES[code])
        self._write_stop(number, code)
        if self._h3 is not None:
            self._h3.forget_answer(number)

    def _write_stop(self, number: int, code: int) -> None:
        # The library knows a stream no more that has come to its end.
        with contextlib.suppress(ValueError):
            self._quic.stop_stream(number, CODES[code])

    def _grow_window(self, number: int, count: int) -> None:
        self._quic.count_unread(number, -count)

    # Sending

    def resume(self) -> None:
        """Send on: the network takes datagrams again."""
        self._schedule()

    def _flush(self) -> None:
        """Send what the client and the network take."""
        self._is_flush_due = False
        if self.is_over:
            return
        try:
            self._add_bodies()
            datagrams = self._quic.datagrams_to_send(self.loop.time())
        except Exception as error:  # noqa: BLE001  # it concerns this client alone, and is logged
            self._break(error)
            return
        has_room = not datagrams or self._send(datagrams)
        if self._is_leaving and not self._streams and self._quic.is_confirmed:
            self._end(NO_ERROR, "")
        elif datagrams and has_room and self._sending and not self._quic.is_paced:
            self._schedule()
        else:
            self._wake_in_time()

    def _add_bodies(self) -> None:
        """Add bytes of bodies to what QUIC has to send."""
        if not self._sending:
            return
        self._rank_all()
        self._unsent, unconfirmed = self._quic.waiting()
        room = min(UNSENT_BYTES - self._unsent, BUFFERED_BYTES - unconfirmed)
        while room > 0 and self._h3 is not None and (stream := self._next()) is not None:
            data = self._read_body(stream, min(RUN_BYTES, room, self._room(stream)))
            if data is None:
                continue
            is_at_end = self._is_at_end(stream)
            if data or is_at_end:
                self._h3.send_data(stream.number, bytes(data), end_stream=is_at_end)
            if is_at_end:
                self._finish(stream)
            # An event is confirmed by a datagram, however short it is; a window of some bytes earns none.
            self._idle_datagrams.allow(max(len(data) / CONFIRMED_BYTES, 0 if stream.body else 1))
            room -= len(data)
            self._unsent += len(data)

    def _wake_in_time(self) -> None:
        """Have the time looked at when QUIC next asks for it."""
        if not self.is_over and (due := self._quic.get_timer()) is not None:
            # A loop that rounds to milliseconds would look again and again before.
            self._wake.set_by(max(due, self.loop.time() + GATHER_SECONDS))

    def _on_time(self) -> None:
        # A wake that is too early sets the next one.
        if self.is_over:
            return
        try:
            self._quic.handle_timer(self.loop.time())
            self._handle_events()
        except Exception as error:  # noqa: BLE001  # it concerns this client alone, and is logged
            self._break(error)
            return
        self._schedule()

    def _check(self) -> None:
        """End what its client has used up its time for."""
        now = self.loop.time()
        self._timer = self.loop.call_at(math.ceil(now + CHECK_SECONDS / 2), self._check)
        for stream in list(self._sending.values()):
            if self._check_stream(stream, now, CHECK_SECONDS):
                self.reset(stream, CANCEL)
        if not self._quic.is_handshake_over:
            if now >= self._began + self.limits.header_seconds:
                self._end(NO_ERROR, "")
        elif self._has_idled:
            self._end(NO_ERROR, "")
        elif self._streams and now >= self._pinged + PING_SECONDS:
            self._pinged = now
            self._quic.send_ping(0)
            self._schedule()

    # The end

    def retire(self) -> None:
        """Answer no requests but those that have come, and close behind them: the server is about to end."""
        if not self._is_leaving and not self.is_over:
            self._is_leaving = True
            if self._h3 is not None:
                self._h3.send_goaway(self._last + 4 if self._requests else 0)
            self._schedule()

    def _close(self) -> None:
        # The client confirms the last bytes first.
        self.retire()

    def abort(self) -> None:
        """End the connection at once."""
        self._end(CANCEL, "")

    def _end(self, code: int, reason: str) -> None:
        """End the connection, and tell the client."""
        if self.is_over:
            return
        if reason:
            log.info("ended an HTTP/3 connection", client=self._first.client_host, reason=reason)
            self._suspect()
        # RFC 9000 §8.1: an address that isn't proved gets no more than three times the bytes it has sent.
        if self._quic.is_handshake_over:
            self._quic.close(error_code=CODES[code])
            # The library can fail here, too, where it has failed before.
            with contextlib.suppress(Exception):
                self._send(self._quic.datagrams_to_send(self.loop.time()))
        self._lose()

    def _suspect(self) -> None:
        """Allow little on the client's next connections, if its address is proved."""
        if self._quic.is_handshake_over:
            self._first.suspect()

    def _lose(self) -> None:
        """Forget the connection, which is over."""
        self.is_over = True
        self._timer.cancel()
        self._wake.cancel()
        self._connections.discard(self)
        self._hang_up_all()
        self._first.forget_client()
        self._on_event(self, events.ConnectionTerminated(ErrorCode.H3_NO_ERROR, None, ""))
