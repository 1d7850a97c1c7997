"""Even publishing of streams that come in bursts, such as fragments of some seconds.

Media that go out as they come would fill many parts at once, and none until the next burst: players that are
a few parts behind the newest one would wait. So each packet is held back until its decode time, counted from
the first packet of its burst: the last one goes out when the next burst comes, or would come.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from media.packets import Packet, TrackKind
from media.stream_reader import CLOCK_RATE
from packager.window.program_date_time import EarliestArrival

SHORTEST_SILENCE_SECONDS = 0.5
"""Shortest time without data that may lie between two bursts; a server that is busy reads as late."""

LONGEST_BURST_SECONDS = 10.0
"""Most seconds for which a packet is held back."""

LONGEST_UNREAD_SECONDS = 3.0
"""Most seconds for which a stream that isn't read as fast as it comes may be a burst."""

WINDOW_SECONDS = 30.0
"""Time in which silences are counted: three of the longest bursts."""

RELEASE_SECONDS = 0.05
"""Least seconds from one release of packets to the next."""

LOOK_SECONDS = 0.25
"""Most seconds between two checks whether the end of a stream is still held back."""

_ARRIVAL_SECONDS = 15.0


class BurstMeter:
    """Measures whether a stream comes in bursts, and how much media each has.

    A stream does so if silences take more than half of the time: a publisher whose network fails now and then
    is no such stream, and catches up at once.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._newest = 0.0
        self._silences = deque[tuple[float, float]]()
        # Seconds since the last silence for which the stream wasn't read.
        self._unread = 0.0

    def restart(self) -> None:
        """Begin to measure another stream."""
        self._began = None
        self._unread = 0.0
        self._silences.clear()

    def observe(self, now: float) -> None:
        """Note that media came, at this moment of the monotonic clock."""
        silence = now - self._newest
        self._newest = now
        if self._began is None:
            self._began = now
        elif silence >= SHORTEST_SILENCE_SECONDS:
            self._silences.append((now, silence + self._unread))
            self._unread = 0.0
            self._forget(now)

    def note_unread(self, seconds: float) -> None:
        """Note for how long the stream wasn't read, as it is ahead: a burst may go on behind that."""
        self._newest += seconds
        self._unread = min(self._unread + seconds, LONGEST_UNREAD_SECONDS)

    def _forget(self, now: float) -> None:
        while self._silences and self._silences[0][0] < now - WINDOW_SECONDS:
            self._silences.popleft()

    def seconds(self, now: float) -> float | None:
        """Return the seconds of media that a burst usually has; 0 if the stream doesn't come in bursts.

        None before it is known: the first data may be a burst.
        """
        if self._silences:
            self._forget(now)
        if self._began is None or self._newest - self._began - self._unread < SHORTEST_SILENCE_SECONDS:
            return None
        if not self._silences:
            return 0.0
        silences = [silence for _, silence in self._silences]
        if 2 * sum(silences) <= min(now - self._began, WINDOW_SECONDS):
            return 0.0
        return min(statistics.median(silences), LONGEST_BURST_SECONDS)


class PacketPacer:
    """Holds back the packets of a stream that comes in bursts, without I/O.

    Attributes:
        held_bytes: bytes of the packets that are held back.
    """

    def __init__(self) -> None:
        self._held: list[Packet] = []
        self.held_bytes = 0
        self._burst = 0.0
        # By track: its sound may come with a later burst than a picture.
        self._arrivals: dict[TrackKind, EarliestArrival] = {}

    @property
    def is_holding(self) -> bool:
        """Whether packets are held back."""
        return bool(self._held)

    def push(self, packets: Sequence[Packet], now: float, burst: float) -> None:
        """Add packets that came at this moment of the monotonic clock.

        Args:
            burst: seconds of media that a burst has; 0 to hold nothing back.
        """
        self._burst = burst
        if not packets:
            return
        newest = dict[TrackKind, int]()
        for packet in packets:
            kind = packet.track.kind
            # Metadata that come once are no track that comes later than the others.
            if kind is not TrackKind.METADATA:
                newest[kind] = max(packet.dts, newest.get(kind, packet.dts))
        for kind, dts in newest.items():
            self._arrivals.setdefault(kind, EarliestArrival(_ARRIVAL_SECONDS)).observe(
                now - dts / CLOCK_RATE, now
            )
        # Tracks come one behind the other within a burst; the order in each track stays.
        self._held = sorted([*self._held, *packets], key=_dts)
        self.held_bytes += sum([len(packet.data) for packet in packets])

    def due(self, now: float) -> list[Packet]:
        """Return the packets whose time has come, in the order of their decode times."""
        count = bisect_right(self._held, (now - self._delay) * CLOCK_RATE, key=_dts)
        found, self._held = self._held[:count], self._held[count:]
        self.held_bytes -= sum([len(packet.data) for packet in found])
        return found

    def flush(self) -> list[Packet]:
        """Return all packets that are held back."""
        found, self._held, self.held_bytes = self._held, [], 0
        return found

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next packets are to be released; None if none are held back."""
        if not self._held:
            return None
        return max(self._held[0].dts / CLOCK_RATE + self._delay - now, RELEASE_SECONDS)

    @property
    def _delay(self) -> float:
        """Seconds from a packet's decode time, in the stream's times, to its release."""
        delays = [one.delay for one in self._arrivals.values()] or [0.0]
        soonest, latest = min(delays), max(delays)
        is_apart = latest - soonest > SHORTEST_SILENCE_SECONDS
        return self._burst + (min(latest, soonest + LONGEST_BURST_SECONDS) if is_apart else soonest)


async def release_held(
    wait: Callable[[float], float | None],
    release: Callable[[], Awaitable[None]],
    hurries: Callable[[], bool],
    longest: float = LONGEST_BURST_SECONDS,
) -> None:
    """Release what is held back of a stream that has ended, each packet in its time.

    All at once, its last segments would come before their numbers may be used.

    Args:
        wait: returns the seconds until the next release at a moment of the monotonic clock; None once nothing
            is held back.
        release: called to release the packets that are due.
        hurries: returns whether the rest isn't to be held back any more.
        longest: seconds for which packets are held back at most.
    """
    now = time.monotonic()
    last = now + longest
    while now < last and not hurries() and (seconds := wait(now)) is not None:
        await asyncio.sleep(min(seconds, last - now, LOOK_SECONDS))
        await release()
        now = time.monotonic()


def _dts(packet: Packet) -> int:
    return packet.dts
