"""A channel's DVR: what its windows finish goes to disk, and the next process's windows take it up again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from fractions import Fraction
from pathlib import Path

import structlog

from packager.concurrency import beside
from packager.data_folder import DataFolder, NotOursError, OpenFolder
from packager.dvr import cadence_note
from packager.dvr.folder import Faults, Folder, Survey
from packager.dvr.own_files import erase_in
from packager.dvr.rebuild import Dates
from packager.dvr.restore import Found, Reach, is_recent, last_number, line_up, reach, within
from packager.dvr.trouble import Trouble
from packager.dvr.write_queue import MAX_WAITING_BYTES, Put, Removal, RenditionStore, WriteQueue
from packager.dvr.writer import Writer
from packager.window.cadence import Cadence
from packager.window.writer import RenditionWriter

log = structlog.get_logger()

DRAIN_SECONDS = 2.0
"""How long the channel's end waits for what is finished to be on disk."""

SETTLE_SECONDS = 30.0
"""How long the end of an event waits for the same."""

CADENCE = "cadence"
"""File that tells for which times the segments were cut."""

FORMER = "former"
"""Folder of the segments that can't be listed beside what comes, of which there is one generation."""

MAX_FORMER = 16
"""Most folders of one rendition in there: of earlier generations what isn't ours stays."""


class Archive:
    """The DVR of one channel.

    Args:
        place: its folder.
        channel: the channel's name, for the log.
        max_bytes: most bytes of segments that are kept; 0: as many as the window's time asks for. Half of
            them are listed, for what has left the list stays fetchable as long again (§6.2.2).
        max_waiting: most bytes of segments that wait in memory for the disk, behind the live edge.
    """

    def __init__(
        self,
        place: Path | DataFolder,
        channel: str,
        max_bytes: int = 0,
        max_waiting: int = MAX_WAITING_BYTES,
    ) -> None:
        self._place = DataFolder.at(place)
        self._channel = channel
        self._trouble = Trouble(channel)
        self._queue = WriteQueue(self._trouble, max_waiting)
        self._segment_stores: dict[str, RenditionStore] = {}
        self._writer = Writer(self._queue, self._segment_stores, self._trouble, max_bytes)
        self._found: dict[str, Found] = {}
        self._counted = True

    @property
    def trouble(self) -> str:
        """Why segments aren't stored as they should be; empty while they are."""
        refused = (
            segment_store.refused for segment_store in self._segment_stores.values() if segment_store.refused
        )
        return self._trouble.reason or next(refused, "")

    @property
    def newest(self) -> tuple[int, float] | None:
        """The last number that ``load`` found, and when that segment was over; None where it found none."""
        last = last_number(self._found)
        found = (one.lines[last] for one in self._found.values() if last in one.lines)
        line = next(found, None)
        return None if line is None else (last, float(Fraction(*line.date) + Fraction(*line.duration)))

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
        self._segment_stores.clear()
        self._segment_stores.update(
            (name, RenditionStore(self._queue, Folder(self._place / name))) for name in names
        )
        try:
            self._found = await asyncio.to_thread(self._load, cadence)
        except OSError as error:
            self._found = {name: Found({}, {}) for name in self._segment_stores}
            self._trouble.failed(str(error))
        for name, segment_store in self._segment_stores.items():
            self._tell(name, segment_store.folder.faults)
        return last_number(self._found)

    def _tell(self, name: str, faults: Faults) -> None:
        if faults.count:
            log.warning(
                "DVR put in order",
                channel=self._channel,
                rendition=name,
                faults=faults.count,
                unreadable_lines=faults.unreadable,
                missing=faults.missing,
                rebuilt=faults.rebuilt,
                aside=faults.aside,
                left_as_they_are=faults.stuck,
                places=faults.places,
            )

    async def noted(self) -> Cadence | None:
        """Tell for which times earlier processes cut what is here; None where that isn't known."""
        try:
            data = await asyncio.to_thread(self._read_note)
        except OSError:
            return None  # ``load`` meets the same, and says so
        return cadence_note.decode(data)

    def _read_note(self) -> bytes:
        with self._place.open() as folder:
            return folder.read(CADENCE, cadence_note.MAX_NOTE_BYTES)

    def _load(self, cadence: Cadence) -> dict[str, Found]:
        with self._place.open(make=True) as folder:
            noted = self._noted(folder)
            surveys = self._survey(cadence)
            if noted is None:
                lines = (line for survey in surveys.values() for line in survey.lines.values())
                alike = cadence_note.may_be_cut_for((Fraction(*line.duration) for line in lines), cadence)
            else:
                alike = cadence_note.lists_alike(noted, cadence)
            if not alike:
                self._retire_all(folder)
                surveys = self._survey(cadence)
            dates = Dates()
            if any(survey.lost for survey in surveys.values()):
                for survey in surveys.values():
                    dates.learn(survey.lines.values(), survey.timelines)
                self._counted = dates.counted
            found = {name: Found({}, {}) for name in self._segment_stores}
            for name, survey in surveys.items():
                found[name] = self._segment_stores[name].folder.settle(survey, dates)
            folder.write_whole(CADENCE, cadence_note.encode(cadence))
        return found

    def _noted(self, folder: OpenFolder) -> Cadence | None:
        """Read the note; one that can't be read is moved aside, and the segments tell instead."""
        try:
            noted = cadence_note.decode(folder.read(CADENCE, cadence_note.MAX_NOTE_BYTES))
        except FileNotFoundError:
            return None
        except NotOursError:
            noted = None
        if noted is None:
            aside = folder.set_aside([CADENCE])
            log.warning("note of the DVR's times can't be read", channel=self._channel, aside=aside)
        return noted

    def _survey(self, cadence: Cadence) -> dict[str, Survey]:
        """Look at the folders; one whose place something else has is left alone, and nothing stored in it."""
        surveys = {}
        for name, segment_store in self._segment_stores.items():
            try:
                surveys[name] = segment_store.folder.survey(cadence.target_duration)
            except NotOursError as error:
                segment_store.refused = str(error)
                log.warning("rendition has no DVR", channel=self._channel, rendition=name, reason=str(error))
        return surveys

    def _retire_all(self, folder: OpenFolder) -> None:
        """Set aside what can't be listed beside what comes: TARGETDURATION is for ever (§4.4.3.1)."""
        for name, segment_store in self._segment_stores.items():
            if not segment_store.refused:
                self._retire(folder, name)
        former = folder.place_of(FORMER)
        log.warning("DVR of other segment durations set aside", channel=self._channel, folder=former)

    @staticmethod
    def _retire(folder: OpenFolder, name: str) -> None:
        with folder.folder(FORMER, make=True) as former:
            if former.status(name) is not None:
                with contextlib.suppress(NotOursError):
                    erase_in(former, name)
            folder.move(name, former, former.free_name(name, MAX_FORMER))

    def segment_store(self, name: str) -> RenditionStore:
        """Give a rendition's store; ``load`` has made it."""
        return self._segment_stores[name]

    def restore(
        self, writers: dict[str, RenditionWriter], next_number: int, segment_duration: Fraction, now: Fraction
    ) -> None:
        """Let new windows take up what ``load`` found.

        Args:
            writers: by rendition.
            next_number: with which they go on.
            segment_duration: seconds for which a gap stands.
            now: seconds since the epoch: what comes next doesn't begin before it.
        """
        for name, writer in writers.items():
            segment_store = self._segment_stores[name]
            segment_store.writer, segment_store.left = writer, writer.window.discontinuity_sequence
        found, self._found = self._found, {}
        self._writer.used = _bytes_of(found)
        kept = max(writer.window.kept for writer in writers.values())
        if not within(found, next_number, segment_duration, kept):
            self._leave(found, recent=is_recent(found, now, kept))
            return
        found = self._reachable(found, reach(found, next_number, segment_duration, kept))
        segments, sequence = line_up(found, next_number, segment_duration, now)
        if not self._counted:
            # Nothing tells how many there were before: more than were ever said (§6.2.2).
            sequence += max(writer.window.discontinuity_sequence for writer in writers.values())
        last = last_number(found)
        for name, writer in writers.items():
            writer.restore(segments[name], next_number, sequence)
            segment_store = self._segment_stores[name]
            segment_store.left = sequence + sum(segment.discontinuity for segment in segments[name])
            for gap in segments[name][last + 1 - next_number :] if last + 1 < next_number else ():
                # What it says never changes, over the next restart either.
                if gap.duration != segment_duration and not segment_store.refused:
                    self._queue.put(Put(segment_store, gap.number, segment_store.left))

    def _leave(self, found: dict[str, Found], *, recent: bool) -> None:
        """Let go of all that was found, behind which numbers go on too far away."""
        if not recent:
            self._forget(found)
            return
        try:
            with self._place.open() as folder:
                for name, one in found.items():
                    if one.lines:
                        self._retire(folder, name)
                        self._segment_stores[name].folder.load()
            self._writer.used = 0
        except OSError as error:
            self._trouble.failed(str(error))
        log.warning("DVR of numbers that are too far away set aside", channel=self._channel, folder=FORMER)

    def _reachable(self, found: dict[str, Found], limit: Reach) -> dict[str, Found]:
        """Let go of what can't be listed for its number; what there was no time for isn't removed."""
        gone = {
            name: Found({n: line for n, line in one.lines.items() if n < limit.first}, {})
            for name, one in found.items()
        }
        if not any(one.lines for one in gone.values()):
            return found
        if limit.elapsed:
            self._forget(gone)
        else:
            self._put_aside(gone)
        return {
            name: Found({n: line for n, line in one.lines.items() if n >= limit.first}, one.timelines)
            for name, one in found.items()
        }

    def _put_aside(self, gone: dict[str, Found]) -> None:
        numbers = {name: [n for n, line in one.lines.items() if line.parts] for name, one in gone.items()}
        try:
            for name, each in numbers.items():
                if each:
                    self._segment_stores[name].folder.put_aside(each)
            self._writer.used -= _bytes_of(gone)
        except OSError as error:
            self._trouble.failed(str(error))
        count = sum(map(len, numbers.values()))
        log.warning(
            "DVR's numbers have a hole for which there was no time", channel=self._channel, aside=count
        )

    def _forget(self, found: dict[str, Found]) -> None:
        for name, one in found.items():
            for number, line in one.lines.items():
                self._queue.remove(Removal(self._segment_stores[name], number, line.size, ()))
            if one.timelines:
                self._queue.remove(Removal(self._segment_stores[name], -1, 0, tuple(one.timelines)))

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


def _bytes_of(found: dict[str, Found]) -> int:
    return sum(line.size for one in found.values() for line in one.lines.values())
