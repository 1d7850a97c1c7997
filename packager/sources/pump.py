"""The buffer between a received stream and ffmpeg's standard input, which survives ffmpeg's restarts.

The producer (a publisher, a fetched URL, a station) calls ``receive``, and the channel writes the stream to
one ffmpeg after another. A new ffmpeg first gets the headers and everything since the last access point. When
the codecs change, the running ffmpeg gets its end of file, and the next one begins with the new stream.

ffmpeg reads in real time (``-re``), so that repeated data doesn't become a burst of early segments. If a live
stream falls behind because of that, ffmpeg is restarted at the newest access point; see ``pacing``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from media.errors import MalformedError, MediaError
from media.mp3.stream_reader import AudioStreamReader
from media.muxers.flv_muxer import FlvMuxer
from media.muxers.matroska_muxer import MatroskaMuxer
from media.packets import Packet
from media.stream_reader import CLOCK_RATE, StreamChunk, StreamFormat
from packager.concurrency import wait_within
from packager.process.process import Process
from packager.reader_guard import ReaderGuard
from packager.sources.bursts import BurstMeter, release_held
from packager.sources.containers import CONTAINERS
from packager.sources.demuxing import DemuxedChunks
from packager.sources.gop_cache import GopCache
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pacing import Pacing
from packager.sources.still_picture import StillPicture
from packager.sources.tee_branch import TeeBranch
from packager.step_budget import StepBudget

RECENT_SECONDS = 0.5
"""Time after which data doesn't show any more that a stream flows."""

log = structlog.get_logger()


class Supply(Protocol):
    """Supplies a channel's stream on ffmpeg's standard input."""

    @property
    def paced(self) -> bool:
        """Whether the stream arrives in real time, so that ffmpeg needn't use ``-re``."""

    @property
    def container(self) -> str:
        """Name the current stream's container as ffmpeg does; empty where ffmpeg must tell."""

    @property
    def stream(self) -> object:
        """Identifies the stream's format: while it is equal, codecs and sizes are the same."""

    @property
    def has_stream(self) -> bool:
        """Whether a stream has begun that hasn't ended."""

    async def wait_until_flowing(self) -> None:
        """Wait until data arrives; before that, ffmpeg isn't started."""

    async def feed(self, process: Process) -> None:
        """Write the stream to a process's standard input, until the end of either."""


class PacketMuxer(Protocol):
    """Writes packets into a container, without I/O."""

    def push(self, packets: Iterable[Packet]) -> bytes:
        """Write the next packets; return the bytes so far, perhaps none."""


MUXERS: Mapping[str, Callable[[SourceLimits], PacketMuxer]] = {
    "flv": lambda _: FlvMuxer(),
    "matroska": lambda _: MatroskaMuxer(),
}
"""Muxers of the containers in which ffmpeg gets a stream that was demuxed, by ffmpeg's names."""


class StreamTaker(Protocol):
    """Takes a stream, as a process does on its standard input."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes; BrokenPipeError where nothing more is taken."""

    def close_stdin(self) -> None:
        """Handle the end of the stream."""


class ChunkTaker(Protocol):
    """Takes a stream in chunks."""

    async def push(self, chunks: Sequence[StreamChunk]) -> None:
        """Take the next chunks; BrokenPipeError where nothing more is taken."""

    def close_stdin(self) -> None:
        """Handle the end of the stream."""


class _WritingTaker:
    """Takes chunks, and writes them to a process in the container that it reads.

    Args:
        channel: the channel's name, for the log.
        muxer: writes the packets of chunks; None where the chunks have bytes.
    """

    def __init__(self, taker: StreamTaker, channel: str, muxer: PacketMuxer | None) -> None:
        self._taker = taker
        self._channel = channel
        self._muxer = muxer
        self._budget = StepBudget()

    async def push(self, chunks: Sequence[StreamChunk]) -> None:
        """Take the next chunks; BrokenPipeError where nothing more is taken, or they can't be written."""
        if self._muxer is None:
            await self._taker.write(b"".join([chunk.data for chunk in chunks]))
            return
        pieces = list[bytes]()
        try:
            with ReaderGuard(self._channel):
                for chunk in chunks:
                    pieces.append(self._muxer.push(chunk.packets))
                    await self._budget.spend()
        except MediaError as error:
            log.warning("source can't be given to ffmpeg", channel=self._channel, reason=str(error))
            self._taker.close_stdin()
            raise BrokenPipeError from error
        if written := b"".join(pieces):
            await self._taker.write(written)

    def close_stdin(self) -> None:
        """Handle the end of the stream."""
        self._taker.close_stdin()


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """How a pump treats its stream, which depends on where that comes from.

    Attributes:
        cushion: seconds to keep buffered, for a stream that arrives in bursts of that length.
        kept_seconds: seconds that are kept for who takes a stream from its beginning, as far as possible.
        held_seconds: for which the producer may have to wait at once for the stream's time.
        on_late: called to skip to the newest data; None to restart ffmpeg at the newest access point.
    """

    cushion: float = 0.0
    kept_seconds: float = 0.0
    held_seconds: float = math.inf
    on_late: Callable[[], None] | None = None


DEFAULT_OPTIONS = PumpOptions()


class Pump:
    """Buffers a stream and writes it to one ffmpeg after another.

    The producer waits only while a running ffmpeg is slow, or the stream is ahead of real time.

    Args:
        container: ffmpeg's name of the container, one of ``CONTAINERS``; any if ``reader`` is given.
        reader: parses the stream outside of the pump, which then gets chunks by ``take``.
        options: how the stream is treated.
        limits: the limits of the buffer.
        channel: the channel's name, for the log.

    Attributes:
        received_container: ffmpeg's name of the current stream's container.
        budget: computing time of the producer between two waits.
    """

    paced = False

    def __init__(
        self,
        container: str,
        reader: StreamFormat | None = None,
        options: PumpOptions = DEFAULT_OPTIONS,
        *,
        limits: SourceLimits = DEFAULT_LIMITS,
        channel: str = "",
    ) -> None:
        self.received_container = container
        self._limits = limits
        self._set_reader(reader)
        self._options = options
        self._pacing = Pacing(options.cushion, limits)
        self._bursts = BurstMeter()
        self._channel = channel
        self._gop_cache = GopCache(options.cushion, limits, options.kept_seconds)
        self._queue: deque[StreamChunk | None] = deque()
        self._queued = 0
        self._attached = False
        # The format of the stream that a process reads, as it was when it began to; None where that was ahead
        # of the first access point, so that the process reads itself which tracks there are.
        self._given_stream: object = None
        self._branches: set[TeeBranch] = set()
        self.budget = StepBudget()
        self._received = self._begun = 0
        self._received_at = -math.inf
        self._given_at = -math.inf
        self._changed = asyncio.Event()
        # How many wait until more can be received.
        self._waiting = 0

    def begin(self, container: str, reader: StreamFormat | None = None) -> None:
        """Begin another stream, such as from a new connection, and drop what is kept of the last one."""
        self.receive_eof()
        self.received_container = container
        self._set_reader(reader)
        self._gop_cache.clear()
        self._pacing.begin()
        self._bursts.restart()
        self._begun = self._received

    def _set_reader(self, reader: StreamFormat | None) -> None:
        self._cutter = None
        if reader is None:
            reader = self._cutter = CONTAINERS[self.received_container].reader(self._limits)
        self._format = reader

    @property
    def container(self) -> str:
        """Name the container in which ffmpeg gets the current stream, as ffmpeg does."""
        return self._format.muxed_container or self.received_container

    def for_ffmpeg(self, taker: StreamTaker, container: str = "") -> ChunkTaker:
        """Return what writes the current stream from its beginning to a process, as ffmpeg reads it.

        Args:
            container: of a stream that was demuxed; empty for the stream's own.
        """
        make = MUXERS.get(container or self._format.muxed_container)
        return _WritingTaker(taker, self._channel, None if make is None else make(self._limits))

    @property
    def stream(self) -> object:
        """Identifies the stream's format; see ``Supply``."""
        return self.received_container, self._format.signature

    @property
    def burst_seconds(self) -> float | None:
        """Seconds of media that come at once; 0 if the stream doesn't come in bursts; None if unknown."""
        return self._bursts.seconds(time.monotonic())

    @property
    def has_stream(self) -> bool:
        """Whether data of a stream has come that hasn't ended; see ``Supply``."""
        return self._received_at > -math.inf

    async def receive_data(self, data: bytes) -> None:
        """Receive the stream's next bytes; wait while ffmpeg is too far behind, or the stream ahead of time.

        Raises:
            MalformedError: the bytes aren't valid in this container.
        """
        cutter = self._cutter
        if cutter is not None:
            size = CONTAINERS[self.received_container].portion_bytes
            async for portion in self.budget.portions(data, size):
                await self.push(cutter.receive_data(portion))

    async def push(self, pieces: Iterable[StreamChunk]) -> None:
        """Receive the stream's next chunks, parsed already; wait as ``receive`` does.

        Raises:
            MalformedError: they are too far ahead of time.
        """
        has_media = False
        for piece in pieces:
            await self.budget.spend()
            if piece.changes:
                self.receive_eof()
                self._pacing.begin()
                self._begun = self._received
            elif piece.header and self._attached and self._given_stream not in (None, self.stream):
                # A track has begun of which the process that reads knew nothing when it was started.
                self._detach()
            now = self._received_at = time.monotonic()
            self._gop_cache.push(piece, now)
            if self._branches:
                self._feed_branches(piece)
            self._received += piece.size
            if piece.clock is not None:
                if not has_media:
                    has_media = True
                    self._bursts.observe(now)
                self._pacing.received(piece.clock / CLOCK_RATE, now, access=piece.access)
            if self._attached:
                self._queue.append(piece)
                self._queued += piece.memory
        self._notify()
        self._skip_if_late()
        if self._is_full or self._pacing.wait(time.monotonic()) > 0:
            self._waiting += 1
            try:
                await self._wait()
            finally:
                self._waiting -= 1

    @property
    def _is_full(self) -> bool:
        """Whether who reads is so far behind that nothing is received."""
        return self._attached and self._queued > self._limits.ahead_bytes

    async def _wait(self) -> None:
        """Wait while who reads is too far behind, or the stream ahead of time.

        Raises:
            MalformedError: it is too far ahead of time.
        """
        while self._is_full:
            await self._changed.wait()
        before = time.monotonic()
        while (wait := self._pacing.wait(time.monotonic())) > 0:
            if wait > self._options.held_seconds:
                raise MalformedError(f"its times are {wait:.0f} s ahead of those at which it comes")
            # Woken early when an ffmpeg is attached.
            await wait_within(wait, self._changed.wait())
        self._bursts.note_unread(time.monotonic() - before)

    def _skip_if_late(self) -> None:
        """Skip to the newest access point if the running ffmpeg can't catch up any more."""
        waiting = self._pacing.waiting
        if self._pacing.late(time.monotonic()):
            log.info("source is ahead: its newest follows", channel=self._channel, seconds=round(waiting, 1))
            (self._options.on_late or self._detach)()

    def branch(self, most_bytes: int, oldest: float | None = None) -> TeeBranch:
        """Let the stream go another way, too, from the newest access point on, and to its end.

        Args:
            most_bytes: how much may wait to be read there.
            oldest: nothing that came before this moment of the monotonic clock goes there; None: the newest
                access point is the first.
        """
        branch = TeeBranch(self._gop_cache.beginning(oldest), most_bytes)
        self._branches.add(branch)
        return branch

    @property
    def has_branches(self) -> bool:
        """Whether the stream goes other ways, too."""
        return bool(self._branches)

    def _feed_branches(self, piece: StreamChunk) -> None:
        for branch in tuple(self._branches):
            branch.push(piece)
            if branch.has_ended:
                self._branches.discard(branch)

    def receive_eof(self) -> None:
        """End the current stream: the running ffmpeg gets its end of file."""
        self._detach()
        for branch in self._branches:
            branch.receive_eof()
        self._branches.clear()

    def _detach(self) -> None:
        if self._attached:
            self._attached, self._given_at = False, time.monotonic()
            self._queue.append(None)
        self._received_at = -math.inf
        self._notify()

    async def wait_until_flowing(self) -> None:
        """Wait until data arrives with which ffmpeg can begin."""
        before = self._received
        while not self._can_begin or (self._received == before and not self._is_recent):
            await self._changed.wait()

    @property
    def _is_recent(self) -> bool:
        """Whether the last data has just come, or the cushion bridges the time since then."""
        return time.monotonic() < self._received_at + max(self._options.cushion, RECENT_SECONDS)

    @property
    def _can_begin(self) -> bool:
        headless = self._received - self._begun > self._limits.headless_bytes
        return isinstance(self._cutter, AudioStreamReader) or self._gop_cache.has_access_point or headless

    async def feed(
        self, process: StreamTaker, demuxed: DemuxedChunks | None = None, oldest: float | None = None
    ) -> None:
        """Write the stream to the standard input of an ffmpeg, until the end of either.

        A picture that stands still is repeated: ffmpeg shows one only once it knows the next.

        Args:
            demuxed: demuxes the stream; None where ffmpeg gets it as it is.
            oldest: a moment of the monotonic clock; data that came since is written, even if another
                process has got it already. None, or where no access point came since: from the newest access
                point on.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        taker = self.for_ffmpeg(process, "" if demuxed is None else demuxed.container)
        still = StillPicture(self._limits.slow_seconds, self._limits.still_seconds)
        await self.feed_chunks(taker, self._kept_since(oldest), still, demuxed, repeats=True)

    def begins_at(self, oldest: float | None = None) -> float | None:
        """Return when the access point came with which ``feed`` begins; None where none is kept."""
        return self._gop_cache.came(self._kept_since(oldest))

    def soonest_begin(self, oldest: float | None = None) -> float | None:
        """Return when that access point came at the soonest; see ``GopCache.soonest_begin``."""
        return self._gop_cache.soonest_begin(self._kept_since(oldest))

    def _kept_since(self, oldest: float | None) -> float | None:
        """Return a moment, or None where no access point has come since."""
        return oldest if oldest is not None and self._gop_cache.has_since(oldest) else None

    async def feed_chunks(
        self,
        taker: ChunkTaker,
        oldest: float | None = None,
        still: StillPicture | None = None,
        demuxed: DemuxedChunks | None = None,
        *,
        repeats: bool = False,
    ) -> None:
        """Push the stream to one that takes its chunks, until the end of either.

        Args:
            oldest: a moment of the monotonic clock; data that came before, or went to another taker, is left
                out. None begins with the newest access point.
            still: repeats a picture that stands still; None where it isn't to be repeated.
            demuxed: demuxes the chunks that are pushed; None where they are pushed as they are.
            repeats: whether data that went to another taker is pushed again.

        Raises:
            MediaError: the stream can't be demuxed.
        """
        first = oldest if oldest is None or repeats else max(oldest, self._given_at)
        queue = deque[StreamChunk | None](self._gop_cache.beginning(first))
        self._queue, self._given_stream = queue, self.stream if self._can_begin else None
        self._queued, self._attached = sum(one.memory for one in queue if one is not None), True
        clock, came = self._gop_cache.clock(first), self._gop_cache.came(first)
        self._pacing.attached(None if clock is None else clock / CLOCK_RATE, time.monotonic())
        budget = StepBudget()
        try:
            while True:
                if not queue:
                    await _changes(self._changed, still, demuxed)
                    if not queue and demuxed is not None:
                        await _push(taker, demuxed.due(time.monotonic()), still)
                    budget.restart()
                await _push_again(taker, still, queue)
                if not queue:
                    continue
                if queue[0] is None:
                    break
                chunks, memory, clock = _first_of(queue, self._limits.written_bytes)
                if demuxed is None:
                    await _push(taker, chunks, still)
                else:
                    for found in demuxed.steps(chunks, time.monotonic(), self.burst_seconds, came):
                        await _push(taker, found, still)
                        await budget.spend()
                await budget.spend()
                self._queued -= memory
                if clock is not None and queue is self._queue:
                    self._pacing.given(clock / CLOCK_RATE)
                self._notify_waiting()
            if demuxed is not None:
                await _push_end(taker, demuxed, still)
            taker.close_stdin()
        except BrokenPipeError:
            pass  # the process's owner notices its end
        finally:
            if queue is self._queue:
                self._given_at = time.monotonic() if self._attached else self._given_at
                self._attached = False
                self._pacing.detached()
            self._notify()

    def _notify_waiting(self) -> None:
        """Notify who waits until more can be received, if anybody does."""
        if self._waiting:
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _push(taker: ChunkTaker, chunks: Sequence[StreamChunk], still: StillPicture | None) -> None:
    """Push chunks to a taker, and pictures that stand still between them again."""
    if chunks:
        await taker.push(chunks if still is None else still.push(chunks, time.monotonic()))


async def _push_end(taker: ChunkTaker, demuxed: DemuxedChunks, still: StillPicture | None) -> None:
    """Push what is held back at the end of a stream, in its time."""

    async def release() -> None:
        await _push(taker, demuxed.due(time.monotonic()), still)

    await _push(taker, demuxed.receive_eof(time.monotonic()), still)
    await release_held(demuxed.wait, release, demuxed.hurries)
    await _push(taker, demuxed.flush(), still)


async def _changes(changed: asyncio.Event, still: StillPicture | None, demuxed: DemuxedChunks | None) -> None:
    """Wait for more of a stream, or until a picture is to be repeated, or what is held back is due."""
    now = time.monotonic()
    waits = [wait for one in (still, demuxed) if one is not None and (wait := one.wait(now)) is not None]
    if not waits:
        await changed.wait()
        return
    await wait_within(min(waits), changed.wait())


async def _push_again(
    taker: ChunkTaker, still: StillPicture | None, queue: Iterable[StreamChunk | None]
) -> None:
    """Push a picture that stands still again, if that is due."""
    if still is not None and (again := still.repeat(time.monotonic(), queue)):
        await taker.push(again)


def _first_of(queue: deque[StreamChunk | None], most_bytes: int) -> tuple[list[StreamChunk], int, int | None]:
    """Take what is to be written at once: a chunk, and more that fit; their memory, their newest time."""
    pieces: list[StreamChunk] = []
    memory, clock = 0, None
    while queue and (piece := queue[0]) is not None:
        if pieces and memory + piece.memory > most_bytes:
            break
        memory += piece.memory
        pieces.append(piece)
        clock = clock if piece.clock is None else piece.clock
        queue.popleft()
    return pieces, memory, clock
