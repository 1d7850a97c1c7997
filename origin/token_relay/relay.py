"""Makes the requests of an event channel's relay to its upstream server, and shares equal ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from origin.config.limit_options import LimitOptions
from origin.config.options import AnswerRelayOptions, EventOptions, seconds
from origin.events.channel import EventChannel, EventChannelOptions, new_epoch
from origin.events.created.channels import CreatedChannels, FullError
from origin.events.limits import ChannelLimits
from origin.responses.refusal import RefusalError
from origin.token_relay.answer_channels import FULL_SECONDS, AnswerChannel, AnswerChannels, AnswerKeeping
from origin.token_relay.completion import RESTART, Completion, CompletionContext, RelayCounters
from origin.token_relay.completion_request import CompletionRequest, UpstreamRequest
from origin.token_relay.dialects import CHAT, Dialect
from origin.token_relay.errors import CompletionError
from origin.token_relay.limits import TokenRelayLimits
from packager.step_budget import StepBudget

if TYPE_CHECKING:
    # An HTTP client takes long to import, and most servers need none.
    from origin.token_relay.upstream import Upstream
    from origin.token_relay.upstreams import Upstreams


KEEP_SECONDS = 600.0
"""For how long an answer is kept where the configuration has no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRelayOptions:
    """The options of a channel's relay.

    Attributes:
        share: whether those with the same content, from callers with the same key, are one while it runs.
        keep: whether an answer goes on when its last reader has left.
        keep_for: for how many seconds it does so otherwise, where the reader may come again.
        publishes: whether chat completions are published on the channel.
        models: names of models at the upstream server, by those that callers use.
        passes_key: whether a caller's own key goes to the upstream server.
        requests_per_user: most requests with tokens of one user that run at once; None: any number.
    """

    share: bool = False
    keep: bool = False
    keep_for: float = 0.0
    publishes: bool = True
    models: Mapping[str, str] = field(default_factory=dict)
    passes_key: bool = False
    requests_per_user: int | None = None
    limits: TokenRelayLimits


class TokenRelay:
    """Asks the upstream server of one event channel, and publishes the answers there.

    Args:
        channel: where all answers are published.
        count: called with the number of bytes written to callers.
        answers: makes the channels of answers that are kept; None where none are.
    """

    def __init__(
        self,
        channel: EventChannel,
        upstream: Upstream | Upstreams,
        options: TokenRelayOptions,
        count: Callable[[int], None] = lambda _: None,
        answers: AnswerChannels | None = None,
    ) -> None:
        self.channel = channel
        self.name = channel.name
        self.limits = options.limits
        self._options = options
        self._upstream = upstream
        self._count = count
        self.answers = answers
        self._answer_options = answer_options(channel.limits, options.limits)
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[Completion, tuple[object, ...]] = {}
        # The users of requests that are passed on; empty ones for callers without a token.
        self._passed: list[str] = []
        self._is_looking = False
        self.counters = RelayCounters()

    def change_keys(self, keys: Mapping[str, str]) -> None:
        """Use other keys of the upstream servers from the next requests on, by their addresses."""
        self._upstream.change_keys(keys)

    @property
    def publishes(self) -> bool:
        """Whether chat completions are published on the relay's channel."""
        return self._options.publishes

    @property
    def models(self) -> Mapping[str, str]:
        """Names of models at the upstream server, by those that callers use."""
        return self._options.models

    @property
    def passes_key(self) -> bool:
        """Whether a caller's own key goes to the upstream server."""
        return self._options.passes_key

    @property
    def trouble(self) -> str:
        """Which of several upstream servers aren't asked now, and why; empty if all are."""
        return getattr(self._upstream, "trouble", "")

    @property
    def running(self) -> int:
        """Requests that are under way."""
        return len(self._running) + len(self._passed)

    @property
    def readers(self) -> int:
        """Callers of all requests, who aren't readers of the event channel."""
        return sum(completion.callers for completion in self._running) + len(self._passed)

    def ask(self, request: CompletionRequest, caller: str, *, is_kept: bool = False) -> Completion:
        """Ask the upstream server, or share a request that is under way.

        Args:
            caller: names the key that was presented.
            is_kept: whether the answer is kept in a channel of its own.

        Raises:
            RefusalError: there is no room, or the upstream server's other addresses aren't known.
        """
        dialect = request.dialect or CHAT
        if dialect is not CHAT:
            self._require_base()
        is_kept = is_kept and request.is_stream and self.answers is not None
        key = caller, dialect.name, request.fields, request.key, request.digest, is_kept
        headers = {"retry-after": str(self.limits.retry_seconds)}
        if self._options.share:
            for running, other in self._running.items():
                if other == key and not running.abandoned:
                    if running.callers >= self.channel.limits.readers:
                        raise RefusalError(503, "too many readers", headers)
                    self.counters.shared += 1
                    running.kept |= request.is_background
                    return running
        if self._tasks is None:
            raise RefusalError(503, "the server starts or ends", headers)
        self._require_room(request.user)
        completion = self._begin(request, dialect, is_kept=is_kept)
        completion.kept |= self._options.keep
        self._running[completion] = key
        if not self._is_looking:
            self._is_looking = True
            self._tasks.create_task(self._look())
        self.counters.requests += 1
        self._tasks.create_task(self._run(completion))
        return completion

    def _begin(self, request: CompletionRequest, dialect: Dialect, *, is_kept: bool) -> Completion:
        """Make the channel of an answer, and what asks for it.

        Raises:
            RefusalError: there is no room for a channel.
        """
        made: list[Completion] = []
        kept: AnswerChannel | None = None
        if self.answers is not None and is_kept:
            try:
                kept = self.answers.make(dialect, lambda reason: made[0].stop(reason))
            except FullError as error:
                raise RefusalError(429, str(error), {"retry-after": FULL_SECONDS}) from None
        if request.is_background and kept is None:
            if self.answers is not None:
                self.answers.check()
            raise RefusalError(501, self._not_kept)
        audience = self.channel if dialect is CHAT and self._options.publishes else None
        if audience is not None and not any(one.audience for one in self._running):
            audience.begin()
        answer = (
            EventChannel(self.name, new_epoch(), self._answer_options, count=self._count)
            if kept is None
            else kept.opened.channel
        )
        context = CompletionContext(
            self.name, self._upstream, self.limits, self.counters, self._options.keep_for, self.answers
        )
        completion = Completion(request, answer, audience, context, kept)
        made.append(completion)
        return completion

    @property
    def _not_kept(self) -> str:
        reason = "" if self.answers is None else self.answers.refusal
        return reason or "this server keeps no answers"

    @property
    def keeps_answers(self) -> bool:
        """Whether a streamed answer has a channel of its own here."""
        return self.answers is not None and not self.answers.refusal

    @property
    def kept_answers(self) -> AnswerChannels:
        """The channels of the answers that are kept.

        Raises:
            RefusalError: none are kept here.
        """
        if self.answers is None or not self.keeps_answers:
            raise RefusalError(501, self._not_kept)
        return self.answers

    def _require_room(self, user: str) -> None:
        """Refuse a request beyond those that may run at once, of all callers or of a user.

        Raises:
            RefusalError: there is no room.
        """
        headers = {"retry-after": str(self.limits.retry_seconds)}
        if self.channel.closed:
            raise RefusalError(503, "the server starts or ends", headers)
        if self.running >= self.limits.requests:
            self.counters.refused += 1
            raise RefusalError(429, f"{self.limits.requests} requests are under way", headers)
        most = self._options.requests_per_user
        if not user or most is None:
            return
        if sum(one.user == user for one in self._running) + self._passed.count(user) >= most:
            self.counters.refused += 1
            raise RefusalError(429, f"{most} requests of this token's user are under way", headers)

    async def pass_on(self, asked: UpstreamRequest) -> list[bytes]:
        """Request what isn't for the channel's readers, such as the list of models; return its JSON.

        Raises:
            RefusalError: there is no room, or the upstream server's other addresses aren't known.
            CompletionError: the upstream server has no such answer.
        """
        self._require_base()
        self._require_room(asked.user)
        self._passed.append(asked.user)
        self.counters.requests += 1
        try:
            return await self._upstream.whole(asked)
        except CompletionError:
            self.counters.failed += 1
            raise
        finally:
            self._passed.remove(asked.user)

    def _require_base(self) -> None:
        """Refuse what the upstream server may have at another address than the configured one.

        Raises:
            RefusalError: that address isn't known.
        """
        if not self._upstream.has_base:
            raise RefusalError(
                404, f"the channel's relay doesn't end with {CHAT.path}, so only that is asked"
            )

    async def _run(self, completion: Completion) -> None:
        with self._ending(completion):
            await completion.run()

    @contextmanager
    def _ending(self, completion: Completion) -> Iterator[None]:
        """End the channel for its readers once no answer is under way."""
        try:
            yield
        finally:
            self._end(completion)
            self._running.pop(completion, None)
            if completion.audience is not None and not any(one.audience for one in self._running):
                completion.audience.end()

    async def _look(self) -> None:
        """End answers without readers, as long as any is under way."""
        try:
            while self._running:
                await asyncio.sleep(self.limits.look_seconds)
                budget = StepBudget()
                for completion in tuple(self._running):
                    await budget.spend()
                    completion.look(time.monotonic())
        finally:
            self._is_looking = False

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
            self._end(completion)

    @staticmethod
    def _end(completion: Completion) -> None:
        """End an answer with the server, unless it has ended, and keep it for a while."""
        completion.fail(CompletionError("the server ends", 503), RESTART)
        completion.release()


def answer_options(given: ChannelLimits, limits: TokenRelayLimits) -> EventChannelOptions:
    """Return the options of a channel that keeps one answer whole, so that none of its readers misses any.

    Args:
        given: the limits of the relay's event channel.
    """
    whole = replace(
        given,
        history=limits.kept_events,
        history_seconds=0.0,
        history_bytes=limits.kept_bytes,
        queue_bytes=limits.kept_bytes,
        drain_seconds=limits.drain_seconds,
    )
    return EventChannelOptions(limits=whole)


def relay_limits(configured: LimitOptions, limits: TokenRelayLimits) -> TokenRelayLimits:
    """Return relays' limits, with the configured ones."""
    return replace(
        limits,
        requests=configured.relay_requests,
        request_bytes=configured.relay_request_bytes,
        answer_bytes=configured.relay_answer_bytes,
        silent_seconds=configured.relay_silent_seconds,
        answer_seconds=configured.relay_answer_seconds,
    )


@dataclass(frozen=True, slots=True)
class RelayMaker:
    """Makes the relays of a configuration.

    Attributes:
        created: makes the channels of answers.
        count: called with the number of bytes written to callers.
    """

    limits: TokenRelayLimits
    created: CreatedChannels
    count: Callable[[int], None]

    def of_channel(self, one: EventOptions, channel: EventChannel) -> TokenRelay:
        """Make the relay of an event channel."""
        # An HTTP client takes long to import, and most servers need none.
        from origin.token_relay.upstream import Upstream, UpstreamOptions

        where = UpstreamOptions(
            url=one.relay or "", key=one.relay_key or "", key_header=one.relay_key_header.lower()
        )
        options = TokenRelayOptions(
            share=one.relay_share,
            keep=one.relay_keep,
            keep_for=seconds(one.relay_keep_for),
            limits=self.limits,
        )
        keep_for = seconds(one.keep_for) or KEEP_SECONDS
        answers = self._answers(one.name, keep_for, history=bool(seconds(one.history)))
        return TokenRelay(channel, Upstream(where, self.limits), options, self.count, answers)

    def of_table(self, one: AnswerRelayOptions, given: EventChannelOptions) -> TokenRelay:
        """Make a relay whose answers have channels of their own alone.

        Args:
            given: the options of an event channel, whose limits callers and readers have.
        """
        from origin.token_relay.upstream import Upstream, UpstreamOptions
        from origin.token_relay.upstreams import Upstreams

        upstreams = [
            Upstream(
                UpstreamOptions(url=url, key=key, key_header=one.relay_key_header.lower()),
                self.limits,
            )
            for url, key in keys_of_table(one)
        ]
        options = TokenRelayOptions(
            share=one.relay_share,
            keep=one.relay_keep,
            keep_for=seconds(one.relay_keep_for),
            publishes=False,
            passes_key=one.relay_pass_key,
            requests_per_user=one.requests_per_user,
            models=one.models,
            limits=self.limits,
        )
        channel = EventChannel(one.name, new_epoch(), given)
        answers = self._answers(one.name, seconds(one.keep_for), history=one.history)
        asking = Upstreams(upstreams, self.limits, weights=one.weights)
        return TokenRelay(channel, asking, options, self.count, answers)

    def _answers(self, name: str, keep_for: float, *, history: bool) -> AnswerChannels:
        longest = self.limits.answer_seconds
        keeping = AnswerKeeping(keep_for=keep_for, history=history, longest_answer=longest)
        return AnswerChannels(self.created, name, keeping)


def keys_of_table(one: AnswerRelayOptions) -> list[tuple[str, str]]:
    """Return the addresses of a relay's upstream servers, each with its key; empty without one."""
    keys = one.relay_keys if len(one.relay_keys) > 1 else (one.relay_keys or ("",)) * len(one.upstreams)
    return [(address_of_chat(url), key or "") for url, key in zip(one.upstreams, keys, strict=True)]


def address_of_chat(base: str) -> str:
    """Return the address of a server's chat completions, by the base of all its addresses."""
    path, mark, query = base.partition("?")
    path = path.rstrip("/")
    return f"{path if path.endswith(CHAT.path) else path + CHAT.path}{mark}{query}"
