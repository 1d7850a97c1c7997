"""Keeps each publication of a channel as a span, until its publisher has been away for some time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from packager.past.programmes import LONGEST_SECONDS
from packager.recordings.kept_spans import KeptSpan, KeptSpans, SpansState
from packager.recordings.limits import RecordingsLimits


class PublicationOnAir(Protocol):
    """A publication that is on air."""

    began: float


class PublisherWatch(Protocol):
    """The publishers of a channel."""

    @property
    def live(self) -> PublicationOnAir | None:
        """The publication on air; None while there is none."""

    @property
    def has_publisher(self) -> bool:
        """Whether somebody publishes what is on air."""

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until something else is on air, or nothing, but no longer than for some time."""


@dataclass(frozen=True, slots=True)
class PublicationSpans:
    """The spans of a channel's publications.

    Attributes:
        note: notes why spans can't be stored.
        end: is called once the span of a publication has its end.
        since: seconds since the epoch, before which nothing is kept of what is on air.
    """

    publishers: PublisherWatch
    spans: KeptSpans
    limits: RecordingsLimits
    note: Callable[[str], None]
    end: Callable[[], None]
    since: float = 0.0

    async def run(self) -> None:
        """Keep one publication after the other, until cancelled."""
        left = await self._open()
        while True:
            span = left.pop(0) if left else await self._begun()
            await self._ended(span, await self._gone(span))

    async def end_all(self) -> None:
        """End the spans of publications that are on air, or were when an earlier process ended."""
        for span in await self._open():
            await self._ended(span, time.time())

    async def _open(self) -> list[KeptSpan]:
        """Return the spans without an end."""
        await self.spans.loaded.wait()
        return [one for one in self.spans.state.spans if one.end_ms is None]

    async def _begun(self) -> KeptSpan:
        """Begin the span of the next publication."""
        while not self.publishers.has_publisher or (live := self.publishers.live) is None:
            await self._wait()
        began = int(max(live.began, self.since) * 1000)
        span = KeptSpan(f"publication-{began}", began)
        await self._change(lambda state: state.added(span))
        return span

    async def _gone(self, span: KeptSpan) -> float:
        """Wait until a publication is over; return since when, in seconds since the epoch."""
        gone = None if self.publishers.has_publisher else time.time()
        # A publisher who comes back soon goes on with the publication, also over a restart.
        while gone is None or time.time() - gone < self.limits.publication_pause_seconds:
            await self._wait()
            gone = None if self.publishers.has_publisher else gone or time.time()
            if gone is None and time.time() - span.start_ms / 1000 > LONGEST_SECONDS:
                return time.time()
        return gone

    async def _ended(self, span: KeptSpan, end: float) -> None:
        ended = KeptSpan(span.id, span.start_ms, max(int(end * 1000), span.start_ms + 1))
        # A span that was to be forgotten meanwhile stays so.
        await self._change(lambda state: state.replaced(ended))
        self.end()

    async def _wait(self) -> None:
        await self.publishers.wait_for_change(self.limits.publication_look_seconds)

    async def _change(self, change: Callable[[SpansState], SpansState]) -> None:
        """Change the spans as soon as they can be stored."""
        while True:
            try:
                return await self.spans.change(change)
            except OSError as error:
                self.note(error.strerror or str(error))
                await asyncio.sleep(self.limits.publication_look_seconds)
