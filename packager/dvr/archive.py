"""A channel's DVR: what its windows finish goes to disk, and the next process's windows take it up again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from fractions import Fraction
from pathlib import Path

import structlog

from packager.beside import beside
from packager.dvr import cadencenote
from packager.dvr.files import clear
from packager.dvr.folder import Folder
from packager.dvr.restore import Found, last_number, line_up, within
from packager.dvr.shelf import MAX_WAITING_BYTES, Put, Queue, Removal, RenditionShelf
from packager.dvr.trouble import Trouble
from packager.dvr.writer import Writer
from packager.live.ladder import Cadence
from packager.live.window import Window

log = structlog.get_logger()

DRAIN_SECONDS = 2.0
"""How long the channel's end waits for what is finished to be on disk."""

SETTLE_SECONDS = 30.0
"""How long the end of an event waits for the same."""

CADENCE = "cadence"
"""File that tells for which times the segments were cut."""

FORMER = "former"
"""Folder of the segments of another cadence, of which there is one generation."""


class Archive:
    """The DVR of one channel.

    Args:
        path: its folder.
        channel: the channel's name, for the log.
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of
            them are listed, for what has left the list stays fetchable as long again (§6.2.2).
        max_waiting: most bytes of segments that wait in memory for the disk, behind the live edge.
    """

    def __init__(
        self, path: Path, channel: str, max_bytes: int = 0, max_waiting: int = MAX_WAITING_BYTES
    ) -> None:
        self._path = path
        self._channel = channel
        self._trouble = Trouble(channel)
        self._queue = Queue(self._trouble, max_waiting)
        self._shelves: dict[str, RenditionShelf] = {}
        self._writer = Writer(self._queue, self._shelves, self._trouble, max_bytes)
        self._found: dict[str, Found] = {}

    @property
    def trouble(self) -> str:
        """Why segments aren't stored as they should be; empty while they are."""
        return self._trouble.reason

    @property
    def waiting(self) -> int:
        """Bytes of the segments that wait in memory behind the live edge."""
        return self._queue.waiting

    async def load(self, cadence: Cadence, names: Iterable[str]) -> int:
        """Read what earlier processes left.

        Args:
            cadence: the channel's; what was cut for another one is set aside.
            names: the renditions'.

        Returns:
            The last number that any of them used; -1 where there is nothing.
        """
        self._shelves.clear()
        self._shelves.update((name, RenditionShelf(self._queue, Folder(self._path / name))) for name in names)
        try:
            self._found = await asyncio.to_thread(self._load, cadence)
        except OSError as error:
            self._found = {name: Found({}, {}) for name in self._shelves}
            self._trouble.failed(str(error))
        troubles = sum(shelf.folder.troubles for shelf in self._shelves.values())
        if troubles:
            log.warning("DVR put in order", channel=self._channel, faults=troubles, aside=str(self._path))
        return last_number(self._found)

    async def noted(self) -> Cadence | None:
        """Tell for which times earlier processes cut what is here; None where that isn't known."""
        try:
            data = await asyncio.to_thread(self._read_note)
        except OSError:
            return None  # ``load`` meets the same, and says so
        return cadencenote.decode(data)

    def _read_note(self) -> bytes:
        with (self._path / CADENCE).open("rb") as file:
            return file.read(cadencenote.MAX_NOTE_BYTES)

    def _load(self, cadence: Cadence) -> dict[str, Found]:
        self._path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            noted = cadencenote.decode(self._read_note())
            if noted is None or not cadencenote.lists_alike(noted, cadence):
                self._retire_all()
        found = {name: shelf.folder.load() for name, shelf in self._shelves.items()}
        note = self._path / CADENCE
        temporary = note.with_suffix(".tmp")
        temporary.write_bytes(cadencenote.encode(cadence))
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

    def restore(
        self, windows: dict[str, Window], next_number: int, segment_duration: Fraction, now: Fraction
    ) -> None:
        """Let new windows take up what ``load`` found.

        Args:
            windows: by rendition.
            next_number: with which they go on.
            segment_duration: seconds for which a gap stands.
            now: seconds since the epoch: what comes next doesn't begin before it.
        """
        for name, window in windows.items():
            self._shelves[name].window, self._shelves[name].left = window, window.discontinuity_sequence
        found, self._found = self._found, {}
        self._writer.used = sum(line.size for one in found.values() for line in one.lines.values())
        kept = max(window.kept for window in windows.values())
        if not within(found, next_number, segment_duration, kept):
            self._forget(found)
            return
        segments, sequence = line_up(found, next_number, segment_duration, now)
        last = last_number(found)
        for name, window in windows.items():
            window.restore(segments[name], next_number, sequence)
            shelf = self._shelves[name]
            shelf.left = sequence + sum(segment.discontinuity for segment in segments[name])
            for gap in segments[name][last + 1 - next_number :] if last + 1 < next_number else ():
                # What it says never changes, over the next restart either.
                if gap.duration != segment_duration:
                    self._queue.put(Put(shelf, gap.number, shelf.left))

    def _forget(self, found: dict[str, Found]) -> None:
        for name, one in found.items():
            for number in one.lines:
                self._queue.remove(Removal(self._shelves[name], number, ()))
            self._queue.remove(Removal(self._shelves[name], -1, tuple(one.timelines)))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the context is open, and for a moment behind it."""
        async with beside(self._writer.run()):
            try:
                yield
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await self._queue.idle()

    async def settle(self) -> None:
        """Wait until all that is finished is on disk, or the disk took too long for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._queue.idle()
