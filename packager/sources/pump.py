"""A stream that somebody brings, on its way into ffmpeg, which may die while the stream stays.

Who brings it (a publisher, a fetched URL, a station) calls ``receive``; the channel gives it to one ffmpeg
after another, on its standard input. After a restart the new one is told the headers and everything since the
last access point, so that it begins at once and with a whole picture. Where the stream changes so that a
decoder can't go on, the ffmpeg that runs is told its end, and the next one begins behind it.

ffmpeg reads it at real time (``-re``), so that what is told again doesn't come as a burst of early segments.
Where that lets a live stream fall behind for good, it is told the end early, and the next one begins with the
newest; ``pacing`` decides it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from media.mp3.stream import AudioStreamReader
from media.rtmp.flv import FlvReader
from media.stream_reader import CLOCK_RATE, StreamChunk, StreamReader
from media.ts.reader import TransportReader
from packager.process.process import Process
from packager.sources.gop_cache import GopCache
from packager.sources.limits import DEFAULT_LIMITS, PumpLimits
from packager.sources.pacing import Pacing
from packager.step_budget import StepBudget

READERS: Mapping[str, Callable[[], StreamReader]] = {
    "mpegts": TransportReader,
    "flv": FlvReader,
    "mp3": AudioStreamReader,
    "aac": AudioStreamReader,
}
"""What can be pumped, by ffmpeg's name of the container."""

log = structlog.get_logger()


class Supply(Protocol):
    """What brings a channel its stream.

    Attributes:
        container: ffmpeg's name of the container of the stream that comes now.
        paced: whether it comes at real time, so that ffmpeg needn't slow it down.
    """

    container: str
    paced: bool

    @property
    def stream(self) -> object:
        """What is to be known of the stream: as long as it stays, it has the same codecs and sizes."""

    async def wait_until_flowing(self) -> None:
        """Wait until something comes: for a stream that stands still no ffmpeg need be started."""

    async def give(self, process: Process) -> None:
        """Give the stream to an ffmpeg that was started with standard input, until the end of either."""


class SupportsSignature(Protocol):
    """What cuts a stream into pieces.

    Attributes:
        signature: as for ``StreamReader``.
    """

    @property
    def signature(self) -> bytes:
        """What decoders must know of the stream."""


class Pump:
    """Takes a stream and gives it to one ffmpeg after another.

    Who brings it never waits for an ffmpeg that isn't there, and is held back by one that is slow, or where
    it comes faster than its own time.

    Args:
        container: ffmpeg's name of it, one of ``READERS``, or any where ``reader`` is given.
        reader: cuts it outside of the pump, which gets its pieces.
        limits: how much of it may be on its way.
        cushion: seconds that are to wait in it, where the stream comes in bursts as long as that.
        channel: name of the channel that it is for, for the log.
        on_late: called instead of going on with the newest: who brings it begins anew with that.

    Attributes:
        container: of the stream that comes now.
    """

    paced = False

    def __init__(
        self,
        container: str,
        reader: SupportsSignature | None = None,
        *,
        limits: PumpLimits = DEFAULT_LIMITS.pump,
        cushion: float = 0.0,
        channel: str = "",
        on_late: Callable[[], None] | None = None,
    ) -> None:
        self.container = container
        self._limits = limits
        self._set_reader(reader)
        self._cushion = cushion
        self._pacing = Pacing(cushion, limits.pacing)
        self._channel = channel
        self._on_late = on_late
        self._gop_cache = GopCache(cushion, limits.gop_cache)
        self._queue: deque[StreamChunk | None] = deque()
        self._queued = 0
        self._attached = False
        self._budget = StepBudget()
        self._received = self._begun = 0
        self._received_at = -math.inf
        self._changed = asyncio.Event()

    def begin(self, container: str, reader: SupportsSignature | None = None) -> None:
        """Let another stream follow, from a new connection, say; nothing of the one before goes with it.

        Args:
            container: as for the pump.
            reader: likewise.
        """
        self.receive_eof()
        self.container = container
        self._set_reader(reader)
        self._gop_cache.clear()
        self._pacing.begin()
        self._begun = self._received

    def _set_reader(self, reader: SupportsSignature | None) -> None:
        self._cutter = None if reader is not None else READERS[self.container]()
        self._signed = reader or self._cutter

    @property
    def stream(self) -> object:
        """As for ``Supply``."""
        return self.container, b"" if self._signed is None else self._signed.signature

    async def receive(self, data: bytes) -> None:
        """Take the stream's next bytes; wait while ffmpeg is too far behind, or they come too early.

        Raises:
            MalformedError: they are no stream of this container.
        """
        cutter = self._cutter
        if cutter is not None:
            async for portion in self._budget.portions(data):
                await self.take(cutter.receive_data(portion))

    async def take(self, pieces: Iterable[StreamChunk]) -> None:
        """Take the stream's next pieces; wait as ``receive`` does."""
        for piece in pieces:
            await self._budget.spend()
            if piece.changes:
                self.receive_eof()
                self._pacing.begin()
                self._begun = self._received
            self._gop_cache.receive(piece)
            self._received += len(piece.data)
            self._received_at = time.monotonic()
            if piece.clock is not None:
                self._pacing.received(piece.clock / CLOCK_RATE, time.monotonic(), access=piece.access)
            if self._attached:
                self._queue.append(piece)
                self._queued += len(piece.data)
        self._notify()
        self._skip_if_late()
        while self._attached and self._queued > self._limits.ahead_bytes:
            await self._changed.wait()
        while (wait := self._pacing.wait(time.monotonic())) > 0:
            with contextlib.suppress(TimeoutError):
                # Somebody may come who takes it.
                await asyncio.wait_for(self._changed.wait(), wait)

    def _skip_if_late(self) -> None:
        """Let the next ffmpeg begin with the newest access point, where this one can't catch up any more."""
        waiting = self._pacing.waiting
        if self._pacing.late(time.monotonic()):
            log.info("source is ahead: its newest follows", channel=self._channel, seconds=round(waiting, 1))
            (self._on_late or self.receive_eof)()

    def receive_eof(self) -> None:
        """Take notice that the stream is over: the ffmpeg that runs gets to its end."""
        if self._attached:
            self._attached = False
            self._queue.append(None)
        self._received_at = -math.inf
        self._notify()

    async def wait_until_flowing(self) -> None:
        """Wait until something comes with which ffmpeg can begin."""
        before = self._received
        while not self._can_begin or (self._received == before and not self._is_within_cushion):
            await self._changed.wait()

    @property
    def _is_within_cushion(self) -> bool:
        """Whether what came last lasts until more is due."""
        return time.monotonic() < self._received_at + self._cushion

    @property
    def _can_begin(self) -> bool:
        headless = self._received - self._begun > self._limits.headless_bytes
        return isinstance(self._cutter, AudioStreamReader) or self._gop_cache.has_access_point or headless

    async def give(self, process: Process) -> None:
        """Give the stream to an ffmpeg, from the last access point on, until the end of either.

        Args:
            process: started with standard input.
        """
        beginning = StreamChunk(self._gop_cache.beginning(), clock=self._gop_cache.clock)
        queue: deque[StreamChunk | None] = deque([beginning])
        self._queue = queue
        self._queued, self._attached = len(beginning.data), True
        self._pacing.attached(
            None if beginning.clock is None else beginning.clock / CLOCK_RATE, time.monotonic()
        )
        try:
            while True:
                if not queue:
                    await self._changed.wait()
                    continue
                piece = queue.popleft()
                if piece is None:
                    break
                await process.write(piece.data)
                self._queued -= len(piece.data)
                if piece.clock is not None and queue is self._queue:
                    self._pacing.given(piece.clock / CLOCK_RATE)
                self._notify()
            process.close_stdin()
        except BrokenPipeError:
            pass  # whoever started it sees its end
        finally:
            if queue is self._queue:
                self._attached = False
                self._pacing.detached()
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
