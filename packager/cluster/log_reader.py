"""Follows the logs of live channels in Redis, with one waiting read for all of them.

Entries are foreign data: an entry that can't be read or folded, or that is missing, makes the log wait for a
snapshot. Until the snapshot is there, the segments that are known stay served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.lease import LogKeys
from packager.cluster.limits import MAX_SNAPSHOT_BYTES, ClusterLimits
from packager.cluster.log_stream import LISTING, WHOLE, EntryId, LogStream, Snapshot
from packager.cluster.shared_log import SharedLog
from packager.reader_guard import ReaderGuard, log_fault
from packager.replication.log_follower import HoleError
from packager.step_budget import StepBudget

log = structlog.get_logger()

MAX_ENTRY_BYTES = 64 << 20
"""Longest entry that is read."""

MAX_READ_ENTRIES = 64
"""Most entries of one log that are read at once."""

MEDIA_READ_BYTES = 2 << 20
"""Most bytes of segments that are read at once, by their average size."""

SNAPSHOTS_AT_ONCE = 8
"""Most snapshots that a node waits for and reads, with the bytes that they lack."""


class LogReader:
    """Reads logs that this node doesn't own.

    Args:
        logs: by the names of their keys; may change while reading.
    """

    def __init__(
        self, connection: RedisConnection, logs: Mapping[LogKeys, SharedLog], limits: ClusterLimits
    ) -> None:
        self._connection = connection
        self._logs = logs
        self._limits = limits
        self._restoring = asyncio.Semaphore(SNAPSHOTS_AT_ONCE)

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._connection.for_each_slot(
                    lambda: [keys.entries for keys, _ in self._whole()],
                    lambda slot: self._repeat(lambda: self._read_entries(slot)),
                )
            )
            group.create_task(self._read_snapshots())

    async def _repeat(self, work: Callable[[], Awaitable[bool]]) -> None:
        """Repeat a piece of work, with a pause whenever it finds nothing to do."""
        while True:
            await self._connection.wait_until_up()
            try:
                if await work():
                    continue
            except RedisUnavailableError:
                continue
            await asyncio.sleep(self._limits.snapshot_look_seconds)

    def _whole(self) -> list[tuple[LogKeys, SharedLog]]:
        """Return the logs that are whole here."""
        return [one for one in self._logs.items() if one[1].is_whole and not one[1].is_owned]

    async def _read_entries(self, slot: int) -> bool:
        """Read entries of all logs of a slot that are whole here; return whether there are such logs."""
        whole = {
            keys.entries.encode(): shared
            for keys, shared in self._whole()
            if self._connection.slot(keys.entries) == slot
        }
        if not whole:
            return False
        limits = self._limits
        behind: dict[bytes, str | bytes] = {name: str(shared.read) for name, shared in whole.items()}
        count = self._count(whole.values())
        found = await self._connection.read_streams(behind, count, limits.read_seconds)
        budget = StepBudget()
        for name, entries in found or ():
            shared = whole[name]
            for number, fields in entries:
                if not self._fold(shared, number, fields.get(b"entry", b"")):
                    break
                await budget.spend()
        return True

    def _count(self, logs: Iterable[SharedLog]) -> int:
        """Return the number of entries of each log per read: Redis counts entries, and not their bytes."""
        of_each = sum(shared.mean_entry_bytes for shared in logs)
        fitting = int(self._limits.log_read_bytes / max(of_each, 1.0))
        return max(1, min(fitting, MAX_READ_ENTRIES))

    def _fold(self, shared: SharedLog, number: bytes, message: bytes) -> bool:
        """Fold an entry; return whether the following ones can be folded, too."""
        if shared.is_owned or not shared.is_whole:
            return False  # taken over or given up while the read waited
        try:
            with ReaderGuard(shared.stream.name):
                if len(message) > MAX_ENTRY_BYTES:
                    raise MalformedError(f"an entry of {len(message)} bytes: more than {MAX_ENTRY_BYTES}")
                shared.fold(EntryId.read_owned(number), message)
        except (MalformedError, HoleError) as error:
            log.warning(
                "a live channel's log has a fault, and is read anew from a snapshot",
                channel=shared.stream.name,
                reason=str(error),
            )
            shared.lose()
        except Exception as error:  # noqa: BLE001  # a log that can't be folded is read anew
            log_fault(shared.stream.name, error)
            shared.lose()
        return shared.is_whole

    async def _read_snapshots(self) -> None:
        """Read snapshots of the logs that need one, those of some at once."""
        async with asyncio.TaskGroup() as group:
            restoring: dict[LogKeys, asyncio.Task[None]] = {}
            while True:
                await self._connection.wait_until_up()
                restoring = {keys: task for keys, task in restoring.items() if not task.done()}
                for keys, shared in self._logs.items():
                    if not shared.is_whole and not shared.is_owned and keys not in restoring:
                        restoring[keys] = group.create_task(self._restore(keys, shared))
                await asyncio.sleep(self._limits.snapshot_look_seconds)

    async def _restore(self, keys: LogKeys, shared: SharedLog) -> None:
        limits = self._limits
        try:
            async with self._restoring:
                stream = LogStream(self._connection, keys, limits)
                snapshot = await stream.find_snapshot(LISTING if shared.takes_listing else WHOLE)
                if shared.is_owned or self._logs.get(keys) is not shared:
                    return
                most_lacking = MAX_SNAPSHOT_BYTES if snapshot.media else 0
                if await shared.restore(snapshot, MAX_ENTRY_BYTES, most_lacking):
                    await self._read_media(keys, snapshot, shared)
        except RedisUnavailableError:
            return
        except TimeoutError:
            log.debug("no node writes a snapshot of a live channel's log", channel=keys.name)
        except Exception as error:  # noqa: BLE001  # the snapshot is asked for again
            if not shared.is_owned:
                shared.lose()
            log_fault(keys.name, error)
            reason = str(error) or type(error).__name__
            log.warning("a snapshot of a live channel's log can't be read", channel=keys.name, reason=reason)
            await asyncio.sleep(limits.wanted_seconds)

    async def _read_media(self, keys: LogKeys, snapshot: Snapshot, shared: SharedLog) -> None:
        """Read the bytes of segments that a snapshot lacks, while the log goes on.

        Where they don't come, a snapshot is needed that has them.
        """
        limits, stream, budget = self._limits, LogStream(self._connection, keys, self._limits), StepBudget()
        behind, count, came = b"0", 1, time.monotonic()
        while shared.is_whole and not shared.is_owned and shared.awaits_media:
            try:
                found = await stream.read_media(snapshot.media, behind, count)
            except RedisUnavailableError:
                await self._connection.wait_until_up()
                came = time.monotonic()
                continue
            is_replaced = shared.read.epoch != snapshot.last.epoch
            patience = limits.wanted_seconds if is_replaced else limits.media_wait_seconds
            if found:
                came = time.monotonic()
                size = sum(len(message) for _, message in found)
                count = max(1, min(MEDIA_READ_BYTES * len(found) // max(size, 1), MAX_READ_ENTRIES))
            elif time.monotonic() > came + patience and not shared.is_owned:
                log.warning(
                    "the segments of a live channel's snapshot didn't come in time", channel=keys.name
                )
                shared.lose()
            for number, message in found:
                behind = number
                if len(message) > MAX_ENTRY_BYTES:
                    raise MalformedError(f"an entry of {len(message)} bytes: more than {MAX_ENTRY_BYTES}")
                if shared.is_whole and not shared.is_owned:
                    shared.take_media(message)
                await budget.spend()
