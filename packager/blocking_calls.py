"""Calls in threads wait for each other in the event loop, do work once for all, and share long work.

A call that needs something that another call makes, or that is made in turns, such as the index of a film,
raises :class:`LackingError`. Its thread is free then; the event loop waits for what is lacking, and has the
function called again. So functions that are called here may be called several times, and change nothing
before they have all that they need. Calls outside of `packager.threads` make what they lack by themselves.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LackingError(Exception):
    """A call needs a result that isn't there yet.

    Args:
        key: the name of the result, by which :func:`awaited` returns it when the call is made again.
        begin: returns a future of the result, which is waited for on behalf of a client; called in the event
            loop.
    """

    def __init__(self, key: Hashable, begin: Callable[[str], asyncio.Future[Any]]) -> None:
        super().__init__(key)
        self.key = key
        self.begin = begin


class PresentCall(NamedTuple):
    """A call that may be made again, as its own thread sees it.

    Attributes:
        results: results for which the call has waited, and those of its own work for others, by their names.
        begin: has a function called in another thread, in the turn of the call's client; in any thread.
    """

    results: dict[Hashable, Any]
    begin: Callable[[Callable[[], object]], None]

    def share(self, function: Callable[[], object]) -> None:
        """Have a function called in another thread, as a part of this call."""
        self.begin(partial(self.run, function))

    def run(self, function: Callable[[], T]) -> T:
        """Call a function as this call."""
        token = _CALL.set(self)
        try:
            return function()
        finally:
            _CALL.reset(token)


_CALL: contextvars.ContextVar[PresentCall | None] = contextvars.ContextVar("call", default=None)
"""The present call; None outside of the threads of `packager.threads`."""


def may_be_repeated() -> bool:
    """Return whether the present call may raise :class:`LackingError`; others make what they lack."""
    return _CALL.get() is not None


def awaited(key: Hashable, begin: Callable[[str], asyncio.Future[T]]) -> T:
    """Return a result for which the present call has waited.

    Raises:
        LackingError: it hasn't yet; see there for the arguments.
    """
    call = _CALL.get()
    if call is None or key not in call.results:
        raise LackingError(key, begin)
    result: T = call.results[key]
    return result


def result_of_wait(key: Hashable) -> Any:
    """Return a result for which the present call has waited; None where it hasn't."""
    call = _CALL.get()
    return None if call is None else call.results.get(key)


def without_waits(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that makes what it lacks, of calls that would cost much if they were made again."""

    def alone(*arguments: P.args, **keywords: P.kwargs) -> T:
        token = _CALL.set(None)
        try:
            return function(*arguments, **keywords)
        finally:
            _CALL.reset(token)

    return alone


class _SharedJob(NamedTuple, Generic[R]):
    """A function that one of several threads calls, whichever is free first."""

    function: Callable[[], R]
    outcome: Future[R]

    def run(self) -> None:
        """Call the function."""
        try:
            self.outcome.set_result(self.function())
        except BaseException as error:  # noqa: BLE001  # it is the outcome
            self.outcome.set_exception(error)


class _SharedWork(Generic[R]):
    """Functions that a thread calls, and others of its pool with it.

    Args:
        waiting: the functions, in the order in which their results are used.
        at_once: most functions whose results aren't used yet.
    """

    def __init__(self, call: PresentCall, waiting: Iterator[Callable[[], R]], at_once: int) -> None:
        self._call = call
        self._waiting = waiting
        self._at_once = at_once
        self._lock = threading.Lock()
        self._jobs = deque[_SharedJob[R]]()
        self._unclaimed = deque[_SharedJob[R]]()
        self._helpers = 0

    def begin(self) -> None:
        """Have other threads help, as far as there is something for them to do."""
        for function in islice(self._waiting, self._at_once - len(self._jobs)):
            job = _SharedJob(function, Future[R]())
            self._jobs.append(job)
            self._unclaimed.append(job)
        while self._helpers < len(self._unclaimed) - 1:
            with self._lock:
                self._helpers += 1
            self._call.share(self._help)

    def _help(self) -> None:
        with self._lock:
            self._helpers -= 1
        self._run_next()

    def _run_next(self) -> bool:
        try:
            job = self._unclaimed.popleft()
        except IndexError:
            return False
        job.run()
        return True

    def results(self) -> Iterator[R]:
        """Return the results in order."""
        try:
            while self._jobs:
                while not self._jobs[0].outcome.done() and self._run_next():
                    pass
                yield self._jobs.popleft().outcome.result()
                self.begin()
        finally:
            self._unclaimed.clear()  # nobody wants the results


def in_parallel(function: Callable[[T], R], items: Iterable[T], at_once: int) -> Iterator[R]:
    """Begin to call a function for each item, and return the results in order.

    The present thread calls it, and further threads of its pool do where they are free, in the turns of the
    call's client. So nothing waits for a thread; at the end the present one waits for calls that run.

    Args:
        at_once: most items for which it is called at the same time, or whose results aren't used yet.
    """
    call = _CALL.get()
    if call is None or at_once == 1:
        return map(function, items)
    work = _SharedWork(call, (partial(function, item) for item in items), at_once)
    work.begin()
    return work.results()


def in_background(function: Callable[[], object]) -> None:
    """Have a function called in another thread, if there is a choice; its error is lost."""
    job, call = _SharedJob(function, Future[object]()), _CALL.get()
    if call is None:
        job.run()
    else:
        call.share(job.run)


class ThreadFlights(Generic[K, V]):
    """Does each piece of work once at a time; further calls for the same leave their threads meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[V]] = {}

    def __len__(self) -> int:
        """Return how many pieces of work are being done."""
        return len(self._flights)

    def do(self, key: K, work: Callable[[], V]) -> V:
        """Do some work, or wait for the call that does it; a call gets the same result each time.

        Raises:
            LackingError: another call does it.
        """
        ((_, result),) = self.do_all((key,), lambda _: iter(((key, work()),)))
        if (call := _CALL.get()) is not None:
            call.results[self, key] = result
        return result

    def do_all(
        self, keys: Sequence[K], work: Callable[[Sequence[K]], Iterator[tuple[K, V]]]
    ) -> Iterator[tuple[K, V]]:
        """Do some pieces of work together but those that other calls do; return the results.

        Args:
            work: yields the results of its keys as they come.

        Raises:
            LackingError: another call does some of it.
        """
        call = _CALL.get()
        results = {} if call is None else call.results
        known = {key: results[self, key] for key in keys if (self, key) in results}
        own: dict[K, Future[V]] = {}
        other: tuple[K, Future[V]] | None = None
        with self._lock:
            for key in keys:
                flight = None if call is None else self._flights.get(key)
                if flight is not None and key not in known:
                    other = key, flight
                elif key not in known:
                    own[key] = self._flights[key] = Future()
        try:
            if own:
                for key, result in work([*own]):
                    known[key] = result
                    own[key].set_result(result)
        except BaseException as error:
            for flight in own.values():
                if not flight.done():
                    flight.set_exception(error)
            raise
        finally:
            with self._lock:
                for key, flight in own.items():
                    if self._flights.get(key) is flight:
                        del self._flights[key]
        if other is not None:
            results.update({(self, key): result for key, result in known.items()})
            raise LackingError((self, other[0]), partial(_settled, other[1]))
        return iter(known.items())


def _settled(flight: Future[V], _: str) -> asyncio.Future[V]:
    """Return a future of what another thread makes, in the event loop."""
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[V] = loop.create_future()

    def settle() -> None:
        if settled.done():
            return
        if (error := flight.exception()) is not None:
            settled.set_exception(error)
        else:
            settled.set_result(flight.result())

    flight.add_done_callback(lambda _: loop.call_soon_threadsafe(settle))
    return settled
