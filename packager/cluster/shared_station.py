"""A station of a cluster: all nodes play one node's source, and another node's when that is gone.

Each node plays the audio in the station's log in Redis. The owner of the log plays its entries as it appends
them, so that its own listeners hear the station while Redis is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from media.errors import MalformedError
from media.ogg.headers import Link
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import Lease, LogKeys
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId, LogStream
from packager.cluster.log_writer import LogWriter
from packager.concurrency import background_task
from packager.radio.audio_blocks import AudioBlock, OggAudio
from packager.radio.audio_source import AudioSource, StationInfo
from packager.radio.block_serialization import SharedBlock, StationState, as_line, decode, encode

log = structlog.get_logger()

RADIO = "radio"
"""The kind of these logs: what their names begin with."""

QUEUE_BLOCKS = 64
"""Most blocks, of about a second, that wait until they are played; older ones go."""

STATE_SECONDS = 2.0
"""Seconds between two entries with a station's state while it has no audio."""

MAX_STATION_ENTRY_BYTES = 4 << 20
"""Longest entry of a station that is read."""


class SharedStation:
    """A node's view of a cluster's station, which plays like a source of the node's own.

    Args:
        local: the station's source on this node; None where the node only follows others.
        expected: the station's facts until the log has some.
        token: identifies the leases of this node.

    Attributes:
        read: ID of the newest entry that was read from Redis.
        unreadable: number of entries that were passed over.
    """

    def __init__(
        self,
        name: str,
        local: AudioSource | None,
        expected: StationState,
        connection: RedisConnection,
        token: str,
        limits: ClusterLimits,
    ) -> None:
        self.name = name
        self.local = local
        self.keys = LogKeys(RADIO, name)
        self.read = EntryId(0, 0)
        self.unreadable = 0
        self._connection = connection
        self._limits = limits
        self._lease = Lease(connection, self.keys, token, limits)
        self._stream = LogStream(connection, self.keys, limits)
        self._writer = LogWriter(connection, self._stream, self._lease, limits)
        self._state = self._told = expected
        self._told_at = 0.0
        self._position = 0
        self._queue: deque[AudioBlock] = deque(maxlen=QUEUE_BLOCKS)
        self._news = asyncio.Event()
        # The newest logical Ogg stream: its number where it is made, and the object that stands for it here.
        self._own_link: tuple[int, Link | None] = (0, None)
        self._link: tuple[int, int, Link] | None = None
        # The epoch with which this node appended last.
        self._epoch = 0
        self._was_owner = False

    @property
    def is_owner(self) -> bool:
        """Whether all nodes play this node's source."""
        return self._has_lease and self._was_owner

    @property
    def _has_lease(self) -> bool:
        """Whether this node owns the log, of which it may not know yet where it ends."""
        return self._lease.epoch > 0

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        return self._newest.media_type

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return self._newest.bitrate

    @property
    def available(self) -> bool:
        """False when it is known to have no audio now."""
        return self._newest.available or bool(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether the station only waits for a source client."""
        return self._newest.is_idle

    @property
    def trouble(self) -> str:
        """Why the station has no audio."""
        return self._newest.trouble

    @property
    def station_info(self) -> StationInfo:
        """Its description by its source."""
        return self._newest.info

    @property
    def _newest(self) -> StationState:
        return self._own_state() if self.is_owner else self._state

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield the audio of the log as it arrives, while the source of this node plays, too."""
        self._queue.clear()
        async with contextlib.AsyncExitStack() as stack:
            if self.local is not None:
                await stack.enter_async_context(background_task(self._play(self.local)))
            while True:
                await self._news.wait()
                while self._queue:
                    yield self._queue.popleft()
                self._news.clear()

    async def run(self) -> None:
        """Own the log whenever it may be, until cancelled; it is given back then."""
        if self.local is None:
            return
        async with background_task(self._writer.run()):
            try:
                while True:
                    with contextlib.suppress(RedisUnavailableError):
                        await self._look(self.local)
                    await asyncio.sleep(self._limits.renew_seconds)
            finally:
                with contextlib.suppress(RedisUnavailableError):
                    await self._lease.release()

    # Owning

    async def _play(self, local: AudioSource) -> None:
        """Append the audio of this node's source while this node owns the log."""
        async with aclosing(local.blocks()) as blocks:
            async for block in blocks:
                if self._may_append:
                    self._append(self._own_state(), block)
                    self._play_next(block)

    @property
    def _may_append(self) -> bool:
        """Whether no other node may own the log without this one's knowing."""
        certain = self._lease.is_certain or not self._connection.is_up
        return self.is_owner and certain

    def _own_state(self) -> StationState:
        local = self.local
        if local is None:
            return self._state
        trouble = as_line(local.trouble)
        told = local.media_type, local.bitrate, local.station_info
        return StationState(local.available, local.is_idle, trouble, *told)

    def _append(self, state: StationState, block: AudioBlock | None = None) -> None:
        self._told, self._told_at = state, time.monotonic()
        self._position += 1
        self._epoch = self._lease.epoch
        self.read = EntryId(self._epoch, self._position)
        if block is not None and block.ogg is not None and block.ogg.link is not self._own_link[1]:
            self._own_link = self._own_link[0] + 1, block.ogg.link
        self._writer.append(self._position, encode(state, block, self._own_link[0]))

    async def _look(self, local: AudioSource) -> None:
        """Renew the lease, or try to take it; append the station's state where it has changed."""
        if self._connection.is_up:
            has_media = local.available and not local.trouble
            if self._has_lease and not await self._lease.renew(has_media=has_media):
                self._lease.lose()
            self._note_loss()
            has_lease = self._has_lease or (self._may_own and await self._lease.acquire(has_media=has_media))
            if has_lease and not self._was_owner:
                # Also where Redis was lost since this node acquired the lease.
                await self._take_over()
        is_due = time.monotonic() - self._told_at > STATE_SECONDS
        state = self._own_state()
        if self._may_append and (is_due or state != self._told):
            self._append(state)

    @property
    def _may_own(self) -> bool:
        """Whether the former owner, which has what others lack, is this node or doesn't come back."""
        since = time.monotonic() - self._connection.up_since
        return 0 < self._epoch == self.read.epoch or since >= self._limits.lease_seconds

    def _note_loss(self) -> None:
        if self._was_owner and not self.is_owner:
            log.info("this node lost the log of a station, which another may own now", mount=self.name)
            self._was_owner = False
            self._state = self._told

    async def _take_over(self) -> None:
        last = await self._stream.last(self._lease.epoch)
        if self._epoch < self.read.epoch or (last is not None and last.epoch > self._epoch):
            # Audio that this node appended before another node owned the log isn't played after that node's.
            self._writer.forget()
            self._position = max(self._position, 0 if last is None else last.position)
            self._writer.sent = self._position
        self._writer.begin(last)
        self._was_owner, self._epoch = True, self._lease.epoch
        self.read = EntryId(self._epoch, self._position)
        log.info("this node owns the log of a station now", mount=self.name, epoch=self._lease.epoch)

    # Following

    def fold(self, number: EntryId, message: bytes) -> None:
        """Fold an entry that was read from Redis.

        Raises:
            MalformedError: it can't be read.
        """
        if self._has_lease or number <= self.read:
            return
        self.read = number
        if len(message) > MAX_STATION_ENTRY_BYTES:
            raise MalformedError(f"an entry of {len(message)} bytes: more than {MAX_STATION_ENTRY_BYTES}")
        found = decode(message)
        self._state, self._position = found.state, number.position
        self._play_next(self._joined(number.epoch, found))

    def _joined(self, epoch: int, found: SharedBlock) -> AudioBlock | None:
        """Return a block whose Ogg link is the same object as that of earlier blocks of the stream."""
        block = found.block
        if block is None or block.ogg is None:
            return block
        known = self._link
        if known is None or known[:2] != (epoch, found.link):
            known = self._link = epoch, found.link, block.ogg.link
        return replace(block, ogg=OggAudio(known[2], block.ogg.pages))

    def _play_next(self, block: AudioBlock | None) -> None:
        if block is not None:
            self._queue.append(block)
            self._news.set()
