"""The input of a channel that pulls its source: the source, or a slate while the source is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from media.errors import MediaError
from packager.concurrency import background_task, receive_within, running_tasks
from packager.live.published_slate import playing_slate
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.retry_policy import FailureCount
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pump import Pump, Supply

log = structlog.get_logger()


class SlateFallback:
    """A ``Supply`` of a pulled stream, in whose place a file is shown while no data comes.

    The source is looked for whenever ffmpeg needs a stream, and all the while ffmpeg plays the slate; when
    it is there, the slate ends, and the next ffmpeg begins with the source.

    Args:
        detected: waits until the source's format is known, and gives what supplies it; None if ffmpeg must
            fetch it itself, which then has no slate.
        channel: the channel's name, for the log.
        limits: how soon the slate is shown, and when it is tried again.

    Attributes:
        feeds_slate: whether what was written to an ffmpeg last is the slate.
    """

    paced = False
    feeds_slate = False

    def __init__(
        self,
        path: str,
        detected: Callable[[], Awaitable[Supply | None]],
        tools: Tools,
        channel: str,
        limits: SourceLimits = DEFAULT_LIMITS,
    ) -> None:
        self._path = path
        self._detected = detected
        self._tools = tools
        self._channel = channel
        self._limits = limits
        self._slate = Pump("mpegts", limits=limits, channel=channel)
        self._on_air: Supply | None = None
        self._wanted = asyncio.Event()

    @property
    def shows_slate(self) -> bool:
        """Whether the slate is what is played."""
        return self._on_air is self._slate

    @property
    def supplies(self) -> bool:
        """Whether ffmpeg gets a stream on its standard input; if not, it must fetch the source itself."""
        return self._on_air is not None

    @property
    def container(self) -> str:
        """Ffmpeg's name of the container of what is on air; see ``Supply``."""
        return "" if self._on_air is None else self._on_air.container

    @property
    def stream(self) -> object:
        """Identifies the format of what is on air; see ``Supply``."""
        return self.shows_slate, None if self._on_air is None else self._on_air.stream

    @property
    def has_stream(self) -> bool:
        """Whether a stream has begun that hasn't ended; see ``Supply``."""
        return self._on_air is not None and self._on_air.has_stream

    async def run(self) -> None:
        """Play the slate whenever it is wanted, until cancelled."""
        failures = FailureCount(self._limits.retry)
        while True:
            await self._wanted.wait()
            try:
                await self._play()
            except (ToolsError, MediaError, TimeoutError) as error:
                if not failures.failures:
                    reason = str(error) or "nothing comes of it"
                    log.warning("slate can't be shown", channel=self._channel, reason=reason)
                await asyncio.sleep(failures.failed())
            else:
                failures.succeeded()

    async def _play(self) -> None:
        """Play the slate until the source is back.

        Raises:
            ToolsError: ffmpeg can't play it.
            MediaError: ffmpeg's output can't be read.
            TimeoutError: ffmpeg stands still.
        """
        async with playing_slate(self._path, self._tools, self._limits) as process:
            self._slate.begin("mpegts")
            try:
                while data := await receive_within(process.read, self._limits.remux_start_seconds):
                    if not self._wanted.is_set():
                        return
                    await self._slate.receive_data(data)
            finally:
                self._slate.receive_eof()
        raise ToolsError(last_error(process.errors) or "it ended")

    async def wait_until_flowing(self) -> None:
        """Wait until the source comes, or the slate in its place; see ``Supply``."""
        async with running_tasks(self._wait_for_source()) as (source,):
            if not self.shows_slate:
                await asyncio.wait((source,), timeout=self._limits.slate_seconds)
            if not source.done():
                self._wanted.set()
                async with running_tasks(self._slate.wait_until_flowing()) as (slate,):
                    await asyncio.wait((source, slate), return_when=asyncio.FIRST_COMPLETED)
            self._put_on_air(source.result() if source.done() else self._slate)

    async def _wait_for_source(self) -> Supply | None:
        """Wait until data of the source comes with which ffmpeg can begin; give what supplies it."""
        supply = await self._detected()
        if supply is not None:
            await supply.wait_until_flowing()
        return supply

    def _put_on_air(self, supply: Supply | None) -> None:
        """Let ffmpeg have this stream next; the slate ends where it is another one."""
        if (supply is self._slate) is not self.shows_slate:
            log.info("slate is shown" if supply is self._slate else "source is shown", channel=self._channel)
        self._on_air = supply
        if supply is not self._slate:
            self._wanted.clear()
            self._slate.receive_eof()

    async def feed(self, process: Process) -> None:
        """Write what is on air to an ffmpeg; the slate only until the source is back. See ``Supply``."""
        self.feeds_slate = self.shows_slate
        if self._on_air is None:
            process.close_stdin()
        elif self.shows_slate:
            async with background_task(self._return_to_source()):
                await self._slate.feed(process)
        else:
            await self._on_air.feed(process)

    async def _return_to_source(self) -> None:
        self._put_on_air(await self._wait_for_source())
