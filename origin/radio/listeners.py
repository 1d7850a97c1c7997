"""Who hears a mount: entering with a burst, one paced flush for all, and who lags, leaves or is dropped.

Nobody here waits for anybody: a flush writes the newest block to each listener's stream and looks how much
its client has left untaken. A listener that leaves costs nothing but its entry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from media.icy import Interleaver
from origin.fanout import Cursor, LaggedError, Ring
from origin.http1.stream import Stream, as_chunk
from origin.radio.hearing import Hearing

PROBE_SECONDS = 2.0
"""A connection that ends sooner is a player's probe and doesn't raise the peak."""

CLOSE_SECONDS = 0.5
"""How long a listener that doesn't read may hold up the mount's end."""

WRITE_BYTES = 128 * 1024
"""What may wait in a listener's transport before its audio stays in the ring."""

FLUSH_LISTENERS = 250
"""Listeners written to before others on the loop have a turn: about three milliseconds."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a listener gets and may cost.

    Attributes:
        burst_bytes: newest audio that it gets at once.
        queue_bytes: how far it may fall behind.
        skips: whether it is then set forward to a frame near the newest; else it is dropped.
    """

    burst_bytes: int = 64 * 1024
    queue_bytes: int = 512 * 1024
    skips: bool = False


class Listener:
    """One connection that gets audio.

    Args:
        interleaver: puts titles between the audio; None for a listener that doesn't want them.
        token: a name that it has given itself, if any.

    Attributes:
        begun: whether it got a place, so that it has a stream and a cursor.
        hearing: where it is told what it hears; None when nobody asks.
    """

    __slots__ = ("begun", "cursor", "done", "hearing", "interleaver", "joined", "settled", "stream", "token")

    stream: Stream
    cursor: Cursor

    def __init__(self, interleaver: Interleaver | None, token: str | None = None) -> None:
        self.interleaver = interleaver
        self.token = token
        self.hearing: Hearing | None = None
        self.begun = False
        self.joined = 0.0
        self.settled = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, stream: Stream, cursor: Cursor) -> None:
        """Begin at a cursor."""
        self.stream, self.cursor, self.begun = stream, cursor, True
        if self.hearing is not None:
            self.hearing.begin(cursor.media_time)

    def finish(self) -> None:
        """Let whoever waits for its end go on."""
        if not self.done.done():
            self.done.set_result(None)


class Listeners:
    """All listeners of one mount.

    Args:
        mount: its name, for the log.
        ring: its audio; at least ``queue_bytes`` large.
        limits: of each listener.
        clock: monotonic seconds.
        count: told how many bytes were written.

    Attributes:
        peak: most at once, probes not counted.
        dropped: that fell behind too far.
        skipped: how often one was set forward instead.
    """

    def __init__(
        self,
        mount: str,
        ring: Ring,
        limits: ListenerLimits,
        clock: Callable[[], float],
        count: Callable[[int], None],
    ) -> None:
        self._mount = mount
        self._ring = ring
        self._limits = limits
        self._clock = clock
        self._count = count
        # In the order of their coming, in which memory has them too: a flush meets each in its turn.
        self._present: dict[Listener, None] = {}
        self._young: deque[Listener] = deque()
        self._framed: tuple[bytes | memoryview, bytes] = (b"", b"")
        self._settled = 0
        self.peak = 0
        self.dropped = 0
        self.skipped = 0

    def __len__(self) -> int:
        """Count the connections that get audio."""
        return len(self._present)

    def enter(self, listener: Listener, stream: Stream) -> None:
        """Let a listener in, and give it the burst; its response's head is out already."""
        listener.joined = self._clock()
        listener.start(stream, self._ring.join(self._limits.burst_bytes, lambda: self._fell_out(listener)))
        stream.on_close = lambda: self._leave(listener)
        self._present[listener] = None
        self._young.append(listener)
        self._count(self._serve(listener))

    async def flush(self) -> None:
        """Write what is new to everybody: in one go, so that all hear it at about the same time."""
        everybody = tuple(self._present)
        for first in range(0, len(everybody), FLUSH_LISTENERS):
            if first:
                await asyncio.sleep(0)
            self._count(self._serve_all(everybody[first : first + FLUSH_LISTENERS]))
        self._settle()

    def close(self) -> None:
        """End all: those that have everything in order, the others by cutting their connection."""
        for listener in tuple(self._present):
            self._count(self._serve(listener))
            stream = listener.stream
            if self._ring.lag(listener.cursor):
                stream.abort()
            else:
                stream.end(CLOSE_SECONDS)
            self._leave(listener)

    def _serve_all(self, some: tuple[Listener, ...]) -> int:
        """Write what some listeners haven't got yet; give the bytes. Most lack the newest block alone."""
        newest, block = self._ring.newest
        if block is None:
            return 0
        plain, chunk = block.data, self._chunk_of(block.data)
        sent = 0
        for listener in some:
            stream, cursor = listener.stream, listener.cursor
            if cursor.sequence == newest and not cursor.offset and listener.interleaver is None:
                data = chunk if stream.chunked else plain
                if stream.offer(data):
                    cursor.sequence, cursor.media_time = newest + 1, block.ends
                    sent += len(data)
                    continue
            sent += self._serve(listener)
        return sent

    def _serve(self, listener: Listener) -> int:
        """Write what a listener hasn't got yet, as far as its client takes it; give the bytes."""
        stream, cursor = listener.stream, listener.cursor
        if stream.closed:
            return 0
        if waiting := stream.buffered:
            if waiting + self._ring.lag(cursor) > self._limits.queue_bytes:
                self._lag(listener)
                return 0
            if waiting >= WRITE_BYTES:
                return 0
        try:
            blocks = self._ring.read(cursor, WRITE_BYTES)
        except LaggedError:
            return 0
        before = stream.sent
        for data, label in blocks:
            interleaver = listener.interleaver
            if interleaver is not None:
                pieces = interleaver.feed(data, label)
                stream.write(as_chunk(*pieces) if stream.chunked else b"".join(pieces))
            else:
                stream.write(self._chunk_of(data) if stream.chunked else bytes(data))
        return stream.sent - before

    def _chunk_of(self, data: bytes | memoryview) -> bytes:
        """Frame a block: once for all, as those that read slowly may keep it for a while."""
        if self._framed[0] is not data:
            self._framed = (data, as_chunk(data))
        return self._framed[1]

    def _fell_out(self, listener: Listener) -> None:
        self._lag(listener)

    def _lag(self, listener: Listener) -> None:
        """What happens to one that is too far behind."""
        if self._limits.skips and not listener.stream.closed:
            self.skipped += 1
            old = listener.cursor
            self._ring.leave(old)
            # Only whole frames are ever handed to a stream, so a cut of the ring continues them.
            listener.cursor = self._ring.join(self._limits.burst_bytes, lambda: self._fell_out(listener))
            if listener.hearing is not None:
                listener.hearing.skip(old.media_time, listener.cursor.media_time)
            return
        if listener in self._present:
            self.dropped += 1
            _log.info("listener dropped", mount=self._mount, behind=self._limits.queue_bytes)
            listener.stream.abort()
            self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        if listener not in self._present:
            return
        del self._present[listener]
        self._settled -= listener.settled
        self._ring.leave(listener.cursor)
        listener.finish()

    def _settle(self) -> None:
        """Count those that have stayed long enough for the peak."""
        now = self._clock()
        while self._young and (self._young[0].settled or now - self._young[0].joined >= PROBE_SECONDS):
            listener = self._young.popleft()
            if listener in self._present:
                listener.settled = True
                self._settled += 1
        self.peak = max(self.peak, self._settled)
