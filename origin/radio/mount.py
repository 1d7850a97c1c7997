"""One radio mount: a station's audio, kept once, and the listeners that hear it (spec: radio.md)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from fractions import Fraction

import structlog

from media.icy import metadata_block
from origin.fanout import Ring
from origin.http1.stream import Stream
from origin.radio.listeners import CLOSE_SECONDS, Listener, ListenerLimits, Listeners
from origin.radio.nowplaying import NowPlaying
from origin.radio.options import MountOptions, Source
from origin.radio.taps import Taps
from packager.radio.audioblocks import AudioBlock

SILENCE_SECONDS = 5.0
"""A station that gives nothing for so long is down."""

FALLBACK_SECONDS = 2.5
"""A source that gives nothing for so long is replaced by the fallback: blocks come each second."""

IDLE_SECONDS = 10.0
"""How long a source that is asked for on demand plays on when nobody listens."""

WATCH_SECONDS = 0.5
"""How often silence and demand are looked at."""

RING_BYTES = 128 * 1024
"""Least size of a ring: two seconds of the highest bitrate, whatever is configured."""

_log = structlog.get_logger()


class Mount:
    """A station with its listeners.

    Args:
        name: what stands behind ``/radio/``.
        station: the source of audio.
        options: presentation and limits.
        clock: monotonic seconds.
        count: told how many bytes were written to listeners.
        count_events: told how many were written to readers of its event channel.

    Attributes:
        title: of what is played now.
        now: its titles with their media times, and the event channel.
        audience: its listeners.
        taps: those who carry its audio elsewhere.
        announced: what the source says of itself: ``name``, ``genre``, ``url``, ``description``.
        fallback: the mount that is heard here while the station is silent.
    """

    def __init__(
        self,
        name: str,
        station: Source,
        options: MountOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[int], None] = lambda _: None,
        count_events: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self.name = name
        self.station = station
        self.options = options or MountOptions()
        self.title = ""
        self.now = NowPlaying(name, self.options.events, clock, count_events)
        self.announced: dict[str, str] = {}
        self.started = time.time()
        self._label = b""
        self._media_type = ""
        limits = ListenerLimits(self.options.burst_bytes, self.options.queue_bytes, self.options.skips)
        self._ring = Ring(max(limits.queue_bytes, limits.burst_bytes, RING_BYTES))
        self._closed = False
        self._dismiss: Callable[[], None] | None = None
        self.audience = Listeners(name, self._ring, limits, clock, count)
        self.taps = Taps(clock, self.options.lead_seconds)
        self.fallback: Mount | None = None
        self._dependents: list[Mount] = []
        # When the station, and when anything, was last heard here.
        self._heard: float | None = None
        self._sounded: float | None = None
        self._begun = self._clock()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._asked = self._begun

    def fall_back_to(self, other: Mount) -> None:
        """Let another mount be heard here while the station is silent."""
        self.fallback = other
        other.serve_also(self)

    def serve_also(self, mount: Mount) -> None:
        """Give every block to a mount that falls back to this one."""
        self._dependents.append(mount)

    @property
    def media_type(self) -> str:
        """Such as ``audio/mpeg``."""
        return self._media_type or self.station.media_type

    @property
    def bitrate(self) -> int:
        """In kbit/s."""
        return self.station.bitrate

    @property
    def media_time(self) -> Fraction:
        """Seconds of audio that were sent since the start: media time at the live edge."""
        return self._ring.media_time

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
        """``live``; ``starting`` before it sounds; ``idle`` until it is asked for; ``down`` when silent."""
        if self._closed:
            return "down"
        if self.options.on_demand and not self._wanted.is_set():
            return "idle"
        if self._clock() - (self._begun if self._sounded is None else self._sounded) > SILENCE_SECONDS:
            return "down"
        return "starting" if self._sounded is None else "live"

    def has_ended(self) -> bool:
        """Tell whether it was closed: nothing is heard here any more."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether another listener would be too many."""
        return len(self.audience) >= self.options.max_listeners

    @property
    def is_silent(self) -> bool:
        """Whether the station gives nothing, so that the fallback is heard."""
        if not self.station.available:
            return True
        since = self._begun if self._heard is None else self._heard
        return self._clock() - since > FALLBACK_SECONDS

    @property
    def needs_fallback(self) -> bool:
        """Whether the fallback is to be heard here; a source that nobody asks for doesn't need one."""
        return self.is_silent and (not self.options.on_demand or self.is_heard)

    @property
    def is_wanted(self) -> bool:
        """Whether it has anybody to play for, a mount that falls back to it included."""
        return self.is_heard or any(mount.needs_fallback for mount in self._dependents)

    @property
    def is_heard(self) -> bool:
        """Whether it has listeners, or somebody who carries its audio elsewhere."""
        return bool(len(self.audience)) or bool(len(self.taps))

    async def run(self) -> None:
        """Carry the station's audio to the listeners until cancelled, or until the station ends."""
        self._begun = self._clock()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            try:
                await (self._play_on_demand() if self.options.on_demand else self._play())
            finally:
                watching.cancel()
        self.close()

    def close(self) -> None:
        """End all listeners: those that read at once, the others after ``CLOSE_SECONDS``."""
        self._closed = True
        if self._dismiss is not None:
            self._dismiss()
        self.audience.close()
        self.now.channel.close()

    def headers(self, *, with_titles: bool) -> list[tuple[bytes, bytes]]:
        """Write the response headers of a listener."""
        options = self.options
        values = [
            ("content-type", self.media_type),
            ("cache-control", "no-cache, no-store"),
            ("x-accel-buffering", "no"),
            ("icy-name", self.shown_name),
            ("icy-genre", self.shown_genre),
            ("icy-url", options.url or self.announced.get("url", "")),
            ("icy-br", str(self.bitrate)),
            ("icy-pub", str(int(options.public))),
            ("connection", "close"),
        ]
        if with_titles:
            values.append(("icy-metaint", str(options.metaint)))
        return [(name.encode("ascii"), _header_value(value)) for name, value in values]

    @property
    def shown_name(self) -> str:
        """The station's name."""
        return self.options.title or self.announced.get("name") or self.name

    @property
    def shown_genre(self) -> str:
        """The station's genre, in its own words."""
        return self.options.genre or self.announced.get("genre", "various")

    @contextlib.contextmanager
    def sourced(self, announced: dict[str, str], dismiss: Callable[[], None]) -> Iterator[None]:
        """Have a source client for as long as the context is open.

        Args:
            announced: what it says of itself.
            dismiss: sends it away; called when the mount ends before it.
        """
        self.announced = announced
        self.started = time.time()
        self._dismiss = dismiss
        try:
            yield
        finally:
            self._dismiss = None

    def enter(self, listener: Listener, stream: Stream) -> None:
        """Let a listener in whose response's head is out; its ``done`` tells when it has gone."""
        if self._closed:
            stream.end(CLOSE_SECONDS)
            listener.finish()
            return
        self.now.accompany(listener)
        self.audience.enter(listener, stream)
        self._look_at_demand()

    async def _play(self) -> None:
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                self._heard = self._clock()
                await self._publish(block)

    async def _play_on_demand(self) -> None:
        while True:
            await self._wanted.wait()
            self._begun, self._sounded = self._clock(), None
            async with asyncio.TaskGroup() as group:
                playing = group.create_task(self._play())
                await self._unwanted.wait()
                playing.cancel()

    async def substitute(self, block: AudioBlock) -> None:
        """Take a block of the fallback, which is only of use while the own station is silent."""
        if self.is_silent and not self._closed:
            await self._publish(block)

    async def _publish(self, block: AudioBlock) -> None:
        if block.media_type != self.media_type or not self._media_type:
            self._change_type(block.media_type)
        if block.title != self.title or not self._label:
            self.title = block.title
            self._label = metadata_block(block.title, self.options.url)
            self.now.change(block.title, self.media_time)
        duration = Fraction(block.duration, block.timescale)
        self._ring.append(block.data, self._label, block.cuts, duration)
        self._sounded = self._clock()
        self.taps.put(block)
        await self.audience.flush()
        for mount in self._dependents:
            await mount.substitute(block)

    def _change_type(self, media_type: str) -> None:
        """A response has one type, so its listeners come again for another."""
        if self._media_type:
            _log.info("type changes", mount=self.name, before=self._media_type, now=media_type)
            self.audience.close()
            self._ring.clear()
        self._media_type = media_type

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            since = self._begun if self._sounded is None else self._sounded
            if len(self.audience) and self._clock() - since > self.options.hold_seconds:
                _log.info("listeners let go", mount=self.name, silent_for=self.options.hold_seconds)
                self.audience.close()
            self._look_at_demand()
            self.now.channel.beat()

    def _look_at_demand(self) -> None:
        now = self._clock()
        if self.is_wanted:
            self._asked = now
            self._unwanted.clear()
            self._wanted.set()
        elif now - self._asked > IDLE_SECONDS:
            self._wanted.clear()
            self._unwanted.set()


def _header_value(value: str) -> bytes:
    """One line, in UTF-8 as Icecast and its players have it."""
    return "".join(char for char in value if char.isprintable()).encode("utf-8", "replace")
