"""A publisher's bytes on their way into an ffmpeg that may die: the newest group of pictures is kept.

After a restart the new ffmpeg is given what decoding needs (the tables) and everything since the last access
point, so that it begins at once and with a whole picture.
"""

from __future__ import annotations

import asyncio
from collections import deque

from media.mpegts import Packets, TransportReader
from packager.ffmpeg import Process

MAX_GROUP_BYTES = 32 << 20
"""Most bytes of the kept group; of a longer one nothing is kept until the next access point."""

MAX_AHEAD_BYTES = 8 << 20
"""How far the publisher may be ahead of ffmpeg before it must wait."""

MAX_TABLE_PACKETS = 16


class Replay:
    """Keeps what a decoder needs to begin in the middle of a transport stream.

    Args:
        max_bytes: of the kept group.
    """

    def __init__(self, max_bytes: int = MAX_GROUP_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tables: deque[bytes] = deque(maxlen=MAX_TABLE_PACKETS)
        self._kept: list[bytes] = []
        self._bytes = 0
        self._reachable = False

    def receive(self, packets: Packets) -> None:
        """Take note of what the publisher sent."""
        if packets.tables and packets.data not in self._tables:
            self._tables.append(packets.data)
        if packets.access:
            self._kept, self._bytes, self._reachable = [], 0, True
        if self._reachable:
            self._kept.append(packets.data)
            self._bytes += len(packets.data)
            if self._bytes > self._max_bytes:
                self._kept, self._bytes, self._reachable = [], 0, False

    def beginning(self) -> bytes:
        """Give what a new decoder is to be told first."""
        return b"".join([*self._tables, *self._kept])


class Pump:
    """Takes a publisher's transport stream and gives it to one ffmpeg after another.

    The publisher never waits for an ffmpeg that isn't there, and is held back by one that is slow.

    Args:
        replay: what is kept for the next ffmpeg.
        max_ahead: bytes that the publisher may be ahead.
    """

    def __init__(self, replay: Replay, max_ahead: int = MAX_AHEAD_BYTES) -> None:
        self._replay = replay
        self._max_ahead = max_ahead
        self._reader = TransportReader()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._attached = False
        self._ended = False
        self._changed = asyncio.Event()

    async def receive(self, data: bytes) -> None:
        """Take the publisher's next bytes; wait while ffmpeg is too far behind.

        Raises:
            MalformedError: they are no transport stream.
        """
        for packets in self._reader.receive_data(data):
            self._replay.receive(packets)
            if self._attached:
                self._queue.append(packets.data)
                self._queued += len(packets.data)
        self._notify()
        while self._attached and self._queued > self._max_ahead:
            await self._changed.wait()

    def receive_eof(self) -> None:
        """Take notice that the publisher is gone: the ffmpeg that runs gets to its end."""
        self._ended = True
        self._notify()

    async def give(self, process: Process) -> None:
        """Give the stream to an ffmpeg, from the last access point on, until it or the publisher ends.

        Args:
            process: started with standard input.
        """
        self._queue.clear()
        self._queue.append(self._replay.beginning())
        self._queued, self._attached = len(self._queue[0]), True
        try:
            while self._queue or not self._ended:
                if self._queue:
                    await process.write(data := self._queue.popleft())
                    self._queued -= len(data)
                    self._notify()
                else:
                    await self._changed.wait()
            process.close_stdin()
        except BrokenPipeError:
            pass  # whoever started it sees its end
        finally:
            self._attached = False
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
