"""Logs who is refused as the source of a station, at a bounded rate: strangers can't fill the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import structlog

from origin.http.client_limits import network_of
from origin.radio.limits import RefusalLogLimits

log = structlog.get_logger()


class RefusalLog:
    """Writes a warning for each source client that is refused, and counts those beyond the limits."""

    def __init__(self, limits: RefusalLogLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._since = clock()
        self._written: Counter[str] = Counter()
        self._lines = 0
        self._not_logged = 0

    def write(self, mount: str, address: str, reason: str, agent: str) -> None:
        """Log a refused source client, unless there were many.

        Args:
            mount: the name in its request, whether there is such a station or not.
            address: the client's.
            reason: why it is refused.
            agent: its program, as it calls itself.
        """
        if self._clock() - self._since >= self._limits.seconds:
            if self._not_logged:
                log.warning("more sources were refused", count=self._not_logged)
            self._since, self._lines, self._not_logged = self._clock(), 0, 0
            self._written.clear()
        network = network_of(address)
        if self._lines >= self._limits.lines or self._written[network] >= self._limits.address_lines:
            self._not_logged += 1
            return
        self._lines += 1
        self._written[network] += 1
        log.warning("source refused", mount=mount, client=address, reason=reason, agent=agent)
