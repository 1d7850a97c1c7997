"""The end of a channel's event, what is recorded of it, and the beginning of the next one.

A channel that was ended stays so, over restarts of the process too where there is a data folder, until it is
begun again. Until then its live addresses go on to serve the event, with its end (EXT-X-ENDLIST).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from media.errors import MalformedError
from media.hls.date_range import DateRange, read_date_range
from packager.concurrency import wait_within
from packager.dvr.disk_archive import FORMER
from packager.dvr.index import INDEX
from packager.dvr.own_files import FOLDER_NAME, erase_in
from packager.live.limits import DEFAULT_LIMITS, LiveLimits
from packager.publish.channel_commands import RecordingState
from packager.publish.date_ranges import MAX_DATE_RANGES
from packager.recordings import metadata as metadata_files
from packager.recordings.disk_recordings import Recordings, Retention
from packager.recordings.metadata import EventEnd
from packager.safe_files import ASIDE, DataFolder, NotOursError, OpenFolder
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

ENDED = "ended"
"""File in the channel's folder that says that its event is over, and what is needed to record it."""

DVR = "dvr"
RECORDINGS = "recordings"
GONE = ".gone"
"""Folder of segments that are being removed; files of others stay in it."""

MAX_ENDING_BYTES = 4 << 20
"""Longest note of an event's end that is read."""

MAX_GONE_FOLDERS = 16
"""Most folders of one name that are set aside, with files of earlier events that the DVR hasn't written."""


class _Outcome:
    """The outcome of one event, for each request that ends the event.

    Attributes:
        recording: the state of its recording.
        is_told: set once nobody has to wait for that any more.
    """

    def __init__(self) -> None:
        self.recording = RecordingState.AWAITED
        self.is_told = asyncio.Event()

    def set_recording(self, recording: RecordingState) -> None:
        """Set the outcome of the recording."""
        self.recording = recording
        self.is_told.set()


class LiveEvent:
    """The state of a channel's event, and its recording when it ends.

    Args:
        channel: the channel's name, for the log.
        data: the channel's folder on disk, or None.
        retention: for how long recordings stay; None: the channel has no DVR, and nothing is recorded.
        seals: whether an event that is over becomes a recording; its DVR is then in the folder.
        limits: how long the end is waited for, and how much of its file is read.

    Attributes:
        recordings: the recordings of the channel's events; None where nothing is recorded.
        over: set once the event is to end.
        trouble: why the last event couldn't be recorded; or empty.
    """

    def __init__(
        self,
        channel: str,
        data: Path | DataFolder | None,
        retention: Retention | None,
        limits: LiveLimits = DEFAULT_LIMITS,
        *,
        seals: bool = True,
    ) -> None:
        self._limits = limits
        self._channel = channel
        self._seals = seals
        self._data = None if data is None else DataFolder.at(data)
        self.trouble = ""
        self.recordings: Recordings | None = None
        if self._data is not None and retention is not None:
            self.recordings = Recordings(self._data / RECORDINGS, channel, retention, limits.recordings)
        self.over = asyncio.Event()
        self._outcome = _Outcome()
        self._has_recording = False
        self._again = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the event has ended, and the next one isn't to begin yet."""
        return self.over.is_set() and not self._again.is_set()

    async def end(self) -> RecordingState:
        """End the event, and wait for its recording, but not for longer than anybody waits.

        An event that was to begin next, and hasn't begun yet, doesn't begin.
        """
        self.over.set()
        self._again.clear()
        # The outcome of this event, as another one may begin meanwhile.
        outcome = self._outcome
        await wait_within(self._limits.event_end_seconds, outcome.is_told.wait())
        return outcome.recording

    def begin(self) -> bool:
        """Begin another event once the last one is over; return False while the last one isn't to end."""
        if self.over.is_set():
            self._again.set()
        return self.over.is_set()

    def close(self) -> None:
        """Release requests that wait for the end; the next process makes an unfinished recording."""
        self._outcome.is_told.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Find the recordings, and keep to their retention while the context is open."""
        if self.recordings is None:
            yield
            return
        await self.recordings.load()
        async with self.recordings.running():
            yield

    async def load_ending(self) -> EventEnd | None:
        """Load what an earlier process noted when its event ended, and finish its recording."""
        if self._data is None:
            return None
        try:
            ending = await SHARED_THREADS.run(self._recall, self._data)
        except OSError as error:
            log.warning("the end of the last event can't be read", channel=self._channel, reason=str(error))
            return None
        if ending is not None:
            self.over.set()
            if ending.sealed:
                self._has_recording = bool(ending.master)
            else:
                await self.record(ending)
        return ending

    def _recall(self, data: DataFolder) -> EventEnd | None:
        with contextlib.suppress(FileNotFoundError), data.open() as folder:
            if folder.status(GONE) is not None and not erase_in(folder, GONE):
                log.info(
                    "a folder of removed segments has files of others, and stays",
                    channel=self._channel,
                    folder=folder.place_of(GONE),
                )
            try:
                ending = metadata_files.decode_ending(folder.read(ENDED, MAX_ENDING_BYTES))
            except NotOursError:
                ending = None
            if ending is None:
                aside = folder.set_aside([ENDED])
                log.warning(
                    "the file of the last event's end can't be read, and was set aside",
                    channel=self._channel,
                    aside=aside,
                )
            return ending
        return None

    async def record(self, ending: EventEnd) -> None:
        """Note the end of the event, and record it."""
        self._has_recording = False
        if self._data is None:
            return
        try:
            await SHARED_THREADS.run(self._write_end, self._data, ending)
            if self.recordings is not None and self._seals and ending.master:
                self._has_recording = await self.recordings.seal(self._data / DVR, ending)
            await SHARED_THREADS.run(self._write_end, self._data, metadata_files.sealed(ending))
        except OSError as error:
            self.trouble = error.strerror or str(error)
            log.warning("event can't be recorded", channel=self._channel, reason=self.trouble)

    @staticmethod
    def _write_end(place: Path | DataFolder, ending: EventEnd) -> None:
        with DataFolder.at(place).open(make=True) as folder:
            folder.write_whole(ENDED, metadata_files.encode(ending))

    async def wait_for_next(self) -> None:
        """Wait until another event is to begin, and remove what was served of the last one."""
        log.info("event is over", channel=self._channel)
        self._outcome.set_recording(RecordingState.MADE if self._has_recording else RecordingState.NONE)
        # A second request to end the event takes the request for another one back.
        while not self._again.is_set():
            await self._again.wait()
        self._again.clear()
        self._outcome = _Outcome()
        self.over.clear()
        self.trouble = ""
        if self._data is not None:
            try:
                await SHARED_THREADS.run(_forget, self._data, MAX_GONE_FOLDERS)
            except OSError as error:
                log.warning("the last event can't be removed", channel=self._channel, reason=str(error))
        log.info("event begins", channel=self._channel)


def read_date_ranges(ending: EventEnd) -> list[DateRange]:
    """Read the date ranges that an event's playlists had, but for damaged lines; it blocks."""
    found = []
    for line in ending.date_ranges[:MAX_DATE_RANGES]:
        with contextlib.suppress(MalformedError):
            found.append(read_date_range(line))
    return found


def _forget(data: DataFolder, most_gone: int) -> None:
    """Remove an event's DVR; its recording has links of its own to the segments."""
    with data.open(make=True) as folder, folder.folder(GONE, make=True) as gone:
        with contextlib.suppress(FileNotFoundError), folder.folder(DVR) as dvr:
            for name in _renditions(dvr):
                dvr.move(name, gone, gone.free_name(name, most_gone))
        folder.remove(ENDED)
    with data.open() as folder:
        erase_in(folder, GONE)


def _renditions(dvr: OpenFolder) -> list[str]:
    """Return the folders that hold a rendition's DVR."""
    names = (entry.name for entry in dvr.entries() if entry.is_dir(follow_symlinks=False))
    return [name for name in names if FOLDER_NAME.fullmatch(name) and _holds_dvr(dvr, name)]


def _holds_dvr(dvr: OpenFolder, name: str) -> bool:
    if name in (FORMER, ASIDE) or name.startswith("."):
        return False
    with dvr.folder(name) as folder:
        return folder.status(INDEX) is not None
