"""A channel's DVR: what its windows finish goes to disk, in order and off the event loop.

The channel never waits for the disk. A segment that isn't on disk when it leaves memory is a gap in the DVR,
and nothing else: what is live goes on from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import msgspec
import structlog

from packager.dvr.files import clear
from packager.dvr.folder import Folder
from packager.dvr.index import stored_of
from packager.dvr.restore import Found, last_number, line_up, within
from packager.live.ladder import Cadence
from packager.live.window import LiveSegment, Window

log = structlog.get_logger()

QUEUE_SEGMENTS = 32
"""Most finished segments of a channel that wait for the disk; those beyond aren't stored."""

ATTEMPTS = 3
"""How often a segment is written where removing the oldest ones may make room for it."""

CALM_WRITES = 20
"""So many segments stored without trouble end it."""

DRAIN_SECONDS = 2.0
"""How long the channel's end waits for what is finished to be on disk."""

SETTLE_SECONDS = 30.0
"""How long the end of an event waits for the same."""

CADENCE = "cadence"
"""File that tells for which times the segments were cut."""

FORMER = "former"
"""Folder of the segments of another cadence, of which there is one generation."""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT))


@dataclass(frozen=True, slots=True)
class _Put:
    """A segment to store."""

    shelf: RenditionShelf
    segment: LiveSegment
    left: int


@dataclass(frozen=True, slots=True)
class _Removal:
    """A segment to remove, with init segments.

    Attributes:
        oldest: whether there is none before it.
    """

    shelf: RenditionShelf
    number: int
    timelines: Sequence[int]
    oldest: bool = True


class RenditionShelf:
    """One rendition's shelf, as windows know it.

    Args:
        archive: the channel's.
        folder: the rendition's.

    Attributes:
        window: the rendition's.
        left: discontinuities before the next segment.
    """

    def __init__(self, archive: Archive, folder: Folder) -> None:
        self._archive = archive
        self.folder = folder
        self.window: Window | None = None
        self.left = 0
        self._base = f"{folder.path}/"

    def put(self, segment: LiveSegment) -> None:
        """Begin to store a segment, or note a gap."""
        left, self.left = self.left, self.left + segment.discontinuity
        self._archive.put(_Put(self, segment, left))

    def remove(self, number: int, timelines: Sequence[int]) -> None:
        """Begin to remove a segment, or the note of a gap, and the init segments of these timelines."""
        self._archive.remove(_Removal(self, number, timelines))

    def path(self, number: int) -> str:
        """Tell where a stored segment is."""
        return self._base + self.folder.name_of(number)


class Archive:
    """The DVR of one channel.

    Args:
        path: its folder.
        channel: the channel's name, for the log.
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for.

    Attributes:
        trouble: why segments aren't stored as they should be; empty while they are.
        used: bytes of the stored segments.
    """

    def __init__(self, path: Path, channel: str, max_bytes: int = 0) -> None:
        self._path = path
        self._channel = channel
        self._max_bytes = max_bytes
        self.trouble = ""
        self.used = 0
        self._calm = 0
        self._puts: deque[_Put] = deque()
        self._removals: deque[_Removal] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._shelves: dict[str, RenditionShelf] = {}
        self._found: dict[str, Found] = {}

    async def load(self, cadence: Cadence, names: Iterable[str]) -> int:
        """Read what earlier processes left.

        Args:
            cadence: the channel's; what was cut for another one is set aside.
            names: the renditions'.

        Returns:
            The last number that any of them used; -1 where there is nothing.
        """
        self._shelves = {name: RenditionShelf(self, Folder(self._path / name)) for name in names}
        try:
            self._found = await asyncio.to_thread(self._load, cadence)
        except OSError as error:
            self._found = {name: Found({}, {}) for name in self._shelves}
            self._failed(str(error))
        troubles = sum(shelf.folder.troubles for shelf in self._shelves.values())
        if troubles:
            log.warning("DVR put in order", channel=self._channel, faults=troubles, aside=str(self._path))
        return last_number(self._found)

    def _load(self, cadence: Cadence) -> dict[str, Found]:
        self._path.mkdir(parents=True, exist_ok=True)
        times = (cadence.segment_duration, cadence.part_target, Fraction(cadence.target_duration))
        wanted = msgspec.json.encode([one.as_integer_ratio() for one in times])
        note = self._path / CADENCE
        with contextlib.suppress(FileNotFoundError):
            if note.read_bytes() != wanted:
                self._retire_all()
        found = {name: shelf.folder.load() for name, shelf in self._shelves.items()}
        temporary = note.with_suffix(".tmp")
        temporary.write_bytes(wanted)
        temporary.replace(note)
        return found

    def _retire_all(self) -> None:
        """Set aside what can't be listed beside what comes: TARGETDURATION is for ever (§4.4.3.1)."""
        former = self._path / FORMER
        for name, shelf in self._shelves.items():
            if shelf.folder.path.exists():
                clear(former / name)
                former.mkdir(exist_ok=True)
                shelf.folder.path.rename(former / name)
        log.warning("DVR of other segment durations set aside", channel=self._channel, folder=str(former))

    def shelf(self, name: str) -> RenditionShelf:
        """Give a rendition's shelf; ``load`` has made it."""
        return self._shelves[name]

    def restore(self, windows: dict[str, Window], next_number: int, segment_duration: Fraction) -> None:
        """Let new windows take up what ``load`` found.

        Args:
            windows: by rendition.
            next_number: with which they go on.
            segment_duration: seconds for which a gap stands.
        """
        for name, window in windows.items():
            self._shelves[name].window = window
        found, self._found = self._found, {}
        self.used = sum(line.size for one in found.values() for line in one.lines.values())
        kept = max(window.kept for window in windows.values())
        if not within(found, next_number, segment_duration, kept):
            self._forget(found)
            return
        segments, sequence = line_up(found, next_number, segment_duration)
        for name, window in windows.items():
            window.restore(segments[name], next_number, sequence)
            shelf = self._shelves[name]
            shelf.left = sequence + sum(segment.discontinuity for segment in segments[name])

    def _forget(self, found: dict[str, Found]) -> None:
        for name, one in found.items():
            for number in one.lines:
                self.remove(_Removal(self._shelves[name], number, ()))
            self.remove(_Removal(self._shelves[name], -1, tuple(one.timelines)))

    def put(self, put: _Put) -> None:
        """Queue a segment for the disk."""
        if len(self._puts) >= QUEUE_SEGMENTS:
            self._failed("the disk is too slow")
            return
        self._puts.append(put)
        self._wake()

    def remove(self, removal: _Removal) -> None:
        """Queue a segment for removal; there are never more than were stored."""
        self._removals.append(removal)
        self._wake()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the context is open, and for a moment behind it."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run())
            try:
                yield
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await self._idle.wait()
                task.cancel()

    async def settle(self) -> None:
        """Wait until all that is finished is on disk, or the disk took too long for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._idle.wait()

    async def _run(self) -> None:
        while True:
            self._work.clear()
            await self._remove_all()
            if self._puts:
                await self._store(self._puts.popleft())
            elif not self._work.is_set():
                self._idle.set()
                await self._work.wait()

    async def _store(self, put: _Put) -> None:
        window, folder = put.shelf.window, put.shelf.folder
        for _ in range(ATTEMPTS):
            try:
                line = await asyncio.to_thread(folder.store, put.segment, put.left)
                break
            except OSError as error:
                self._failed(error.strerror or str(error))
                if error.errno not in _NO_ROOM or not self._shorten():
                    return
                await self._remove_all()
        else:
            return
        if not line.parts or window is None:
            return
        self.used += line.size
        if not window.confirm(put.segment.number, stored_of(line)):
            # It came too late: it is a gap in the playlist, and stays one.
            gap = msgspec.structs.replace(put.segment, parts=(), data=b"", gap=True)
            self.remove(_Removal(put.shelf, put.segment.number, (), oldest=False))
            self._puts.appendleft(replace(put, segment=gap))
            self._failed("the disk is too slow")
            return
        self._succeeded()
        while self._max_bytes and self.used > self._max_bytes and self._shorten():
            await self._remove_all()

    async def _remove_all(self) -> None:
        removals = list(self._removals)
        self._removals.clear()
        if removals:
            try:
                self.used -= await asyncio.to_thread(_remove, removals)
            except OSError as error:
                self._failed(str(error))

    def _shorten(self) -> bool:
        """Let all renditions forget the oldest number; False when nothing is left to forget."""
        windows = [shelf.window for shelf in self._shelves.values() if shelf.window is not None]
        oldest = min(window.oldest_number for window in windows)
        shortened = [window.shorten() for window in windows if window.oldest_number == oldest]
        return any(shortened)

    def _failed(self, reason: str) -> None:
        if not self.trouble:
            log.warning("DVR isn't kept", channel=self._channel, reason=reason)
        self.trouble, self._calm = reason, 0

    def _succeeded(self) -> None:
        self._calm += 1
        if self.trouble and self._calm >= CALM_WRITES:
            self.trouble = ""
            log.info("DVR is kept again", channel=self._channel)


def _remove(removals: Sequence[_Removal]) -> int:
    return sum(one.shelf.folder.remove(one.number, one.timelines, oldest=one.oldest) for one in removals)
