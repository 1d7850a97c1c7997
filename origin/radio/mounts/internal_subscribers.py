"""A mount's subscribers: others than listeners that receive its audio, such as its live channel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from packager.radio.audio_blocks import AudioBlock
from packager.radio.live_encoder_queue import BlockQueue

SUBSCRIBER_QUEUE_SECONDS = 60.0
"""Length of audio by which a subscriber may be behind before it loses the oldest blocks."""

SUBSCRIBER_STALE_SECONDS = 4.0
"""Length of a silence after which recent blocks are forgotten."""


class Subscribers:
    """Queues that receive a mount's audio, beginning with its most recent.

    Args:
        lead: seconds of recent audio that a new subscriber gets at once.
    """

    def __init__(self, clock: Callable[[], float], lead: float = 0.0) -> None:
        self._clock = clock
        self._lead = lead
        self._recent = BlockQueue(lead)
        self._heard = 0.0
        self._open: set[BlockQueue] = set()

    def __len__(self) -> int:
        return len(self._open)

    def put(self, block: AudioBlock) -> None:
        """Push a block to all subscribers."""
        self._forget_stale()
        now = self._heard = self._clock()
        if self._lead:
            self._recent.put(block, now)
        for queue in self._open:
            queue.put(block, now)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[BlockQueue]:
        """Subscribe while the context is open; yields the queue."""
        self._forget_stale()
        queue = BlockQueue(SUBSCRIBER_QUEUE_SECONDS)
        for block in self._recent:
            queue.put(block, self._heard)
        self._open.add(queue)
        try:
            yield queue
        finally:
            self._open.discard(queue)

    def _forget_stale(self) -> None:
        if self._clock() - self._heard > SUBSCRIBER_STALE_SECONDS:
            self._recent.clear()
