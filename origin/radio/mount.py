"""One radio mount: a station's audio, kept once, and the listeners that hear it (spec: radio.md)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from media.icy import METAINT, metadata_block
from origin.fanout import Ring
from origin.radio.listeners import CLOSE_SECONDS, Listener, ListenerLimits, Listeners
from origin.stream import Stream
from packager.audioblocks import AudioBlock

SILENCE_SECONDS = 5.0
"""A station that gives nothing for so long is down."""

RING_BYTES = 128 * 1024
"""Least size of a ring: two seconds of the highest bitrate, whatever is configured."""


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
        skips: whether such a listener is set forward instead.
        max_listeners: connections beyond get 503.
        metaint: bytes of audio between two metadata blocks.
    """

    title: str = ""
    genre: str = "various"
    url: str = ""
    public: bool = False
    burst_bytes: int = 64 * 1024
    queue_bytes: int = 512 * 1024
    skips: bool = False
    max_listeners: int = 5000
    metaint: int = METAINT


class Mount:
    """A station with its listeners.

    Args:
        name: what stands behind ``/radio/``.
        station: the source of audio.
        options: presentation and limits.
        clock: monotonic seconds.
        count: told how many bytes were written to listeners.

    Attributes:
        title: of what is played now.
        audience: its listeners.
    """

    def __init__(
        self,
        name: str,
        station: Source,
        options: MountOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self.name = name
        self.station = station
        self.options = options or MountOptions()
        self.title = ""
        self.started = time.time()
        self._label = b""
        limits = ListenerLimits(self.options.burst_bytes, self.options.queue_bytes, self.options.skips)
        self._ring = Ring(max(limits.queue_bytes, limits.burst_bytes, RING_BYTES))
        self._closed = False
        self.audience = Listeners(name, self._ring, limits, clock, count)
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
        return len(self.audience)

    @property
    def peak(self) -> int:
        """Most listeners at once since the start, probes not counted."""
        return self.audience.peak

    @property
    def dropped(self) -> int:
        """Listeners that fell behind too far."""
        return self.audience.dropped

    @property
    def state(self) -> str:
        """``live``; ``starting`` when it hasn't sounded yet; ``down`` when it is closed or gone silent."""
        silent = self._clock() - (self._begun if self._heard is None else self._heard) > SILENCE_SECONDS
        if self._closed or silent:
            return "down"
        return "starting" if self._heard is None else "live"

    @property
    def full(self) -> bool:
        """Whether another listener would be too many."""
        return len(self.audience) >= self.options.max_listeners

    async def run(self) -> None:
        """Carry the station's audio to the listeners until cancelled, or until the station ends."""
        self._begun = self._clock()
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                await self._publish(block)
        self.close()

    def close(self) -> None:
        """End all listeners: those that read at once, the others after ``CLOSE_SECONDS``."""
        self._closed = True
        self.audience.close()

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

    def enter(self, listener: Listener, stream: Stream) -> None:
        """Let a listener in whose response's head is out; its ``done`` tells when it has gone."""
        if self._closed:
            stream.end(CLOSE_SECONDS)
            listener.finish()
            return
        self.audience.enter(listener, stream)

    async def _publish(self, block: AudioBlock) -> None:
        if block.title != self.title or not self._label:
            self.title = block.title
            self._label = metadata_block(block.title, self.options.url)
        self._ring.append(block.data, self._label, block.cuts)
        self._heard = self._clock()
        await self.audience.flush()


def _header_value(value: str) -> bytes:
    """One line, in UTF-8 as Icecast and its players have it."""
    return "".join(char for char in value if char.isprintable()).encode("utf-8", "replace")
