"""A station's blocks on their way to its encoder: at real time behind the newest of them, bounded in time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from packager.radio.audio_blocks import AudioBlock


class BlockQueue:
    """Takes blocks of one who never waits and gives them to one who may be late; the oldest go when it is.

    Args:
        limit: seconds of audio that may wait.

    Attributes:
        seconds: of audio that wait.
        arrived: when the newest block came, in seconds of a monotonic clock.
        dropped: blocks that went since there were too many.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._blocks: deque[AudioBlock] = deque()
        self._filled = asyncio.Event()
        self.seconds = Fraction(0)
        self.arrived = 0.0
        self.dropped = 0

    def put(self, block: AudioBlock, now: float) -> None:
        """Add the newest block.

        Args:
            block: it.
            now: seconds of a monotonic clock.
        """
        self._blocks.append(block)
        self.arrived = now
        self.seconds += block.seconds
        while self.seconds > self._limit and len(self._blocks) > 1:
            self.take()
            self.dropped += 1
        self._filled.set()

    def trim(self, seconds: float) -> None:
        """Drop the oldest blocks until no more than so much audio waits, if any."""
        while self._blocks and self.seconds > seconds:
            self.take()

    def clear(self) -> None:
        """Drop all."""
        self._blocks.clear()
        self.seconds = Fraction(0)

    async def first(self) -> AudioBlock:
        """Wait for the oldest block, and leave it where it is."""
        while not self._blocks:
            self._filled.clear()
            await self._filled.wait()
        return self._blocks[0]

    def take(self) -> AudioBlock:
        """Take the oldest block, which must be there."""
        block = self._blocks.popleft()
        self.seconds -= block.seconds
        return block

    def __iter__(self) -> Iterator[AudioBlock]:
        """Look at what waits, from the oldest on."""
        return iter(self._blocks)
