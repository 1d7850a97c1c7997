"""The slate of a live channel: a file that is shown in a loop while nothing comes from its source."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog

from packager.ffmpeg.live import remuxer_arguments
from packager.process.ffmpeg_discovery import Tools, ToolsError
from packager.process.process import Process, last_error
from packager.retry_policy import FailureCount
from packager.sources import probe
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.publication import PublicationEndedError
from packager.sources.published_source import PublishedSource
from packager.sources.pullers.rtsp_srt_puller import mpegts_coding

log = structlog.get_logger()


class Slate:
    """Publishes a file in a loop to its own channel while nobody else publishes there.

    Args:
        limits: how soon it is shown, and when it is tried again.
    """

    def __init__(
        self, path: str, source: PublishedSource, tools: Tools, limits: SourceLimits = DEFAULT_LIMITS
    ) -> None:
        self._path = path
        self._source = source
        self._tools = tools
        self._limits = limits

    async def run(self) -> None:
        """Show the slate whenever nobody publishes, until cancelled."""
        failures = FailureCount(self._limits.retry)
        while True:
            await self._source.wait_until_vacant(self._limits.slate_seconds)
            try:
                await self._play()
            except ToolsError as error:
                if not failures.failures:
                    log.warning("slate can't be shown", channel=self._source.channel, reason=str(error))
                await asyncio.sleep(failures.failed())
            else:
                failures.succeeded()

    async def _play(self) -> None:
        """Show the slate until somebody publishes.

        Raises:
            ToolsError: ffmpeg can't play it.
        """
        async with playing_slate(self._path, self._tools, self._limits) as process:
            publication = self._source.begin_slate()
            try:
                while data := await process.read():
                    await publication.receive_data(data)
            except PublicationEndedError:
                return
            finally:
                publication.end()
        raise ToolsError(last_error(process.errors) or "it ended")


@contextlib.asynccontextmanager
async def playing_slate(path: str, tools: Tools, limits: SourceLimits) -> AsyncGenerator[Process]:
    """Run an ffmpeg that gives a file in a loop and in real time as MPEG-TS, while the context is open.

    Raises:
        ToolsError: there is no such file that can be played.
    """
    found = await probe.inspect_source(path, tools, limits)
    options = {**found.options, "re": None, "stream_loop": -1}
    words = remuxer_arguments(found.address, options, mpegts_coding(found))
    argv = [str(tools.ffmpeg), *words]
    process = await Process.start(argv, sandbox=found.sandbox)
    try:
        yield process
    finally:
        await process.stop()
