"""Steadies the times of a live stream's packets: single ones that stray, and tracks whose clocks are apart.

It works on packets, whatever container brought them.
"""

from __future__ import annotations

from collections.abc import Sequence

from media.packets import Packet, TrackKind
from media.stream_reader import CLOCK_RATE, LONGEST_PAUSE

LONGEST_STEP = 3 * CLOCK_RATE
"""Ticks by which timestamps may advance, or go back due to interleaving, between packets."""

ALIKE = 4
"""A step of a track's times that differs from the one before it by less than this share of it is none that
jumps: some cameras send a picture in some seconds.
"""

MOST_EARLY = 256
"""Most packets of sound that wait for the first picture: five seconds of AAC."""

STRAY = "single pictures have times far from those before and behind them: they follow the one before"
"""The fault of a stream some of whose times are moved."""


def _apart(ticks: int) -> str:
    where = "ahead of" if ticks > 0 else "behind"
    return (
        f"its sound's times are {abs(ticks) / CLOCK_RATE:.1f} s {where} its picture's: it plays as it comes"
    )


def is_near(step: int) -> bool:
    """Return whether a step in time is none that jumps."""
    return -LONGEST_STEP <= step <= LONGEST_STEP


class SteadyTimes:
    """Steadies the times of a video and an audio track, without I/O.

    Args:
        awaits_picture: whether sound that comes before the first picture is held until the picture's clock is
            known, as far as ``MOST_EARLY`` packets; it is where a picture was announced before.

    Attributes:
        fault: the error of the stream's times, and how they are moved; empty while they are right.
        has_jumped: whether the stream's clock has jumped with the packets that were returned last.
    """

    def __init__(self, *, awaits_picture: bool = False) -> None:
        self.fault = ""
        self.has_jumped = False
        # Sound that came before the first picture; None where none is held, or not any more.
        self._early: list[Packet] | None = [] if awaits_picture else None
        # By kind: the newest packet's time, that of the first one behind a jump, and the newest one's step,
        # as the publisher sent them. A picture whose time strays, and what is added to the sound's times.
        self._newest: dict[TrackKind, int] = {}
        self._first: dict[TrackKind, int] = {}
        self._steps: dict[TrackKind, int] = {}
        self._held: Packet | None = None
        self._offset = 0

    @property
    def is_moving(self) -> bool:
        """Whether packets are moved or held now, so that none may be passed by."""
        return bool(self._offset) or self._held is not None

    def note(self, packets: Sequence[Packet]) -> None:
        """Note packets whose times go on, and aren't to be moved."""
        newest, steps = self._newest, self._steps
        for track, time, *_ in packets:
            kind = track.kind
            if (before := newest.get(kind)) is None:
                self._note(kind, time)
            elif time != before:
                newest[kind], steps[kind] = time, time - before

    def push(self, packet: Packet) -> Sequence[Packet]:
        """Return the packets that can go on, with the times at which they are played.

        A picture that strays is held until the next one shows whether the clock has jumped.
        """
        self.has_jumped = False
        kind, own = packet.track.kind, self._newest.get(packet.track.kind)
        if not packet.data or kind is TrackKind.METADATA:
            if kind is TrackKind.VIDEO and not self._newest and self._early is None:
                self._early = []
            return (packet,)
        if (early := self._early) is not None:
            if kind is TrackKind.AUDIO and len(early) < MOST_EARLY:
                early.append(packet)
                return ()
            self._early = None
            if early and kind is TrackKind.VIDEO:
                self._join_clocks(early[0].dts, packet.dts)
            self.note([*early, packet])
            return (*map(self._moved, early), self._moved(packet))
        held: tuple[Packet, ...] = ()
        if self._held is not None and (kind is TrackKind.VIDEO or not self._goes_on(packet)):
            held, self._held = (self._held,), None
        if self._goes_on(packet):
            if held and own is not None:
                time = own + (packet.dts - own) // 2
                held = (held[0]._replace(dts=time, pts=time + held[0].pts - held[0].dts),)
                self.fault = STRAY
            elif own is None:
                self._join_clock_of(kind, packet.dts)
            self._note(kind, packet.dts)
            return (*held, self._moved(packet))
        if kind is TrackKind.VIDEO and not held:
            self._held = packet
            return ()
        # The stream's clock has jumped, with all of its tracks.
        if own is not None:
            self._steps[kind] = packet.dts - own
        self._newest, self._first = {kind: packet.dts}, {kind: packet.dts}
        self._offset, self.has_jumped = 0, True
        return (*held, packet)

    def _note(self, kind: TrackKind, time: int) -> None:
        """Note the time of a track's packet."""
        if (before := self._newest.get(kind)) is not None and time != before:
            self._steps[kind] = time - before
        self._newest[kind] = time
        self._first.setdefault(kind, time)

    def _goes_on(self, packet: Packet) -> bool:
        """Return whether the time of a track's packet follows the one before."""
        kind = packet.track.kind
        own, usual = self._newest.get(kind), self._steps.get(kind, 0)
        if own is None or is_near(packet.dts - own) or abs(packet.dts - own - usual) * ALIKE < usual:
            return True
        if kind is not TrackKind.VIDEO:
            return False
        # Pictures pause where none are needed: the sound shows that the clock goes on, if there is any.
        heard = self._newest.get(TrackKind.AUDIO)
        if heard is None:
            return packet.is_key and 0 < packet.dts - own <= LONGEST_PAUSE
        behind = heard + self._offset - packet.dts
        # A picture in MPEG-TS is whole once the next one begins: the sound is ahead by what lies between.
        return is_near(behind) or (packet.dts > own and 0 < behind <= LONGEST_PAUSE)

    def _join_clock_of(self, kind: TrackKind, time: int) -> None:
        """Bring the tracks' clocks together as one of them begins, if the other one has begun."""
        other = TrackKind.AUDIO if kind is TrackKind.VIDEO else TrackKind.VIDEO
        known = self._newest.get(other)
        # A fragment has seconds of pictures before their sound.
        if known is not None and not self._first[other] - LONGEST_STEP <= time <= known + LONGEST_STEP:
            self._join_clocks(*((time, known) if kind is TrackKind.AUDIO else (known, time)))

    def _join_clocks(self, heard: int, seen: int) -> None:
        """Move the sound to the picture where their times are far from each other."""
        if not is_near(apart := heard - seen):
            self._offset, self.fault = -apart, _apart(apart)

    def _moved(self, packet: Packet) -> Packet:
        if not self._offset or packet.track.kind is not TrackKind.AUDIO:
            return packet
        return packet._replace(dts=packet.dts + self._offset, pts=packet.pts + self._offset)


class SingleStrays:
    """Finds single times of a track that are far from those before and behind them, as its bytes come.

    Attributes:
        fault: the error of the track's times; empty while there is none.
    """

    def __init__(self) -> None:
        self.fault = ""
        self._time: int | None = None
        self._step = 0
        self._is_far = False

    def restart(self) -> None:
        """Continue behind a jump of the stream's clock."""
        self._time, self._is_far = None, False

    def shift(self, time: int) -> int:
        """Return what is to be added to the next time: not 0 for the first one of a row that is far away."""
        before = self._time
        step = 0 if before is None else time - before
        if -LONGEST_STEP <= step <= LONGEST_PAUSE:
            if self._is_far:
                self._is_far, self.fault = False, STRAY
            self._step = min(step, CLOCK_RATE) if step > 0 else self._step
        elif self._is_far:
            # The clock has jumped.
            self._is_far = False
        else:
            self._is_far = True
            return self._step - step
        self._time = time
        return 0
