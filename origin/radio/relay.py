"""A station that is another server's stream: Icecast's, or any that plays MP3, AAC or Ogg over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
import structlog

from media.errors import MediaError
from media.mp3.icy import Deinterleaver
from origin.radio.limits import RelayLimits
from origin.radio.source_clients import TYPES
from origin.radio.station_headers import announced_bitrate, announcement_of
from packager.radio.audio_blocks import AudioBlock
from packager.radio.intake import INTAKE_BYTES, Throttle, intake_of
from packager.radio.station_info import NOTHING
from packager.retry_policy import FailureCount
from packager.sources.guarded_http import GuardedTransport, certificates, guard_of
from packager.sources.retries import PullError
from packager.sources.schemes import untold
from packager.step_budget import StepBudget

SMALLEST_METAINT, LARGEST_METAINT = 256, 1 << 20
"""Bytes of audio between two titles that are believed; stations have 8,192 and more."""

log = structlog.get_logger()


class RelayError(Exception):
    """The other server's answer is no stream that can be relayed."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Which stream of another server a station relays, and how.

    Attributes:
        name: of the mount, for the log.
        url: of the stream.
        bitrate: kbit/s that is told until a frame tells it.
        media_type: that is told until the other server tells it.
        limits: how long the other server may take, and when it is asked again.
    """

    name: str
    url: str = field(repr=False)
    bitrate: int = 128
    media_type: str = "audio/mpeg"
    limits: RelayLimits = field(default_factory=RelayLimits)


class Relay:
    """Asks for the stream, and again when it ends; see ``blocks``."""

    def __init__(self, options: RelayOptions) -> None:
        self.options = options
        self.media_type = options.media_type
        self.announced = NOTHING
        self.available = False
        self._bitrate = 0
        self._count = FailureCount(options.limits.retry)

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return self._bitrate or self.options.bitrate

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give what the other server plays, with its titles, for as long as the generator is asked."""
        await asyncio.to_thread(certificates)
        limits = self.options.limits
        async with httpx.AsyncClient(
            transport=GuardedTransport(guard_of(self.options.url)),
            timeout=httpx.Timeout(limits.connect_seconds, read=limits.silent_seconds),
            follow_redirects=True,
            max_redirects=limits.redirects,
        ) as client:
            while True:
                try:
                    async with (
                        client.stream("GET", self.options.url, headers=_HEADERS) as response,
                        aclosing(self._carry(response)) as blocks,
                    ):
                        async for block in blocks:
                            yield block
                    reason = "it ended"
                except httpx.InvalidURL:
                    # Its text has the piece that is wrong, and that is often one of a password.
                    reason = "its address, or one that it leads to, is wrong; in passwords, '/' is %2F"
                except (
                    httpx.HTTPError,
                    RelayError,
                    PullError,
                    MediaError,
                ) as error:
                    reason = untold(str(error), self.options.url) or type(error).__name__
                finally:
                    self.available = False
                pause = self._count.failed()
                log.warning("relay broke", mount=self.options.name, reason=reason, again_in=pause)
                await asyncio.sleep(pause)

    async def _carry(self, response: httpx.Response) -> AsyncGenerator[AudioBlock]:
        metaint = self._judge(response)
        limits = self.options.limits
        splitter, intake, throttle = (
            Deinterleaver(metaint),
            intake_of(self.media_type),
            Throttle(limits.intake),
        )
        budget = StepBudget()
        # Without a size: with one, what is short of it would be held back until more comes.
        async for data in response.aiter_raw():
            async for portion in budget.portions(data, INTAKE_BYTES):
                blocks: list[AudioBlock] = []
                for audio, title in splitter.receive_data(portion):
                    if title != intake.title and metaint:
                        blocks += intake.retitle(title)
                    blocks += intake.receive(audio)
                for block in blocks:
                    if not self.available:
                        log.info("relay plays", mount=self.options.name, type=block.media_type)
                        self.available = True
                        self._count.succeeded()
                    self.media_type, self._bitrate = block.media_type, intake.bitrate or self._bitrate
                    await throttle.wait(block)
                    yield block

    def _judge(self, response: httpx.Response) -> int:
        """Take what the answer's head says; give the distance of its metadata blocks."""
        if response.status_code != 200:
            raise RelayError(f"it answers {response.status_code}")
        declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if declared not in TYPES:
            raise RelayError(f"it sends {declared[:50] or 'no type'}")
        self.media_type = TYPES[declared]
        self._bitrate = announced_bitrate(response.headers)
        self.announced = announcement_of(response.headers)
        value = response.headers.get("icy-metaint", "0")
        metaint = int(value) if value.isascii() and value.isdecimal() and len(value) < 8 else -1
        if metaint and not SMALLEST_METAINT <= metaint <= LARGEST_METAINT:
            raise RelayError("its icy-metaint makes no sense")
        return metaint


_HEADERS = {
    "icy-metadata": "1",
    "accept": "audio/mpeg, audio/aac, application/ogg, */*;q=0.1",
    "user-agent": "Headwater",
}
