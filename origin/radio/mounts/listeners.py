"""Sends a mount's audio to its listeners: a burst, then each block; slow listeners are dropped.

No listener waits for another. A flush writes the newest block to all that have everything before it
(:mod:`origin.fan_out.broadcast_writer`), and to each of the others as much of the missing audio as its
socket takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import structlog

from media.mp3.icy import Interleaver
from origin.fan_out.broadcast_writer import CaughtUpReaders
from origin.fan_out.ring import LaggedError
from origin.http1.body_writer import Stream, as_chunk
from origin.radio.mounts.audio_ring import AudioCursor, AudioRing
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.listener_media_time import ListenerTime
from packager.radio.intro import Intro

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenerClient:
    """The client that listens to a station: its address, and its program.

    Attributes:
        agent: its program, as it calls itself.
    """

    address: str = ""
    agent: str = ""


INTRO_STALLED_SECONDS = 60.0
"""A listener that reads nothing of the intro for so long is dropped."""

UNKNOWN = ListenerClient()


class Listener:
    """A connection that receives the audio of a mount.

    Args:
        interleaver: inserts ICY metadata blocks; None for a listener that doesn't want them.
        token: by which it named itself, if it did.
        number: by which the administrator names it.

    Attributes:
        connected: when it came, by the mount's clock; None before.
        begun: whether it has a stream.
        listener_time: records the media time it hears; None without a token.
        group: the listeners of the station that it hears now; set with the stream.
    """

    __slots__ = (
        "begun",
        "client",
        "connected",
        "cursor",
        "done",
        "group",
        "interleaver",
        "joined",
        "listener_time",
        "number",
        "settled",
        "stream",
        "token",
    )

    stream: Stream
    cursor: AudioCursor
    group: Listeners

    def __init__(
        self,
        interleaver: Interleaver | None,
        token: str | None = None,
        client: ListenerClient = UNKNOWN,
        number: int = 0,
    ) -> None:
        self.interleaver = interleaver
        self.token = token
        self.client = client
        self.number = number
        self.connected: float | None = None
        self.listener_time: ListenerTime | None = None
        self.begun = False
        self.joined = 0.0
        self.settled = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin_response(self, stream: Stream) -> None:
        """Keep the stream of the response, which has begun."""
        self.stream, self.begun = stream, True

    def start(self, cursor: AudioCursor, position: Fraction = Fraction(0)) -> None:
        """Begin at a cursor, behind some seconds of other audio."""
        self.cursor = cursor
        if self.listener_time is not None:
            self.listener_time.begin(cursor.media_time, position)

    def finish(self) -> None:
        """Complete ``done``."""
        if not self.done.done():
            self.done.set_result(None)


class CaughtUpListeners(CaughtUpReaders[Listener]):
    """Listeners at the same position in the ring, which are written to together.

    Attributes:
        cursor: the common position, behind the block being written; meaningless without members.
    """

    def __init__(self, fall_out: Callable[[Listener, memoryview], None]) -> None:
        super().__init__(fall_out)
        self.cursor = AudioCursor(0)


class Listeners:
    """All listeners of one mount.

    Args:
        ring: its audio; at least ``queue_bytes`` large.
        count: called with the number of bytes written.

    Attributes:
        peak: most listeners at once, without probes.
        dropped: how many fell too far behind.
        skipped: how often one skipped ahead instead.
        sent_bytes: bytes that were written to all listeners.
    """

    def __init__(
        self,
        mount: str,
        ring: AudioRing,
        limits: RadioLimits,
        clock: Callable[[], float],
        count: Callable[[int], None],
    ) -> None:
        self._mount = mount
        self._ring = ring
        self._limits = limits
        self._clock = clock
        self._on_sent = count
        self._present: dict[Listener, None] = {}
        # Listeners with a cursor of their own: new, behind, or with metadata in their audio.
        self._alone: dict[Listener, None] = {}
        self._caught_up_groups = {chunked: CaughtUpListeners(self._fall_behind) for chunked in (False, True)}
        # Listeners that hear the intro and have no cursor yet: what is left of it, and since when.
        self._introduced: dict[Listener, tuple[Intro, int, float]] = {}
        self._young: deque[Listener] = deque()
        self._framed: tuple[bytes | memoryview, bytes] = (b"", b"")
        self._settled = 0
        self.peak = 0
        self.dropped = 0
        self.skipped = 0
        self.sent_bytes = 0

    def __len__(self) -> int:
        """Count the listeners."""
        return len(self._present)

    def enter(self, listener: Listener, stream: Stream, intro: Intro | None = None) -> None:
        """Add a listener and send the intro, if any, and the burst; its response's head has been sent."""
        if intro is None:
            self._join(listener, stream, self._limits.burst_bytes)
            return
        self._add(listener, stream)
        self._introduced[listener] = intro, 0, self._clock()
        self._introduce(listener)

    async def introduce(self) -> None:
        """Send more of the intro to listeners who haven't all of it; drop those that read nothing."""
        for number, listener in enumerate(tuple(self._introduced)):
            await self._give_turn(number)
            if listener in self._introduced:
                self._introduce(listener)

    def _introduce(self, listener: Listener) -> None:
        intro, position, since = self._introduced[listener]
        stream, limits = listener.stream, self._limits
        if stream.closed:
            return
        if stream.buffered >= limits.write_bytes:
            if self._clock() - since > INTRO_STALLED_SECONDS:
                log.info("listener dropped", mount=self._mount, stalled_for=INTRO_STALLED_SECONDS)
                stream.abort()
                self._leave(listener)
            return
        data = memoryview(intro.data)[position : position + limits.intro_step_bytes]
        if listener.interleaver is not None:
            _, newest = self._ring.newest
            label = b"" if newest is None else newest.label
            self._count(stream.write_pieces(listener.interleaver.feed(data, label)))
        else:
            written = as_chunk(data) if stream.chunked else bytes(data)
            stream.write(written)
            self._count(len(written))
        position += len(data)
        self._introduced[listener] = intro, position, self._clock()
        if position >= len(intro.data):
            del self._introduced[listener]
            self._start(listener, self._limits.burst_bytes, intro.seconds)

    def move(self, destination: Listeners, link: int = 0, ending: bytes = b"") -> None:
        """Move all listeners to another mount's audio, which must be of the same type.

        They get no burst again: they have enough audio to bridge the time until its next block.

        Args:
            link: the newest link of a chain of Ogg.
            ending: ends it for those that have begun with it.
        """
        for listener in tuple(self._present):
            is_within = listener not in self._introduced and listener.cursor.link == link
            self._take_out(listener)
            if ending and is_within and not listener.stream.closed:
                # RFC 3533 §4: a link ends before the next one begins.
                written = as_chunk(ending) if listener.stream.chunked else ending
                listener.stream.write(written)
                self._count(len(written))
            # The audio of the other mount has other media times than the listener's marks.
            listener.listener_time = None
            destination._join(listener, listener.stream, 0)

    def dismiss(self, listener: Listener) -> None:
        """Disconnect a listener; one that doesn't read, after ``close_seconds``."""
        listener.stream.end(self._limits.close_seconds)
        self._leave(listener)

    async def dismiss_after(self, seconds: float) -> None:
        """Disconnect the listeners that came so long ago."""
        late = tuple(one for one in self._present if self.seconds(one) >= seconds)
        for number, listener in enumerate(late):
            await self._give_turn(number)
            if listener in self._present:
                self.dismiss(listener)

    async def _give_turn(self, written: int) -> None:
        """Yield to the loop now and then; some listeners may have left meanwhile."""
        if written and not written % self._limits.written_at_once:
            await asyncio.sleep(0)

    @property
    def settled(self) -> int:
        """Number of listeners that aren't probes."""
        return self._settled

    @property
    def present(self) -> tuple[Listener, ...]:
        """The listeners in the order in which they came."""
        return tuple(self._present)

    def seconds(self, listener: Listener) -> float:
        """Return the time since a listener came."""
        return 0.0 if listener.connected is None else self._clock() - listener.connected

    def _count(self, size: int) -> None:
        self.sent_bytes += size
        self._on_sent(size)

    def _join(self, listener: Listener, stream: Stream, burst: int) -> None:
        self._add(listener, stream)
        self._start(listener, burst)

    def _add(self, listener: Listener, stream: Stream) -> None:
        listener.joined, listener.settled = self._clock(), False
        if listener.connected is None:
            listener.connected = listener.joined
        listener.begin_response(stream)
        listener.group = self
        stream.on_close = lambda: self._leave(listener)
        self._present[listener] = None
        self._young.append(listener)

    def _start(self, listener: Listener, burst: int, position: Fraction = Fraction(0)) -> None:
        """Start a listener at the station's audio, behind so many seconds of other audio."""
        listener.start(self._ring.join(burst, lambda: self._on_lag(listener)), position)
        self._alone[listener] = None
        self._count(self._serve(listener))

    async def flush(self) -> None:
        """Write the newest audio to all listeners in one go, so that all hear it at about the same time."""
        for caught_up in self._caught_up_groups.values():
            self._begin(caught_up)
            while caught_up.is_under_way:
                self._count(caught_up.go_on(self._limits.written_at_once))
                if caught_up.is_under_way:
                    await asyncio.sleep(0)
        alone = tuple(self._alone)
        step = self._limits.written_at_once
        for first in range(0, len(alone), step):
            if first:
                await asyncio.sleep(0)
            self._count(self._serve_some(alone[first : first + step]))
        self._settle()

    def close(self) -> None:
        """End all: in order where everything was sent, else by aborting the connection."""
        for caught_up in self._caught_up_groups.values():
            self._split_up(caught_up)
        for listener in tuple(self._introduced):
            listener.stream.abort()
            self._leave(listener)
        for listener in tuple(self._present):
            self._count(self._serve(listener))
            stream = listener.stream
            if self._ring.lag(listener.cursor):
                stream.abort()
            else:
                stream.end(self._limits.close_seconds)
            self._leave(listener)

    def _begin(self, caught_up: CaughtUpListeners) -> None:
        """Start to write the newest block to listeners that lack only that one."""
        self._count(caught_up.finish())
        newest, block = self._ring.newest
        if not caught_up or block is None or caught_up.cursor.sequence > newest:
            return
        if caught_up.cursor.sequence < newest:
            self._split_up(caught_up)
            return
        caught_up.cursor.move_behind(block)
        caught_up.begin(
            self._chunk_of(block.data) if caught_up is self._caught_up_groups[True] else block.data
        )

    def _unite(self, listener: Listener) -> None:
        """Move a listener that has everything to the caught-up group."""
        newest, _ = self._ring.newest
        cursor, stream = listener.cursor, listener.stream
        descriptor = stream.direct
        if listener.interleaver is not None or cursor.cut is not None or cursor.sequence <= newest:
            return
        caught_up = self._caught_up_groups[stream.chunked]
        if descriptor < 0 or caught_up.is_under_way or listener not in self._alone:
            return
        self._ring.leave(cursor)
        if caught_up:
            listener.cursor = caught_up.cursor
        else:
            caught_up.cursor = cursor
        del self._alone[listener]
        caught_up.add(listener, descriptor)

    def _split_up(self, caught_up: CaughtUpListeners) -> None:
        """Finish the current block, and let each member go on with its own cursor."""
        self._count(caught_up.finish())
        for listener in caught_up.members:
            self._stand_alone(listener)

    def _fall_behind(self, listener: Listener, rest: memoryview) -> None:
        """Move a listener to its own cursor after its socket accepted only a part of a block."""
        self._stand_alone(listener)
        listener.stream.queue(rest)

    def _stand_alone(self, listener: Listener) -> None:
        listener.stream.sent += self._caught_up_groups[listener.stream.chunked].remove(listener)
        listener.cursor = self._ring.fork(listener.cursor, lambda: self._on_lag(listener))
        self._alone[listener] = None

    def _serve_some(self, alone: tuple[Listener, ...]) -> int:
        """Write missing audio to some listeners; return the bytes. Most with metadata lack one block."""
        newest, block = self._ring.newest
        if block is None:
            return 0
        view, sent = memoryview(block.data), 0
        for listener in alone:
            if listener not in self._alone:
                continue  # the listener was moved to another mount while others were written to
            cursor, interleaver = listener.cursor, listener.interleaver
            lacks_newest = cursor.sequence == newest and cursor.cut is None
            if lacks_newest and interleaver is not None and listener.stream.direct >= 0:
                sent += listener.stream.write_pieces(interleaver.feed(view, block.label))
                cursor.move_behind(block)
            else:
                sent += self._serve(listener)
                self._unite(listener)
        return sent

    def _serve(self, listener: Listener) -> int:
        """Write a listener's missing audio as far as its socket takes it; return the bytes."""
        stream, cursor = listener.stream, listener.cursor
        if stream.closed:
            return 0
        if waiting := stream.buffered:
            behind = self._ring.lag(cursor)
            if not behind:
                # Everything is in its transport; whether it is read in time shows with the next block.
                return 0
            # Skipping ahead resends a burst: it must be further behind than that, or it would skip back.
            skippable = not self._limits.skips or behind > self._limits.burst_bytes
            if skippable and waiting + behind > self._limits.queue_bytes:
                self._lag(listener)
                return 0
            if waiting >= self._limits.write_bytes:
                return 0
        try:
            blocks = self._ring.read(cursor, self._limits.write_bytes)
        except LaggedError:
            return 0
        sent = 0
        for data, label in blocks:
            interleaver = listener.interleaver
            if interleaver is not None:
                sent += stream.write_pieces(interleaver.feed(data, label))
            else:
                written = self._chunk_of(data) if stream.chunked else bytes(data)
                stream.write(written)
                sent += len(written)
        return sent

    def _chunk_of(self, data: bytes | memoryview) -> bytes:
        """Frame a block as an HTTP chunk, once for all listeners."""
        if self._framed[0] is not data:
            self._framed = (data, as_chunk(data))
        return self._framed[1]

    def _on_lag(self, listener: Listener) -> None:
        self._lag(listener)

    def _lag(self, listener: Listener) -> None:
        """Move a listener that is too far behind ahead, or drop it."""
        if self._limits.skips and not listener.stream.closed:
            self.skipped += 1
            old = listener.cursor
            self._ring.leave(old)
            # Streams get whole frames only, so the audio may continue at any cut.
            listener.cursor = self._ring.join(
                self._limits.burst_bytes, lambda: self._on_lag(listener), old.link
            )
            if listener.listener_time is not None:
                listener.listener_time.skip(old.media_time, listener.cursor.media_time)
            return
        if listener in self._present:
            self.dropped += 1
            log.info("listener dropped", mount=self._mount, behind=self._limits.queue_bytes)
            listener.stream.abort()
            self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        if listener in self._present:
            self._take_out(listener)
            listener.finish()

    def _take_out(self, listener: Listener) -> None:
        del self._present[listener]
        self._settled -= listener.settled
        if listener in self._introduced:
            del self._introduced[listener]
        elif listener in self._alone:
            del self._alone[listener]
            self._ring.leave(listener.cursor)
        else:
            listener.stream.sent += self._caught_up_groups[listener.stream.chunked].remove(listener)

    def _settle(self) -> None:
        """Update the peak with listeners that are no probes."""
        now, probe_seconds = self._clock(), self._limits.probe_seconds
        while self._young and (self._young[0].settled or now - self._young[0].joined >= probe_seconds):
            listener = self._young.popleft()
            if listener in self._present and not listener.settled:
                listener.settled = True
                self._settled += 1
        self.peak = max(self.peak, self._settled)
