"""One radio mount: a station's audio, kept once, and the listeners that hear it (spec: radio.md)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from starlette.types import Receive, Send

from media.icy import METAINT, Interleaver, metadata_block
from origin.fanout import Cursor, Fanout, LaggedError
from packager.audioblocks import AudioBlock

PROBE_SECONDS = 2.0
"""A connection that ends sooner is a player's probe and doesn't raise the peak."""

SILENCE_SECONDS = 5.0
"""A station that gives nothing for so long is down."""

CLOSE_SECONDS = 0.5
"""How long a listener that doesn't read may hold up the mount's end."""

RING_BYTES = 128 * 1024
"""Least size of a ring: two seconds of the highest bitrate, whatever is configured."""

_log = structlog.get_logger()


class Source(Protocol):
    """What a mount plays: a station of a folder, a source client, another server's stream."""

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        ...

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        ...

    def blocks(self) -> AsyncGenerator[AudioBlock]:
        """Give audio at real time."""
        ...


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a mount presents itself, and its limits.

    Attributes:
        title: the station's name, the mount's when empty.
        genre: of the station.
        url: of the station's page.
        public: whether directories may list it.
        burst_bytes: newest audio that a listener gets at once.
        queue_bytes: how far a listener may fall behind before it is dropped.
        max_listeners: connections beyond get 503.
        metaint: bytes of audio between two metadata blocks.
    """

    title: str = ""
    genre: str = "various"
    url: str = ""
    public: bool = False
    burst_bytes: int = 64 * 1024
    queue_bytes: int = 512 * 1024
    max_listeners: int = 5000
    metaint: int = METAINT


@dataclass(eq=False, slots=True)
class _Listener:
    """One connection that gets audio."""

    deadline: asyncio.Timeout
    cursor: Cursor = field(default_factory=lambda: Cursor(0))
    joined: float = 0.0
    settled: bool = False
    reason: str = ""

    def end(self, reason: str, seconds: float = 0.0) -> None:
        """Break off whatever it waits for, at once or in some seconds; the first reason stays."""
        if not self.reason:
            self.reason = reason
            self.deadline.reschedule(asyncio.get_running_loop().time() + seconds)


class Mount:
    """A station with its listeners.

    Args:
        name: what stands behind ``/radio/``.
        station: the source of audio.
        options: presentation and limits.
        clock: monotonic seconds.

    Attributes:
        title: of what is played now.
        peak: most listeners at once since the start, probes not counted.
        dropped: listeners that fell behind too far.
    """

    def __init__(
        self,
        name: str,
        station: Source,
        options: MountOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.name = name
        self.station = station
        self.options = options or MountOptions()
        self.title = ""
        self.peak = 0
        self.dropped = 0
        self.started = time.time()
        self._label = b""
        self._ring = Fanout(max(self.options.queue_bytes, self.options.burst_bytes, RING_BYTES))
        self._listeners: set[_Listener] = set()
        self._young: deque[_Listener] = deque()
        self._settled = 0
        self._heard: float | None = None
        self._begun = self._clock()

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        return self.station.media_type

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return self.station.bitrate

    @property
    def listeners(self) -> int:
        """Connections that get audio."""
        return len(self._listeners)

    @property
    def state(self) -> str:
        """``live``; ``starting`` when it hasn't sounded yet; ``down`` when it is closed or gone silent."""
        silent = self._clock() - (self._begun if self._heard is None else self._heard) > SILENCE_SECONDS
        if self._ring.closed or silent:
            return "down"
        return "starting" if self._heard is None else "live"

    @property
    def full(self) -> bool:
        """Whether another listener would be too many."""
        return len(self._listeners) >= self.options.max_listeners

    async def run(self) -> None:
        """Carry the station's audio to the listeners until cancelled, or until the station ends."""
        self._begun = self._clock()
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                self._publish(block)
        self.close()

    def close(self) -> None:
        """End all listeners: those that read at once, the others after ``CLOSE_SECONDS``."""
        self._ring.close()
        for listener in self._listeners:
            listener.end("closed", CLOSE_SECONDS)

    def headers(self, *, with_titles: bool) -> list[tuple[bytes, bytes]]:
        """Write the response headers of a listener."""
        options = self.options
        values = [
            ("content-type", self.media_type),
            ("cache-control", "no-cache, no-store"),
            ("x-accel-buffering", "no"),
            ("icy-name", options.title or self.name),
            ("icy-genre", options.genre),
            ("icy-url", options.url),
            ("icy-br", str(self.bitrate)),
            ("icy-pub", str(int(options.public))),
            ("connection", "close"),
        ]
        if with_titles:
            values.append(("icy-metaint", str(options.metaint)))
        return [(name.encode("ascii"), _header_value(value)) for name, value in values]

    async def listen(self, interleaver: Interleaver | None, receive: Receive, send: Send) -> None:
        """Send audio until the listener leaves, lags, or the mount closes; the headers are out already.

        Args:
            interleaver: puts titles between the audio; None for a listener that doesn't want them.
            receive: of the ASGI connection.
            send: of the ASGI connection.

        Raises:
            asyncio.CancelledError: the response stays incomplete.
        """
        async with asyncio.TaskGroup() as group:
            deadline = asyncio.timeout(None)
            listener = _Listener(deadline)
            watcher = group.create_task(_watch(receive, listener))
            try:
                async with deadline:
                    self._enter(listener)
                    await self._pump(listener, interleaver, send)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                complete = True
            except TimeoutError:
                if not deadline.expired():
                    raise
                complete = False
            except (LaggedError, OSError):  # OSError is ASGI's way of saying that the client is gone
                complete = False
            finally:
                watcher.cancel()
                self._leave(listener)
        if not complete:
            # RFC 9112 §8: the body is incomplete, and cutting the connection is what tells the client. The
            # server does that with a request that is cancelled.
            raise asyncio.CancelledError

    async def _pump(self, listener: _Listener, interleaver: Interleaver | None, send: Send) -> None:
        limit = self.options.burst_bytes
        while blocks := await self._ring.next(listener.cursor, limit):
            if interleaver is None:
                pieces = [data for data, _ in blocks]
            else:
                pieces = [piece for data, label in blocks for piece in interleaver.feed(data, label)]
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            await send({"type": "http.response.body", "body": body, "more_body": True})

    def _publish(self, block: AudioBlock) -> None:
        if block.title != self.title or not self._label:
            self.title = block.title
            self._label = metadata_block(block.title, self.options.url)
        self._ring.publish(block.data, self._label, block.cuts)
        self._heard = now = self._clock()
        while self._young and (self._young[0].settled or now - self._young[0].joined >= PROBE_SECONDS):
            listener = self._young.popleft()
            if listener in self._listeners:
                listener.settled = True
                self._settled += 1
        self.peak = max(self.peak, self._settled)

    def _enter(self, listener: _Listener) -> None:
        listener.joined = self._clock()
        listener.cursor = self._ring.join(self.options.burst_bytes, lambda: self._drop(listener))
        self._listeners.add(listener)
        self._young.append(listener)

    def _leave(self, listener: _Listener) -> None:
        self._ring.leave(listener.cursor)
        self._listeners.discard(listener)
        self._settled -= listener.settled

    def _drop(self, listener: _Listener) -> None:
        self._ring.leave(listener.cursor)
        if not listener.reason:
            self.dropped += 1
            _log.info("listener dropped", mount=self.name, behind=self.options.queue_bytes)
        listener.end("lagged")


async def _watch(receive: Receive, listener: _Listener) -> None:
    """Wait for the client to go; what it sends meanwhile is of no interest."""
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end("gone")


def _header_value(value: str) -> bytes:
    """One line, in UTF-8 as Icecast and its players have it."""
    return "".join(char for char in value if char.isprintable()).encode("utf-8", "replace")
