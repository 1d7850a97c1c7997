"""Where a channel's source is found: looked at, fetched over HTTP where we do that, looked at again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

from packager.sources import source as sources
from packager.sources.pull import Puller
from packager.sources.pump import Supply
from packager.tools import Tools


class Finder:
    """Finds one channel's source.

    Args:
        source: as configured.
        tools: whose ffprobe looks into it.
        channel: the channel's name, for the log.
        given: brings what is played; None: it is what ``source`` says.
        keep: whether the source's own picture is to be kept.
    """

    def __init__(self, source: str, tools: Tools, channel: str, given: Supply | None, *, keep: bool) -> None:
        self._source = source
        self._tools = tools
        self._channel = channel
        self._given = self._supply = given
        self._keep = keep

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Fetch what is pulled over HTTP while the context is open."""
        if self._given is not None or urlsplit(self._source).scheme not in ("http", "https"):
            yield
            return
        puller = Puller(self._source, self._channel)
        async with asyncio.TaskGroup() as group:
            pulling = group.create_task(puller.run())
            try:
                self._supply = await puller.decided()
                yield
            finally:
                pulling.cancel()

    async def find(self) -> sources.Source:
        """Look at the source; wait until it is there.

        Raises:
            ToolsError: it can't be played, however long one waits.
        """
        if self._supply is not None:
            return await sources.found_in(self._supply, self._tools, self._channel, keep=self._keep)
        return await sources.found(self._source, self._tools, self._channel, keep=self._keep)

    async def renewed(self, source: sources.Source) -> sources.Source:
        """Wait until a stream that is brought comes; look again at one that isn't what it was.

        Args:
            source: as it was found before.
        """
        if source.pump is None:
            return source
        await source.pump.flowing()
        return source if source.stream == source.pump.stream else await self.find()
