"""A station whose audio comes from Icecast source clients, at most one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from packager.concurrency import wait_within
from packager.radio.audio_blocks import AudioBlock, Throttle
from packager.radio.audio_source import NO_STATION_INFO, StationInfo
from packager.radio.limits import LiveSourceLimits
from packager.radio.mpeg_block_reader import block_reader_for
from packager.step_budget import AUDIO_PORTION_BYTES, StepBudget

QUEUE_BLOCKS = 4
"""Most blocks that wait for the mount; beyond, the source waits."""


class InUseError(Exception):
    """A source client is connected already."""


class SourceClientStation:
    """The audio of whichever source client is connected.

    Args:
        bitrate: kbit/s, reported until a frame has one.
        media_type: reported until a source client declares one.

    Attributes:
        trouble: empty, as who sends knows best.
        station_info: the newest source client's description of the station.
    """

    trouble = ""

    def __init__(
        self, bitrate: int, media_type: str = "audio/mpeg", limits: LiveSourceLimits | None = None
    ) -> None:
        self._configured = bitrate
        self._told = 0
        self._limits = limits = limits or LiveSourceLimits()
        self._queue: asyncio.Queue[AudioBlock] = asyncio.Queue(QUEUE_BLOCKS)
        self._session: SourceClientSession | None = None
        self._changed = asyncio.Event()
        self.media_type = media_type
        self.station_info = NO_STATION_INFO

    @property
    def bitrate(self) -> int:
        """In kbit/s: of the frames, or as the source declares, or the average; else as configured."""
        if self._session is None:
            return self._configured
        reader = self._session.reader
        return reader.bitrate or self._told or reader.average_bitrate or self._configured

    @property
    def is_idle(self) -> bool:
        """Whether the station waits for a source client; the last one's audio may still be playing."""
        return self._session is None

    @property
    def available(self) -> bool:
        """Whether a source client is connected, or its last audio is still queued."""
        return self._session is not None or not self._queue.empty()

    @property
    def live(self) -> SourceClientSession | None:
        """The source client that is connected; None for none."""
        return self._session

    @property
    def has_publisher(self) -> bool:
        """Whether what a source client has sent is still to be heard."""
        return self.available

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until a source client comes or leaves, but no longer than for some time."""
        self._changed.clear()
        await wait_within(seconds, self._changed.wait())

    def connect(
        self, media_type: str, bitrate: int = 0, station_info: StationInfo = NO_STATION_INFO
    ) -> SourceClientSession:
        """Accept a source client.

        Args:
            media_type: its declared Content-Type.
            bitrate: its declared kbit/s; 0 for none.
            station_info: the description of the station in its header fields.

        Raises:
            InUseError: another source client is connected.
        """
        if self._session is not None:
            raise InUseError
        self.media_type, self._told = media_type, bitrate
        self.station_info = station_info
        self._session = SourceClientSession(self, media_type, self._limits)
        self._changed.set()
        return self._session

    def set_title(self, title: str) -> bool:
        """Set the title of the audio from now on; return False without a source client."""
        if self._session is None:
            return False
        self._session.retitle(title)
        return True

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield blocks at real time, for ever."""
        while True:
            yield await self._queue.get()

    async def put(self, block: AudioBlock) -> None:
        """Queue a block of the session; waits while the queue is full."""
        await self._queue.put(block)

    def leave(self, session: SourceClientSession) -> None:
        """Disconnect a session, if it is the current one."""
        if self._session is session:
            self._session = None
            self._changed.set()


class SourceClientSession:
    """The connection of a source client, from ``connect`` to ``close``.

    Attributes:
        began: when the source client came, in seconds since the epoch.
        budget: computing time between two waits.
    """

    def __init__(self, station: SourceClientStation, media_type: str, limits: LiveSourceLimits) -> None:
        self._station = station
        self.began = time.time()
        self._throttle = Throttle(limits)
        self._early: list[AudioBlock] = []
        self.budget = StepBudget()
        self.reader = block_reader_for(media_type)

    async def feed(self, data: bytes) -> None:
        """Parse bytes, and wait if the source is far ahead of real time.

        Raises:
            MediaError: they aren't audio that a mount carries.
        """
        async for portion in self.budget.portions(data, AUDIO_PORTION_BYTES):
            await self._send(self.reader.receive_data(portion))

    def retitle(self, title: str) -> None:
        """Begin a new block with this title."""
        self._early += self.reader.retitle(title)

    async def finish(self) -> None:
        """Send what is left at the orderly end of the stream.

        Raises:
            MediaError: there was no audio at all.
        """
        await self._send(self.reader.finish())

    def close(self) -> None:
        """Make room for the next source client."""
        self._station.leave(self)

    async def _send(self, blocks: list[AudioBlock]) -> None:
        early, self._early = self._early, []
        for block in (*early, *blocks):
            await self._throttle.wait(block)
            await self._station.put(block)
