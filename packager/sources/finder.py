"""Where a channel's source is found: looked at, fetched where we do that, looked at again."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator
from typing import Protocol
from urllib.parse import urlsplit

from packager.concurrency import beside
from packager.process.tools import Tools
from packager.sources import probe
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pump import Supply
from packager.sources.remux import Remuxer
from packager.sources.source import Source
from packager.sources.udp import PacketLosses, UdpPuller


class Puller(Protocol):
    """What fetches a stream from another server."""

    async def wait_until_detected(self) -> Supply | None:
        """Wait until it is known what the stream is; None where ffmpeg must fetch it."""

    async def run(self) -> None:
        """Fetch for as long as it is asked; end only where the stream isn't one that is brought."""


class SourceFinder:
    """Finds one channel's source.

    Args:
        source: as configured.
        tools: whose ffprobe looks into it.
        channel: the channel's name, for the log.
        given: brings what is played; None: it is what ``source`` says.
        keep: whether the source's own picture is to be kept.
        limits: what it may cost, and when one that isn't there is asked again.
    """

    def __init__(
        self,
        source: str,
        tools: Tools,
        channel: str,
        given: Supply | None,
        *,
        keep: bool,
        limits: SourceLimits = DEFAULT_LIMITS,
    ) -> None:
        self._source = source
        self._tools = tools
        self._channel = channel
        self._given = self._supply = given
        self._keep = keep
        self._limits = limits
        self._puller: Puller | None = None

    @property
    def losses(self) -> PacketLosses:
        """What was lost of what comes in UDP."""
        return self._puller.losses if isinstance(self._puller, UdpPuller) else PacketLosses()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Fetch what is pulled while the context is open."""
        puller = None if self._given is not None else await self._new_puller()
        if puller is None:
            yield
            return
        self._puller, self._supply = puller, None
        async with beside(puller.run()):
            yield

    async def _new_puller(self) -> Puller | None:
        """Make what fetches the source; None where it isn't fetched here."""
        match urlsplit(self._source).scheme:
            case "http" | "https":
                # An HTTP client takes long to import, and most channels have no need of one.
                await asyncio.to_thread(importlib.import_module, "packager.sources.http_puller")
                from packager.sources.http_puller import HttpPuller

                return HttpPuller(self._source, self._channel, self._limits)
            case "udp":
                return UdpPuller(self._source, self._channel, self._limits)
            case "rtsp" | "srt":
                return Remuxer(self._source, self._tools, self._channel, self._limits)
        return None

    async def find(self) -> Source:
        """Look at the source; wait until it is there.

        Raises:
            ToolsError: it can't be played, however long one waits.
        """
        if self._puller is not None:
            self._supply = await self._puller.wait_until_detected()
        if self._supply is not None:
            return await probe.wait_for_supply(
                self._supply, self._tools, self._channel, keep=self._keep, limits=self._limits
            )
        by = self._puller.address if isinstance(self._puller, Remuxer) else ""
        return await probe.wait_for_source(
            self._source, self._tools, self._channel, keep=self._keep, by=by, limits=self._limits
        )

    async def find_again(self, source: Source) -> Source:
        """Wait until a stream that is brought comes; look again at one that isn't what it was.

        Args:
            source: as it was found before.
        """
        if source.pump is None:
            return source
        await source.pump.wait_until_flowing()
        return source if source.stream == source.pump.stream else await self.find()
