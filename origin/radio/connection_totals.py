"""Counts the connections of all stations since the start, which also number the listeners."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class ConnectionCounts:
    """Connections since the start of the server.

    Attributes:
        listeners: how many listened; each one's number is this count when it came.
        sources: how many sent to a station.
        started: the start, in seconds since the epoch.
    """

    listeners: int = 0
    sources: int = 0
    started: float = field(default_factory=time.time)

    def add_listener(self) -> int:
        """Count a listener; return its number, by which the administrator can disconnect it."""
        self.listeners += 1
        return self.listeners
