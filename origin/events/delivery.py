"""Writes a channel's events to its connections in frames: all that came since the last, in one write.

No reader waits for another. A flush writes the same bytes to all that have everything before them
(:mod:`origin.events.caught_up_groups`), and to each of the others as much as its socket takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

import msgspec
import structlog

from origin.events import sse_writer
from origin.events.caught_up_groups import CaughtUpGroups
from origin.events.channel_reader import NO_LIMIT, ChannelReader, ReaderCounters
from origin.events.event_log import EventLog
from origin.events.flushes import Flushes
from origin.events.formats import SSE
from origin.events.limits import ChannelLimits
from origin.fan_out.ring import LaggedError
from origin.http1 import websocket
from origin.http1.body_writer import Stream, as_chunk

log = structlog.get_logger()

DROPPED_AT_QUEUES = 4
"""Times ``queue_bytes`` by which a reader may be behind that can't be sent the notice of its gap."""

UNREAD_ANSWERS = 8
"""As often as its usual buffer a client's answers may wait that it doesn't read."""

RETRY_MILLISECONDS = 2000
"""Pause after which a reader connects again: the ``retry`` field of server-sent events."""


class Readers:
    """All readers of one event channel, and the writing of events to them.

    Args:
        channel: its name, for the log.
        count: called with the number of bytes written.
        on_first_event: called with the seconds that a reader waited for its first event.
        on_flushed: called when all that was published has been written.
    """

    __slots__ = (
        "_alone",
        "_caught_up",
        "_channel",
        "_count",
        "_end",
        "_events",
        "_flushes",
        "_limits",
        "_named",
        "_new",
        "_on_flushed",
        "_present",
        "counters",
    )

    def __init__(
        self,
        channel: str,
        events: EventLog,
        limits: ChannelLimits,
        count: Callable[[int], None],
        on_first_event: Callable[[float], None],
        on_flushed: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._events = events
        self._limits = limits
        self._count = count
        self._on_flushed = on_flushed
        self.counters = ReaderCounters(on_first_event)
        self._present: dict[ChannelReader, None] = {}
        self._named: dict[str, ChannelReader] = {}
        # Readers with a position of their own: new, or behind.
        self._alone: dict[ChannelReader, None] = {}
        self._caught_up = CaughtUpGroups(events, self._fall_behind)
        self._flushes = Flushes(limits.flush_seconds, self._begin_flush, self._on_written)
        # Number of the event behind which the channel has ended.
        self._end = NO_LIMIT
        # Readers that have had no event yet.
        self._new: dict[ChannelReader, None] = {}

    def __len__(self) -> int:
        """Count the readers."""
        return len(self._present)

    def __iter__(self) -> Iterator[ChannelReader]:
        return iter(tuple(self._present))

    @property
    def most_behind(self) -> int:
        """Events that the slowest reader hasn't been written yet."""
        end = self._events.end
        return max((end - reader.sequence for reader in self._alone), default=0)

    def named(self, token: str) -> ChannelReader | None:
        """Return the reader that named itself so."""
        return self._named.get(token)

    # Coming and going

    def enter(self, reader: ChannelReader, stream: Stream, welcome: bytes) -> None:
        """Add a reader whose response head was sent, and write the events that it has missed.

        Args:
            welcome: the first bytes for the reader, without a frame.
        """
        reader.stream, reader.entered = stream, asyncio.get_running_loop().time()
        stream.on_close = lambda: self._hang_up(reader)
        stream.on_room = lambda: self._refill(reader)
        self._present[reader] = self._alone[reader] = self._new[reader] = None
        if reader.token is not None:
            self._named[reader.token] = reader
        if not reader.resumption.complete:
            lost = reader.resumption
            welcome += reader.form.write("reset", _gap(lost.reason, lost.lost), lost.identity)
        if welcome:
            self._write(reader, welcome)
        self._serve(reader)
        if reader in self._alone:
            self._unite(reader)
        if reader in self._new:
            self._observe_first_event(reader, reader.sequence)
        self._arm()

    def leave(self, reader: ChannelReader) -> None:
        """Remove a reader; a second call does nothing."""
        if reader not in self._present:
            return
        del self._present[reader]
        self._new.pop(reader, None)
        if reader.token is not None and self._named.get(reader.token) is reader:
            del self._named[reader.token]
        if reader in self._alone:
            del self._alone[reader]
        else:
            reader.stream.sent += self._caught_up.of(reader).remove(reader)
        reader.finish()

    def _hang_up(self, reader: ChannelReader) -> None:
        """Remove a reader whose connection is closed."""
        reader.gone = asyncio.get_running_loop().time()
        self.leave(reader)

    def _refill(self, reader: ChannelReader) -> None:
        """Write what a reader is still missing that has taken all that it was written."""
        if reader in self._alone and reader.sequence < self._caught_up.position:
            self._serve(reader)
            reader.is_taking = True

    def drop(self, reader: ChannelReader, reason: str) -> None:
        """Cut a reader's connection."""
        self.counters.dropped += 1
        log.info("reader dropped", channel=self._channel, reason=reason)
        reader.stream.abort()
        self.leave(reader)

    def let_go(self, reader: ChannelReader, code: int = websocket.NORMAL, reason: str = "") -> None:
        """End a reader's stream in good order."""
        if reader not in self._present:
            return
        if reader.form.is_socket:
            # RFC 6455 §7.1.1: the connection ends when the client has answered.
            self._write(reader, websocket.close_frame(code, reason))
        else:
            reader.stream.end(self._limits.close_seconds)
        self.leave(reader)

    def send(self, reader: ChannelReader, data: bytes) -> None:
        """Write bytes to one reader between two events, unless too much waits for it already."""
        if reader.stream.buffered < self._limits.write_bytes:
            self._write(reader, data)

    def answer(self, reader: ChannelReader, data: bytes) -> None:
        """Write the answer to a message of a reader, whatever waits; one that reads none is disconnected."""
        if reader.stream.buffered < UNREAD_ANSWERS * self._limits.write_bytes:
            self._write(reader, data)
        else:
            reader.stream.abort()

    # Flushes

    def flush_soon(self) -> None:
        """Note that there are new events: they go out with the next frame."""
        if not self._present and not self._flushes.is_under_way:
            self._caught_up.skip_to(self._events.end)
            self._on_flushed()
            return
        if self._limits.flush_seconds:
            self._arm()
            return
        self._flushes.finish()
        self._begin_flush()

    def end(self) -> None:
        """Disconnect each current reader behind the newest event."""
        if not self._present:
            self.flush_soon()
            return
        self._end = self._events.end
        for reader in self._present:
            reader.limit = min(reader.limit, self._end)
        asyncio.get_running_loop().call_later(self._limits.drain_seconds, self._cut_off, self._end)
        self._flushes.finish()
        self._begin_flush()

    def close(self) -> None:
        """Disconnect all readers, in good order where they have everything, so that they come again."""
        self._flushes.finish()
        self._begin_flush()
        self._flushes.finish()
        while self._caught_up.position < min(self._events.end, self._end):
            self._begin_flush()
            self._flushes.finish()
        self._flushes.cancel()
        for reader in tuple(self._present):
            self.let_go(reader, websocket.SERVICE_RESTART, "the server restarts")

    def beat(self) -> None:
        """Show all connections that they are alive; after a silence, when nothing else is under way."""
        if self._flushes.is_under_way or not self._present:
            return
        self._caught_up.begin_heartbeat()
        for reader in self._alone:
            if reader.form.heartbeat and not reader.stream.buffered:
                self._write(reader, reader.form.heartbeat)
        self._flushes.run(self._caught_up.write(self._limits.written_at_once, self._count))

    def ping(self) -> None:
        """Send every WebSocket a ping; who hasn't answered the last one is dropped."""
        for reader in tuple(self._present):
            if not reader.form.is_socket:
                continue
            if reader.is_pinged:
                self.drop(reader, "it answers no ping")
            else:
                reader.is_pinged = True
                self._write(reader, websocket.frame(websocket.PING, b""))

    def _arm(self) -> None:
        """Let another flush follow, if there is anything to write."""
        if self._flushes.is_under_way or not self._present:
            return
        if min(self._events.end, self._end) > self._caught_up.position:
            self._flushes.set_timer()
        elif not self._flushes.is_due and any(self._is_behind(reader) for reader in self._alone):
            self._flushes.retry()

    def _is_behind(self, reader: ChannelReader) -> bool:
        return (
            reader.sequence < min(self._events.end, reader.limit) or reader.limit <= self._caught_up.position
        )

    def _begin_flush(self) -> None:
        """Write everything that came since the last flush."""
        end = self._next_end()
        self._flushes.begin(self._flush(end), is_whole=end >= min(self._events.end, self._end))

    def _next_end(self) -> int:
        """Return the number of the event before which a flush ends; its frames have a bounded size."""
        end, begin = min(self._events.end, self._end), self._caught_up.position
        most = self._limits.flush_bytes
        if self._events.lag(begin) > most:
            with contextlib.suppress(LaggedError):
                end = begin + len(self._events.between(begin, end, most))
        return end

    def _flush(self, end: int) -> Iterator[None]:
        """Write everything before an event."""
        if self._events.lag(self._caught_up.position) > self._limits.bytes_at_once:
            yield from self._caught_up.prepare(end, self._limits.bytes_at_once)
        for reader in self._caught_up.begin(end):
            self._stand_alone(reader, self._caught_up.frame_start)
        yield from self._write_all()

    def _on_written(self) -> None:
        for reader in tuple(self._new):
            begun = reader.sequence if reader in self._alone else self._caught_up.position
            self._observe_first_event(reader, begun)
        if self._caught_up.position >= self._events.end:
            self._on_flushed()
        if self._caught_up.position >= self._end:
            self._end = NO_LIMIT
        self._arm()

    def _write_all(self) -> Iterator[None]:
        yield from self._caught_up.write(self._limits.written_at_once, self._count)
        step, written = self._limits.written_at_once, 0
        alone = tuple(self._alone)
        for place, reader in enumerate(alone, 1):
            if reader in self._alone:
                written += self._serve(reader)
            if reader in self._alone:
                self._unite(reader)
            if place % step == 0 or written >= self._limits.bytes_at_once:
                written = 0
                yield
        if self._caught_up.position < self._end:
            return
        for place, reader in enumerate(tuple(self._present), 1):
            if reader.limit <= self._caught_up.position and reader not in self._alone:
                self.let_go(reader)
            if place % step == 0:
                yield

    def _observe_first_event(self, reader: ChannelReader, sequence: int) -> None:
        """Note how long a new reader has waited, if its next event isn't the first one any more."""
        if reader.entered is not None and sequence > reader.resumption.sequence:
            del self._new[reader]
            self.counters.on_first_event(asyncio.get_running_loop().time() - reader.entered)

    def _cut_off(self, end: int) -> None:
        """Cut those that haven't taken a channel's last events in time."""
        for reader in tuple(self._alone):
            if reader.limit <= end:
                self.drop(reader, "it didn't take the last events")

    # One reader

    def _serve(self, reader: ChannelReader) -> int:
        """Write what a reader is missing, as far as its connection takes it at once; return the bytes."""
        stream, limits, written = reader.stream, self._limits, 0
        if stream.closed:
            return 0
        # No further than those that have caught up, so that it may become one of them.
        end = min(self._caught_up.position, reader.limit)
        if self._lags(reader) and not self._skip(reader):
            return 0
        while (
            reader.sequence < end and stream.buffered < limits.write_bytes and written < limits.bytes_at_once
        ):
            upto = reader.sequence + len(self._events.between(reader.sequence, end, limits.write_bytes))
            framed = self._caught_up.frame(reader.form, stream.chunked, reader.sequence, upto)
            before = stream.sent
            stream.write(framed)
            written += stream.sent - before
            reader.sequence = upto
        self._count(written)
        if reader.sequence >= self._caught_up.position:
            reader.is_catching_up = False
        if reader.sequence >= reader.limit and not stream.closed:
            self.let_go(reader)
        return written

    def _lags(self, reader: ChannelReader) -> bool:
        """Whether more waits for a reader than may, or its next event is no longer kept."""
        if reader.sequence < self._events.first:
            return True
        behind = self._events.lag(reader.sequence)
        if behind <= self._limits.queue_bytes:
            return False
        # One event may be larger than all that may wait, and a late reader has much to catch up on.
        is_stuck = not (reader.is_catching_up or reader.is_taking) and bool(reader.stream.buffered)
        reader.is_taking = False
        return is_stuck and self._events.lag(reader.sequence + 1) > self._limits.queue_bytes

    def _skip(self, reader: ChannelReader) -> bool:
        """Send a reader the notice of a gap, or drop a reader that can't be sent any for long."""
        if reader.stream.buffered >= self._limits.write_bytes:
            # The reader costs nothing while its next event is kept for others, too, and may still read on.
            most = DROPPED_AT_QUEUES * self._limits.queue_bytes
            if reader.sequence < self._events.first or self._events.lag(reader.sequence) > most:
                self.drop(reader, f"it is more than {self._limits.queue_bytes} bytes behind")
            return False
        self.counters.lagged += 1
        before, first = reader.sequence, max(reader.sequence, self._events.first)
        end = min(self._events.end, reader.limit)
        most = self._limits.queue_bytes // 2
        first += bisect_left(range(first, end), -most, key=lambda sequence: -self._events.lag(sequence))
        reader.sequence = first
        lost = _gap("lagged", first - before)
        self._write(reader, reader.form.write("reset", lost, self._events.identity_before(first)))
        return True

    def _write(self, reader: ChannelReader, data: bytes) -> None:
        """Write something that isn't an event of the log, between two of them."""
        stream = reader.stream
        if stream.closed:
            return
        before = stream.sent
        stream.write(as_chunk(data) if stream.chunked else data)
        self._count(stream.sent - before)
        if reader in self._present and reader not in self._alone and stream.direct < 0:
            groups = self._caught_up
            has_frame = groups.of(reader).has_written(reader)
            self._stand_alone(reader, groups.position if has_frame else groups.frame_start)

    def _unite(self, reader: ChannelReader) -> None:
        """Move a reader that has everything to those that have caught up."""
        if reader.sequence != self._caught_up.position or reader.stream.closed or reader.stream.direct < 0:
            return
        group = self._caught_up.of(reader)
        if not group.is_under_way:
            del self._alone[reader]
            group.add(reader, reader.stream.direct)

    def _fall_behind(self, reader: ChannelReader, rest: memoryview) -> None:
        """Move a reader to a cursor of its own after its socket accepted only a part of a frame."""
        self._stand_alone(reader, self._caught_up.position)
        reader.stream.queue(rest)

    def _stand_alone(self, reader: ChannelReader, sequence: int) -> None:
        reader.stream.sent += self._caught_up.of(reader).remove(reader)
        reader.sequence = sequence
        self._alone[reader] = None


def welcome(reader: ChannelReader, channel: str, told: Iterable[tuple[str, object]]) -> bytes:
    """Write the first bytes for a reader, before all events.

    Args:
        told: types and data of events for this reader alone.
    """
    first = b""
    if reader.form is SSE:
        first = sse_writer.comment(channel) + sse_writer.retry(RETRY_MILLISECONDS)
        if reader.resumption.complete and reader.resumption.identity:
            # WHATWG HTML §9.2.6: a client remembers an id without data, and dispatches no event.
            first += b"id: %b\n\n" % reader.resumption.identity.encode()
    elif not reader.form.is_socket:
        first = reader.form.heartbeat
    return first + b"".join(reader.form.write(name, as_text(data), "") for name, data in told)


def as_text(data: object) -> str:
    """Write an event's data as JSON."""
    return msgspec.json.encode(data).decode()


def _gap(reason: str, lost: int | None) -> str:
    return as_text({"reason": reason, "lost": lost})
