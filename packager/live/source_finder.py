"""The choice of how a channel's source is fetched, and the wait until it is there and known."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from packager.concurrency import background_task
from packager.ffmpeg.ladder import Rung
from packager.live.pulled_slate import SlateFallback
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.sources import probe
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.published_source import PublishedSource
from packager.sources.pullers.rtsp_srt_puller import Remuxer
from packager.sources.pullers.udp import PacketLosses, UdpPuller
from packager.sources.pump import Supply
from packager.sources.source import Source
from packager.threads import SHARED_THREADS

NO_LOSSES = PacketLosses()
"""Losses of sources that aren't in UDP."""


class Puller(Protocol):
    """A client that fetches a stream from another server."""

    @property
    def trouble(self) -> str:
        """Why nothing is received; empty while something is."""
        ...

    async def wait_until_detected(self) -> Supply | None:
        """Wait until the stream's format is known; return None if ffmpeg must fetch it itself."""

    async def run(self) -> None:
        """Fetch, and reconnect, until cancelled."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The configuration of a channel's source.

    Attributes:
        source: a file, a URL, which may have a password, or a keyword such as ``publish``.
        channel: the channel's name, for the log.
        copied: the channel's video renditions, the source's own first, if that is passed through without
            encoding; a publisher can send the others.
        slate: the path of the file that is shown while a pulled source is gone; empty: nothing is.
    """

    source: str = field(repr=False)
    channel: str
    copied: Sequence[Rung] = ()
    slate: str = ""

    @property
    def keep(self) -> bool:
        """Whether the source's video is passed through without encoding."""
        return bool(self.copied)


class SourceFinder:
    """Connects to one channel's source and inspects it.

    Args:
        given: supplies the stream in place of the configured source; None to use that.

    Attributes:
        found: result of the last inspection; None before the first.
    """

    def __init__(
        self,
        options: SourceOptions,
        tools: Tools,
        given: Supply | None,
        limits: SourceLimits = DEFAULT_LIMITS,
    ) -> None:
        self._options = options
        self._tools = tools
        self._given = self._supply = given
        self._limits = limits
        self._puller: Puller | None = None
        self._fallback: SlateFallback | None = None
        self._trouble = ""
        self.found: Source | None = None

    @property
    def losses(self) -> PacketLosses:
        """Packets lost on a UDP source; zero for others."""
        return self._puller.losses if isinstance(self._puller, UdpPuller) else NO_LOSSES

    @property
    def trouble(self) -> str:
        """Why there is no source that can be played, as far as it is known; empty where there is one."""
        return (self._puller.trouble if self._puller is not None else "") or self._trouble

    @property
    def shows_slate(self) -> bool:
        """Whether a slate is played since a pulled source is gone."""
        return self._fallback is not None and self._fallback.shows_slate

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Fetch a pulled source while the context is open."""
        puller = None if self._given is not None else await self._new_puller()
        if puller is None:
            yield
            return
        self._puller, self._supply = puller, None
        async with background_task(puller.run()), self._showing_slate(puller):
            yield

    def _showing_slate(self, puller: Puller) -> contextlib.AbstractAsyncContextManager[None]:
        """Show the slate while the context is open and the source is gone, if there is one."""
        if not self._options.slate:
            return contextlib.nullcontext()
        self._fallback = SlateFallback(
            self._options.slate, puller.wait_until_detected, self._tools, self._options.channel, self._limits
        )
        return background_task(self._fallback.run())

    async def _new_puller(self) -> Puller | None:
        """Make the client for the source's URL scheme; None for files and the test source."""
        source, channel, limits = self._options.source, self._options.channel, self._limits
        match urlsplit(source).scheme:
            case "http" | "https":
                # The HTTP client is slow to import, and most channels don't need it.
                await SHARED_THREADS.run(importlib.import_module, "packager.sources.pullers.http_puller")
                from packager.sources.pullers.http_puller import HttpPuller

                return HttpPuller(source, channel, limits)
            case "udp":
                return UdpPuller(source, channel, limits)
            case "rtsp" | "srt":
                return Remuxer(source, self._tools, channel, limits)
        return None

    async def find(self, former: Source | None = None) -> Source:
        """Inspect the source; wait until it is there.

        Args:
            former: the result of the last inspection, if the same stream may go on with another format.

        Raises:
            ToolsError: it can never be played.
        """
        self.found = await self._inspect(former)
        self._trouble = ""
        return self.found

    def _failed(self, error: ToolsError) -> None:
        """Note why an inspection failed, and end the publication that can't be played."""
        if not isinstance(self._supply, PublishedSource):
            self._trouble = str(error)
        elif not isinstance(error, BusyError):
            self._supply.reject(str(error))

    async def _inspect(self, former: Source | None) -> Source:
        if self._fallback is not None:
            await self._fallback.wait_until_flowing()
            self._supply = self._fallback if self._fallback.supplies else None
        elif self._puller is not None:
            self._supply = await self._puller.wait_until_detected()
        if self._supply is not None:
            return await probe.wait_for_supply(
                self._supply,
                self._tools,
                self._options.channel,
                keep=self._options.keep,
                copied=self._options.copied,
                former=former,
                limits=self._limits,
                on_failure=self._failed,
            )
        by = self._puller.address if isinstance(self._puller, Remuxer) else ""
        return await probe.wait_for_source(
            self._options.source,
            self._tools,
            self._options.channel,
            keep=self._options.keep,
            by=by,
            limits=self._limits,
            on_failure=self._failed,
        )

    async def find_again(self, source: Source) -> Source:
        """Wait until the stream flows; inspect it again if its format has changed.

        Args:
            source: the result of the last inspection.
        """
        if source.pump is None:
            return source
        await source.pump.wait_until_flowing()
        return source if source.stream == source.pump.stream else await self.find(source)
