"""Receives what SRT publishers send in a thread of its own, and hands it to the event loop within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from origin.ingest.handshake_limit import HandshakeLimit
from origin.ingest.libsrt import MESSAGE_BYTES, OVERLOAD, HandshakeAnswer, Judge, Libsrt, Option, SrtError
from origin.ingest.limits import IngestLimits
from packager.sources.publication import LinkStatistics

LIBRARY_BYTES = 8 << 20
"""Buffer of each connection in libsrt; data beyond are lost."""

STATISTICS_SECONDS = 1.0
"""Pause between two reads of libsrt's statistics of a connection."""


GATHER_SECONDS = 0.01
"""Time between two rounds, in which packets gather: each round costs the event loop a step."""


class SrtConnection:
    """One publisher's connection, as the event loop sees it.

    Attributes:
        statistics: libsrt's counters of the connection; None before the first look.
        latency: seconds for which libsrt holds what has come.
        lost_at: when the connection broke, by the monotonic clock; None before.
    """

    def __init__(
        self, receiver: SrtReceiver, number: int, address: str, stream_id: bytes, latency: float = 0.0
    ) -> None:
        self._receiver = receiver
        self.number = number
        self.address = address
        self.stream_id = stream_id
        self.statistics: LinkStatistics | None = None
        self._chunks = deque[bytes]()
        self._arrived = asyncio.Event()
        self._has_ended = False
        # Each is written in one thread alone.
        self._given = 0
        self._taken = 0
        self.is_paused = False
        self.is_closing = False
        self.latency = latency
        self.lost_at: float | None = None

    async def read(self) -> bytes:
        """Wait for the next bytes; none at the end."""
        while not self._chunks:
            if self._has_ended:
                return b""
            self._arrived.clear()
            if not (self._chunks or self._has_ended):
                await self._arrived.wait()
        data = self._chunks.popleft()
        self._taken += len(data)
        if self.is_paused:
            self._receiver.attend(self)
        return data

    def close(self) -> None:
        """Disconnect the publisher."""
        self.is_closing = True
        self._receiver.attend(self)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the event loop hasn't read yet."""
        return self._given - self._taken

    def push(self, data: bytes) -> None:
        """Push a message; an empty one at the end. The thread calls this."""
        if data:
            self._chunks.append(data)
            self._given += len(data)
        else:
            self._has_ended = True
        self._receiver.call_in_loop(self._arrived.set)


class SrtReceiver:
    """Listens, accepts and reads; to be made in the event loop, and run in a thread.

    Args:
        judge: lets callers in; called in a thread of libsrt.
        on_connection: called in the event loop with each that was let in.
    """

    def __init__(
        self,
        library: Libsrt,
        judge: Judge,
        on_connection: Callable[[SrtConnection], None],
        limits: IngestLimits,
    ) -> None:
        self._library = library
        self._judge = judge
        self._handshakes = HandshakeLimit()
        self._on_connection = on_connection
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._wanted = deque[SrtConnection]()
        self._listeners: set[int] = set()
        self._udp = contextlib.ExitStack()
        self._connections: dict[int, SrtConnection] = {}
        self._epoll = -1
        self._counted_at = 0.0

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._connections) >= self._limits.srt_connections

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def attend(self, connection: SrtConnection) -> None:
        """Wake the thread for a connection that is to be closed, or of which more can be read."""
        self._wanted.append(connection)

    def call_in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Call something in the event loop, as long as there is one."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def run(self, addresses: Sequence[tuple[int, tuple[str, int]]], idle_seconds: float) -> None:
        """Receive until ``stop``; to be called in a thread.

        Args:
            addresses: family, host and port of each on which to listen.
            idle_seconds: a peer of which nothing is heard for so long is gone.

        Raises:
            SrtError: an address can't be listened on.
        """
        self._library.startup()
        try:
            self._epoll = self._library.create_epoll()
            try:
                self._listen(addresses, idle_seconds)
                while not self._stop.is_set():
                    self._take_turn()
            finally:
                for number in (*self._listeners, *self._connections):
                    self._library.close(number)
                self._library.release_epoll(self._epoll)
        finally:
            self._handshakes.guard(())
            self._library.cleanup()
            self._udp.close()
            for connection in self._connections.values():
                connection.push(b"")

    def _listen(self, addresses: Sequence[tuple[int, tuple[str, int]]], idle_seconds: float) -> None:
        options = {
            Option.RECEIVE_BLOCKING: 0,
            Option.RECEIVE_BYTES: LIBRARY_BYTES,
            Option.PEER_IDLE_MILLISECONDS: round(idle_seconds * 1000),
        }
        sockets = list[socket.socket]()
        for family, address in addresses:
            only = {Option.IPV6_ONLY: 1} if family == socket.AF_INET6 else {}
            listener = self._library.create_socket({**options, **only})
            self._listeners.add(listener)
            udp = self._udp.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if only:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                udp.bind(address)
            except OSError as error:
                raise SrtError(os.strerror(error.errno or 0)) from error
            sockets.append(udp)
            self._library.listen(listener, udp, self._limits.srt_backlog, self._judge_within_limits)
            self._library.watch(self._epoll, listener)
        self._handshakes.guard(sockets)

    def _judge_within_limits(self, address: str, stream_id: bytes) -> HandshakeAnswer:
        if not self._handshakes.acquire(address):
            return HandshakeAnswer(OVERLOAD)
        return self._judge(address, stream_id)

    def _take_turn(self) -> None:
        most = self._limits.srt_connections + len(self._listeners)
        for number in self._library.wait(self._epoll, most, self._limits.srt_wait_seconds):
            if number in self._listeners:
                self._accept(number)
            elif (connection := self._connections.get(number)) is not None:
                self._read(connection)
        for _ in range(len(self._wanted)):
            self._look_at(self._wanted.popleft())
        self._handshakes.lift()
        if time.monotonic() - self._counted_at >= STATISTICS_SECONDS:
            self._counted_at = time.monotonic()
            for connection in self._connections.values():
                self._count(connection)
        self._stop.wait(GATHER_SECONDS)

    def _accept(self, listener: int) -> None:
        try:
            number, address, stream_id = self._library.accept(listener)
        except SrtError:
            return  # the caller has gone already
        try:
            if self.is_full:
                raise SrtError("there are too many")
            latency = self._library.latency(number)
            connection = SrtConnection(self, number, address, stream_id, latency)
            self._library.watch(self._epoll, number)
        except SrtError:
            self._library.close(number)
            return
        self._connections[number] = connection
        self.call_in_loop(self._on_connection, connection)

    def _read(self, connection: SrtConnection) -> None:
        data = bytearray()
        message: bytes | None = b""
        while len(data) <= self._limits.srt_chunk_bytes - MESSAGE_BYTES:
            message = self._library.receive_message(connection.number)
            if message is None or len(message) == 0:
                break
            data += message
        if data:
            connection.push(bytes(data))
        if message is not None and len(message) == 0:
            self._lose(connection)
        elif connection.waiting_bytes >= self._limits.srt_waiting_bytes:
            self._library.ignore(self._epoll, connection.number)
            connection.is_paused = True
            # Else the event loop, which may have taken everything just before, would never ask for more.
            self.attend(connection)

    def _lose(self, connection: SrtConnection) -> None:
        """End a broken connection once libsrt has given out its last data, which wait for their time."""
        now = time.monotonic()
        if connection.lost_at is None:
            connection.lost_at = now
        if now - connection.lost_at < connection.latency:
            self.attend(connection)
            return
        self._end(connection)
        connection.push(b"")

    def _look_at(self, connection: SrtConnection) -> None:
        if connection.number not in self._connections:
            return
        if connection.is_closing:
            self._end(connection)
            connection.push(b"")
        elif connection.is_paused and connection.waiting_bytes < self._limits.srt_waiting_bytes:
            connection.is_paused = False
            with contextlib.suppress(SrtError):  # the connection has broken: the rest is read
                self._library.watch(self._epoll, connection.number)
            # libsrt tells nothing of one that broke before it is watched.
            self._read(connection)
        elif connection.lost_at is not None and not connection.is_paused:
            self._read(connection)

    def _count(self, connection: SrtConnection) -> None:
        with contextlib.suppress(SrtError):  # the connection has broken
            connection.statistics = self._library.statistics(connection.number)

    def _end(self, connection: SrtConnection) -> None:
        self._count(connection)
        del self._connections[connection.number]
        self._library.ignore(self._epoll, connection.number)
        self._library.close(connection.number)
