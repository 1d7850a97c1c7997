"""Logs refused clients, at a bounded rate: strangers can't fill the log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from origin.access.limits import RefusalLogLimits
from origin.http.client_limits import network_of

log = structlog.get_logger()


class RefusalLog:
    """Writes a warning for each client that is refused, and counts those beyond the limits.

    Args:
        event: the text of the lines.
        clock: monotonic seconds.
    """

    def __init__(
        self, event: str, limits: RefusalLogLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._limits = limits
        self._clock = clock
        self._since = clock()
        self._written: Counter[str] = Counter()
        self._lines = 0
        self._not_logged = 0
        self._lock = threading.Lock()

    def write(
        self, address: str, describe: Callable[[], Mapping[str, object]] | None = None, **told: object
    ) -> None:
        """Log a refused client, unless there were many; any thread may call.

        Args:
            describe: returns fields that take a while to find; called only if the line is written.
            told: further fields of the line.
        """
        with self._lock:
            if self._clock() - self._since >= self._limits.seconds:
                if self._not_logged:
                    log.warning("more clients were refused", like=self._event, count=self._not_logged)
                self._since, self._lines, self._not_logged = self._clock(), 0, 0
                self._written.clear()
            network = network_of(address)
            if self._lines >= self._limits.lines or self._written[network] >= self._limits.address_lines:
                self._not_logged += 1
                return
            self._lines += 1
            self._written[network] += 1
        log.warning(self._event, client=address, **told, **(describe() if describe is not None else {}))
