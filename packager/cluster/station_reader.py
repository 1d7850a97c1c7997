"""Reads the logs of the stations that other nodes own: one read waits for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import structlog

from media.errors import MalformedError
from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.limits import ClusterLimits
from packager.cluster.log_stream import EntryId
from packager.cluster.shared_station import SharedStation
from packager.reader_guard import ReaderGuard

log = structlog.get_logger()

MAX_READ_ENTRIES = 16
"""Most entries of one station that are read at once."""


class StationLogs:
    """The stations that a node plays, and those that it may own."""

    def __init__(
        self, connection: RedisConnection, stations: Collection[SharedStation], limits: ClusterLimits
    ) -> None:
        self._connection = connection
        self._stations = stations
        self._limits = limits

    async def run(self) -> None:
        """Own and follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for station in self._stations:
                group.create_task(station.run())
            await self._connection.for_each_slot(
                lambda: [one.keys.entries for one in self._stations if not one.is_owner], self._read_on
            )

    async def _read_on(self, slot: int) -> None:
        while True:
            await self._connection.wait_until_up()
            try:
                found = await self._read(slot)
            except RedisUnavailableError:
                continue
            if not found:
                await asyncio.sleep(self._limits.snapshot_look_seconds)

    async def _read(self, slot: int) -> bool:
        """Read entries of a slot's stations of other owners; return whether all could be decoded."""
        followed = {
            one.keys.entries.encode(): one
            for one in self._stations
            if not one.is_owner and self._connection.slot(one.keys.entries) == slot
        }
        if not followed:
            return False
        behind: dict[bytes, str | bytes] = {name: str(one.read) for name, one in followed.items()}
        found = await self._connection.read_streams(behind, MAX_READ_ENTRIES, self._limits.read_seconds)
        is_sound = True
        for name, entries in found or ():
            for number, fields in entries:
                is_sound &= self._fold(followed[name], number, fields.get(b"entry", b""))
        return is_sound

    def _fold(self, station: SharedStation, number: bytes, message: bytes) -> bool:
        try:
            with ReaderGuard(station.name):
                station.fold(EntryId.read_owned(number), message)
        except MalformedError as error:
            station.unreadable += 1
            if station.unreadable == 1:
                log.warning(
                    "an entry of a station's log in Redis can't be read",
                    mount=station.name,
                    reason=str(error),
                )
            return False
        return True
