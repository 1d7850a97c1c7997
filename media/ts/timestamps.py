"""Timestamps of a transport stream, which begin again at 0 after 26 hours (ISO/IEC 13818-1 §2.4.3.7).

They are in ticks of 90 kHz, modulo 2^33. The clocks here convert them to times that don't wrap.
"""

from __future__ import annotations

import struct

from media.errors import UnsupportedError
from media.stream_reader import CLOCK_RATE
from media.ts.tables import payload_offset

CLOCK_WRAP = 1 << 33
"""§2.4.3.5, §2.4.3.7: clock references and timestamps have 33 bits, at 90 kHz."""


SMALL_STEP = CLOCK_RATE
"""Ticks by which one stream's sound or picture may lie before another's where the clock jumps."""

LARGEST_OVERLAP = 2 * CLOCK_RATE
"""Ticks by which sound alone may step back, as at a splice; more is a jump of the clock."""

LARGEST_DISTANCE = 60 * CLOCK_RATE
"""Ticks between subtitles and the other streams beside them: little of a block of a slow stream is theirs."""

MAX_JUMPS = 10_000
"""Most jumps of a file's clock: a DVD has one for each of its cells, of which a film has some hundred."""


def timestamp(packet: bytes) -> int | None:
    """Return the DTS, or else PTS, of the PES packet that begins in a packet; None without one."""
    start = payload_offset(packet)
    header = packet[start : start + 19]
    if not packet[1] & 0x40 or len(header) < 14 or header[:3] != b"\0\0\1":
        return None
    flags = header[7] >> 6
    if flags < 2:
        return None
    return read_timestamp(header[14:19] if flags == 3 and len(header) == 19 else header[9:14])


def read_timestamp(field: bytes) -> int:
    """Read the 33 bits of a PTS or DTS from the five bytes that it takes (§2.4.3.6)."""
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1


def moved_packet(packet: bytes, ticks: int) -> bytes:
    """Return the packet in which a PES packet begins, with the timestamps moved; see ``timestamp``."""
    start, made = payload_offset(packet), bytearray(packet)
    # §2.4.3.6: a PTS, and a DTS behind it if the flags are 3, of five bytes with three marker bits each.
    for place in (start + 9, start + 14)[: 2 if packet[start + 7] >> 6 == 3 else 1]:
        time = (read_timestamp(packet[place : place + 5]) + ticks) % CLOCK_WRAP
        made[place] = packet[place] & 0xF1 | time >> 29 & 0xE
        made[place + 1 : place + 5] = struct.pack(">HH", time >> 14 & 0xFFFE | 1, time << 1 & 0xFFFE | 1)
    return bytes(made[: len(packet)])


def difference(one: int, other: int) -> int:
    """Return the ticks from one timestamp to another, which are less than 13 hours apart."""
    return (one - other + CLOCK_WRAP // 2) % CLOCK_WRAP - CLOCK_WRAP // 2


class LiveClock:
    """Unwraps the timestamps of all elementary streams of a live stream; times may go back."""

    def __init__(self) -> None:
        self._newest: int | None = None

    def time(self, told: int) -> int:
        """Return the time of a timestamp in ticks, which may be below that of the one before."""
        newest = told if self._newest is None else self._newest
        self._newest = newest + difference(told, newest)
        return self._newest

    def near(self, told: int | None) -> int:
        """Return the time of a timestamp that isn't of a picture or sound; None: the newest time."""
        newest = self._newest or 0
        return newest if told is None else newest + difference(told, newest)


class FileTimes(list[int]):
    """The jumps that the clocks of a file's streams share: how many ticks were added to timestamps, in order.

    Attributes:
        newest: the latest time of all streams; None before the first.
    """

    newest: int | None = None


class FollowingClock:
    """Unwraps the timestamps of a stream of subtitles by the times of the file's sound and pictures.

    Subtitles pause for minutes, so that their own times don't show a jump.

    Args:
        reference: as that of the other streams' clocks.
        jumps: the file's, an object that the clocks of its streams share.
    """

    def __init__(self, reference: int, jumps: FileTimes) -> None:
        self._zero, self._jumps = reference - CLOCK_WRAP // 2, jumps

    def time(self, told: int) -> int | None:
        """Return the time of a timestamp; None where it is far from those of the other streams."""
        newest = self._jumps.newest
        if newest is None:
            return None
        # Around a jump of the clock it may be one of before.
        added = (0, *self._jumps)[-2:]
        step = min((difference(told + one - self._zero, newest) for one in added), key=abs)
        return newest + step if abs(step) <= LARGEST_DISTANCE else None


class FileClock:
    """Unwraps the timestamps of one elementary stream of a file whose clock may jump: time goes on.

    Args:
        longest_gap: ticks of the longest pause; more is a jump, unless the other streams are there.
        reference: a timestamp of the file; the time 0 is half the range of timestamps before it.
        jumps: the file's, an object that the clocks of its streams share.

    Attributes:
        added_late: ticks that are to be added to the times since a step back, because it was the clock's: set
            by each call of ``time``, for the times that calls before it have returned.
    """

    def __init__(self, longest_gap: int, reference: int, jumps: FileTimes) -> None:
        self._longest_gap, self._zero = longest_gap, reference - CLOCK_WRAP // 2
        self._latest: int | None = None
        self._jumps = jumps
        self._known = len(jumps)
        self._added = 0
        self._step = 0
        self._went_back: int | None = None
        self.added_late = 0

    def time(self, told: int, place: int, *, shown: int = 0, may_go_back: bool = False) -> int:
        """Return the time of a timestamp.

        Args:
            place: offset of the timestamp in the file, for errors.
            shown: ticks from it to the presentation.
            may_go_back: whether the time may step back a little where this stream alone does.

        Raises:
            UnsupportedError: the clock jumps too often.
        """
        latest = self._time(told, place, may_go_back=may_go_back)
        newest = self._jumps.newest
        self._jumps.newest = latest + shown if newest is None else max(latest + shown, newest)
        return latest

    def _time(self, told: int, place: int, *, may_go_back: bool) -> int:
        if self._latest is None:
            self._added = self._jumps[-1] if self._jumps else 0
            self._latest = (told + self._added - self._zero) % CLOCK_WRAP
            return self._latest
        self.added_late = self._found_later() if self._went_back is not None else 0
        before = self._latest
        step = difference(told + self._added - self._zero, before)
        newest = before if self._jumps.newest is None else self._jumps.newest
        if not 0 <= step <= self._longest_gap and not (
            # The stream alone has paused, and comes again where the others are.
            step > 0 and abs(before + step - newest) <= self._longest_gap
        ):
            # Another stream may have come to the same jump already.
            for number, added in enumerate(self._jumps[self._known :], self._known + 1):
                other = difference(told + added - self._zero, before)
                if -SMALL_STEP <= other <= self._longest_gap:
                    self._added, step, self._known = added, max(other, 0), number
                    break
            else:
                if may_go_back and -LARGEST_OVERLAP <= step < 0 and self._went_back is None:
                    self._went_back = self._latest
                    self._known = len(self._jumps)
                    self._latest = before + step
                    return self._latest
                self._added += self._step - step
                step = self._step
                self._jumps.append(self._added)
                if len(self._jumps) > MAX_JUMPS:
                    raise UnsupportedError(f"its clock jumps more than {MAX_JUMPS} times, at byte {place}")
                self._known = len(self._jumps)
        elif step:
            self._step = min(step, SMALL_STEP)
        self._latest = before + step
        if self._went_back is not None and self._latest - self._went_back > self._longest_gap:
            self._went_back = None
        return self._latest

    def _found_later(self) -> int:
        """Return by how much the times since a step back are too early: other streams have jumped there."""
        for added in self._jumps[self._known :]:
            late = added - self._added
            if self._latest is not None and 0 < late <= LARGEST_OVERLAP + SMALL_STEP:
                self._added, self._known, self._went_back = added, len(self._jumps), None
                self._latest += late
                return late
        return 0
