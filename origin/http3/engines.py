"""The library's QUIC and HTTP/3, with windows and bounds of our own (RFC 9000 §4, RFC 9114 §10.5).

The library opens a window for more bytes when bytes come, however many of them nobody has read. Here it is
opened for those that were read. The overridden methods are steps of the library that it doesn't document:
check them first when a new release of it misbehaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pylsqpack
from aioquic._buffer import Buffer, BufferReadError
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    FrameUnexpected,
    H3Connection,
    IdError,
    ProtocolError,
    encode_frame,
)
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicConnection, QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import pull_client_hello

from origin.http.token_bucket import TokenBucket
from origin.http3.session_tickets import SessionTickets
from origin.http3.stateless_reset import StatelessResets

if TYPE_CHECKING:
    from aioquic.h3.connection import H3Stream
    from aioquic.quic.connection import NetworkAddress
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.stream import QuicStream
    from aioquic.tls import SessionTicket

STREAMS, CONTROL_STREAMS = 128, 8
"""Most requests under way at once, and streams of a client for anything else; it needs three of these."""

STREAM_WINDOW, CONNECTION_WINDOW = 128 * 1024, 1024 * 1024
"""Bytes of a request's body that may come before the application has read them, and of all together."""

PIECES = 128
"""Most pieces of a stream that have come before what is in front of them; a whole window has 110 packets."""

SETTINGS_BYTES = 384
"""Longest SETTINGS frame, and longest PRIORITY_UPDATE frame that is read."""

REQUEST_UPDATE, PUSH_UPDATE = 0xF0700, 0xF0701
"""RFC 9218 §7.2: types of PRIORITY_UPDATE frames, for a request and for a pushed response."""

UPDATES, UPDATES_A_SECOND = 600, 50.0
"""PRIORITY_UPDATE frames that are accepted in one go, and how many more in each second."""

FRAMES, FRAMES_A_SECOND = 600, 50.0
"""Small frames beyond those of any datagram that are accepted in one go, and how many more in each second."""

FRAMES_OF_A_DATAGRAM, FRAME_BYTES = 8, 64
"""Frames that any datagram may have, and bytes of it for each further one."""

FIELD_SECTION_SIZE = 0x6
"""RFC 9114 §7.2.4.1: the setting that says how large a head may be."""


class QuicEngine(QuicConnection):
    """A server's side of a QUIC connection.

    Args:
        choose: returns the configuration with the certificate for a host name, which may be empty.
        tickets: of sessions that may be resumed.
        resets: makes the tokens of connection IDs.
    """

    def __init__(
        self,
        choose: Callable[[str], QuicConfiguration],
        tickets: SessionTickets,
        resets: StatelessResets,
        original_destination: bytes,
        retry_source: bytes | None,
    ) -> None:
        super().__init__(
            configuration=choose(""),
            original_destination_connection_id=original_destination,
            retry_source_connection_id=retry_source,
            session_ticket_fetcher=self._find_session,
            session_ticket_handler=self._keep_session,
        )
        self._choose = choose
        self._tickets = tickets
        self._resets = resets
        # The configuration with the certificate for the client's host name, once that is known.
        self._chosen: QuicConfiguration | None = None
        self._wants_early_data = False
        self._host_cids[0].stateless_reset_token = resets.token(self.host_cid)
        # Bytes that have come on each stream, and altogether, which the application hasn't read.
        self._unread: dict[int, int] = {}
        self._all_unread = 0
        self._handlers = _CountedHandlers(self._QuicConnection__frame_handlers)  # type: ignore[has-type]
        self._QuicConnection__frame_handlers = self._handlers
        self._small_frames = TokenBucket(FRAMES, FRAMES_A_SECOND)
        for limit, most in (
            (self._local_max_streams_bidi, STREAMS),
            (self._local_max_streams_uni, CONTROL_STREAMS),
        ):
            limit.value = limit.sent = most

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        handle_hello = self.tls._server_handle_hello

        def handle_hello_by_name(input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
            start = input_buf.tell()
            hello = pull_client_hello(input_buf)
            input_buf.seek(start)
            self._wants_early_data = hello.early_data
            configuration = self._chosen = self._choose(hello.server_name or "")
            self.tls.certificate = configuration.certificate
            self.tls.certificate_chain = configuration.certificate_chain
            self.tls.certificate_private_key = configuration.private_key
            handle_hello(input_buf, initial_buf, handshake_buf)

        for stream in self._crypto_streams.values():
            stream.receiver._ranges = _Pieces()
        self.tls._server_handle_hello = handle_hello_by_name  # type: ignore[method-assign]
        # Early data could be sent again by anybody (RFC 8446 §8): none is invited.
        self.tls._max_early_data = None

    def _keep_session(self, session: SessionTicket) -> None:
        self._tickets.keep(session, self._chosen)

    def _find_session(self, ticket: bytes) -> SessionTicket | None:
        # The library would accept early data with the session; without it they can't be read.
        return None if self._wants_early_data else self._tickets.find(ticket, self._chosen)

    def _replenish_connection_ids(self) -> None:
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for one in self._host_cids[known:]:
            one.stateless_reset_token = self._resets.token(one.cid)

    # Reading

    def admits_datagram(self, data: bytes, address: NetworkAddress, now: float) -> bool:
        """Handle a datagram; return False if too many have frames that carry next to nothing."""
        before = self._handlers.found
        self.receive_datagram(data, address, now)
        frames = self._handlers.found - before - FRAMES_OF_A_DATAGRAM - len(data) // FRAME_BYTES
        if frames <= 0:
            return True
        self._small_frames.add(1 - frames)
        return not self._small_frames.acquire()

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        is_known = stream_id in self._streams
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if not is_known:
            stream.receiver._ranges = _Pieces()
        return stream

    def count_unread(self, number: int, change: int) -> None:
        """Note that so many bytes of a stream more, or fewer, wait for the application."""
        self._all_unread += change
        self._unread[number] = self._unread.get(number, 0) + change
        if not self._unread[number]:
            del self._unread[number]

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: Any) -> None:
        del space
        data = self._local_max_data
        data.value = max(data.value, data.used + CONNECTION_WINDOW - self._all_unread)
        if data.value - data.sent >= CONNECTION_WINDOW // 4:
            self._write_limit(builder, data)
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            if limit.value - limit.sent > limit.sent - limit.used:
                self._write_limit(builder, limit)

    def _write_limit(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        handler: Callable[..., None] = self._on_connection_limit_delivery
        frame = builder.start_frame(limit.frame_type, capacity=9, handler=handler, handler_args=(limit,))
        frame.push_uint_var(limit.value)
        limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: Any, stream: QuicStream) -> None:
        del space
        known = stream.max_stream_data_local_sent
        number = stream.stream_id
        if number is None or not stream.max_stream_data_local or stream.receiver.is_finished:
            return
        allowed = stream.receiver.starting_offset() + STREAM_WINDOW - self._unread.get(number, 0)
        allowed = stream.max_stream_data_local = max(stream.max_stream_data_local, allowed)
        if allowed - known < STREAM_WINDOW // 4:
            return
        handler: Callable[..., None] = self._on_max_stream_data_delivery
        kind = QuicFrameType.MAX_STREAM_DATA
        frame = builder.start_frame(kind, capacity=17, handler=handler, handler_args=(stream,))
        frame.push_uint_var(number)
        frame.push_uint_var(allowed)
        stream.max_stream_data_local_sent = allowed

    # Sending

    def waiting(self) -> tuple[int, int]:
        """Return how many bytes of answers weren't sent yet, and how many the client hasn't confirmed."""
        unsent = unconfirmed = 0
        for stream in self._streams.values():
            sender = stream.sender
            unconfirmed += sender._buffer_stop - sender._buffer_start
            unsent += sender._buffer_stop - sender.highest_offset
        return unsent, unconfirmed

    @property
    def is_paced(self) -> bool:
        """Whether more is sent only after a while, so that the network isn't flooded (RFC 9002 §7.7)."""
        return self._pacing_at is not None

    def is_reset(self, number: int) -> bool:
        """Return whether nothing can be sent on a stream any more, because one side doesn't want it."""
        stream = self._streams.get(number)
        return stream is None or stream.sender._reset_error_code is not None

    @property
    def is_confirmed(self) -> bool:
        """Whether the client has confirmed all that was sent."""
        senders = (one.sender for one in self._streams.values())
        return all(one.is_finished or not (one._buffer or one._buffer_fin is not None) for one in senders)

    def room(self, number: int, unsent: int) -> int:
        """Return how many bytes of a stream the client allows beyond those that wait.

        Args:
            unsent: bytes of all streams that wait.
        """
        stream = self._streams.get(number)
        if stream is None:
            return 0
        own = stream.max_stream_data_remote - stream.sender._buffer_stop
        return min(own, self._remote_max_data - self._remote_max_data_used - unsent)

    @property
    def most_requests(self) -> int:
        """How many requests the client may have sent up to now, those that have ended included."""
        return self._local_max_streams_bidi.value

    @property
    def is_handshake_over(self) -> bool:
        """Whether the client has proved its address, and both sides have keys."""
        return self._handshake_complete


class _CountedHandlers(dict[int, Any]):
    """The library's handlers of frames, by type, each of which it looks up once for each frame.

    Attributes:
        found: how many were looked up.
    """

    found = 0

    def __getitem__(self, kind: int) -> Any:
        """Return the handler of a type of frames."""
        self.found += 1
        return super().__getitem__(kind)


class _Pieces(RangeSet):
    """Pieces of a stream that came ahead of their turn; the library looks at each when another one comes."""

    def add(self, start: int, stop: int | None = None) -> None:
        """Note a piece.

        Raises:
            QuicConnectionError: the client sends a stream in shreds.
        """
        super().add(start, stop)
        if len(self) > PIECES:
            raise QuicConnectionError(
                QuicErrorCode.INTERNAL_ERROR, QuicFrameType.PADDING, "a stream comes in too many pieces"
            )


class Http3Engine(H3Connection):
    """The frames of HTTP/3 on a connection.

    Args:
        header_bytes: most bytes of a request's head, compressed as they are.
        reprioritize: called with a stream and the value of its new priority.
    """

    def __init__(
        self, quic: QuicEngine, header_bytes: int, reprioritize: Callable[[int, bytes], None]
    ) -> None:
        self._header_bytes = header_bytes
        self._engine = quic
        self._reprioritize = reprioritize
        self._updates = TokenBucket(UPDATES, UPDATES_A_SECOND)
        super().__init__(quic)

    def _init_connection(self) -> None:
        # Without a table: one byte of a head could stand for each of its fields.
        self._max_table_capacity = self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        return super()._get_local_settings() | {FIELD_SECTION_SIZE: self._header_bytes}

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.HEADERS and (stream.frame_size or 0) > self._header_bytes:
            raise _ExcessiveLoadError("the head of a request is too long")
        if frame_type in (REQUEST_UPDATE, PUSH_UPDATE):
            raise FrameUnexpected("a priority is changed on a stream of a request")

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        control = self._stream[self._peer_control_stream_id or 0]
        is_kept = frame_type in (FrameType.SETTINGS, FrameType.MAX_PUSH_ID)
        if is_kept and (control.frame_size or 0) > SETTINGS_BYTES:
            raise _ExcessiveLoadError("the settings are too long")
        if frame_type == PUSH_UPDATE:
            raise IdError("nothing is pushed")
        if frame_type == REQUEST_UPDATE:
            if self._updates.acquire():
                raise _ExcessiveLoadError("the client changes priorities")
            if (control.frame_size or 0) <= SETTINGS_BYTES:
                control.frame_type = _PriorityUpdate(FrameType.MAX_PUSH_ID)

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        if not isinstance(frame_type, _PriorityUpdate):
            super()._handle_control_frame(frame_type, frame_data)
            return
        buffer = Buffer(data=frame_data)
        try:
            number = buffer.pull_uint_var()
        except BufferReadError:
            raise _FrameError("a priority is changed of no stream") from None
        if number % 4 or number // 4 >= self._engine.most_requests:
            raise IdError("a priority is changed of what is no request")
        self._reprioritize(number, frame_data[buffer.tell() :])

    def send_goaway(self, number: int) -> None:
        """Send the number of the first stream whose request isn't answered (RFC 9114 §5.2)."""
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(number))
        self._quic.send_stream_data(self._local_control_stream_id or 0, frame)

    def forget_answer(self, number: int) -> None:
        """Note that no more is sent on a stream, which was reset."""
        self._receive_stop_sending(number)


class _PriorityUpdate(int):
    """The type of a frame that the library keeps until it is complete, as it does with MAX_PUSH_ID.

    It skips the bytes of frames that it doesn't know.
    """


class _FrameError(ProtocolError):
    error_code = ErrorCode.H3_FRAME_ERROR


class _ExcessiveLoadError(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD
