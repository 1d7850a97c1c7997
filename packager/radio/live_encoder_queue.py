"""A queue of audio blocks, bounded in seconds, between a mount and the encoder of its live channel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from packager.radio.audio_blocks import AudioBlock


class BlockQueue:
    """Holds blocks for a consumer that may be slow; ``put`` never waits, and the oldest are dropped instead.

    Args:
        limit: seconds of audio that may wait.

    Attributes:
        seconds: of audio that wait.
        arrived: when the newest block was put, in seconds of a monotonic clock.
        dropped: blocks that were dropped because the queue was full.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._blocks: deque[AudioBlock] = deque()
        self._filled = asyncio.Event()
        self.seconds = Fraction(0)
        self.arrived = 0.0
        self.dropped = 0

    def put(self, block: AudioBlock, now: float) -> None:
        """Add a block, dropping the oldest beyond the limit.

        Args:
            now: seconds of a monotonic clock.
        """
        self._blocks.append(block)
        self.arrived = now
        self.seconds += block.seconds
        while self.seconds > self._limit and len(self._blocks) > 1:
            self.pop()
            self.dropped += 1
        self._filled.set()

    def trim(self, seconds: float) -> None:
        """Drop the oldest blocks until at most this much audio waits."""
        while self._blocks and self.seconds > seconds:
            self.pop()

    def clear(self) -> None:
        """Drop all blocks."""
        self._blocks.clear()
        self.seconds = Fraction(0)

    async def first(self) -> AudioBlock:
        """Wait for the oldest block and return it without removing it."""
        while not self._blocks:
            self._filled.clear()
            await self._filled.wait()
        return self._blocks[0]

    def pop(self) -> AudioBlock:
        """Remove and return the oldest block; there must be one."""
        block = self._blocks.popleft()
        self.seconds -= block.seconds
        return block

    def __iter__(self) -> Iterator[AudioBlock]:
        """Iterate over the waiting blocks, oldest first."""
        return iter(self._blocks)
