"""An event channel whose events are kept on disk, and what is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from origin.events.channel import EventChannel
from origin.events.disk_history import EventHistory
from origin.events.limits import EventLimits
from packager.safe_files import DataFolder
from tests.event_server import LIMIT, a_channel

LIMITS = EventLimits(
    restore_seconds=LIMIT, stored_seconds=LIMIT, history_retry_seconds=0.05, history_look_seconds=0.05
)


@contextlib.asynccontextmanager
async def kept(
    folder: Path, epoch: str, limits: EventLimits = LIMITS, **channel_limits: Any
) -> AsyncIterator[tuple[EventChannel, EventHistory]]:
    """Give a channel with its past, whose events are kept when the block ends."""
    channel = a_channel(epoch=epoch, **channel_limits)
    history = EventHistory(channel, DataFolder(folder) / "events" / "test", limits)
    running = asyncio.create_task(history.run())
    await history.wait_until_restored()
    try:
        yield channel, history
    finally:
        history.close()
        await running


def files_of(folder: Path) -> list[Path]:
    files = (folder / "events" / "test").glob("*.events")
    return sorted(files, key=lambda path: int(path.stem))


def datas(channel: EventChannel) -> list[str]:
    return [event.data for event in channel.after(channel.since(None))]


def ids(channel: EventChannel) -> list[str]:
    return [event.identity for event in channel.after(channel.since(None))]
