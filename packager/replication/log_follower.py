"""Follows the logs of another process, so that channels and stations can be served here, too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import structlog

from media.errors import MalformedError
from packager.concurrency import background_task
from packager.replication.frames import LogFrame, LogFrameReader, write_frame
from packager.replication.limits import MAX_FRAME_BYTES, ReplicationLimits
from packager.replication.log_entries import Place
from packager.retry_policy import FailureCount
from packager.step_budget import StepBudget

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
"""Seconds for which a connection is waited for."""


class HoleError(Exception):
    """An entry of a log is missing."""


EntryT = TypeVar("EntryT")


class FollowedLog(Protocol[EntryT]):
    """A log of another process, and the state that it is folded into."""

    def read(self, message: bytes) -> tuple[Place, EntryT]:
        """Read an entry.

        Raises:
            MalformedError: it is none.
        """

    def fold(self, entry: EntryT) -> None:
        """Fold an entry, before which none is missing."""

    def offer(self) -> None:
        """Serve what the log has given: all of it is here."""

    def withdraw(self) -> None:
        """Serve the folded state to no new requests, as it may be old."""

    def close(self) -> None:
        """Stop serving the folded state, as the log is gone, or this process ends."""

    def reports(self) -> Iterator[bytes]:
        """Return the report to the process that makes the log."""


class FollowedPosition:
    """Folds a log that is followed, and knows where in it that is.

    Attributes:
        number: of the last entry.
        is_restoring: whether a snapshot is on its way.
    """

    def __init__(self, log: FollowedLog[Any]) -> None:
        self.log = log
        self.number = 0
        self.is_restoring = True

    def fold(self, number: int, message: bytes) -> None:
        """Fold an entry, or an entry of a snapshot; those share the number of the snapshot's last entry.

        Raises:
            MalformedError: it can't be read.
            HoleError: an entry is missing before it.
        """
        place, entry = self.log.read(message)
        if place is Place.BEGIN:
            self.is_restoring, self.number = True, number
        elif number != self.number + (not self.is_restoring):
            raise HoleError(f"entry {number} follows {self.number}")
        self.number = number
        self.log.fold(entry)
        if place is Place.END:
            self.is_restoring = False
        if not self.is_restoring:
            self.log.offer()


class LogFollower:
    """Follows all logs of another process.

    Args:
        kinds: by the kind of a log, a function that makes its folding, given the channel's name.
        connect: waits for a connected socket on which that process sends its logs, and returns it.
    """

    def __init__(
        self,
        kinds: Mapping[str, Callable[[str], FollowedLog[Any]]],
        connect: Callable[[], Awaitable[socket.socket]],
        limits: ReplicationLimits,
    ) -> None:
        self._kinds = kinds
        self._connect = connect
        self._limits = limits
        self._followed: dict[str, FollowedPosition] = {}
        self._is_end_expected = False

    def expect_end(self) -> None:
        """Note that the other process ends, so that the end of its connection is no fault."""
        self._is_end_expected = True

    async def run(self) -> None:
        """Follow until cancelled; a lost connection is made again."""
        failures = FailureCount(self._limits.reconnects)
        while True:
            began = time.monotonic()
            try:
                await self._follow()
                reason = "it was closed"
            except (OSError, MalformedError, HoleError) as error:
                reason = str(error) or type(error).__name__
            except Exception:  # a log that can't be folded is read anew
                log.exception("a log of the started process can't be followed")
                reason = "an entry can't be folded"
            finally:
                # New requests are served elsewhere. Waiting ones wait on.
                for followed in self._followed.values():
                    followed.log.withdraw()
            failures.succeeded(time.monotonic() - began)
            pause = failures.failed()
            if not self._is_end_expected and failures.failures <= failures.policy.quiet_after:
                log.warning(
                    "the connection to the logs of the started process was lost",
                    reason=reason,
                    again_in=pause,
                )
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Release all who wait."""
        for followed in self._followed.values():
            followed.log.close()

    async def _follow(self) -> None:
        """Follow over one connection to its end.

        Raises:
            OSError: it can't be made in time, or breaks.
            MalformedError: what comes can't be read.
            HoleError: an entry is missing.
        """
        async with asyncio.timeout(CONNECT_SECONDS):
            sock = await self._connect()
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=self._limits.read_bytes)
        for followed in self._followed.values():
            followed.is_restoring = True
        try:
            async with background_task(self._report(writer)):
                await self._handle_frames(reader)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _handle_frames(self, reader: asyncio.StreamReader) -> None:
        frames, budget = LogFrameReader(MAX_FRAME_BYTES), StepBudget()
        while data := await reader.read(self._limits.read_bytes):
            frames.receive_data(data)
            for frame in frames.frames():
                self._handle_frame(frame)
                await budget.spend()

    def _handle_frame(self, frame: LogFrame) -> None:
        name = frame.log
        if not frame.message:
            if (gone := self._followed.pop(name, None)) is not None:
                gone.log.withdraw()
                gone.log.close()
            return
        followed = self._followed.get(name)
        if followed is None:
            kind, _, channel = name.partition("/")
            if (make := self._kinds.get(kind)) is None:
                raise MalformedError(f"a log of an unknown kind: {name}")
            followed = self._followed[name] = FollowedPosition(make(channel))
        followed.fold(frame.position, frame.message)

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        """Report the requests for the other process's channels at intervals."""
        while True:
            await asyncio.sleep(self._limits.report_seconds)
            for name, followed in tuple(self._followed.items()):
                for message in followed.log.reports():
                    writer.write(write_frame(name, 0, message))
                    await writer.drain()
