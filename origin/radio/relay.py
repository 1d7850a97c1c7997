"""A station that relays another server's stream: Icecast's, or any MP3, AAC or Ogg over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
import structlog

from media.errors import MediaError
from media.mp3.icy import Deinterleaver
from origin.http.media_types import media_type_in
from origin.radio.mounts.icy_headers import SOURCE_TYPES, announced_bitrate, station_info_of
from origin.radio.mounts.limits import RadioLimits
from packager.radio.audio_blocks import AudioBlock, Throttle
from packager.radio.audio_source import NO_STATION_INFO
from packager.radio.mpeg_block_reader import block_reader_for
from packager.reader_guard import ReaderGuard
from packager.retry_policy import FailureCount
from packager.sources.pullers.guarded_http import certificates, guarded_client
from packager.sources.retries import PullError
from packager.sources.schemes import without_url_secrets
from packager.step_budget import AUDIO_PORTION_BYTES, StepBudget
from packager.threads import SHARED_THREADS

SMALLEST_METAINT, LARGEST_METAINT = 256, 1 << 20
"""Plausible bytes of audio between two metadata blocks; stations use 8,192 and more."""

log = structlog.get_logger()

REDIRECTS = 5
"""Most redirections that are followed."""


class RelayError(Exception):
    """The upstream server's answer isn't a stream that can be relayed."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """The upstream stream of a station.

    Attributes:
        name: of the mount, for the log.
        bitrate: kbit/s, reported until a frame has one.
        media_type: reported until the upstream server declares one.
        limits: how long the upstream server may take, and the pauses before another attempt.
    """

    name: str
    url: str = field(repr=False)
    bitrate: int = 128
    media_type: str = "audio/mpeg"
    limits: RadioLimits = field(default_factory=RadioLimits)


class Relay:
    """Requests the upstream stream, and again whenever it ends."""

    def __init__(self, options: RelayOptions) -> None:
        self.options = options
        self.media_type = options.media_type
        self.station_info = NO_STATION_INFO
        self.available = self.is_idle = False
        self.trouble = ""
        self._bitrate = 0
        self._count = FailureCount(options.limits.relay_retry)

    @property
    def bitrate(self) -> int:
        """The bitrate of the upstream stream in kbit/s: as its header says, else as configured."""
        return self._bitrate or self.options.bitrate

    async def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Yield the upstream stream's audio with its titles while the generator is iterated."""
        await SHARED_THREADS.run(certificates)
        limits = self.options.limits
        async with guarded_client(
            self.options.url,
            limits.guard,
            redirects=REDIRECTS,
            is_direct=True,
            timeout=httpx.Timeout(limits.connect_seconds, read=limits.silent_seconds),
        ) as client:
            while True:
                try:
                    async with (
                        client.stream("GET", self.options.url, headers=_HEADERS) as response,
                        aclosing(self._carry(response)) as blocks,
                    ):
                        with ReaderGuard(self.options.name):
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
                    reason = without_url_secrets(str(error), self.options.url) or type(error).__name__
                finally:
                    self.available = False
                self.trouble = reason
                pause = self._count.failed()
                log.warning("relay broke", mount=self.options.name, reason=reason, again_in=pause)
                await asyncio.sleep(pause)

    async def _carry(self, response: httpx.Response) -> AsyncGenerator[AudioBlock]:
        metaint = self._judge(response)
        limits = self.options.limits
        splitter, reader, throttle = (
            Deinterleaver(metaint),
            block_reader_for(self.media_type),
            Throttle(limits.live_source),
        )
        budget = StepBudget()
        # Without a size: with one, what is short of it would be held back until more comes.
        async for data in response.aiter_raw():
            async for portion in budget.portions(data, AUDIO_PORTION_BYTES):
                blocks: list[AudioBlock] = []
                for audio, title in splitter.receive_data(portion):
                    if title != reader.title and metaint:
                        blocks += reader.retitle(title)
                    blocks += reader.receive_data(audio)
                for block in blocks:
                    if not self.available:
                        log.info("relay plays", mount=self.options.name, type=block.media_type)
                        self.available, self.trouble = True, ""
                        self._count.succeeded()
                    self.media_type = block.media_type
                    self._bitrate = reader.bitrate or self._bitrate or reader.average_bitrate
                    await throttle.wait(block)
                    yield block

    def _judge(self, response: httpx.Response) -> int:
        """Check the response's head; return its icy-metaint."""
        if response.status_code != 200:
            raise RelayError(f"the upstream server answers {response.status_code}")
        declared = media_type_in(response.headers.get("content-type", ""))
        if declared not in SOURCE_TYPES:
            raise RelayError(f"the upstream server sends {declared[:50] or 'no type'}, not a station's audio")
        self.media_type = SOURCE_TYPES[declared]
        self._bitrate = announced_bitrate(response.headers)
        self.station_info = station_info_of(response.headers)
        value = response.headers.get("icy-metaint", "0")
        metaint = int(value) if value.isascii() and value.isdecimal() and len(value) < 8 else -1
        if metaint and not SMALLEST_METAINT <= metaint <= LARGEST_METAINT:
            raise RelayError("the upstream server's icy-metaint isn't usable")
        return metaint


_HEADERS = {
    "icy-metadata": "1",
    "accept": "audio/mpeg, audio/aac, application/ogg, */*;q=0.1",
    "user-agent": "Headwater",
}
