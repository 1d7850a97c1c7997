"""An event channel: sends published events to all its readers as server-sent events.

No reader waits for another: events are written to each reader's stream, and a reader is dropped when too much
waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import structlog

from origin.events import sse
from origin.events.log import EventLog
from origin.http1.stream import Stream, as_chunk

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Limits of an event channel.

    Attributes:
        history: events that are kept for those who come later, or again.
        readers: connections at once.
        queue_bytes: what may wait for a reader before it is dropped.
        heartbeat_seconds: after so long a silence comes a comment, so that proxies keep the connection and
            the dead are noticed.
        retry_milliseconds: how long a reader waits until it comes again.
        close_seconds: how long a reader that doesn't read may hold up the channel's end.
        send_buffer_bytes: socket send buffer of a reader (Linux doubles it).
    """

    history: int = 20
    readers: int = 5000
    queue_bytes: int = 64 * 1024
    heartbeat_seconds: float = 15.0
    retry_milliseconds: int = 2000
    close_seconds: float = 0.5
    send_buffer_bytes: int = 16 * 1024


class Reader:
    """A connection that receives events.

    Args:
        last: its Last-Event-ID.
        token: by which it named itself, for events that are for it alone.
    """

    __slots__ = ("done", "last", "stream", "token")

    def __init__(self, last: str | None = None, token: str | None = None) -> None:
        self.last = last
        self.token = token
        self.stream: Stream | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class EventChannel:
    """A channel with its newest events and its readers.

    Args:
        name: for the log.
        epoch: names this life of the channel: letters and digits.
        count: told how many bytes were written.

    Attributes:
        dropped: readers that fell too far behind.
        closed: whether it has ended.
    """

    def __init__(
        self,
        name: str,
        epoch: str,
        limits: ChannelLimits,
        clock: Callable[[], float],
        count: Callable[[int], None],
    ) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._count = count
        self._events = EventLog(epoch, limits.history)
        self._readers: dict[Reader, None] = {}
        self._named: dict[str, Reader] = {}
        self._written = clock()
        self.dropped = 0
        self.closed = False

    @property
    def readers(self) -> int:
        """Number of readers."""
        return len(self._readers)

    @property
    def full(self) -> bool:
        """Whether the limit of readers is reached."""
        return len(self._readers) >= self._limits.readers

    def publish(self, name: str, data: object) -> None:
        """Send an event to all readers, and keep it for later ones.

        Args:
            name: of the event's type.
            data: to be encoded as JSON.
        """
        event = self._events.append(name, _as_text(data))
        self._send_all(sse.event(event.data, name=event.name, identity=event.identity))

    def tell(self, token: str, name: str, data: object) -> None:
        """Send an event to the reader with this token, if there is one; it is not kept or numbered."""
        if (reader := self._named.get(token)) is not None:
            self._send((reader,), sse.event(_as_text(data), name=name))

    def enter(self, reader: Reader, stream: Stream, told: Iterable[tuple[str, object]] = ()) -> None:
        """Add a reader whose response head was sent; its ``done`` completes when it has left.

        Args:
            reader: the reader.
            stream: of its response.
            told: names and data of events for it alone, sent first.
        """
        reader.stream = stream
        if self.closed:
            stream.end(self._limits.close_seconds)
            reader.done.set_result(None)
            return
        stream.on_close = lambda: self._leave(reader)
        self._readers[reader] = None
        if reader.token is not None:
            self._named[reader.token] = reader
        self._send((reader,), b"".join(self._welcome(reader, told)))

    def beat(self) -> None:
        """Write a comment after a long silence; to be called every second or so."""
        if self._clock() - self._written >= self._limits.heartbeat_seconds:
            self._send_all(sse.comment())

    def close(self) -> None:
        """Send an ``end`` event and disconnect all readers."""
        if self.closed:
            return
        self._send_all(sse.event("{}", name="end"))
        self.closed = True
        for reader in tuple(self._readers):
            if reader.stream is not None:
                reader.stream.end(self._limits.close_seconds)
            self._leave(reader)

    def _welcome(self, reader: Reader, told: Iterable[tuple[str, object]]) -> Iterable[bytes]:
        yield sse.comment(self._name)
        yield sse.retry(self._limits.retry_milliseconds)
        for name, data in told:
            yield sse.event(_as_text(data), name=name)
        resumption = self._events.since(reader.last)
        if not resumption.complete:
            yield sse.event(_as_text({"lost": resumption.lost}), name="reset")
        for event in resumption.events:
            yield sse.event(event.data, name=event.name, identity=event.identity)

    def _send_all(self, data: bytes) -> None:
        self._written = self._clock()
        self._send(tuple(self._readers), data)

    def _send(self, readers: Iterable[Reader], data: bytes) -> None:
        # All readers get the same bytes: frame them once.
        chunk = as_chunk(data)
        sent = 0
        for reader in readers:
            stream = reader.stream
            if stream is None or stream.closed:
                continue
            if stream.buffered > self._limits.queue_bytes:
                self._drop(reader, stream)
                continue
            before = stream.sent
            stream.write(chunk if stream.chunked else data)
            sent += stream.sent - before
        self._count(sent)

    def _drop(self, reader: Reader, stream: Stream) -> None:
        self.dropped += 1
        log.info("reader dropped", channel=self._name, behind=self._limits.queue_bytes)
        stream.abort()
        self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        if reader not in self._readers:
            return
        del self._readers[reader]
        if reader.token is not None and self._named.get(reader.token) is reader:
            del self._named[reader.token]
        if not reader.done.done():
            reader.done.set_result(None)


def _as_text(data: object) -> str:
    return msgspec.json.encode(data).decode()
