"""The order in which calls begin: those of a client that has very many keep no other client's waiting."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

import grpc
import structlog

from origin.grpc.core import Call
from origin.grpc.limits import GrpcLimits
from origin.http.client_limits import network_of
from origin.http.token_bucket import TokenBucket
from origin.http.trusted_proxies import TrustedProxies

log = structlog.get_logger()

BEGINNING = 16
"""Most calls of a client under way whose answers haven't begun; further ones wait."""

WAITING = 1024
"""Most calls of a client that wait, which are those of eight connections."""

CLIENTS_KEPT = 4096
"""Most clients whose cancelled calls are counted; the ones that haven't called for longest are forgotten."""


class CallTurns:
    """Has calls answered: those of each client in their order, and a few of each client at a time.

    A client that cancels its calls before they are answered has them begun one by one, with pauses. A call
    that waits is still a stream of its connection, so that the core refuses more of them by itself.

    Args:
        begin: begins to answer a call.
        proxies: their calls never wait, since many clients are behind them.
        clock: monotonic seconds.

    Attributes:
        waiting: how many calls haven't begun.
    """

    def __init__(
        self,
        begin: Callable[[Call], asyncio.Task[None]],
        proxies: TrustedProxies,
        limits: GrpcLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = begin
        self._proxies = proxies
        self._limits = limits
        self._clock = clock
        self.waiting = 0
        # The one that has called last is the last.
        self._clients: OrderedDict[str, _Caller] = OrderedDict()
        # Suspect clients with calls that wait, in the order of their turns.
        self._paced = deque[_Caller]()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call) -> None:
        """Have a call answered, at once or in its turn."""
        host = call.address[0]
        if self._proxies.trusts(host):
            self._begin(call)
            return
        client = self._client(network_of(host))
        if len(client.waiting) >= WAITING:
            call.cut(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of one address wait")
            return
        client.waiting.append(call)
        self.waiting += 1
        self._go_on(client)

    def close(self) -> None:
        """Forget the calls that wait."""
        if self._timer is not None:
            self._timer.cancel()
        for client in (*self._clients.values(), *self._paced):
            client.waiting.clear()
        self._paced.clear()
        self.waiting = 0

    def _client(self, network: str) -> _Caller:
        client = self._clients.get(network)
        if client is None:
            client = self._clients[network] = _Caller(self._limits, self._clock)
            if len(self._clients) > CLIENTS_KEPT:
                self._clients.popitem(last=False)
        self._clients.move_to_end(network)
        return client

    def _go_on(self, client: _Caller) -> None:
        """Begin what waits of a client, as far as it may."""
        if self._clock() < client.suspect_until:
            self._pace(client)
            return
        while client.waiting and client.beginning < BEGINNING:
            self._begin_next(client)

    def _begin_next(self, client: _Caller) -> None:
        call = client.waiting.popleft()
        self.waiting -= 1
        client.beginning += 1
        call.on_begun = partial(self._on_begun, client)
        self._begin(call).add_done_callback(partial(self._on_end, client, call))

    def _on_begun(self, client: _Caller) -> None:
        client.beginning -= 1
        self._go_on(client)

    def _on_end(self, client: _Caller, call: Call, _: asyncio.Task[None]) -> None:
        """Count a call that has ended without an answer."""
        if call.has_begun:
            return
        client.beginning -= 1
        if client.unanswered.acquire():
            now = self._clock()
            if now >= client.suspect_until:
                log.warning(
                    "grpc accepts calls slowly", reason="the client cancels them at once", client=call.peer
                )
            client.suspect_until = now + self._limits.flood_seconds
        self._go_on(client)

    def _pace(self, client: _Caller) -> None:
        """Note that a suspect client waits for its turn."""
        if client.waiting and not client.is_paced:
            client.is_paced = True
            self._paced.append(client)
        if self._paced and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.flood_pause, self._next_turn)

    def _next_turn(self) -> None:
        """Begin one call of the suspect client whose turn it is."""
        self._timer = None
        client = self._paced.popleft()
        client.is_paced = False
        if client.waiting and client.beginning < BEGINNING:
            self._begin_next(client)
        self._go_on(client)
        if self._paced:
            self._pace(self._paced[0])


class _Caller:
    """The calls of one client.

    Attributes:
        waiting: calls that haven't begun, oldest first.
        beginning: how many are under way whose answers haven't begun.
        unanswered: counts calls that end before.
        suspect_until: until when they begin one by one, in monotonic seconds.
        is_paced: whether the client is among those that wait for a turn.
    """

    def __init__(self, limits: GrpcLimits, clock: Callable[[], float]) -> None:
        self.waiting = deque[Call]()
        self.beginning = 0
        self.unanswered = TokenBucket(limits.unanswered_calls, limits.unanswered_calls_a_second, clock)
        self.suspect_until = 0.0
        self.is_paced = False
