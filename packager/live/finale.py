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

from packager.dvr.files import clear, write_whole
from packager.dvr.folder import INDEX
from packager.recordings import note as notes
from packager.recordings.collection import Recordings, Retention
from packager.recordings.note import Ending

log = structlog.get_logger()

ENDED = "ended"
"""File in the channel's folder that says that its event is over, and what is needed to record it."""

DVR = "dvr"
RECORDINGS = "recordings"
GONE = ".gone"
"""Folder of what is being removed."""

END_SECONDS = 10.0
"""How long who ends an event waits for its recording, which a slow disk may take longer for."""

MAX_ENDING_BYTES = 4 << 20
"""Longest such file that is read: 500 date ranges have less than 2 MiB."""


class Finale:
    """Whether a channel's event is over.

    Args:
        channel: the channel's name, for the log.
        data: the channel's folder on disk, or None.
        retention: for how long recordings stay; None: the channel has no DVR, and nothing is recorded.

    Attributes:
        recordings: of its events; None where nothing is recorded.
        over: set from the moment on in which the event is to end.
        trouble: why the last event couldn't be recorded; or empty.
    """

    def __init__(self, channel: str, data: Path | None, retention: Retention | None) -> None:
        self._channel = channel
        self._data = data
        self.trouble = ""
        self.recordings: Recordings | None = None
        if data is not None and retention is not None:
            self.recordings = Recordings(data / RECORDINGS, channel, retention)
        self.over = asyncio.Event()
        self._resting = asyncio.Event()
        self._again = asyncio.Event()

    async def end(self) -> bool:
        """End the event, and wait for its recording; False where that takes longer than anybody waits."""
        self.over.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._resting.wait()
        return self._resting.is_set()

    def begin(self) -> bool:
        """Begin another event, once the last one is over; False while it isn't to end."""
        if self.over.is_set():
            self._again.set()
        return self.over.is_set()

    def close(self) -> None:
        """Release who waits for the end."""
        self._resting.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Find the recordings, and keep to their retention while the context is open."""
        if self.recordings is None:
            yield
            return
        await self.recordings.load()
        async with self.recordings.running():
            yield

    async def recall(self) -> Ending | None:
        """Tell what an earlier process noted at its event's end; finish its recording."""
        if self._data is None:
            return None
        try:
            ending = await asyncio.to_thread(self._recall, self._data)
        except OSError as error:
            log.warning("end of the event can't be read", channel=self._channel, reason=str(error))
            return None
        if ending is not None:
            self.over.set()
            if not ending.sealed:
                await self.seal(ending)
        return ending

    def _recall(self, data: Path) -> Ending | None:
        clear(data / GONE)
        with contextlib.suppress(FileNotFoundError), (data / ENDED).open("rb") as file:
            return notes.decode_ending(file.read(MAX_ENDING_BYTES))
        return None

    async def seal(self, ending: Ending) -> None:
        """Note the end of the event, and record it."""
        if self._data is None:
            return
        try:
            await asyncio.to_thread(self._note, self._data, ending)
            if self.recordings is not None and ending.master:
                await self.recordings.seal(self._data / DVR, ending)
            await asyncio.to_thread(self._note, self._data, notes.sealed(ending))
        except OSError as error:
            self.trouble = error.strerror or str(error)
            log.warning("event can't be recorded", channel=self._channel, reason=self.trouble)

    @staticmethod
    def _note(data: Path, ending: Ending) -> None:
        data.mkdir(parents=True, exist_ok=True)
        write_whole(data / ENDED, notes.encode(ending))

    async def rest(self) -> None:
        """Wait until another event is to begin, and remove what was served of the last one."""
        log.info("event is over", channel=self._channel)
        self._resting.set()
        await self._again.wait()
        self._again.clear()
        self._resting.clear()
        self.over.clear()
        self.trouble = ""
        if self._data is not None:
            try:
                await asyncio.to_thread(_forget, self._data)
            except OSError as error:
                log.warning("the last event can't be removed", channel=self._channel, reason=str(error))
        log.info("event begins", channel=self._channel)


def _forget(data: Path) -> None:
    """Remove an event's DVR; its recording has links of its own to the segments."""
    (data / GONE).mkdir(exist_ok=True)
    for index in list((data / DVR).glob(f"*/{INDEX}")):
        index.parent.rename(data / GONE / index.parent.name)
    (data / ENDED).unlink(missing_ok=True)
    clear(data / GONE)
