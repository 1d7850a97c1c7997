"""Shares an event loop's time among connections, whatever the protocol: HTTP, TLS, WebSocket, gRPC, RTMP.

Costs are counted by the clock, not by what arrives. A connection with little to do is read from at once. One
with more asks after each unit (a head, some chunks, a TLS record, a frame, a handshake) whether there is time
left. If there isn't, its reading pauses, and it waits for its turn in one of the next steps of the loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.types import Scope

from origin.http.client_limits import network_of
from packager.bounded_dict import BoundedDict
from packager.step_budget import StepBudget

TURN_SECONDS = 0.001
"""Time of one step of the event loop for all connections that have more than a little to do."""

CROWDED_SECONDS, CROWDED_TURNS = 0.005, 5
"""Most time of a step for single requests that wait since very many have come at once, also in turns."""

REQUEST_SECONDS, CONNECTION_SECONDS = 0.000_2, 0.000_1
"""Time that tasks of requests and of new connections take in the next step, until it is measured."""

LEAST_SECONDS, MOST_SECONDS = 0.000_05, 0.005
"""Bounds of such a time, however short or long others took."""

ACCEPTING_SECONDS = 0.002
"""Time of a step for new connections, which wait in one queue of the kernel, those of all clients."""

NEWEST_SHARE = 0.125
"""Share of the task that was measured last in the time that the next one is expected to take."""

UNWATCHED_REQUESTS = 64
"""Reads of a step that are handled without a look at the others: looking costs each some per cent."""

STEP_REQUESTS = 256
"""Most requests that are answered in one step of the loop."""

QUIET_SECONDS = 1.0
"""Time after which a connection that has asked nothing, or has waited for a turn last, is quiet again."""

SUSPECT_SECONDS = 10.0
"""For how long a client is suspect after a flood, or after a connection was ended for its fault."""

SUSPECTS_KEPT = 4096
"""Most clients that are remembered; the ones whose fault is oldest are forgotten."""

GoOn = Callable[[], None]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SuspectShare:
    """The share of the event loop's time of clients that have flooded.

    Attributes:
        seconds: for which their connections are read from, all together.
        pause: seconds from one such time to the next one.
    """

    seconds: float = 0.000_5
    pause: float = 0.04


class _WaitingConnections:
    """Connections that wait: networks of clients take turns, and so do the connections of a network."""

    def __init__(self) -> None:
        # Ordered sets, whose oldest member is removed at once.
        self._networks: OrderedDict[str, OrderedDict[GoOn, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._networks)

    @property
    def network_count(self) -> int:
        """How many networks have connections that wait."""
        return len(self._networks)

    def has(self, host: str) -> bool:
        return bool(self._networks) and network_of(host) in self._networks

    def append(self, go_on: GoOn, host: str) -> None:
        network = network_of(host)
        waiting = self._networks.get(network)
        if waiting is None:
            waiting = self._networks[network] = OrderedDict()
        waiting[go_on] = None

    def pop(self) -> GoOn:
        network, waiting = self._networks.popitem(last=False)
        go_on, _ = waiting.popitem(last=False)
        if waiting:
            self._networks[network] = waiting
        return go_on


class TaskCost:
    """The time that the first step of a kind of tasks takes, measured one after the other.

    Attributes:
        seconds: that the next one is expected to take.
    """

    __slots__ = ("_began", "_clock", "_is_measured", "seconds")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._began = 0.0
        self._is_measured = False

    def begin(self, begin: Callable[[], T]) -> T:
        """Have a task begin in the next step of the loop, and measure it there."""
        if self._is_measured:
            return begin()
        self._is_measured = True
        loop = asyncio.get_running_loop()
        # The loop calls these in order, the task between them.
        loop.call_soon(self._note_begin)
        task = begin()
        loop.call_soon(self._note_end)
        return task

    def _note_begin(self) -> None:
        self._began = self._clock()

    def _note_end(self) -> None:
        self._is_measured = False
        took = min(max(self._clock() - self._began, LEAST_SECONDS), MOST_SECONDS)
        self.seconds += NEWEST_SHARE * (took - self.seconds)


class SharedTurns:
    """The turns of one event loop, and the clients whose connections have a smaller share of it.

    Also ends a step of the loop that has very many requests. libuv reads from ready sockets up to 48 times,
    1,024 at a time, before it runs anything else. So two thousand busy connections would keep answers that
    need a second step, and new connections, for a second.

    Args:
        seconds: of one step of the event loop that may be spent here.
        clock: monotonic seconds.

    Attributes:
        asked: reads of this step of the loop, as far as it is known to be one.
        unwatched: how many of them are handled without asking `admits`.
        requests: the time that requests for the application take in the next step.
        connections: the time that new connections take in the next step.
    """

    __slots__ = (
        "_accepted_seconds",
        "_busy",
        "_clock",
        "_contended_until",
        "_deferred",
        "_ends",
        "_is_due",
        "_is_fresh",
        "_seconds",
        "_suspect_share",
        "_suspect_until",
        "_suspects",
        "_suspects_due",
        "asked",
        "connections",
        "requests",
        "unwatched",
    )

    def __init__(
        self,
        seconds: float = TURN_SECONDS,
        clock: Callable[[], float] = time.perf_counter,
        suspects: SuspectShare = SuspectShare(),
    ) -> None:
        self.asked = 0
        self.unwatched = UNWATCHED_REQUESTS
        self._seconds = seconds
        self._clock = clock
        self.requests = TaskCost(REQUEST_SECONDS, clock)
        self.connections = TaskCost(CONNECTION_SECONDS, clock)
        # Connections that have more to do than a little, and those with a single request.
        self._busy, self._deferred = _WaitingConnections(), _WaitingConnections()
        # Until when reads are watched, because connections have waited.
        self._contended_until = 0.0
        # Whether the end of this step will be noticed; whether a turn has just begun; when the step's time
        # ends, None where nobody has asked for it.
        self._is_due = self._is_fresh = False
        self._ends: float | None = None
        # Time that the connections take that were accepted in this step.
        self._accepted_seconds = 0.0
        self._suspect_share = suspects
        self._suspects = _WaitingConnections()
        self._suspects_due = False
        # Until when each network is suspect, the earliest first.
        self._suspect_until = BoundedDict[str, float](SUSPECTS_KEPT)

    # A turn

    def has_time(self) -> bool:
        """Return whether a connection may go on in this step of the loop."""
        if self._is_fresh:
            self._is_fresh = False
            return True
        if self._ends is None:
            self._begin_turn(self._seconds)
            return True
        return self._clock() < self._ends

    def spend(self, seconds: float) -> None:
        """Count time of the next step that is spent for what this one has begun."""
        if self._ends is None:
            self._begin_turn(self._seconds)
        self._ends = (self._ends or 0.0) - seconds

    def begin(self, cost: TaskCost, begin: Callable[[], T]) -> T:
        """Begin a task, and count what it takes in the next step as time of this one."""
        self.spend(cost.seconds)
        return cost.begin(begin)

    def accepts(self) -> bool:
        """Return whether one more connection may be accepted in this step of the loop."""
        self._accepted_seconds += self.connections.seconds
        return self._accepted_seconds < ACCEPTING_SECONDS

    def append(self, go_on: GoOn, host: str = "", *, is_suspect: bool = False) -> float:
        """Call a busy connection in one of the next steps, after those of its client that wait already.

        Args:
            host: address of its client, by which clients take turns.
            is_suspect: whether it has a suspect's share.

        Returns:
            Until when the connection is busy; see `admits`.
        """
        if is_suspect:
            self._suspects.append(go_on, host)
            self._run_suspects_later()
        else:
            self._busy.append(go_on, host)
            self._watch()
        self._contend()
        return self._contended_until

    def defer(self, go_on: GoOn, host: str) -> None:
        """Call a connection whose read isn't admitted in one of the next steps."""
        self._deferred.append(go_on, host)
        self._watch()
        self._contend()

    def _contend(self) -> None:
        self.unwatched = 0
        self._contended_until = self._clock() + QUIET_SECONDS

    async def next_turn(self, host: str = "") -> float:
        """Have a task wait for its turn, and return for how many seconds that lasts."""
        turn = asyncio.get_running_loop().create_future()
        self.append(partial(self._wake, turn), host)
        await turn
        return self._seconds

    def _wake(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            turn.set_result(None)
            # The task computes in the next step.
            self.spend(self._seconds)

    # Reads that come by themselves

    def admits(self, quiet_seconds: float, host: str, busy_until: float = 0.0) -> bool:
        """Return whether a read is handled in this step; to be asked after the unwatched ones.

        Args:
            quiet_seconds: for how long the connection has asked nothing.
            host: address of its client, by which clients take turns.
            busy_until: until when it is busy, since it has waited for a turn.
        """
        self._watch()
        if self.asked > STEP_REQUESTS:
            return False
        if self.is_busy(busy_until):
            return self.has_time()
        if not self._deferred or quiet_seconds > QUIET_SECONDS:
            return True
        # In a crowd of networks the first ones to be read from would go before those that wait.
        is_first = self.asked <= UNWATCHED_REQUESTS and self._deferred.network_count <= UNWATCHED_REQUESTS
        return is_first and not self._deferred.has(host)

    def busy_until(self, host: str) -> float:
        """Return until when a new connection is busy: others of its client wait; 0 if it isn't."""
        return self._clock() + QUIET_SECONDS if self._busy.has(host) else 0.0

    def is_busy(self, busy_until: float) -> bool:
        """Return whether a connection has waited for a turn lately."""
        return busy_until > 0.0 and self._clock() < busy_until

    # The steps

    def _begin_turn(self, seconds: float) -> None:
        self._ends = self._clock() + seconds
        self._watch()

    def _watch(self) -> None:
        """Notice the end of this step."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Begin a step, with the turns of connections that wait."""
        self._is_due = False
        self._ends = None
        self.asked = 0
        self._accepted_seconds = 0.0
        if self._deferred or self._busy:
            # First, so that whatever a connection raises keeps none of the others from its turn.
            self._watch()
            self._answer_deferred(min(CROWDED_SECONDS, CROWDED_TURNS * self._seconds))
            self._call(self._busy, self._seconds)
        elif not self._suspects and self._clock() >= self._contended_until:
            self.unwatched = UNWATCHED_REQUESTS

    def _answer_deferred(self, seconds: float) -> None:
        """Call connections that have a single request; one that turns out to have more waits again."""
        self._begin_turn(0.0)
        for _ in range(STEP_REQUESTS):
            if not self._deferred:
                break
            self._deferred.pop()()
            # The time of the tasks that they have begun for the next step has been taken from this one.
            if self._ends is None or self._clock() >= self._ends + seconds:
                break

    def _call(self, waiting: _WaitingConnections, seconds: float) -> None:
        """Call connections for some seconds; however little that is, the first one goes on."""
        if not waiting:
            return
        self._begin_turn(seconds)
        for _ in range(STEP_REQUESTS):
            self._is_fresh = True
            try:
                waiting.pop()()
            finally:
                self._is_fresh = False
            if not waiting or not self.has_time():
                break

    # Suspects

    def suspect(self, host: str) -> None:
        """Suspect the client with an address, and all others of its network."""
        if not host:
            return
        self._suspect_until[network_of(host)] = self._clock() + SUSPECT_SECONDS

    def is_suspect(self, host: str) -> bool:
        """Return whether a client is suspect."""
        until = self._suspect_until
        return bool(until) and self._clock() < until.get(network_of(host), 0.0)

    def _run_suspects_later(self) -> None:
        if not self._suspects_due:
            self._suspects_due = True
            asyncio.get_running_loop().call_later(self._suspect_share.pause, self._run_suspects)

    def _run_suspects(self) -> None:
        self._suspects_due = False
        if self._suspects:
            self._run_suspects_later()
            self._call(self._suspects, self._suspect_share.seconds)


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SharedTurns] = weakref.WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop, seconds: float = TURN_SECONDS) -> SharedTurns:
    """Return the turns of an event loop, which all its connections share.

    Args:
        seconds: of a step that may be spent in turns, where the loop has none yet.
    """
    turns = _of_loops.get(loop)
    if turns is None:
        turns = _of_loops[loop] = SharedTurns(seconds)
    return turns


def budget_of(scope: Scope) -> StepBudget:
    """Make the budget of a task that reads a request's body in pieces that may be tiny."""
    client = scope["client"]
    return StepBudget(turns=turns_of(asyncio.get_running_loop()), host=client[0] if client else "")
