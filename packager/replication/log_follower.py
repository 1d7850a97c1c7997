"""Follows the logs of live channels that another process makes, and serves what folding them gives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from fractions import Fraction

import structlog

from media.errors import MalformedError
from media.hls.date_range import DateRange
from media.webvtt import Cue
from packager.concurrency import background_task
from packager.publish.limits import PublishLimits
from packager.publish.live_stream import LiveStream
from packager.replication.frames import Audience, EntryReader, Frame, FrameReader, write_audience
from packager.replication.limits import ReplicationLimits
from packager.retry_policy import FailureCount
from packager.step_budget import StepBudget
from packager.window.snapshot import SnapshotBeginEntry, SnapshotEndEntry

log = structlog.get_logger()


class HoleError(Exception):
    """An entry of a log is missing."""


class ElsewhereError(Exception):
    """A command was given to a channel that another process makes."""


class ElsewhereCommands:
    """The commands to a channel of another process, where its requests go that may cause something."""

    def note_viewer(self) -> None:
        """Do nothing: viewers are told in reports."""

    def is_postponed(self) -> bool:
        """Tell that the channel isn't waited for here."""
        return True

    async def end_event(self) -> bool:
        """Refuse: the other process answers such requests; likewise all below."""
        raise ElsewhereError

    def begin_event(self) -> bool:
        """Refuse."""
        raise ElsewhereError

    def publish_metadata(self, tag: DateRange, id3: bytes) -> None:
        """Refuse."""
        del tag, id3
        raise ElsewhereError

    def feeding_captions(self) -> AbstractAsyncContextManager[None]:
        """Refuse."""
        raise ElsewhereError

    def add_captions(self, language: str, cues: Sequence[Cue], zero: Fraction) -> int:
        """Refuse."""
        del language, cues, zero
        raise ElsewhereError


@dataclass(slots=True)
class _Followed:
    """A channel that is followed.

    Attributes:
        stream: what folding its log gives.
        position: of the last entry.
        is_restoring: whether a snapshot is on its way.
    """

    stream: LiveStream
    position: int = 0
    is_restoring: bool = True


class LogFollower:
    """Follows the logs of all live channels of another process.

    A channel is in ``streams`` while it can be served: it has something to play, and its log is followed.

    Args:
        streams: where the channels are put, by name.
        connect: gives a connected socket on which that process sends its logs, and waits for it.
        limits: of the connection.
        publish_limits: how many requests may wait, and what is kept of playlists.
    """

    def __init__(
        self,
        streams: MutableMapping[str, LiveStream],
        connect: Callable[[], Awaitable[socket.socket]],
        limits: ReplicationLimits,
        publish_limits: PublishLimits,
    ) -> None:
        self._streams = streams
        self._connect = connect
        self._limits = limits
        self._publish_limits = publish_limits
        self._followed: dict[str, _Followed] = {}

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
            except Exception:  # a log that can't be folded is begun anew
                log.exception("a live channel's log can't be followed")
                reason = "an entry can't be folded"
            finally:
                # Others have what comes now. Who waits goes on to wait for it.
                self._streams.clear()
            failures.succeeded(time.monotonic() - began)
            pause = failures.failed()
            if failures.failures <= failures.policy.quiet_after:
                log.warning("the logs of live channels are lost", reason=reason, again_in=pause)
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Release all who wait."""
        for followed in self._followed.values():
            followed.stream.close()

    async def _follow(self) -> None:
        """Follow over one connection to its end.

        Raises:
            OSError: it can't be made in time, or breaks.
            MalformedError: what comes can't be read.
            HoleError: an entry is missing.
        """
        sock = await asyncio.wait_for(self._connect(), self._limits.connect_seconds)
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=self._limits.read_bytes)
        for followed in self._followed.values():
            followed.is_restoring = True
        try:
            async with background_task(self._report(writer)):
                await self._fold(reader)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _fold(self, reader: asyncio.StreamReader) -> None:
        frames, entries, budget = FrameReader(self._limits.frame_bytes), EntryReader(), StepBudget()
        while data := await reader.read(self._limits.read_bytes):
            frames.receive_data(data)
            for frame in frames.frames():
                self._take(frame, entries)
                await budget.spend()

    def _take(self, frame: Frame, entries: EntryReader) -> None:
        name = frame.channel
        if not frame.message:
            self._streams.pop(name, None)
            if (gone := self._followed.pop(name, None)) is not None:
                gone.stream.close()
            return
        followed = self._followed.get(name)
        if followed is None:
            stream = LiveStream(name, ElsewhereCommands(), self._publish_limits)
            followed = self._followed[name] = _Followed(stream)
        entry = entries.read(frame.message)
        if isinstance(entry, SnapshotBeginEntry):
            followed.is_restoring, followed.position = True, frame.position
        elif frame.position != followed.position + (not followed.is_restoring):
            raise HoleError(f"entry {frame.position} of {name} follows {followed.position}")
        followed.position = frame.position
        followed.stream.fold(entry)
        if isinstance(entry, SnapshotEndEntry):
            followed.is_restoring = False
        self._offer(name, followed)

    def _offer(self, name: str, followed: _Followed) -> None:
        """Let a channel be served once it can be, and as long."""
        if followed.is_restoring:
            return
        if not followed.stream.ready:
            self._streams.pop(name, None)
        elif self._streams.get(name) is not followed.stream:
            self._streams[name] = followed.stream

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        """Tell the other process now and then who asks for its channels here."""
        since = time.monotonic()
        told: dict[str, int] = {}
        while True:
            await asyncio.sleep(self._limits.report_seconds)
            now = time.monotonic()
            for name, stream in tuple(self._streams.items()):
                viewers = stream.viewer_counter.seen_since(since)
                if viewers or stream.blocked != told.get(name, 0):
                    told[name] = stream.blocked
                    await self._report_stream(writer, stream, viewers)
            since = now

    async def _report_stream(
        self, writer: asyncio.StreamWriter, stream: LiveStream, viewers: Sequence[object]
    ) -> None:
        most = self._limits.reported_viewers
        for begin in range(0, max(len(viewers), 1), most):
            some = [one for one in viewers[begin : begin + most] if isinstance(one, tuple)]
            writer.write(write_audience(stream.name, Audience(stream.blocked, tuple(some))))
            await writer.drain()
