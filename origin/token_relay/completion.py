"""Relays one answer: asks the upstream server, and publishes each of its events to all who read it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from origin.events.beats import beat_safely
from origin.events.channel import END, RESERVED, EventChannel
from origin.events.created.open_channels import DELETED, RESTARTED
from origin.events.created.own_answers import LOST
from origin.events.delivery import as_text
from origin.token_relay.answer_channels import AnswerChannel, AnswerChannels
from origin.token_relay.completion_request import CompletionRequest
from origin.token_relay.dialects import CHAT, IDENTITY_EVENTS, failure_in, finish_reason_in, identity_in
from origin.token_relay.errors import CANCELLED, ERROR, CompletionError, DeadlineError, error_data
from origin.token_relay.figures import AnswerTimes, RelayFigures, shown_model
from origin.token_relay.limits import LEFT_SECONDS, LINE_BYTES, TokenRelayLimits
from origin.token_relay.sse_reader import DONE, ServerSentEvent
from packager.latency_histogram import LatencyHistogram

if TYPE_CHECKING:
    # An HTTP client takes long to import, and most servers need none.
    from origin.token_relay.upstream import Upstream
    from origin.token_relay.upstreams import Upstreams

COMPLETION = "completion"
"""Type of the event that is an answer in one piece."""

FINISHED, FAILED, DEADLINE = "done", "failed", "deadline"
STOPPED, LEFT, RESTART = "cancelled", "left", RESTARTED
"""How an answer ends: in order, by an error, by its caller, without readers, with the server."""

STOPPED_BY = {
    STOPPED: "cancelled by its caller",
    DELETED: "cancelled, as its channel was deleted",
    LEFT: "cancelled, as its last reader left",
    LOST: "ended by other servers, for which this one had gone",
}
"""The lines of errors that end an answer early, by the reason."""

NAME_CHARACTERS = 64
"""Of an event's type; of a longer one only the data is carried on, and of one with control characters."""

_CONTROLS = re.compile(r"[\0-\x1f\x7f]")

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

log = structlog.get_logger()


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
        figures: how fast answers came, by model and upstream server.
    """

    requests: int = 0
    shared: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0
    first_event: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(SECONDS))
    cleanup: LatencyHistogram = field(default_factory=lambda: LatencyHistogram(SECONDS))
    figures: RelayFigures = field(default_factory=RelayFigures)


def _too_large(size: int) -> str:
    """Write the error that the channel's readers get in place of an event that is too large for them."""
    told = f"this part of the answer has {size} bytes; an event has {LINE_BYTES} at most"
    return error_data(told, 413)


@dataclass(frozen=True, slots=True)
class CompletionContext:
    """The parts of a relay that its requests share.

    Attributes:
        relay: its name, for the log.
        limits: after how long readers count as gone.
        keep_for: for how many seconds an answer goes on without readers who know where it is kept.
        answers: keeps the channels of answers; None where none are kept.
    """

    relay: str
    upstream: Upstream | Upstreams
    limits: TokenRelayLimits
    counters: RelayCounters
    keep_for: float = 0.0
    answers: AnswerChannels | None = None


class Completion:
    """One request for an answer, and its answer so far.

    Args:
        answer: the event channel of this answer alone.
        audience: the relay's event channel, on which the answer is published as well; None: it isn't.
        kept: the answer's channel as one that is kept; None where it isn't.

    Attributes:
        user: the name of the token that was presented; empty for another key.
        callers: how many callers wait for the answer, or get the stream as theirs.
        begun: completes when the answer has begun or failed.
        error: why there is no answer, or no more of it; None without an error.
        whole: the answer in one piece, where the request was for that.
        kept: whether the request goes on without readers.
        is_told: whether a caller knows where the answer is kept, so that it may come again.
        abandoned: whether it was cancelled before its end.
    """

    def __init__(
        self,
        request: CompletionRequest,
        answer: EventChannel,
        audience: EventChannel | None,
        context: CompletionContext,
        kept: AnswerChannel | None = None,
    ) -> None:
        self._request = request
        self.user = request.user
        self.answer = answer
        self.audience = audience
        self._context = context
        self._limits, self._counters = context.limits, context.counters
        self._channel = kept
        self._left_seconds = max(LEFT_SECONDS, context.keep_for)
        self._dialect = request.dialect or CHAT
        self.callers = self._entered_callers = 0
        # The channel's present readers are readers of this answer, too.
        self._entered = 0 if audience is None else audience.entered - bool(audience.readers_of_cluster)
        self._asking: asyncio.Future[None] | None = None
        self._stopped_at: float | None = None
        self._seen = time.monotonic()
        self._is_named = self._is_released = False
        self._size = self._count = 0
        self._times = AnswerTimes(context.counters.figures, self._dialect.name, request.model)
        self._over = False
        # The failure that an event of the upstream server has said, which is its own end of the answer.
        self._failure: CompletionError | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: CompletionError | None = None
        self.whole: list[bytes] | None = None
        self.kept = request.is_background
        self.abandoned = self.is_told = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Fields that tell a caller where the answer is kept; none where it isn't."""
        return [] if self._channel is None else self._channel.headers

    def release(self) -> None:
        """Keep the answer, which is over, for a while; not one of which nothing has come but its refusal."""
        if self._channel is None or self._context.answers is None or self._is_released:
            return
        self._is_released = True
        self._context.answers.finish(self._channel)
        if self.is_empty and not self.is_told:
            self._context.answers.created.discard(self._channel.record)

    @property
    def is_empty(self) -> bool:
        """Whether the upstream server has sent nothing of the answer yet."""
        return not self._count

    @property
    def readers(self) -> int:
        """Readers of the answer, those of the event channel among them; who is two of these counts twice."""
        others = 0 if self.audience is None else self.audience.readers_of_cluster
        return self.callers + self.answer.readers_of_cluster + others

    @property
    def _had_readers(self) -> bool:
        """Whether the answer has had a reader, even for a moment."""
        had_others = self.audience is not None and self.audience.entered > self._entered
        return self._entered_callers > 0 or had_others

    @property
    def _polled(self) -> float:
        """When a long poll was answered that read the answer, by the monotonic clock."""
        return max(one.polled for one in self._channels)

    @property
    def _channels(self) -> tuple[EventChannel, ...]:
        return (self.answer,) if self.audience is None else (self.answer, self.audience)

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
        self._asking = asking = asyncio.ensure_future(self._ask())
        try:
            if self._stopped_at is not None:
                asking.cancel()
            await asyncio.wait((asking,))
            if self._stopped_at is not None:
                self._counters.cleanup.observe(time.monotonic() - self._stopped_at)
            elif (broken := asking.exception()) is not None:
                log.error(
                    "a completion failed by an error of this server",
                    channel=self._context.relay,
                    exc_info=broken,
                )
                self.fail(CompletionError("the relay broke", 500))
        finally:
            asking.cancel()
            await asyncio.wait((asking,))

    def stop(self, reason: str, since: float | None = None) -> None:
        """End the answer for all its readers, and the request; what has come counts as delivered.

        Args:
            since: when the reason came up, by the monotonic clock; None for now.
        """
        if self._over:
            return
        self.abandoned = True
        self._counters.cancelled += 1
        self._stopped_at = time.monotonic() if since is None else since
        if self._asking is not None:
            self._asking.cancel()
        self.fail(CompletionError(STOPPED_BY.get(reason, f"cancelled: {reason}"), CANCELLED), reason)

    def look(self, now: float) -> None:
        """Note whether there are readers, and end the answer where there are none for too long.

        Args:
            now: by the monotonic clock.
        """
        if self._over:
            return
        if self._channel is None:
            # The channel of an answer that isn't kept is known nowhere else.
            beat_safely(self.answer)
        if self.callers or self.readers or self.kept or now - self._polled < self._limits.again_seconds:
            self._seen = now
        elif now - self._seen >= self._patience:
            kept = self._left_seconds - LEFT_SECONDS if self.is_told else 0.0
            self.stop(LEFT, self._seen + kept)

    @property
    def _patience(self) -> float:
        """For how long the answer goes on without readers."""
        if self.is_told:
            return self._left_seconds
        return LEFT_SECONDS if self._had_readers else self._limits.first_reader_seconds

    async def settle(self) -> None:
        """Wait until other nodes know where the answer is kept, unless that takes long.

        Raises:
            CompletionError: there is no room to keep it.
        """
        if self._channel is not None and self._context.answers is not None:
            await self._context.answers.settle(self._channel)

    async def _ask(self) -> None:
        try:
            await self.settle()
            asked = replace(self._request.upstream, on_asked=self._times.note_server)
            if self._request.is_stream:
                await self._context.upstream.stream(asked, self._begin, self._handle_event)
            else:
                whole = await self._context.upstream.whole(asked)
                self._publish_whole(whole)
                self.whole = whole
        except CompletionError as error:
            self._counters.failed += 1
            log.warning("a completion failed", channel=self._context.relay, reason=str(error))
            self.fail(error, DEADLINE if isinstance(error, DeadlineError) else FAILED)
        else:
            if self._failure is not None:
                self._counters.failed += 1
                reason = self._failure.line
                log.warning("a completion failed", channel=self._context.relay, reason=reason)
            self.finish(FINISHED if self._failure is None else FAILED)

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def _handle_event(self, event: ServerSentEvent) -> bool:
        """Publish an event of the upstream server; return whether more are to come."""
        if self._over:
            return False
        name = event.name
        self._failure = self._failure or failure_in(name, event.data)
        is_own = name in RESERVED or name == END or len(name) > NAME_CHARACTERS or _CONTROLS.search(name)
        self._publish("message" if is_own else name, event.data)
        return event.data != DONE

    def _publish(self, name: str, data: str) -> None:
        self._times.note_event(data)
        if not self._count and (seconds := self._times.first_seconds) is not None:
            self._counters.first_event.observe(seconds)
        if not self._is_named and self._count < IDENTITY_EVENTS and (identity := identity_in(data)):
            self._is_named = True
            if self._channel is not None and self._context.answers is not None:
                self._context.answers.name(self._channel, self._dialect, identity)
        event = self.answer.publish_text(data, name)
        if self.audience is not None:
            if event.size <= LINE_BYTES:
                self.audience.publish_soon(data, name)
            else:
                self.audience.publish_soon(_too_large(event.size), ERROR)
        self._count += 1
        self._size += event.size
        if self._size > (most := self._limits.answer_bytes):
            raise CompletionError(f"the upstream server's answer has more than {most} bytes")

    def _publish_whole(self, answer: list[bytes]) -> None:
        """Publish an answer in one piece, or why the channel's readers don't get it: its caller does."""
        size = sum(map(len, answer))
        if size <= LINE_BYTES:
            self._publish(COMPLETION, b"".join(answer).decode())
        else:
            self._publish(ERROR, _too_large(size))

    def fail(self, error: CompletionError, reason: str = FAILED) -> None:
        """Publish the answer's end and its reason; nothing if the answer has ended already."""
        if self._over:
            return
        self.error = error
        if not self.answer.closed:
            number = self._dialect.next_number(self.answer.log)
            self.answer.publish_text(self._dialect.write_failure(error, number), ERROR)
        if self.audience is not None and not self.audience.closed:
            self.audience.publish_soon(error.data, ERROR)
        self.finish(reason)

    def finish(self, reason: str = FINISHED) -> None:
        """End the answer for its readers behind the newest event, which says how it ended."""
        if not self._over:
            self._over = True
            self._begin()
            told = finish_reason_in(self.answer.log) if reason == FINISHED else ""
            self._note_end(reason, told)
            end = {"reason": reason, "chunks": self._count}
            self.answer.end(as_text({**end, "finish_reason": told} if told else end))

    def _note_end(self, reason: str, told: str) -> None:
        """Observe the answer's figures, and log them, without a word of it.

        Args:
            told: why the model wrote no more, if the upstream server says so.
        """
        times = self._times
        seconds = times.finish()
        log.info(
            "an answer has ended",
            relay=self._context.relay,
            user=self.user or None,
            api=self._dialect.name,
            model=shown_model(self._request.model),
            upstream=times.server or None,
            reason=reason,
            finish_reason=told or None,
            seconds=round(seconds, 3),
            first_event=None if times.first_seconds is None else round(times.first_seconds, 3),
            chunks=times.chunks,
            tokens=times.tokens,
        )
