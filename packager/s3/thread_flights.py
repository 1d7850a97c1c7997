"""Work that one thread does for all that ask for the same before it is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ThreadFlights(Generic[K, V]):
    """Does each piece of work once at a time; other threads that ask for it get its result or its error.

    Args:
        wait_seconds: for how long a thread waits while another one works.
    """

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._flights: dict[K, Future[V]] = {}

    def do(self, key: K, work: Callable[[], V]) -> V:
        """Do the work, or wait for the thread that does it.

        Args:
            work: looks first whether another thread has done it just before.

        Raises:
            TimeoutError: the other thread takes too long.
        """
        with self._lock:
            flight = self._flights.get(key)
            is_mine = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not is_mine:
            return flight.result(self._wait_seconds)
        try:
            result = work()
            flight.set_result(result)
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
        return result
