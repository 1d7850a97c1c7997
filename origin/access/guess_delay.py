"""Delays the answers to wrong passwords and keys, longer for each further guess of an address.

A guesser needn't wait for an answer: a right key would be answered at once. So as long as an answer to an
address is held back, no guessable key of that address is compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from origin.access.authentication import client_address
from origin.access.limits import AccessLimits
from origin.http.client_limits import network_of
from origin.http1.application_exchange import wait_while_connected
from packager.bounded_dict import BoundedDict
from packager.retry_policy import RetryPolicy

GUESS_DELAY = "headwater.guess_delay"
"""ASGI extension of a request whose answer somebody else delays: a dictionary that gets the ``seconds``."""

FIRST_DELAY_SECONDS = 0.1
"""First delay of an answer; it doubles with each further wrong password."""


FORGOTTEN_SECONDS = 300.0
"""An address without wrong passwords for so long is forgotten."""


DEFAULT_LIMITS = AccessLimits()


class GuessDelay:
    """Delays the answers to wrong passwords, increasingly for an address that continues to guess.

    A right password that is too long to be guessed is answered at once, even if others guess from the same
    address: a household, or all clients behind a proxy that isn't trusted. A delayed answer ends with its
    connection, so there are no more of them than connections.

    Args:
        at_once: wrong passwords of an address that are answered at once.
        longest_seconds: longest delay of an answer.
        limits: the first delay, and how many addresses are remembered for how long.
        sleep: waits for seconds, or until the request's client has gone.
    """

    def __init__(
        self,
        at_once: int,
        longest_seconds: float,
        limits: AccessLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[Request, float], Awaitable[None]] = wait_while_connected,
    ) -> None:
        self._at_once = at_once
        self._limits = limits
        self._delays = RetryPolicy(FIRST_DELAY_SECONDS, longest_seconds)
        self._clock = clock
        self._sleep = sleep
        # By address, the least recent first: number of wrong passwords, when the last one was, and until when
        # the answer to it is held back.
        self._guessers = BoundedDict[str, tuple[int, float, float]](limits.guessers)
        # SRT publishers are let in by a thread of libsrt.
        self._lock = threading.Lock()

    async def __call__(self, request: Request, failed: bool) -> None:  # the hook's signature
        """Delay the answer if necessary."""
        if not failed or (seconds := self.failed(client_address(request))) <= 0:
            return
        if (told := request.scope.get("extensions", {}).get(GUESS_DELAY)) is not None:
            told["seconds"] = told.get("seconds", 0.0) + seconds
        else:
            await self._sleep(request, seconds)

    def failed(self, address: str) -> float:
        """Count a wrong password; return the seconds by which its answer is delayed. Any thread may call."""
        network, now = network_of(address), self._clock()
        with self._lock:
            count, last, _ = self._guessers.get(network, (0, now, now))
            count = 1 if now - last >= FORGOTTEN_SECONDS else count + 1
            beyond = count - self._at_once
            delay = self._delays.pause(beyond) if beyond > 0 else 0.0
            self._guessers[network] = count, now, now + delay
        return delay

    def seconds_to_wait(self, address: str) -> float:
        """Return for how long no guessable key of an address is compared. Any thread may call."""
        with self._lock:
            until = self._guessers.get(network_of(address), (0, 0.0, 0.0))[2]
        return max(until - self._clock(), 0.0)
