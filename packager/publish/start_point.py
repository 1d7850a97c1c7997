"""The point of a live playlist at which players begin where its end has gaps (RFC 8216bis §4.4.2.2)."""

from __future__ import annotations

from fractions import Fraction

from packager.window.window import Window


def start_offset(window: Window, hold_back: Fraction) -> Fraction | None:
    """Return where players begin, in seconds before the playlist's end as a negative number; else None.

    By themselves they go back a time from the end. Where a gap is there, some wait in it for ever: hls.js
    loads video that follows the gap, and waits before it with alternative sound.

    Args:
        hold_back: seconds before the end at which players begin that don't know parts.
    """
    if window.ended:
        return None
    begins = list[Fraction]()
    distance = gaps = Fraction(0)
    for segment in (*([window.open] if window.open else ()), *reversed(window.listed)):
        if segment.gap:
            if begins:
                break
            gaps += segment.duration
        distance += segment.duration
        if not segment.gap:
            begins.append(distance)
            if distance - gaps >= hold_back:
                return -distance if gaps else None
    else:
        if not gaps:
            return None
    if not begins:
        return None
    # Before gaps all that there is; after one the newest finished segment, so that there is enough to begin.
    return -begins[-1] if gaps else -begins[min(len(begins) - 1, 1 if window.open else 0)]
