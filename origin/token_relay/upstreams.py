"""Asks one of several upstream servers: the next one where one fails before the first event of its answer."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from origin.token_relay.completion_request import UpstreamRequest
from origin.token_relay.dialects import failure_in
from origin.token_relay.errors import CompletionError, DeadlineError
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.sse_reader import ServerSentEvent
from origin.token_relay.upstream import Upstream
from packager.bounded_dict import BoundedDict

MODELS_KEPT = 256
"""Most models of a server whose limits are remembered."""

Result = TypeVar("Result")


class _Breaker:
    """Decides whether an upstream server is asked that has failed.

    Attributes:
        failures: number of them since it last answered.
        until: end of the pause in which the server gets no requests, by the monotonic clock; 0 without one.
        reason: of the last failure.
    """

    def __init__(self, upstream: Upstream, limits: TokenRelayLimits) -> None:
        self.upstream = upstream
        self._limits = limits
        self.failures = 0
        self.until = 0.0
        self.reason = ""
        # By model: until when the server wants no requests for it, and its own words.
        self._limits_of = BoundedDict[str, tuple[float, CompletionError]](MODELS_KEPT)

    def admits(self, now: float, model: str) -> bool:
        """Return whether the server is asked for a model now; behind a pause by one request, as a trial."""
        if now < self.until or self.limit_of(model, now) is not None:
            return False
        if self.failures >= self._limits.breaker_failures:
            self.until = now + self._limits.breaker_pause_seconds
        return True

    def limit_of(self, model: str, now: float) -> CompletionError | None:
        """Return the refusal of requests for a model that is still valid; None without one."""
        until, error = self._limits_of.get(model, (0.0, None))
        return error.later(until - now) if error is not None and now < until else None

    def note_limit(self, model: str, error: CompletionError, now: float) -> None:
        """Note that the server takes no more requests for a model, for as long as it says."""
        self._limits_of[model] = now + self._bounded(error), error

    def note_failure(self, error: CompletionError, now: float) -> None:
        """Note that the server has failed, and for how long it wants to be left alone."""
        self.failures += 1
        self.reason = str(error)
        pause = self._limits.breaker_pause_seconds if self.failures >= self._limits.breaker_failures else 0.0
        pause = max(pause, self._bounded(error))
        self.until = now + pause if pause else 0.0

    def _bounded(self, error: CompletionError) -> float:
        return min(error.wait_seconds, self._limits.longest_pause_seconds)

    def note_beginning(self) -> None:
        """Note that an answer has begun, which ends the pause; one more failure begins the next."""
        self.until = 0.0
        self.failures = min(self.failures, self._limits.breaker_failures - 1)

    def note_success(self) -> None:
        """Note that the server has answered."""
        self.failures, self.until, self.reason = 0, 0.0, ""


def weighted_order(weights: Sequence[int], chance: Callable[[], float]) -> list[int]:
    """Return the indexes of weights in a random order; each is the next one as often as its weight says.

    Args:
        chance: returns random numbers from 0 to 1, without 1.
    """
    # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): by the largest u^(1/w).
    return sorted(range(len(weights)), key=lambda index: chance() ** (1 / weights[index]), reverse=True)


class Upstreams:
    """The upstream servers behind a relay, in the order in which they are asked.

    Args:
        clock: returns monotonic seconds.
        weights: how often each server is the first to be asked, relative to the others; empty for the first
            one always.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        limits: TokenRelayLimits,
        clock: Callable[[], float] = time.monotonic,
        weights: Sequence[int] = (),
    ) -> None:
        self._weights = weights
        self._breakers = [_Breaker(one, limits) for one in upstreams]
        self._clock = clock

    def change_keys(self, keys: Mapping[str, str]) -> None:
        """Use other keys from the next requests on, by the servers' addresses."""
        for one in self._breakers:
            one.upstream.change_keys(keys)

    @property
    def has_base(self) -> bool:
        """Whether the servers' other addresses are known, by those of their chat completions."""
        return all(one.upstream.has_base for one in self._breakers)

    @property
    def trouble(self) -> str:
        """Which servers aren't asked now, and why; empty if all are."""
        now, count = self._clock(), len(self._breakers)
        return "; ".join(
            f"upstream server {place} of {count} isn't asked: {one.reason}"
            for place, one in enumerate(self._breakers, 1)
            if now < one.until
        )

    async def stream(
        self,
        asked: UpstreamRequest,
        on_begin: Callable[[], None],
        on_event: Callable[[ServerSentEvent], bool],
    ) -> None:
        """Request a streamed answer, as `Upstream.stream`.

        Raises:
            CompletionError: there is no stream, or it broke off.
        """
        has_begun = False
        refusal: ServerSentEvent | None = None

        async def ask(breaker: _Breaker) -> None:
            nonlocal refusal

            def note(event: ServerSentEvent) -> bool:
                nonlocal has_begun, refusal
                if not has_begun:
                    if (error := failure_in(event.name, event.data)) is not None:
                        # The next server may have an answer.
                        refusal = event
                        raise error
                    has_begun = True
                    breaker.note_beginning()
                return on_event(event)

            refusal = None
            await breaker.upstream.stream(asked, on_begin, note)

        try:
            await self._first(ask, lambda: not has_begun, asked)
        except CompletionError:
            if refusal is None:
                raise
            # No server is left: its own words go on, in its own form.
            on_event(refusal)

    async def whole(self, asked: UpstreamRequest) -> list[bytes]:
        """Ask for an answer in one piece, as `Upstream.whole`.

        Raises:
            CompletionError: there is none.
        """
        return await self._first(lambda one: one.upstream.whole(asked), lambda: True, asked)

    async def _first(
        self,
        ask: Callable[[_Breaker], Awaitable[Result]],
        may_go_on: Callable[[], bool],
        asked: UpstreamRequest,
    ) -> Result:
        """Return the answer of the first server that has one, or the last one's failure.

        A server is only left alone where another one can be asked.
        """
        last: CompletionError | None = None
        for breaker in self._usable(asked.model):
            try:
                answer = await ask(breaker)
            except CompletionError as error:
                if not _may_pass(error):
                    raise
                if error.upstream != 429:
                    breaker.note_failure(error, self._clock())
                elif not asked.key:
                    # The limit of a caller's own key isn't that of others.
                    breaker.note_limit(asked.model, error, self._clock())
                if not may_go_on():
                    raise
                last = error
            else:
                breaker.note_success()
                return answer
        raise last or self._unusable(asked.model)

    def _usable(self, model: str) -> Iterator[_Breaker]:
        if len(self._breakers) == 1:
            yield self._breakers[0]
            return
        places = weighted_order(self._weights, random.random) if self._weights else range(len(self._breakers))
        for breaker in map(self._breakers.__getitem__, places):
            if breaker.admits(self._clock(), model):
                yield breaker

    def _unusable(self, model: str) -> CompletionError:
        now = self._clock()
        limited = [found for one in self._breakers if (found := one.limit_of(model, now)) is not None]
        if limited:
            return min(limited, key=lambda one: one.wait_seconds)
        pause = max(1, round(min(one.until for one in self._breakers) - now))
        return CompletionError("no upstream server is asked now", 503, fields={"retry-after": str(pause)})


def _may_pass(error: CompletionError) -> bool:
    """Return whether an error is the server's own, so that another one may have an answer."""
    return (error.upstream == 429 or error.upstream >= 500) and not isinstance(error, DeadlineError)
