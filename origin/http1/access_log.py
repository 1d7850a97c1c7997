"""Requests as they are counted and logged, by area and by status."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

TOKEN_LABEL = "headwater.token_label"  # noqa: S105  # a name
"""Key of a scope with the label of its token."""

log = structlog.get_logger()


@dataclass(slots=True)
class RequestCounter:
    """Number of an area's requests with one status, and the bytes of their answers' bodies."""

    requests: int = 0
    sent_bytes: int = 0

    def add(self, sent_bytes: int) -> None:
        """Count a request and the bytes of its answer's body at once."""
        self.requests += 1
        self.sent_bytes += sent_bytes


class RequestCounters:
    """Counters since the start, by area and by status, and how many connections are open."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, int], RequestCounter] = {}
        # Of bodies that were counted while they went out, whose status nobody knew.
        self._streamed: Counter[str] = Counter()
        self._count_connections: Callable[[], int] = lambda: 0

    @property
    def connections(self) -> int:
        """Number of open connections of clients."""
        return self._count_connections()

    def count_connections(self, count: Callable[[], int]) -> None:
        """Set the function that counts open connections."""
        self._count_connections = count

    def counter(self, area: str, status: int) -> RequestCounter:
        """Return the counter of an area and a status, which may be kept."""
        counter = self._counters.get((area, status))
        if counter is None:
            counter = self._counters[area, status] = RequestCounter()
        return counter

    def add_bytes(self, area: str, count: int) -> None:
        """Count bytes of a body that are on their way."""
        self._streamed[area] += count

    @property
    def requests(self) -> Counter[tuple[str, int]]:
        """Requests by area and status."""
        return Counter({key: counter.requests for key, counter in self._counters.items() if counter.requests})

    @property
    def sent_bytes(self) -> Counter[str]:
        """Bytes of bodies by area."""
        sent = self._streamed.copy()
        for (area, _), counter in self._counters.items():
            sent[area] += counter.sent_bytes
        return sent


class AccessLog:
    """Counts requests that were answered, and logs them if that is configured."""

    def __init__(self, traffic: RequestCounters, *, log_requests: bool) -> None:
        self.log_requests = log_requests
        self._traffic = traffic

    def count(self, area: str, status: int, count: int) -> None:
        """Count a request and the bytes of its answer's body at once."""
        self._traffic.counter(area, status).add(count)

    def counter(self, area: str, status: int) -> RequestCounter:
        """Return the counter of an area and a status, for those who count often."""
        return self._traffic.counter(area, status)

    def count_bytes(self, area: str, count: int) -> None:
        """Count bytes of a body that are on their way."""
        self._traffic.add_bytes(area, count)

    def count_request(self, area: str, status: int) -> None:
        """Count a request whose answer has ended."""
        self._traffic.counter(area, status).requests += 1

    def write(
        self,
        method: str,
        path: str,
        status: int,
        sent: int,
        started: float,
        client: str | None,
        token_label: str = "",
    ) -> None:
        """Log a request that came at `started` by the monotonic clock; status 0: it had no answer."""
        log.info(
            "request",
            method=method,
            path=path,
            status=status,
            bytes=sent,
            seconds=round(time.monotonic() - started, 3),
            client=client,
            **({"token": token_label} if token_label else {}),
        )
