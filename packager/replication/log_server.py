"""Sends logs to the processes that follow them, each over a connection of its own.

A new follower gets a snapshot of each log and then every entry; so does a follower that was disconnected
because it didn't read. Each entry is encoded once, however many followers there are.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, TypeVar, cast

import structlog

from media.errors import MalformedError
from packager.replication.frames import LogFrameReader, write_frame, write_gone
from packager.replication.limits import MAX_FRAME_BYTES, ReplicationLimits

log = structlog.get_logger()


EntryT = TypeVar("EntryT")

STEP_SECONDS = 0.003
"""Seconds for which a snapshot is written before the loop does something else."""


class ServedLog(Protocol[EntryT]):
    """A log as the process that makes it sends it."""

    @property
    def name(self) -> str:
        """Its kind and the channel's name, such as ``live/demo``."""

    def snapshot(self) -> Iterator[EntryT]:
        """Return the entries from which another process rebuilds the state of the log."""

    def encode(self, entry: EntryT) -> bytes:
        """Write an entry."""

    def begins_anew(self, entry: EntryT) -> bool:
        """Return whether a snapshot is to be sent in the place of an entry."""

    def take_report(self, follower: Hashable, message: bytes) -> None:
        """Note a follower's report of its clients.

        Raises:
            MalformedError: the report can't be read.
        """

    def forget(self, follower: Hashable) -> None:
        """Forget the reports of a follower that is gone."""


class _LogPosition:
    """A log that is sent, and how many entries it has had."""

    __slots__ = ("_server", "log", "name", "number")

    def __init__(self, server: LogServer, log: ServedLog[Any]) -> None:
        self._server = server
        self.log = log
        self.name = log.name
        self.number = 0

    def append(self, entry: object) -> None:
        """Send an entry to all who follow."""
        self._server.append(self, entry)


class LogServer:
    """Sends logs to those who follow them."""

    def __init__(self, limits: ReplicationLimits) -> None:
        self._limits = limits
        self._logs: dict[str, _LogPosition] = {}
        self._connections: set[_FollowerConnection] = set()

    def serve(self, log: ServedLog[EntryT]) -> Callable[[EntryT], None]:
        """Send a log to all followers, in the place of an earlier one of the same name.

        Returns:
            A function to call with each entry from now on.
        """
        served = _LogPosition(self, log)
        self._logs[served.name] = served
        self._begin_anew(served)
        return served.append

    def withdraw(self, name: str) -> None:
        """Send a log no more: there is none with this name now."""
        if self._logs.pop(name, None) is not None:
            for connection in tuple(self._connections):
                connection.forget(name)

    async def connect(self, sock: socket.socket) -> None:
        """Send all logs over a connected socket of two, which is owned from now on, until it is closed."""
        connection = _FollowerConnection(self._logs, self._connections.discard, self._limits)
        self._connections.add(connection)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=sock)
        except OSError:
            self._connections.discard(connection)
            sock.close()
            raise

    def close(self) -> None:
        """Disconnect all who follow."""
        for connection in tuple(self._connections):
            connection.close()

    def append(self, served: _LogPosition, entry: object) -> None:
        """Send an entry of a log to all who follow it."""
        if self._logs.get(served.name) is not served:
            return  # another one has its place
        served.number += 1
        if served.log.begins_anew(entry):
            self._begin_anew(served)
            return
        followers = [connection for connection in self._connections if connection.follows(served)]
        if not followers:
            return
        try:
            frame = write_frame(served.name, served.number, served.log.encode(entry))
        except Exception:  # the publisher goes on; followers find the hole, and begin anew
            log.exception(
                "an entry of a log can't be sent to its followers",
                log=served.name,
                kind=type(entry).__name__,
            )
            return
        for connection in followers:
            connection.send(served, frame)

    def _begin_anew(self, served: _LogPosition) -> None:
        for connection in tuple(self._connections):
            connection.begin(served)


class _FollowerConnection(asyncio.Protocol):
    """The connection to a process that follows logs: first a snapshot of each, then its entries."""

    def __init__(
        self,
        logs: dict[str, _LogPosition],
        on_lost: Callable[[_FollowerConnection], None],
        limits: ReplicationLimits,
    ) -> None:
        self._logs = logs
        self._on_lost = on_lost
        self._limits = limits
        self._reader = LogFrameReader(MAX_FRAME_BYTES)
        self._transport: asyncio.WriteTransport | None = None
        self._is_paused = False
        self._pump: asyncio.Handle | None = None
        # Logs whose snapshot is sent, logs that wait for theirs, and the log whose snapshot is being sent.
        self._complete: set[_LogPosition] = set()
        self._coming = deque(logs.values())
        self._current: _LogPosition | None = None
        self._snapshot: Iterator[object] = iter(())
        self._number = 0
        # Frames that are to follow the snapshot that is being sent.
        self._behind: deque[bytes] = deque()
        self._behind_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to send the snapshots."""
        # uvloop's isn't an instance of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.buffered_bytes)
        self._schedule()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the follower and its reports."""
        del exc
        self._transport = None
        for served in self._logs.values():
            served.log.forget(self)
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Make no more of a snapshot than is read."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Continue to send the snapshot."""
        self._is_paused = False
        self._schedule()

    def data_received(self, data: bytes) -> None:
        """Read the follower's reports."""
        self._reader.receive_data(data)
        try:
            for frame in self._reader.frames():
                if (served := self._logs.get(frame.log)) is not None:
                    served.log.take_report(self, frame.message)
        except MalformedError as error:
            log.error("a report of a follower of logs can't be read", reason=str(error))
            self.close()

    def follows(self, served: _LogPosition) -> bool:
        """Return whether a log's next entry is to be sent."""
        return served in self._complete or served is self._current

    def send(self, served: _LogPosition, frame: bytes) -> None:
        """Send an entry, behind the snapshot where that is on its way."""
        if self._transport is None:
            return
        if served is self._current:
            self._behind.append(frame)
            self._behind_bytes += len(frame)
        else:
            self._transport.write(frame)
        waiting = self._transport.get_write_buffer_size() + self._behind_bytes
        if waiting > self._limits.waiting_bytes:
            log.warning("a follower of logs doesn't read, and is disconnected", waiting_bytes=waiting)
            self.close()

    def begin(self, served: _LogPosition) -> None:
        """Send a snapshot of a log, and then its entries; frames of it that still wait are dropped."""
        self._drop(served.name)
        self._coming.append(served)
        self._schedule()

    def forget(self, name: str) -> None:
        """Announce that a log is gone."""
        self._drop(name)
        if self._transport is not None:
            self._transport.write(write_gone(name))

    def close(self) -> None:
        """Disconnect; what waits to be sent is dropped."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _drop(self, name: str) -> None:
        self._complete = {one for one in self._complete if one.name != name}
        self._coming = deque(one for one in self._coming if one.name != name)
        if self._current is not None and self._current.name == name:
            self._current, self._snapshot = None, iter(())
            self._behind.clear()
            self._behind_bytes = 0

    def _schedule(self) -> None:
        if self._pump is None and (self._coming or self._current is not None):
            self._pump = asyncio.get_running_loop().call_soon(self._write_some)

    def _write_some(self) -> None:
        """Write some of the snapshots; the rest once this is read, and others have had their turn."""
        self._pump = None
        try:
            self._write_for_a_step()
        except Exception:  # the follower connects again, and perhaps it can be sent then
            log.exception("a snapshot can't be sent to a follower of logs")
            self.close()
        if not self._is_paused and self._transport is not None:
            self._schedule()

    def _write_for_a_step(self) -> None:
        end = time.perf_counter() + STEP_SECONDS
        while self._transport is not None and not self._is_paused and time.perf_counter() < end:
            if self._current is None:
                if not self._coming:
                    return
                self._current = self._coming.popleft()
                self._number, self._snapshot = self._current.number, self._current.log.snapshot()
            self._write_next(self._transport, self._current)

    def _write_next(self, transport: asyncio.WriteTransport, served: _LogPosition) -> None:
        """Write the next entry of the snapshot, or the entries that came behind it."""
        entry = next(self._snapshot, None)
        if entry is not None:
            transport.write(write_frame(served.name, self._number, served.log.encode(entry)))
        elif self._behind:
            frame = self._behind.popleft()
            self._behind_bytes -= len(frame)
            transport.write(frame)
        else:
            self._current = None
            self._complete.add(served)
