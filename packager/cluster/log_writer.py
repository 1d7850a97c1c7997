"""Sends the entries of a log to Redis, and keeps the newest for a Redis that is away.

Redis refuses entries of an owner that has been replaced: see `packager.cluster.log_stream`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

import structlog

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import Lease
from packager.cluster.limits import APPEND_BYTES, ClusterLimits
from packager.cluster.log_stream import EmptiedError, EntryId, LogStream

log = structlog.get_logger()


class _Kept(NamedTuple):
    position: int
    epoch: int
    data: bytes
    moment: float


class LogWriter:
    """Sends a log's entries in order while its lease is held, and keeps those of the last seconds.

    Args:
        limits: how much is kept and sent.

    Attributes:
        sent: position of the last entry that Redis has confirmed.
        dropped: entries that were never sent, as Redis was away for longer than they are kept.
    """

    def __init__(
        self, connection: RedisConnection, stream: LogStream, lease: Lease, limits: ClusterLimits
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._lease = lease
        self._limits = limits
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._oldest: EntryId | None = None
        self._news = asyncio.Event()
        # Entries up to this one have the IDs with which they were sent before.
        self._sent_before = 0
        self.sent = 0
        self.dropped = 0

    def append(self, position: int, data: bytes) -> None:
        """Send an entry as soon as may be."""
        now = time.monotonic()
        self._kept.append(_Kept(position, self._lease.epoch, data, now))
        self._kept_bytes += len(data)
        limits = self._limits
        while self._kept and (
            self._kept[0].moment < now - limits.kept_seconds or self._kept_bytes > limits.kept_bytes
        ):
            gone = self._kept.popleft()
            self._kept_bytes -= len(gone.data)
            self.dropped += gone.position > self.sent
            if self._kept:
                self._oldest = EntryId(self._kept[0].epoch, self._kept[0].position)
        self._news.set()

    def begin(self, last: EntryId | None) -> None:
        """Continue behind the newest entry of the stream; in an empty one, with all entries that are kept."""
        if last is None:
            self.sent = self._kept[0].position - 1 if self._kept else self.sent
            self._oldest = None
        else:
            self.sent = max(self.sent, last.position)
        self._news.set()

    def forget(self) -> None:
        """Drop what is kept: the log has gone on elsewhere."""
        self._kept.clear()
        self._kept_bytes, self._oldest = 0, None

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._news.wait()
            await self._connection.wait_until_up()
            self._news.clear()
            try:
                await self._send_all()
            except RedisUnavailableError:
                self._news.set()

    async def _send_all(self) -> None:
        while self._lease.epoch and (batch := self._batch()):
            epoch = self._lease.epoch
            try:
                is_ours = await self._stream.append(epoch, batch, self._oldest)
            except EmptiedError:
                await self._fill_again()
                continue
            if not is_ours:
                if self._lease.epoch == epoch:
                    self._lease.lose()
                return
            self.sent = batch[-1][0].position

    async def _fill_again(self) -> None:
        """Send all that is kept once more, as the stream was emptied."""
        log.warning(
            "a log in Redis had an entry that no node wrote: it is filled again",
            log=self._stream.keys.entries,
            entries=len(self._kept),
        )
        # Nodes that have read that entry wait for entries behind its ID, so new ones get a new epoch. Entries
        # that were sent keep their IDs, by which other nodes know that they have them.
        if not await self._lease.acquire(has_media=True):
            self._lease.lose()
        self._sent_before = self.sent
        self.begin(None)

    def _batch(self) -> list[tuple[EntryId, bytes]]:
        batch: list[tuple[EntryId, bytes]] = []
        size = 0
        for one in reversed(self._kept):
            if one.position <= self.sent:
                break
            epoch = one.epoch if one.position <= self._sent_before else self._lease.epoch
            batch.append((EntryId(epoch, one.position), one.data))
        batch.reverse()
        for count, (_, data) in enumerate(batch):
            size += len(data)
            if count and size > APPEND_BYTES:
                return batch[:count]
        return batch
