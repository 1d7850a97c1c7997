"""The slate of a channel that is published to: a file that is shown while nobody publishes."""

from __future__ import annotations

import asyncio

import structlog

from packager.ffmpeg.live import remuxer_arguments
from packager.process.process import Process, last_error
from packager.process.tools import Tools, ToolsError
from packager.retry_policy import FailureCount
from packager.sources import probe
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.published import PublicationEndedError, PublishedSource
from packager.sources.remux import mpegts_coding

log = structlog.get_logger()


class Slate:
    """Publishes a file in a loop to its own channel while nobody else does.

    Args:
        path: the file, as configured.
        source: the channel's publications.
        tools: provides ffmpeg.
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
        """Show it whenever nobody publishes, until cancelled."""
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
        """Show it until somebody publishes.

        Raises:
            ToolsError: ffmpeg can't play it.
        """
        found = await probe.inspect_source(self._path, self._tools, self._limits)
        options = {**found.options, "re": None, "stream_loop": -1}
        words = remuxer_arguments(found.address, options, mpegts_coding(found))
        argv = [str(self._tools.ffmpeg), *words]
        process = await Process.start(argv, sandbox=found.sandbox, limits=self._limits.process)
        publication = self._source.begin_slate()
        try:
            while data := await process.read():
                await publication.receive(data)
        except PublicationEndedError:
            return
        finally:
            publication.end()
            await process.stop()
        raise ToolsError(last_error(process.errors) or "it ended")
