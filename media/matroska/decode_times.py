"""Derives the decode times of live video, of which Matroska has presentation times alone (RFC 9559 §11.1).

Frames come in the order of decoding. ISO/IEC 14496-10 §E.2.1 (max_num_reorder_frames) and ISO/IEC 23008-2
§7.4.3.2.1 (sps_max_num_reorder_pics) bound by a depth how many frames are decoded before a frame and shown
after it. So the frame that is decoded as number n is never shown before number n - depth in the order of
presentation: that one's presentation time is the decode time. It rises, is never after the frame's own
presentation, and depends on nothing but the frames before.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from media.errors import MalformedError
from media.mp4.codecs.sequence_parameters import MOST_REORDERED
from media.mp4.fragments.track_fragmenter import FARTHEST_BACK
from media.stream_reader import CLOCK_RATE

OBSERVED_FRAMES = MOST_REORDERED
"""Frames from whose order the depth is found where the decoder's configuration doesn't have it."""

OBSERVED_BYTES = 8 << 20
"""Most bytes of frames that are held until decode times are known."""

_USUAL_DURATION = Fraction(CLOCK_RATE, 25)
_FARTHEST_BACK = FARTHEST_BACK * CLOCK_RATE


class PresentedFrame(NamedTuple):
    """A frame whose decode time isn't known yet; ``pts`` is in ticks."""

    pts: int
    is_key: bool
    data: bytes


class DecodeTimes:
    """Assigns decode times to the frames of one track.

    Args:
        depth: most frames that are decoded before a frame, and shown after it; None to find that in the order
            of the first frames.
        duration: ticks of a frame; None to find that in the times of the first frames.
    """

    def __init__(self, depth: int | None, duration: Fraction | None) -> None:
        self._depth, self._duration = depth, duration
        is_known = depth == 0 or (depth is not None and duration is not None)
        self._wanted = (depth or 0) + 1 if is_known else OBSERVED_FRAMES
        # The first frames, until the decode time of the first one is known.
        self._held: list[PresentedFrame] | None = []
        self._held_bytes = 0
        # The presentation times that are no decode times yet, as a heap.
        self._waiting: list[int] = []
        self._last: int | None = None

    def push(self, frame: PresentedFrame) -> list[tuple[int, PresentedFrame]]:
        """Add the next frame in the order of decoding; return frames with their decode times.

        Raises:
            MalformedError: the times go back.
        """
        if self._held is None:
            return [(self._next(frame.pts), frame)]
        self._held.append(frame)
        self._held_bytes += len(frame.data)
        if len(self._held) < self._wanted and self._held_bytes < OBSERVED_BYTES:
            return []
        held, self._held = self._held, None
        self._begin([one.pts for one in held])
        return [(self._next(one.pts), one) for one in held]

    def _begin(self, times: Sequence[int]) -> None:
        """Set the decode times before the first presentation, one frame's duration apart."""
        depth = reordering(times) if self._depth is None else self._depth
        ordered = sorted(times)
        steps = sorted(after - before for before, after in pairwise(ordered))
        usual = steps[len(steps) // 2] if steps else _USUAL_DURATION
        duration = self._duration or max(usual, 1)
        self._waiting = [round(ordered[0] - number * duration) for number in range(depth, 0, -1)]

    def _next(self, pts: int) -> int:
        last = self._last
        if last is None or pts >= last:
            dts = heapq.heappushpop(self._waiting, pts)
        elif last - pts > _FARTHEST_BACK:
            raise MalformedError("video times go back")
        else:
            # The depth is greater than told or observed: this frame alone is shown before its decode time.
            dts = pts
            if len(self._waiting) < MOST_REORDERED:
                heapq.heappush(self._waiting, pts)
        self._last = dts if last is None else max(dts, last + 1)
        return self._last


def reordering(times: Sequence[int]) -> int:
    """Return the most frames that are decoded before a frame, and shown after it.

    Args:
        times: presentation times, in the order of decoding.
    """
    before: list[int] = []
    depth = 0
    for time in times:
        depth = max(depth, len(before) - bisect_right(before, time))
        insort(before, time)
    return depth
