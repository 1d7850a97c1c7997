"""Relays one answer: asks the upstream server, and publishes each of its events to all who read it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from origin.events import sse_writer
from origin.events.channel import END, RESERVED, EventChannel
from origin.events.formats import Format
from origin.token_relay.completion_request import CompletionRequest, UpstreamRequest
from origin.token_relay.errors import CompletionError, error_data
from origin.token_relay.limits import ANSWER_EVENTS, LEFT_SECONDS, LINE_BYTES, TokenRelayLimits
from origin.token_relay.sse_reader import DONE, ServerSentEvent
from packager.latency_histogram import LatencyHistogram

if TYPE_CHECKING:
    # An HTTP client takes long to import, and most servers need none.
    from origin.token_relay.upstream import Upstream

ERROR, COMPLETION = "error", "completion"
"""Types of events: an error, and an answer in one piece."""

NAME_CHARACTERS = 64
"""Of an event's type; of a longer one only the data is carried on, and of one with control characters."""

_CONTROLS = re.compile(r"[\0-\x1f\x7f]")

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

log = structlog.get_logger()


def _write(name: str, data: str, _: str) -> bytes:
    # Clients of these servers know events without type and id alone.
    if name == END:
        return sse_writer.comment()
    return sse_writer.event(data, name="" if name in ("message", ERROR) else name)


COMPLETION_STREAM = Format("completion", sse_writer.MEDIA_TYPE, _write, sse_writer.comment())
"""Events as OpenAI-compatible servers send them."""


@dataclass(slots=True)
class RelayCounters:
    """Counters of a relay's requests since its start.

    Attributes:
        shared: callers that got the answer to a request that was under way.
        refused: requests beyond those that may run at once.
        failed: requests without a whole answer.
        cancelled: requests that were cancelled when their last reader left.
        first_event: seconds from a request to its first event.
        cleanup: seconds from the last reader's leaving until the upstream connection is closed.
    """

    requests: int = 0
    shared: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    first_event: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(SECONDS))
    cleanup: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(SECONDS))


def _too_large(size: int) -> str:
    """Write the error that the channel's readers get in place of an event that is too large for them."""
    told = f"this part of the answer has {size} bytes; an event has {LINE_BYTES} at most"
    return error_data(told, 413)


class Completion:
    """One request for a chat completion, and its answer so far.

    Args:
        answer: the event channel of this answer alone, for callers that get the stream as their answer.
        audience: the relay's event channel, on which the answer is published as well.
        limits: after how long its readers count as gone.

    Attributes:
        callers: how many callers wait for the answer, or get the stream as theirs.
        begun: completes when the answer has begun or failed.
        error: why there is no answer, or no more of it; None without an error.
        whole: the answer in one piece, where the request was for that.
        kept: whether the request goes on without readers.
        abandoned: whether it was cancelled, as it had no readers any more.
    """

    def __init__(
        self,
        request: CompletionRequest,
        upstream: Upstream,
        answer: EventChannel,
        audience: EventChannel,
        limits: TokenRelayLimits,
        counters: RelayCounters,
    ) -> None:
        self._request = request
        self._upstream = upstream
        self.answer = answer
        self._audience = audience
        self._limits = limits
        self._counters = counters
        self.callers = self._entered_callers = 0
        # The channel's present readers are readers of this answer, too.
        self._entered = audience.entered - bool(audience.readers_of_cluster)
        self._size = self._count = 0
        self._asked = time.monotonic()
        self._over = False
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: CompletionError | None = None
        self.whole: bytes | None = None
        self.kept = self.abandoned = False

    @property
    def is_empty(self) -> bool:
        """Whether the upstream server has sent nothing of the answer yet."""
        return not self._count

    @property
    def readers(self) -> int:
        """Readers of the answer, those of the event channel among them."""
        return self.callers + self._audience.readers_of_cluster

    @property
    def _had_readers(self) -> bool:
        """Whether the answer has had a reader, even for a moment."""
        return self._entered_callers > 0 or self._audience.entered > self._entered

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Count a caller while the context is open: until its answer is over."""
        self.callers += 1
        self._entered_callers += 1
        try:
            yield
        finally:
            self.callers -= 1

    async def run(self) -> None:
        """Send the request, and publish the answer, until its end or until no readers are left."""
        asking = asyncio.ensure_future(self._ask())
        try:
            left = await self._watch(asking)
            if left is not None:
                self.abandoned = True
                self._counters.cancelled += 1
                asking.cancel()
                await asyncio.wait((asking,))
                self._counters.cleanup.observe(time.monotonic() - left)
                self.fail(CompletionError("cancelled, as its last reader left", 499))
            elif (broken := asking.exception()) is not None:
                log.error(
                    "a completion failed by an error of this server",
                    channel=self._audience.name,
                    exc_info=broken,
                )
                self.fail(CompletionError("the relay broke", 500))
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    async def _watch(self, asking: asyncio.Future[None]) -> float | None:
        """Wait for the end of the request, or of all readers; return since when there are none, or None."""
        limits, seen = self._limits, time.monotonic()
        while not asking.done():
            await asyncio.wait((asking,), timeout=limits.look_seconds)
            self.answer.beat()
            now = time.monotonic()
            if self.readers or self.kept or now - self._audience.polled < limits.again_seconds:
                seen = now
            elif now - seen >= (LEFT_SECONDS if self._had_readers else limits.first_reader_seconds):
                return None if asking.done() else seen
        return None

    async def _ask(self) -> None:
        try:
            if self._request.is_stream:
                await self._upstream.stream(self._request.body, self._begin, self._handle_event)
            else:
                whole = await self._upstream.whole(UpstreamRequest(self._request.body))
                self._publish_whole(whole)
                self.whole = whole
        except CompletionError as error:
            self._counters.failed += 1
            log.warning("a completion failed", channel=self._audience.name, reason=str(error))
            self.fail(error)
        else:
            self.finish()

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def _handle_event(self, event: ServerSentEvent) -> bool:
        """Publish an event of the upstream server; return whether more are to come."""
        if self._over:
            return False
        name = event.name
        is_own = name in RESERVED or name == END or len(name) > NAME_CHARACTERS or _CONTROLS.search(name)
        self._publish("message" if is_own else name, event.data)
        return event.data != DONE

    def _publish(self, name: str, data: str) -> None:
        if not self._count:
            self._counters.first_event.observe(time.monotonic() - self._asked)
        event = self.answer.publish_text(data, name)
        if event.size <= LINE_BYTES:
            self._audience.publish_soon(data, name)
        else:
            self._audience.publish_soon(_too_large(event.size), ERROR)
        self._count += 1
        self._size += event.size
        if self._size > self._limits.upstream.answer_bytes or self._count >= ANSWER_EVENTS:
            most = f"{self._limits.upstream.answer_bytes} bytes or {ANSWER_EVENTS} events"
            raise CompletionError(f"the upstream server's answer has more than {most}")

    def _publish_whole(self, answer: bytes) -> None:
        """Publish an answer in one piece, or why the channel's readers don't get it: its caller does."""
        if len(answer) <= LINE_BYTES:
            self._publish(COMPLETION, answer.decode())
        else:
            self._publish(ERROR, _too_large(len(answer)))

    def fail(self, error: CompletionError) -> None:
        """Publish the answer's end and its reason; nothing if the answer has ended already."""
        if self._over:
            return
        self.error = error
        for channel in (self.answer, self._audience):
            if not channel.closed:
                channel.publish_soon(error.data, ERROR)
        self.finish()

    def finish(self) -> None:
        """End the answer for its readers behind the newest event."""
        if not self._over:
            self._over = True
            self._begin()
            self.answer.end()
