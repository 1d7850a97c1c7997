"""The door to threads: clients take turns with calls that block, and no call waits inside of a thread.

The calls may be made again, and may share work with others; see `packager.blocking_calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from packager.blocking_calls import LackingError, PresentCall
from packager.fair_queue import FairQueue, TooManyWaitingError
from packager.transient_errors import NotReadyError

P = ParamSpec("P")
T = TypeVar("T")

SWITCH_SECONDS = 0.000_2
"""For how long a thread computes at most while others wait for the interpreter."""

SERVER = ""
"""The client of calls that the server makes by itself."""


class Closable(Protocol):
    """An object that must be closed, such as a file."""

    def close(self) -> object:
        """Release the resource."""


C = TypeVar("C", bound=Closable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadLimits:
    """The limits of a pool of threads.

    Attributes:
        threads: most calls at once.
        client_threads: most of them of one client, such as a network; None: as many as there are.
        rest: for how long a call's place stays taken after its end, as a share of its time. With 1, a client
            that has computed all the time takes half of a core for each of its threads.
        waiting: most calls that wait for a thread. Beyond, the newest of the client that has the most of them
            is refused.
        wait_seconds: for how long a client's call waits for a thread and for what it lacks, all its waits
            together. The server's own calls wait for as long as it takes.
    """

    threads: int
    client_threads: int | None = None
    rest: float = 0.0
    waiting: int = 1 << 16
    wait_seconds: float = 60.0


class CrowdedError(NotReadyError, TimeoutError):
    """So many calls wait for a thread that another one would come too late for its client."""


class _Flight(Generic[T]):
    """One run of a function in a thread, for all who want the same.

    Args:
        key: the name of the result; None: nobody else wants the same.
        unwanted: is called with a result for which nobody waits any more.

    Attributes:
        waiting: the futures of those who wait for the result, each with its client.
        clients: how many of them each client has.
        has_begun: whether the function has a thread.
    """

    def __init__(
        self, key: Hashable | None, function: Callable[[], T], unwanted: Callable[[T], object] | None
    ) -> None:
        self.key = key
        self.function = function
        self.unwanted = unwanted
        self.waiting: dict[asyncio.Future[T], str] = {}
        self.clients: Counter[str] = Counter()
        self.has_begun = False


class _ClientTurns:
    """The calls of one event loop: those that run, and those that wait for a thread."""

    def __init__(self, limits: ThreadLimits, executor: Executor | None) -> None:
        self._limits = limits
        self._executor = executor
        self._free = limits.threads
        self._running: Counter[str] = Counter()
        self._queue = FairQueue[_Flight[Any]](limits.waiting)
        self._flights: dict[Hashable, _Flight[Any]] = {}

    def join(self, client: str, flight: _Flight[T]) -> tuple[_Flight[T], asyncio.Future[T]]:
        """Have a function called, or wait for a call of the same key, which then stands in both queues.

        Raises:
            CrowdedError: too many calls wait.
        """
        if flight.key is not None:
            flight = self._flights.get(flight.key, flight)
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not flight.has_begun and not flight.clients[client]:
            if self._may_run(client):
                self._run(client, flight)
            else:
                self._wait(client, flight)
        flight.waiting[waiter] = client
        flight.clients[client] += 1
        if flight.key is not None:
            self._flights[flight.key] = flight
        waiter.add_done_callback(functools.partial(self._left, flight))
        return flight, waiter

    def _may_run(self, client: str) -> bool:
        most = self._limits.client_threads
        return self._free > 0 and (most is None or self._running[client] < most)

    def _wait(self, client: str, flight: _Flight[Any]) -> None:
        try:
            dropped = self._queue.push(client, flight)
        except TooManyWaitingError:
            raise CrowdedError from None
        if dropped is not None:
            for waiter, other in list(dropped.waiting.items()):
                # A call that another client wants, too, still stands in that one's queue.
                if not waiter.done() and not self._queue.contains(other, dropped):
                    waiter.set_exception(CrowdedError())

    def _left(self, flight: _Flight[Any], waiter: asyncio.Future[Any]) -> None:
        """Take a call that nobody waits for any more out of the queues."""
        client = flight.waiting.pop(waiter)
        flight.clients[client] -= 1
        if flight.clients[client] or flight.has_begun:
            return
        del flight.clients[client]
        self._queue.remove(client, flight)
        if not flight.waiting:
            self._forget(flight)

    def _forget(self, flight: _Flight[Any]) -> None:
        if flight.key is not None and self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _run(self, client: str, flight: _Flight[Any]) -> None:
        flight.has_begun = True
        for waiting in flight.clients:
            self._queue.remove(waiting, flight)
        self._free -= 1
        self._running[client] += 1
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, flight.function)
        running.add_done_callback(functools.partial(self._ended, flight))
        running.add_done_callback(functools.partial(self._rest, client, loop.time()))

    def _rest(self, client: str, began: float, running: asyncio.Future[Any]) -> None:
        loop = running.get_loop()
        if self._limits.rest:
            loop.call_later(self._limits.rest * (loop.time() - began), self._leave, client)
        else:
            self._leave(client)

    def _leave(self, client: str) -> None:
        """Begin the calls whose turn it is, as a client's place is free."""
        self._free += 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        while (turn := self._queue.pop(self._may_begin) or self._queue.pop(self._may_run)) is not None:
            self._run(*turn)

    def _ended(self, flight: _Flight[Any], running: asyncio.Future[Any]) -> None:
        self._forget(flight)
        waiting = [waiter for waiter in flight.waiting if not waiter.done()]
        if running.cancelled():
            for waiter in waiting:
                waiter.cancel()
        elif (error := running.exception()) is not None:
            for waiter in waiting:
                waiter.set_exception(error)
        else:
            for waiter in waiting:
                waiter.set_result(running.result())
            if not waiting and flight.unwanted is not None:
                flight.unwanted(running.result())

    def _may_begin(self, client: str) -> bool:
        """Return whether a client has no thread, and so is before those that have any."""
        return self._free > 0 and not self._running[client]


class _RepeatedCall(Generic[T]):
    """A call with its repetitions: until nothing is lacking, or the time for its waits is over.

    Attributes:
        outcome: the result, or the error.
    """

    def __init__(
        self,
        turns: _ClientTurns,
        client: str,
        seconds: float,
        key: Hashable | None,
        function: Callable[[], T],
        unwanted: Callable[[T], object] | None,
    ) -> None:
        self._turns = turns
        self._client = client
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        self._call = PresentCall({}, functools.partial(_begin, self._loop, turns, client, context))
        run = functools.partial(context.run, self._call.run, function)
        self._new_flight = functools.partial(_Flight[T], key, run, unwanted)
        self._unwanted = unwanted
        self._deadline = self._loop.time() + seconds
        self._flight: _Flight[T] | None = None
        self._current: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.outcome: asyncio.Future[T] = self._loop.create_future()
        self.outcome.add_done_callback(self._is_over)
        self._attempt()

    def _attempt(self) -> None:
        """Have the function called."""
        try:
            self._flight, attempt = self._turns.join(self._client, self._new_flight())
        except CrowdedError as error:
            self.outcome.set_exception(error)
            return
        if not self._flight.has_begun:
            self._limit_wait()
        self._current = attempt
        attempt.add_done_callback(self._attempted)

    def _attempted(self, attempt: asyncio.Future[T]) -> None:
        self._flight = None
        if self.outcome.done():
            if not attempt.cancelled() and attempt.exception() is None and self._unwanted is not None:
                self._unwanted(attempt.result())
        elif attempt.cancelled():
            self.outcome.cancel()
        elif (error := attempt.exception()) is None:
            self.outcome.set_result(attempt.result())
        elif isinstance(error, LackingError):
            self._wait_for(error)
        else:
            self.outcome.set_exception(error)

    def _wait_for(self, lacking: LackingError) -> None:
        self._flight = None
        self._limit_wait()
        try:
            self._current = lacking.begin(self._client)
        except Exception as error:  # noqa: BLE001  # it is the call's outcome
            self.outcome.set_exception(error)
            return
        self._current.add_done_callback(functools.partial(self._waited, lacking.key))

    def _waited(self, key: Hashable, lacking: asyncio.Future[Any]) -> None:
        if self.outcome.done():
            if not lacking.cancelled():
                lacking.exception()  # nobody waits for the result any more
        elif lacking.cancelled():
            self.outcome.cancel()
        elif isinstance(error := lacking.exception(), LackingError):
            self._wait_for(error)  # the call that was waited for lacks something itself
        elif error is not None:
            self.outcome.set_exception(error)
        else:
            self._call.results[key] = lacking.result()
            self._attempt()

    def _limit_wait(self) -> None:
        if self._timer is None and self._client != SERVER:
            self._timer = self._loop.call_later(max(0.0, self._deadline - self._loop.time()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        # A call that runs may end well; its time is over if it lacks anything more.
        if not self.outcome.done() and (self._flight is None or not self._flight.has_begun):
            self.outcome.set_exception(TimeoutError(f"it waits for others for more than {self._seconds:g} s"))

    def _is_over(self, _: asyncio.Future[T]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._current is not None and not self._current.done():
            self._current.cancel()


class ClientThreads:
    """Threads for the calls of one client, which takes turns with others.

    Args:
        client: such as a network.
        key: the name of the result, made of parsed parameters alone; calls of the same key are one call.
            None: each call is made by itself.
    """

    def __init__(self, pool: _Pool, client: str, key: Hashable | None) -> None:
        self._pool = pool
        self._client = client
        self._key = key

    async def run(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Call a function in a thread.

        Raises:
            TimeoutError: others take too long.
            CrowdedError: too many others wait.
        """
        return await self.submit(function, *arguments, **keywords)

    def submit(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> asyncio.Future[T]:
        """Have a function called in a thread; raises as :meth:`run`. An error is lost without an await."""
        call = functools.partial(function, *arguments, **keywords)
        return self._pool.call(self._client, self._key, call, None)

    async def opened(self, function: Callable[P, C], *arguments: P.args, **keywords: P.kwargs) -> C:
        """Open something in a thread; what nobody waits for any more when it is open is closed."""
        call = functools.partial(function, *arguments, **keywords)
        opening = self._pool.call(self._client, None, call, _close)
        try:
            return await opening
        except asyncio.CancelledError:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                _close(opening.result())
            raise


class Threads(ClientThreads):
    """A pool of threads for calls that may block; its own calls are the server's, :meth:`of` has others'.

    Args:
        name: beginning of the names of the threads.
        is_default: whether they are the event loop's default ones, of which each loop has its own.
    """

    def __init__(self, limits: ThreadLimits, name: str = "", *, is_default: bool = False) -> None:
        self._pool = _Pool(limits, name, is_default=is_default)
        super().__init__(self._pool, SERVER, None)

    @property
    def executor(self) -> Executor | None:
        """The threads; None for the event loop's default ones."""
        return self._pool.executor

    def of(self, client: str, key: Hashable | None = None) -> ClientThreads:
        """Return the same threads for the calls of a client; see there for the arguments."""
        return ClientThreads(self._pool, client, key)


_POOLS = WeakSet["_Pool"]()


def _begin_pools() -> None:
    for pool in _POOLS:
        pool.begin()


os.register_at_fork(after_in_child=_begin_pools)


class _Pool:
    """A pool of threads with the turns of each event loop that uses it."""

    def __init__(self, limits: ThreadLimits, name: str, *, is_default: bool) -> None:
        self._limits = limits
        self._name = name
        self._is_default = is_default
        self.begin()
        _POOLS.add(self)

    def begin(self) -> None:
        """Begin without threads, also in a forked process, which has none of its parent's."""
        # The event loop gets the interpreter back from threads that compute only after so long, each time.
        sys.setswitchinterval(SWITCH_SECONDS)
        # The event loop has an executor of its own, for None.
        self.executor = None if self._is_default else ThreadPoolExecutor(self._limits.threads, self._name)
        self._turns = WeakKeyDictionary[asyncio.AbstractEventLoop, _ClientTurns]()

    def call(
        self,
        client: str,
        key: Hashable | None,
        function: Callable[[], T],
        unwanted: Callable[[T], object] | None,
    ) -> asyncio.Future[T]:
        """Have a function called for a client, and return the future of its result."""
        loop = asyncio.get_running_loop()
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = _ClientTurns(self._limits, self.executor)
        return _RepeatedCall(turns, client, self._limits.wait_seconds, key, function, unwanted).outcome


def _begin(
    loop: asyncio.AbstractEventLoop,
    turns: _ClientTurns,
    client: str,
    context: contextvars.Context,
    function: Callable[[], object],
) -> None:
    """Have a function called in the turn of a client; its outcome is nobody's. Any thread may call this."""

    def join() -> None:
        flight = _Flight(None, functools.partial(context.copy().run, function), None)
        with contextlib.suppress(CrowdedError):
            turns.join(client, flight)[1].add_done_callback(_ignore)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(join)


def _ignore(outcome: asyncio.Future[Any]) -> None:
    if not outcome.cancelled():
        outcome.exception()


def _close(unwanted: Closable) -> None:
    unwanted.close()


SHARED_THREADS = Threads(ThreadLimits(threads=min(32, (os.cpu_count() or 1) + 4)), is_default=True)
"""The event loop's default threads, for calls that wait for nothing but a disk."""
