"""Repeats a picture that stands still: who gets it shows it only until the next one is due."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from media.packets import Packet, TrackKind
from media.stream_reader import CLOCK_RATE, LONGEST_PAUSE, StreamChunk

FILLED_BYTES = 8 << 20
"""Most bytes of pictures that are repeated at once, where several came together."""

MOST_LATE = 1.15
"""Most time from one repetition to the next, of the usual time, where the next picture probably comes."""

LEAST_STEP = CLOCK_RATE // 100
"""Ticks from a repetition to a picture that came later than its time."""


class StillPicture:
    """Repeats the newest picture of a stream that sends one in some seconds, if each is a key frame.

    Args:
        slow_seconds: without a picture, after which one stands still: one may come each second.
        seconds: from one repetition to the next, and to the first one of a stream that is known to be slow.
    """

    def __init__(self, slow_seconds: float, seconds: float) -> None:
        self._slow, self._seconds = slow_seconds, seconds
        self._slow_ticks = round(slow_seconds * CLOCK_RATE)
        self._picture: Packet | None = None
        # Decode time of the newest picture, and of what is shown last: it, or a repetition.
        self._time: int | None = None
        self._shown = 0
        # When it came, when it is to be repeated, and how long the one before was shown.
        self._came = self._due = -math.inf
        self._usual = math.inf

    def push(self, chunks: Sequence[StreamChunk], now: float) -> Sequence[StreamChunk]:
        """Return the next chunks, of which the pictures are packets, with the repetitions between them."""
        if self._picture is None and self._are_usual(chunks):
            return chunks
        given = list[StreamChunk]()
        for chunk in chunks:
            changed: list[Packet] | None = None
            for index, packet in enumerate(chunk.packets):
                found: Sequence[Packet] = (packet,)
                if _is_picture(packet):
                    found = self._push(packet, now)
                if changed is None and (len(found) > 1 or found[0] is not packet):
                    changed = list(chunk.packets[:index])
                if changed is not None:
                    changed += found
            given.append(chunk if changed is None else chunk._replace(packets=changed))
        return given

    def _are_usual(self, chunks: Sequence[StreamChunk]) -> bool:
        """Return whether no picture of the next chunks can come slowly, as the last one doesn't."""
        for chunk in reversed(chunks):
            for track, dts, _, _, data in reversed(chunk.packets):
                if data and track.kind is TrackKind.VIDEO:
                    if self._time is None or not 0 <= dts - self._time < self._slow_ticks:
                        return False
                    self._time = dts
                    return True
        return True

    def _push(self, packet: Packet, now: float) -> Sequence[Packet]:
        """Return a picture, with the repetitions before it."""
        before, self._time, repeated = self._time, packet.dts, list[Packet]()
        # Kept pictures are pushed together, however far apart they came.
        is_slow = before is None or packet.dts - before >= self._slow_ticks
        if not is_slow:
            self._picture = None
            return (packet,)
        self._usual = math.inf if before is None else (packet.dts - before) / CLOCK_RATE
        if before is not None and self._picture is not None:
            repeated = self._between(self._picture, packet.dts)
            if packet.dts <= self._shown:
                # A picture that came late, behind a repetition.
                late = self._shown + LEAST_STEP - packet.dts
                packet = packet._replace(dts=packet.dts + late, pts=packet.pts + late)
        self._shown, self._came = packet.dts, now
        self._picture = packet if packet.is_key else None
        self._due = now + (self._slow if before is None else self._seconds)
        return (*repeated, packet)

    def _between(self, picture: Packet, until: int) -> list[Packet]:
        """Return the repetitions of a picture from what is shown last to the next picture."""
        step, left = round(self._seconds * CLOCK_RATE), until - self._shown
        is_pause = self._slow * CLOCK_RATE <= left <= LONGEST_PAUSE
        if not is_pause or len(picture.data) * left > FILLED_BYTES * step:
            return []
        return [
            picture._replace(dts=time, pts=time + picture.pts - picture.dts)
            for time in range(self._shown + step, until - step // 2, step)
        ]

    def wait(self, now: float) -> float | None:
        """Return the seconds until the picture is to be repeated; None if it isn't."""
        return None if self._picture is None else max(self._due - now, 0.0)

    def repeat(self, now: float, queue: Iterable[StreamChunk | None] = ()) -> Sequence[StreamChunk]:
        """Return the picture with the time that has passed since it came, if that is due.

        Args:
            queue: chunks that have come and aren't pushed yet; if a picture is among these, none is repeated.
        """
        if self._picture is None or now < self._due:
            return ()
        if any(one is None or one.access for one in queue):
            return ()
        self._due, passed = now + self._seconds, now - self._came
        if abs(passed + self._seconds - self._usual) < self._seconds / 2:
            # The next picture probably comes at about that time. A segment may have room for little more.
            self._due = min(self._came + self._usual + self._seconds / 2, now + MOST_LATE * self._seconds)
        packet, moved = self._picture, round(passed * CLOCK_RATE)
        again = packet._replace(dts=packet.dts + moved, pts=packet.pts + moved)
        self._shown = again.dts
        return (StreamChunk.of_packets((again,)),)


def _is_picture(packet: Packet) -> bool:
    return packet.track.kind is TrackKind.VIDEO and bool(packet.data)
