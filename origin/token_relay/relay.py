"""Makes the requests of an event channel's relay to its upstream server, and shares equal ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from origin.config.limit_options import LimitOptions
from origin.config.options import EventOptions
from origin.events.channel import EventChannel, EventChannelOptions, new_epoch
from origin.events.limits import ChannelLimits
from origin.responses.refusal import RefusalError
from origin.token_relay.completion import Completion, RelayCounters
from origin.token_relay.completion_request import CHAT, CompletionRequest, UpstreamRequest
from origin.token_relay.errors import CompletionError
from origin.token_relay.limits import TokenRelayLimits

if TYPE_CHECKING:
    # An HTTP client takes long to import, and most servers need none.
    from origin.token_relay.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRelayOptions:
    """The options of a channel's relay.

    Attributes:
        share: whether those with the same content, from callers with the same key, are one while it runs.
        keep: whether an answer goes on when its last reader has left.
    """

    share: bool = False
    keep: bool = False
    limits: TokenRelayLimits


class TokenRelay:
    """Asks the upstream server of one event channel, and publishes the answers there.

    Args:
        channel: where all answers are published.
        count: called with the number of bytes written to callers.
    """

    def __init__(
        self,
        channel: EventChannel,
        upstream: Upstream,
        options: TokenRelayOptions,
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.channel = channel
        self.name = channel.name
        self.limits = options.limits
        self._options = options
        self._upstream = upstream
        self._count = count
        self._answers = EventChannelOptions(limits=answer_limits(channel, options.limits))
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[Completion, tuple[str, bytes]] = {}
        self._passed = 0
        self.counters = RelayCounters()

    @property
    def running(self) -> int:
        """Requests that are under way."""
        return len(self._running) + self._passed

    @property
    def readers(self) -> int:
        """Callers of all requests, who aren't readers of the event channel."""
        return sum(completion.callers for completion in self._running) + self._passed

    def ask(self, request: CompletionRequest, caller: str) -> Completion:
        """Ask the upstream server, or share a request that is under way.

        Args:
            caller: names the key that was presented.

        Raises:
            RefusalError: there is no room.
        """
        key = caller, request.digest
        headers = {"retry-after": str(self.limits.retry_seconds)}
        if self._options.share:
            for running, other in self._running.items():
                if other == key and not running.abandoned:
                    if running.callers >= self.channel.limits.readers:
                        raise RefusalError(503, "too many readers", headers)
                    self.counters.shared += 1
                    return running
        if self._tasks is None:
            raise RefusalError(503, "the server starts or ends", headers)
        self._require_room()
        if not self._running:
            self.channel.begin()
        answer = EventChannel(self.name, new_epoch(), self._answers, count=self._count)
        completion = Completion(request, self._upstream, answer, self.channel, self.limits, self.counters)
        completion.kept = self._options.keep
        self._running[completion] = key
        self.counters.requests += 1
        self._tasks.create_task(self._run(completion))
        return completion

    def _require_room(self) -> None:
        """Refuse a request beyond those that may run at once.

        Raises:
            RefusalError: there is no room.
        """
        headers = {"retry-after": str(self.limits.retry_seconds)}
        if self.channel.closed:
            raise RefusalError(503, "the server starts or ends", headers)
        if self.running >= self.limits.requests:
            self.counters.refused += 1
            raise RefusalError(429, f"{self.limits.requests} requests are under way", headers)

    async def pass_on(self, asked: UpstreamRequest) -> bytes:
        """Request what isn't for the channel's readers, such as the list of models; return its JSON.

        Raises:
            RefusalError: there is no room, or the upstream server's other addresses aren't known.
            CompletionError: the upstream server has no such answer.
        """
        if not self._upstream.has_base:
            raise RefusalError(404, f"the channel's relay doesn't end with {CHAT}, so only that is asked")
        self._require_room()
        self._passed += 1
        self.counters.requests += 1
        try:
            return await self._upstream.whole(asked)
        except CompletionError:
            self.counters.failed += 1
            raise
        finally:
            self._passed -= 1

    async def _run(self, completion: Completion) -> None:
        with self._ending(completion):
            await completion.run()

    @contextmanager
    def _ending(self, completion: Completion) -> Iterator[None]:
        """End the channel for its readers once no answer is under way."""
        try:
            yield
        finally:
            completion.fail(CompletionError("the server ends", 503))
            self._running.pop(completion, None)
            if not self._running:
                self.channel.end()

    async def run(self) -> None:
        """Accept requests until the task is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None

    def close(self) -> None:
        """Publish the server's end to the readers of all answers."""
        for completion in tuple(self._running):
            completion.fail(CompletionError("the server ends", 503))


def answer_limits(channel: EventChannel, limits: TokenRelayLimits) -> ChannelLimits:
    """Return the limits of a channel that keeps one answer whole, so that none of its readers misses any."""
    return replace(
        channel.limits,
        history=limits.kept_events,
        history_seconds=0.0,
        history_bytes=limits.kept_bytes,
        queue_bytes=limits.kept_bytes,
        drain_seconds=limits.drain_seconds,
    )


def relay_limits(configured: LimitOptions, limits: TokenRelayLimits) -> TokenRelayLimits:
    """Return relays' limits, with the configured ones."""
    return replace(
        limits,
        requests=configured.relay_requests,
        request=replace(limits.request, request_bytes=configured.relay_request_bytes),
        upstream=replace(
            limits.upstream,
            answer_bytes=configured.relay_answer_bytes,
            silent_seconds=configured.relay_silent_seconds,
            answer_seconds=configured.relay_answer_seconds,
        ),
    )


def make_relays(
    configured: tuple[EventOptions, ...],
    channels: Mapping[str, EventChannel],
    limits: TokenRelayLimits,
    count: Callable[[int], None],
) -> dict[str, TokenRelay]:
    """Make the relays of all event channels that have one, by name."""
    relays: dict[str, TokenRelay] = {}
    for one in configured:
        if one.relay is not None:
            # An HTTP client takes long to import, and most servers need none.
            from origin.token_relay.upstream import Upstream, UpstreamOptions

            where = UpstreamOptions(
                url=one.relay, key=one.relay_key or "", key_header=one.relay_key_header.lower()
            )
            options = TokenRelayOptions(share=one.relay_share, keep=one.relay_keep, limits=limits)
            upstream = Upstream(where, limits.upstream)
            relays[one.name] = TokenRelay(channels[one.name], upstream, options, count)
    return relays
