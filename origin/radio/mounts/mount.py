"""A radio mount: sends a station's audio to its listeners, or a fallback while the station is silent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from fractions import Fraction
from zlib import crc32

import structlog

from media.mp3.icy import metadata_block
from origin.radio.mounts.audio_ring import MountBlock
from origin.radio.mounts.broadcast import StationBroadcast
from origin.radio.mounts.icy_headers import StationDescription, describe_station
from origin.radio.mounts.internal_subscribers import Subscribers
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.listeners import Listener
from origin.radio.mounts.listeners_elsewhere import ListenersElsewhere, ListenerThere
from origin.radio.mounts.mount_entries import (
    ListenerDismissed,
    ListenersDisconnected,
    ListenersMoved,
    StationEntry,
    StationFacts,
)
from origin.radio.mounts.now_playing import NowPlaying
from origin.radio.mounts.options import MountOptions
from packager.concurrency import background_task
from packager.radio.audio_blocks import AudioBlock
from packager.radio.audio_source import AudioSource
from packager.radio.intro import Intro
from packager.radio.ogg_chain import OggChain
from packager.radio.source_client_station import SourceClientStation


class Silence:
    """Measures how long a mount, and its own station, have given no audio."""

    def __init__(self, clock: Callable[[], float], limits: RadioLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._begun = clock()
        # When the last block of the station came, and when any block was last sent.
        self._heard: float | None = None
        self._sent: float | None = None

    def start(self) -> None:
        """Count from now on if there was no audio yet."""
        self._begun = self._clock()

    def restart(self) -> None:
        """Count from now on, ignoring earlier audio."""
        self._begun, self._sent = self._clock(), None

    def station_heard(self) -> None:
        """Note a block of the station."""
        self._heard = self._clock()

    def block_sent(self) -> None:
        """Note a block that was sent, the station's or the fallback's."""
        self._sent = self._clock()

    @property
    def has_sounded(self) -> bool:
        """Whether a block was sent since the last restart."""
        return self._sent is not None

    @property
    def seconds(self) -> float:
        """Seconds since the last block was sent."""
        return self._clock() - (self._begun if self._sent is None else self._sent)

    @property
    def is_long(self) -> bool:
        """Whether the mount is down."""
        return self.seconds > self._limits.silence_seconds

    @property
    def wants_fallback(self) -> bool:
        """Whether the station has been silent long enough for the fallback."""
        since = self._begun if self._heard is None else self._heard
        return self._clock() - since > self._limits.fallback_seconds


class ListenerDemand:
    """Decides when a source on demand plays.

    Args:
        idle_seconds: how long it plays on when nobody listens.
    """

    def __init__(self, clock: Callable[[], float], idle_seconds: float) -> None:
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._asked = clock()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()

    @property
    def is_wanted(self) -> bool:
        """Whether the source should play."""
        return self._wanted.is_set()

    def update(self, *, has_listeners: bool) -> None:
        """Note whether there are listeners now."""
        now = self._clock()
        if has_listeners:
            self._asked = now
            self._unwanted.clear()
            self._wanted.set()
        elif now - self._asked > self._idle_seconds:
            self._wanted.clear()
            self._unwanted.set()

    async def wanted(self) -> None:
        """Wait until the source should play."""
        await self._wanted.wait()

    async def unwanted(self) -> None:
        """Wait until the source should stop."""
        await self._unwanted.wait()


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SourceClient:
    """The source client of a station.

    Attributes:
        agent: its program, as it calls itself.
    """

    address: str
    agent: str


class Mount:
    """A station and its listeners.

    Args:
        name: of the address ``/radio/NAME``.
        count: called with the bytes written to listeners.
        count_events: called with the bytes written to readers of its event channel.

    Attributes:
        broadcast: the audio, and the listeners of this process, who are its ``audience``.
        now: titles with their media times, and the event channel.
        on_entry: called with each block and change, for other processes.
        fallback: the mount whose audio is sent here while the station is silent.
        source_station: the handler of source clients on this node; None where nothing handles them.
        source_client: the connected source client; None without one.
        read_bytes: bytes of audio that it has published.
    """

    def __init__(
        self,
        name: str,
        station: AudioSource,
        options: MountOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[int], None] = lambda _: None,
        count_events: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.station = station
        self.source_station = station if isinstance(station, SourceClientStation) else None
        self.options = options or MountOptions()
        self.title = ""
        self.now = NowPlaying(name, self.options, clock, count_events)
        self.started = time.time()
        self._label = b""
        # The title and the address in it.
        self._said: tuple[str, str] | None = None
        # Type and codec of the newest block.
        self._sort = ""
        self._unheard_type = ""
        self._chain = OggChain(crc32(name.encode("utf-8", "replace")))
        self._dismiss: Callable[[], None] | None = None
        self.broadcast = StationBroadcast(name, self.options, self._accompany, clock, count)
        self.audience = self.broadcast.audience
        self.elsewhere = ListenersElsewhere(clock, self.now.begin_times, self.now.end_times)
        self.on_entry: Callable[[MountBlock | StationEntry], None] = lambda _: None
        self._peak = 0
        # How the newest audio differs from the intro; None before the first.
        self._unlike_intro: str | None = None
        self.subscribers = Subscribers(clock, self.options.lead_seconds)
        self.fallback: Mount | None = None
        self.source_client: SourceClient | None = None
        self.read_bytes = 0
        self._dependents: list[Mount] = []
        # The fallback whose audio was sent last; None where it was the own station's.
        self._heard: Mount | None = None
        self._silence = Silence(clock, self.options.limits)
        self._demand = ListenerDemand(clock, self.options.limits.idle_seconds)

    def fall_back_to(self, other: Mount | None) -> None:
        """Set the mount whose audio is sent here while the station is silent; None for none."""
        if self.fallback is not None:
            self.fallback.serve_no_more(self)
            self._heard = None
        self.fallback = other
        if other is not None:
            other.serve_also(self)

    def serve_also(self, mount: Mount) -> None:
        """Push every block to a mount that falls back to this one."""
        self._dependents.append(mount)

    def serve_no_more(self, mount: Mount) -> None:
        """Push no block any more to a mount that fell back to this one."""
        self._dependents.remove(mount)

    @property
    def media_type(self) -> str:
        """The media type of the audio, such as ``audio/mpeg``."""
        return self._sort.partition(";")[0] or self.station.media_type

    @property
    def bitrate(self) -> int:
        """The bitrate of what is heard, in kbit/s."""
        return self.station.bitrate if self._heard is None else self._heard.bitrate

    @property
    def media_time(self) -> Fraction:
        """Seconds of audio sent since the start."""
        return self.broadcast.ring.media_time

    @property
    def listeners(self) -> int:
        """Number of listeners of all processes."""
        return len(self.audience) + len(self.elsewhere)

    @property
    def peak(self) -> int:
        """Most listeners at once since the start, without probes."""
        return max(self._peak, self.audience.peak)

    @property
    def dropped(self) -> int:
        """Listeners dropped because they fell too far behind."""
        return self.audience.dropped + self.elsewhere.dropped

    @property
    def sent_bytes(self) -> int:
        """Bytes written to all listeners."""
        return self.audience.sent_bytes + self.elsewhere.sent_bytes

    @property
    def present(self) -> list[ListenerThere]:
        """The listeners of all processes."""
        here = [
            ListenerThere(one.number, one.client, self.audience.seconds(one)) for one in self.audience.present
        ]
        return here + self.elsewhere.present

    @property
    def facts(self) -> StationFacts:
        """The station's facts for other processes."""
        return StationFacts(
            self.state == "live",
            self.media_type,
            self.description,
            self.bitrate,
            self._unlike_intro == "",
            self.listeners,
        )

    @property
    def state(self) -> str:
        """``live``; ``starting`` before the first block; ``down`` when silent, see ``trouble``.

        ``idle`` where nobody listens to a station on demand, or nobody sends to one that waits for it.
        """
        if self.broadcast.is_closed:
            return "down"
        if self.options.on_demand and not self._demand.is_wanted:
            return "idle"
        if self._silence.has_sounded and not self._silence.is_long:
            return "live"
        if self.station.is_idle:
            return "idle"
        return "down" if self._silence.is_long else "starting"

    @property
    def is_down(self) -> bool:
        """Whether listeners are refused, for there was no audio for long: idle or not, nobody sends any."""
        if self.broadcast.is_closed:
            return True
        return self._silence.is_long and (self._demand.is_wanted or not self.options.on_demand)

    @property
    def trouble(self) -> str:
        """Why the station is ``down``, in one line; empty in any other state."""
        if self.state != "down":
            return ""
        return "it has ended" if self.broadcast.is_closed else self.station.trouble or "it gives no sound"

    def has_ended(self) -> bool:
        """Return whether the mount was closed."""
        return self.broadcast.is_closed

    @property
    def full(self) -> bool:
        """Whether ``max_listeners`` is reached."""
        return self.listeners >= self.options.max_listeners

    @property
    def is_silent(self) -> bool:
        """Whether the station has no audio, so that the fallback is used."""
        return not self.station.available or self._silence.wants_fallback

    @property
    def needs_fallback(self) -> bool:
        """Whether the fallback should play for this mount; without demand it needn't."""
        return self.is_silent and (not self.options.on_demand or self.is_heard)

    @property
    def is_wanted(self) -> bool:
        """Whether the station is heard, directly or as a fallback."""
        return self.is_heard or any(mount.needs_fallback for mount in self._dependents)

    @property
    def is_heard(self) -> bool:
        """Whether the mount has listeners or subscribers."""
        return bool(self.listeners) or bool(len(self.subscribers))

    async def run(self) -> None:
        """Distribute the station's audio until it ends or the task is cancelled.

        Raises:
            ToolsError: ffmpeg lacks what the station needs.
        """
        self._silence.start()
        async with background_task(self._watch()):
            await (self._play_on_demand() if self.options.on_demand else self._play())
        self.close()

    def close(self) -> None:
        """Disconnect all listeners; those that don't read, after `RadioLimits.close_seconds`."""
        self.broadcast.close()
        if self._dismiss is not None:
            self._dismiss()
        self.now.channel.close_for_good()

    @property
    def description(self) -> StationDescription:
        """The station's own description, which it keeps while a fallback is heard."""
        return describe_station(self.name, self.options, self.station.station_info)

    @property
    def seconds_on_air(self) -> int:
        """Seconds since the station, or its newest source client, began."""
        return max(int(time.time() - self.started), 0)

    def carries_like(self, other: Mount) -> bool:
        """Return whether the listeners of another mount can go on with this one's audio."""
        return bool(self._sort) and self._sort == other._sort

    def move_listeners(self, destination: Mount) -> None:
        """Move all listeners to another mount's audio, of the same type, at its next block."""
        log.info("listeners moved", mount=self.name, to=destination.name, listeners=self.listeners)
        link, ending = self._chain.ending()
        entry = ListenersMoved(destination.name, link, ending)
        self.on_entry(entry)
        self.broadcast.move(destination.broadcast, entry)
        destination._demand.update(has_listeners=destination.is_wanted)

    def dismiss(self, number: str) -> bool:
        """Disconnect the listener with a number; return False where there is none."""
        found = [one.number for one in self.present if str(one.number) == number]
        for one in found:
            self._append(ListenerDismissed(one))
        return bool(found)

    def _append(self, entry: StationFacts | ListenersDisconnected | ListenerDismissed) -> None:
        """Append an entry to the log, which holds for the listeners of all processes."""
        self.on_entry(entry)
        self.broadcast.fold(entry)

    def append_facts(self) -> None:
        """Append the station's changed state to its log, for other processes."""
        self._peak = max(self._peak, self.audience.settled + self.elsewhere.settled)
        if (facts := self.facts) != self.broadcast.facts:
            self._append(facts)

    def dismiss_source(self) -> bool:
        """Disconnect the source client; return False where there is none."""
        if self._dismiss is None:
            return False
        self._dismiss()
        return True

    @contextlib.contextmanager
    def sourced(self, client: SourceClient, dismiss: Callable[[], None]) -> Iterator[None]:
        """Note a source client as connected while the context is open.

        Args:
            dismiss: disconnects it; called when the mount ends first.
        """
        self.started = time.time()
        self._dismiss, self.source_client = dismiss, client
        if self.is_down:
            # The first block takes a second to come: don't answer 503 meanwhile.
            self._silence.restart()
        try:
            yield
        finally:
            self._dismiss = self.source_client = None

    def _accompany(self, listener: Listener) -> None:
        self.now.accompany(listener)
        self._demand.update(has_listeners=True)

    async def _play(self) -> None:
        async with aclosing(self.station.blocks()) as blocks:
            async for block in blocks:
                if self.source_client is None and (self._heard is not None or self.state != "live"):
                    # The stream of a folder or a relay begins with its audio, a source's with its connection.
                    self.started = time.time()
                self._silence.station_heard()
                self._unheard_type = ""
                self._heard = None
                await self._publish(block, block.title)

    async def _play_on_demand(self) -> None:
        while True:
            await self._demand.wanted()
            self._silence.restart()
            async with background_task(self._play()):
                await self._demand.unwanted()

    async def substitute(self, block: AudioBlock, fallback: Mount) -> None:
        """Push a block of the fallback; it is ignored while the own station plays.

        Present listeners can see only by a title which station they hear, so a fallback without titles has
        its name as the title.

        Listeners whose response has another type are kept waiting rather than disconnected.
        """
        if not self.is_silent or self.broadcast.is_closed:
            return
        if self._accepts(block) or not self.listeners:
            self._heard = fallback
            await self._publish(block, block.title or fallback.description.name)
        elif self._unheard_type != block.sort:
            self._unheard_type = block.sort
            log.warning(
                "fallback isn't of the listeners' type",
                mount=self.name,
                type=self._sort or self.broadcast.offered_type,
                not_heard=block.sort,
            )

    def _accepts(self, block: AudioBlock) -> bool:
        """Return whether current listeners can decode a block: a response has one media type."""
        if self._sort:
            return block.sort == self._sort
        return self.broadcast.offered_type in ("", block.media_type)

    async def _publish(self, block: AudioBlock, title: str) -> None:
        if not self._accepts(block):
            log.info(
                "the media type changes, and listeners are disconnected",
                mount=self.name,
                before=self._sort or self.broadcast.offered_type,
                now=block.sort,
            )
            self._append(ListenersDisconnected(clears=True))
            if self.source_client is None:
                self.started = time.time()
        self._sort = block.sort
        if self.options.intro is not None:
            self._compare_intro(self.options.intro, block)
        said = title, self.options.url
        if said != self._said:
            self._said = said
            self._label = metadata_block(*said)
        if title != self.title or not self.now.titles:
            self.title = title
            self.now.change(title, self.media_time)
        chained = self._chain.carry(block)
        self.read_bytes += len(chained.data)
        ring = self.broadcast.ring
        ring.append(chained.data, self._label, chained.cuts, block.seconds, chained.lead, chained.link)
        self._silence.block_sent()
        self.append_facts()
        if (newest := ring.newest[1]) is not None:
            self.on_entry(newest)
        self.subscribers.put(block)
        await self.audience.flush()
        for mount in tuple(self._dependents):
            await mount.substitute(block, self)

    def _compare_intro(self, intro: Intro, block: AudioBlock) -> None:
        unlike = intro.differs_from(block)
        if unlike and unlike != self._unlike_intro:
            log.warning("intro isn't played", mount=self.name, reason=unlike)
        self._unlike_intro = unlike

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.options.limits.watch_seconds)
            if self.listeners and self._silence.seconds > self.options.hold_seconds:
                log.info(
                    "listeners are disconnected, as there is nothing to hear",
                    mount=self.name,
                    silent_for=self.options.hold_seconds,
                )
                self._append(ListenersDisconnected(clears=False))
            await self.broadcast.keep_times()
            self._demand.update(has_listeners=self.is_wanted)
            self.append_facts()
            self.now.channel.beat()
