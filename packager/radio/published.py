"""A station whose audio a source client brings: at most one at a time, and silence between two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from packager.radio.audio_blocks import AudioBlock
from packager.radio.intake import INTAKE_BYTES, Throttle, intake_of
from packager.radio.limits import IntakeLimits
from packager.radio.station_info import NOTHING, Announcement
from packager.step_budget import StepBudget


class InUseError(Exception):
    """Another source client is there already."""


class Published:
    """What source clients send; see ``blocks``.

    Args:
        bitrate: kbit/s that is told until a frame tells it.
        media_type: that is told until a source tells it.
        limits: how far a source may be from real time.

    Attributes:
        announced: what the newest source said of itself.
    """

    def __init__(
        self, bitrate: int, media_type: str = "audio/mpeg", limits: IntakeLimits | None = None
    ) -> None:
        self._told = bitrate
        self._limits = limits = limits or IntakeLimits()
        self._queue: asyncio.Queue[AudioBlock] = asyncio.Queue(limits.queue_blocks)
        self._session: Session | None = None
        self.media_type = media_type
        self.announced = NOTHING

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return (self._session.intake.bitrate if self._session else 0) or self._told

    @property
    def available(self) -> bool:
        """Whether a source is there, or its last audio still on the way."""
        return self._session is not None or not self._queue.empty()

    def connect(self, media_type: str, bitrate: int = 0, announced: Announcement = NOTHING) -> Session:
        """Let a source in.

        Args:
            media_type: of what it says that it will send.
            bitrate: the same, in kbit/s; 0 when it doesn't say.
            announced: what it says of itself.

        Raises:
            InUseError: one is there.
        """
        if self._session is not None:
            raise InUseError
        self.media_type, self._told = media_type, bitrate or self._told
        self.announced = announced
        self._session = Session(self, media_type, self._limits)
        return self._session

    def set_title(self, title: str) -> bool:
        """Set the title of what comes from now on; False when there is no source."""
        if self._session is None:
            return False
        self._session.retitle(title)
        return True

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give what sources send, at real time, for ever."""
        while True:
            yield await self._queue.get()

    async def put(self, block: AudioBlock) -> None:
        """Take a block from the session, which waits while the mount has enough."""
        await self._queue.put(block)

    def leave(self, session: Session) -> None:
        """Let the session's source go."""
        if self._session is session:
            self._session = None


class Session:
    """One source's stay, from connecting to ``close``."""

    def __init__(self, station: Published, media_type: str, limits: IntakeLimits) -> None:
        self._station = station
        self._throttle = Throttle(limits)
        self._early: list[AudioBlock] = []
        self._budget = StepBudget()
        self.intake = intake_of(media_type)

    async def feed(self, data: bytes) -> None:
        """Take bytes of the source, waiting where it is far ahead of real time.

        Raises:
            MediaError: it isn't audio that a mount carries.
        """
        async for portion in self._budget.portions(data, INTAKE_BYTES):
            await self._send(self.intake.receive(portion))

    def retitle(self, title: str) -> None:
        """Begin a new block with this title."""
        self._early += self.intake.retitle(title)

    async def finish(self) -> None:
        """Send on what the source has left, at its orderly end.

        Raises:
            MediaError: it sent no audio at all.
        """
        await self._send(self.intake.finish())

    def close(self) -> None:
        """Make room for the next source."""
        self._station.leave(self)

    async def _send(self, blocks: list[AudioBlock]) -> None:
        early, self._early = self._early, []
        for block in (*early, *blocks):
            await self._throttle.wait(block)
            await self._station.put(block)
