"""MPEG-TS in UDP, received here and brought to ffmpeg.

So the bytes are ours: a change of codec, size or clock is seen, which ffmpeg's output wouldn't show, and
what comes while an ffmpeg is started isn't lost. UDP knows no end: what is silent for long counts as gone,
and what comes then as another stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from media.errors import MediaError
from media.ts.reader import TransportReader
from packager.concurrency import patiently
from packager.retry_policy import RetryPolicy
from packager.sources.datagrams import RECEIVE_BYTES, Endpoint, read_address
from packager.sources.pump import Pump
from packager.sources.retries import SOURCE_RETRY, SourceRetries
from packager.step_budget import StepBudget

SILENT_SECONDS = 3.0
"""How long nothing may come before the source counts as gone."""

GATHER_SECONDS = 0.005
"""How long datagrams gather before they are taken: a thousand a second come, and each look costs."""

LOSS_SECONDS = 60.0
"""How long after packets were told to be lost others are told."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Losses:
    """What didn't come of a source since the start.

    Attributes:
        packets: of MPEG-TS, as far as their counters tell.
        datagrams: that the system dropped because they weren't taken in time.
    """

    packets: int = 0
    datagrams: int = 0


class DatagramPuller:
    """Receives one URL; see ``run``.

    Args:
        url: ``udp://…``.
        channel: its name, for the log.
        receive_bytes: how much the system may hold until it is taken.
        policy: says when a socket that failed is opened again.

    Attributes:
        pump: where the stream goes.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        receive_bytes: int = RECEIVE_BYTES,
        policy: RetryPolicy = SOURCE_RETRY,
    ) -> None:
        self._url = url
        self._channel = channel
        self._receive_bytes = receive_bytes
        self._asking = SourceRetries(channel, policy)
        self._past = self._told = Losses()
        self._told_at = 0.0
        self._reader = TransportReader()
        self._endpoint: Endpoint | None = None
        self.pump = Pump("mpegts", self._reader, channel=channel)

    async def decided(self) -> Pump:
        """Give the pump: there is no doubt of what the stream is."""
        return self.pump

    @property
    def losses(self) -> Losses:
        """What was lost so far."""
        dropped = 0 if self._endpoint is None else self._endpoint.dropped
        return Losses(self._past.packets + self._reader.lost, self._past.datagrams + dropped)

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            try:
                address = read_address(self._url)
                self._endpoint = await Endpoint.open(address, self._receive_bytes)
                with contextlib.closing(self._endpoint):
                    try:
                        await self._receive(self._endpoint)
                    finally:
                        self._settle()
            except OSError as error:
                reason = error.strerror or type(error).__name__
            except MediaError as error:
                reason = str(error)
            self.pump.receive_eof()
            await asyncio.sleep(self._asking.ends(reason))

    def _settle(self) -> None:
        """Keep what this socket has lost."""
        self._past = self.losses
        self._endpoint, self._reader = None, TransportReader()

    async def _receive(self, endpoint: Endpoint) -> None:
        loop, budget = asyncio.get_running_loop(), StepBudget()
        flows: bool | None = None
        while True:
            try:
                data = await patiently(endpoint.receive, SILENT_SECONDS)
            except TimeoutError:
                if flows is not False:
                    self.pump.receive_eof()
                    self._asking.ends("nothing comes")
                flows = False
                continue
            if not flows:
                self._begin()
                flows = True
            async for portion in budget.portions(data):
                await self.pump.take(self._reader.receive_data(portion))
            self._tell(loop.time())
            await asyncio.sleep(GATHER_SECONDS)

    def _begin(self) -> None:
        """Let another stream follow."""
        self._past = Losses(self._past.packets + self._reader.lost, self._past.datagrams)
        self._reader = TransportReader()
        self.pump.begin("mpegts", self._reader)
        self._asking.begins()

    def _tell(self, now: float) -> None:
        """Tell what was lost, now and then."""
        if self._told_at and now < self._told_at + LOSS_SECONDS:
            return
        losses = self.losses
        if losses != self._told:
            log.warning(
                "packets of the source were lost",
                channel=self._channel,
                packets=losses.packets - self._told.packets,
                datagrams_dropped=losses.datagrams - self._told.datagrams,
            )
            self._told, self._told_at = losses, now
