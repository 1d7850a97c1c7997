"""A stream that somebody brings, on its way into ffmpeg, which may die while the stream stays.

Who brings it (a publisher, a fetched URL, a station) calls ``receive``; the channel gives it to one ffmpeg
after another, on its standard input. After a restart the new one is told the headers and everything since the
last access point, so that it begins at once and with a whole picture. Where the stream changes so that a
decoder can't go on, the ffmpeg that runs is told its end, and the next one begins behind it.

ffmpeg reads it at real time (``-re``), so that what is told again doesn't come as a burst of early segments.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from media.flv import FlvReader
from media.mpegts import TransportReader
from media.pieces import PlainReader, StreamReader
from packager.ffmpeg import Process
from packager.sources.replay import Replay

MAX_AHEAD_BYTES = 8 << 20
"""How far who brings a stream may be ahead of ffmpeg before he must wait."""

MAX_HEADLESS_BYTES = 1 << 19
"""How much is waited for an access point; some streams don't mark theirs."""

READERS: Mapping[str, Callable[[], StreamReader]] = {
    "mpegts": TransportReader,
    "flv": FlvReader,
    "mp3": PlainReader,
    "aac": PlainReader,
}
"""What can be pumped, by ffmpeg's name of the container."""


class Supply(Protocol):
    """What brings a channel its stream.

    Attributes:
        container: ffmpeg's name of the container of the stream that comes now.
        paced: whether it comes at real time, so that ffmpeg needn't slow it down.
    """

    container: str
    paced: bool

    @property
    def stream(self) -> object:
        """What is to be known of the stream: as long as it stays, it has the same codecs and sizes."""

    async def flowing(self) -> None:
        """Wait until something comes: for a stream that stands still no ffmpeg need be started."""

    async def give(self, process: Process) -> None:
        """Give the stream to an ffmpeg that was started with standard input, until the end of either."""


class Pump:
    """Takes a stream and gives it to one ffmpeg after another.

    Who brings it never waits for an ffmpeg that isn't there, and is held back by one that is slow.

    Args:
        container: ffmpeg's name of it, one of ``READERS``.
        max_ahead: bytes that may be on their way.

    Attributes:
        container: of the stream that comes now.
    """

    paced = False

    def __init__(self, container: str, max_ahead: int = MAX_AHEAD_BYTES) -> None:
        self.container = container
        self._max_ahead = max_ahead
        self._reader = READERS[container]()
        self._replay = Replay()
        self._queue: deque[bytes | None] = deque()
        self._queued = 0
        self._attached = False
        self._received = self._begun = 0
        self._changed = asyncio.Event()

    def begin(self, container: str) -> None:
        """Let another stream follow, from a new connection, say; nothing of the one before goes with it."""
        self.receive_eof()
        self.container = container
        self._reader = READERS[container]()
        self._replay.clear()
        self._begun = self._received

    @property
    def stream(self) -> object:
        """As for ``Supply``."""
        return self.container, self._reader.signature

    async def receive(self, data: bytes) -> None:
        """Take the stream's next bytes; wait while ffmpeg is too far behind.

        Raises:
            MalformedError: they are no stream of this container.
        """
        for piece in self._reader.receive_data(data):
            if piece.changes:
                self.receive_eof()
                self._begun = self._received
            self._replay.receive(piece)
            self._received += len(piece.data)
            if self._attached:
                self._queue.append(piece.data)
                self._queued += len(piece.data)
        self._notify()
        while self._attached and self._queued > self._max_ahead:
            await self._changed.wait()

    def receive_eof(self) -> None:
        """Take notice that the stream is over: the ffmpeg that runs gets to its end."""
        if self._attached:
            self._attached = False
            self._queue.append(None)
        self._notify()

    async def flowing(self) -> None:
        """Wait until something comes with which ffmpeg can begin."""
        before = self._received
        while self._received == before or not self._beginnable:
            await self._changed.wait()

    @property
    def _beginnable(self) -> bool:
        headless = self._received - self._begun > MAX_HEADLESS_BYTES
        return isinstance(self._reader, PlainReader) or self._replay.reachable or headless

    async def give(self, process: Process) -> None:
        """Give the stream to an ffmpeg, from the last access point on, until the end of either.

        Args:
            process: started with standard input.
        """
        beginning = self._replay.beginning()
        queue: deque[bytes | None] = deque([beginning])
        self._queue = queue
        self._queued, self._attached = len(beginning), True
        try:
            while True:
                if not queue:
                    await self._changed.wait()
                    continue
                data = queue.popleft()
                if data is None:
                    break
                await process.write(data)
                self._queued -= len(data)
                self._notify()
            process.close_stdin()
        except BrokenPipeError:
            pass  # whoever started it sees its end
        finally:
            if queue is self._queue:
                self._attached = False
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
