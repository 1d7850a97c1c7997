"""Whether a channel's DVR is kept as it should be; the log tells when that changes."""

from __future__ import annotations

import structlog

log = structlog.get_logger()

CALM_WRITES = 20
"""So many segments stored without trouble end it."""


class Trouble:
    """Whether one channel's DVR is kept as it should be, and why not.

    Args:
        channel: its name, for the log.

    Attributes:
        reason: why segments aren't stored as they should be; empty while they are.
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self.reason = ""
        self._calm = self._lost = 0

    def failed(self, reason: str) -> None:
        """Learn that the disk failed."""
        if not self.reason:
            log.warning("DVR isn't kept", channel=self._channel, reason=reason)
        self.reason, self._calm = reason, 0

    def lost(self, waiting: int) -> None:
        """Learn that a segment is lost, as so many bytes wait for the disk already."""
        self.failed("the disk is too slow")
        if not self._lost:
            log.warning("DVR loses segments", channel=self._channel, waiting_bytes=waiting)
        self._lost += 1

    def succeeded(self) -> None:
        """Learn that a segment was stored."""
        self._calm += 1
        if self.reason and self._calm >= CALM_WRITES:
            log.info("DVR is kept again", channel=self._channel, lost=self._lost)
            self.reason, self._lost = "", 0
