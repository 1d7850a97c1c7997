"""One radio mount: a station's audio, kept once, and the listeners that hear it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from fractions import Fraction

import structlog

from media.mp3.icy import metadata_block
from origin.http1.stream import Stream
from origin.radio.icy_headers import StationDescription, appearance, greeting
from origin.radio.limits import MountLimits
from origin.radio.listeners import Listener, Listeners
from origin.radio.now_playing import NowPlaying
from origin.radio.options import MountOptions, Source
from origin.radio.ring import Ring
from origin.radio.taps import Taps
from packager.radio.audio_blocks import AudioBlock
from packager.radio.ogg_chain import OggChain
from packager.radio.ogg_intake import MEDIA_TYPE as OGG


class StreamType:
    """What the listeners of a mount were told, and what was heard.

    Attributes:
        heard: the type and codec of the newest block; "" before the first.
        told: what the newest listener was told; "" before the first.
    """

    def __init__(self) -> None:
        self.heard = ""
        self.told = ""

    def tell(self, expected: str) -> str:
        """Tell a listener the type of its response.

        Args:
            expected: what will come when nothing was heard so far.
        """
        self.told = self.media_type(expected)
        return self.told

    def media_type(self, expected: str) -> str:
        """Give the type, such as ``audio/mpeg``; the expected one when nothing was heard so far."""
        return _plain(self.heard) or expected

    def suits(self, block: AudioBlock) -> bool:
        """Tell whether listeners can go on with a block."""
        if self.heard:
            return block.sort == self.heard
        return self.told in ("", block.media_type)

    def turn_to(self, block: AudioBlock) -> None:
        """Be of a block's type from now on."""
        self.heard = block.sort
        self.told = block.media_type


def _plain(sort: str) -> str:
    return sort.partition(";")[0]


class Silence:
    """For how long a mount has had nothing to hear.

    Args:
        clock: monotonic seconds.
        limits: when it is too long.
    """

    def __init__(self, clock: Callable[[], float], limits: MountLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._begun = clock()
        # When the station, and when anything, was last heard here.
        self._heard: float | None = None
        self._sounded: float | None = None

    def begin(self) -> None:
        """Count from now on where nothing was heard yet."""
        self._begun = self._clock()

    def begin_anew(self) -> None:
        """Count from now on, whatever sounded before."""
        self._begun, self._sounded = self._clock(), None

    def hear(self) -> None:
        """Take notice of a block of the station."""
        self._heard = self._clock()

    def sound(self) -> None:
        """Take notice of a block that went out, the fallback's too."""
        self._sounded = self._clock()

    @property
    def is_broken(self) -> bool:
        """Whether anything has sounded since it began anew."""
        return self._sounded is not None

    @property
    def seconds(self) -> float:
        """For how long nothing has sounded."""
        return self._clock() - (self._begun if self._sounded is None else self._sounded)

    @property
    def is_long(self) -> bool:
        """Whether the mount is down."""
        return self.seconds > self._limits.silence_seconds

    @property
    def wants_fallback(self) -> bool:
        """Whether the station itself has given nothing for so long that the fallback is heard."""
        since = self._begun if self._heard is None else self._heard
        return self._clock() - since > self._limits.fallback_seconds


class Demand:
    """What is wanted of one source.

    Args:
        clock: monotonic seconds.
        idle_seconds: how long it plays on when nobody listens.
    """

    def __init__(self, clock: Callable[[], float], idle_seconds: float) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._asked = clock()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()

    @property
    def stands(self) -> bool:
        """Whether the source is to play."""
        return self._wanted.is_set()

    def look(self, *, heard: bool) -> None:
        """Take note whether there is anybody to play for now."""
        now = self._clock()
        if heard:
            self._asked = now
            self._unwanted.clear()
            self._wanted.set()
        elif now - self._asked > self._idle_seconds:
            self._wanted.clear()
            self._unwanted.set()

    async def begins(self) -> None:
        """Wait until the source is to play."""
        await self._wanted.wait()

    async def ends(self) -> None:
        """Wait until it needn't any more."""
        await self._unwanted.wait()


log = structlog.get_logger()


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
        self.name = name
        self.station = station
        self.options = options or MountOptions()
        self.title = ""
        self.now = NowPlaying(name, self.options.events, clock, count_events)
        self.started = time.time()
        self._label = b""
        self._type = StreamType()
        self._unlike = ""
        self._chain = OggChain()
        limits = self.options.limits
        listener = limits.listener
        self._ring = Ring(max(listener.queue_bytes, listener.burst_bytes, limits.ring_bytes))
        self._closed = False
        self._dismiss: Callable[[], None] | None = None
        self.audience = Listeners(name, self._ring, listener, clock, count)
        self.taps = Taps(clock, limits, self.options.lead_seconds)
        self.fallback: Mount | None = None
        self._dependents: list[Mount] = []
        self._silence = Silence(clock, limits)
        self._demand = Demand(clock, limits.idle_seconds)

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
        return self._type.media_type(self.station.media_type)

    @property
    def has_own_titles(self) -> bool:
        """Whether the audio's own headers tell the titles: Ogg's do, and Icecast has no ICY there either."""
        return self.media_type == OGG

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
        if self.options.on_demand and not self._demand.stands:
            return "idle"
        if self._silence.is_long:
            return "down"
        return "live" if self._silence.is_broken else "starting"

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
        return not self.station.available or self._silence.wants_fallback

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
        self._silence.begin()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            try:
                await (self._play_on_demand() if self.options.on_demand else self._play())
            finally:
                watching.cancel()
        self.close()

    def close(self) -> None:
        """End all listeners: those that read at once, the others after ``close_seconds``."""
        self._closed = True
        if self._dismiss is not None:
            self._dismiss()
        self.audience.close()
        self.now.channel.close()

    def headers(self, *, with_titles: bool) -> list[tuple[bytes, bytes]]:
        """Write the response headers of a listener."""
        metaint = self.options.metaint if with_titles else None
        return greeting(self._type.tell(self.station.media_type), self.shown, self.bitrate, metaint)

    @property
    def shown(self) -> StationDescription:
        """How the station presents itself now."""
        return appearance(self.name, self.options, self.station.announced)

    @contextlib.contextmanager
    def sourced(self, dismiss: Callable[[], None]) -> Iterator[None]:
        """Have a source client for as long as the context is open.

        Args:
            dismiss: sends it away; called when the mount ends before it.
        """
        self.started = time.time()
        self._dismiss = dismiss
        if self.state == "down":
            # Its first second takes a second to come: who asks meanwhile isn't sent away.
            self._silence.begin_anew()
        try:
            yield
        finally:
            self._dismiss = None

    def enter(self, listener: Listener, stream: Stream) -> None:
        """Let a listener in whose response's head is out; its ``done`` tells when it has gone."""
        if self._closed:
            stream.end(self.options.limits.listener.close_seconds)
            listener.finish()
            return
        self.now.accompany(listener)
        self.audience.enter(listener, stream)
        self._demand.look(heard=self.is_wanted)

    async def _play(self) -> None:
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                self._silence.hear()
                self._unlike = ""
                await self._publish(block)

    async def _play_on_demand(self) -> None:
        while True:
            await self._demand.begins()
            self._silence.begin_anew()
            async with asyncio.TaskGroup() as group:
                playing = group.create_task(self._play())
                await self._demand.ends()
                playing.cancel()

    async def substitute(self, block: AudioBlock) -> None:
        """Take a block of the fallback, which is only of use while the own station is silent.

        A response has one type, so listeners are rather held than sent away for a fallback of another one.
        """
        if not self.is_silent or self._closed:
            return
        if self._type.suits(block) or not len(self.audience):
            await self._publish(block)
        elif self._unlike != block.sort:
            self._unlike = block.sort
            heard = self._type.heard or self._type.told
            log.warning(
                "fallback isn't of the listeners' type", mount=self.name, type=heard, not_heard=block.sort
            )

    async def _publish(self, block: AudioBlock) -> None:
        if not self._type.suits(block):
            self._send_away(block)
        self._type.turn_to(block)
        if block.title != self.title or not self._label:
            self.title = block.title
            self._label = metadata_block(block.title, self.options.url)
            self.now.change(block.title, self.media_time)
        piece = self._chain.carry(block)
        self._ring.append(piece.data, self._label, piece.cuts, block.seconds, piece.lead, piece.link)
        self._silence.sound()
        self.taps.put(block)
        await self.audience.flush()
        for mount in self._dependents:
            await mount.substitute(block)

    def _send_away(self, block: AudioBlock) -> None:
        """A response has one type, so its listeners come again for another."""
        before = self._type.heard or self._type.told
        log.info("type changes", mount=self.name, before=before, now=block.sort)
        self.audience.close()
        self._ring.clear()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.options.limits.watch_seconds)
            if len(self.audience) and self._silence.seconds > self.options.hold_seconds:
                log.info("listeners let go", mount=self.name, silent_for=self.options.hold_seconds)
                self.audience.close()
            self._demand.look(heard=self.is_wanted)
            self.now.channel.beat()
