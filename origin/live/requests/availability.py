"""Decides by the clock whether media that isn't here may come soon, or may be elsewhere already."""

from __future__ import annotations

from packager.publish.dash_periods import MOST_DRIFT
from packager.publish.live_stream import LiveStream
from packager.window.window import Window

SEGMENTS_AHEAD = 1
"""How many segments behind the next one are waited for: a player's clock may be ahead."""

MOST_LATE_SECONDS = 10
"""How late an encoder may be so that segments are waited for that are due by the clock: players of DASH go
by the clock (ISO/IEC 23009-1 §5.3.9.5.3). Late segments may come all at once."""

CLOCK_ERROR_SECONDS = 0.5
"""By how much a player's clock may be ahead of this one: it set it by an answer that was on its way."""


def is_due(stream: LiveStream, window: Window, number: int) -> bool:
    """Return whether a segment is still to come, and due or so soon that it is waited for.

    Args:
        number: media sequence number.
    """
    ahead = number - window.next_number
    return not window.ended and 0 <= ahead <= due_segments(stream, window)


def due_segments(stream: LiveStream, window: Window) -> int:
    """Return how many segments behind the next one are waited for, too.

    Players of DASH ask for a segment by their clock, from the beginning of its period on.
    """
    newest = window.newest
    if newest is None:
        return SEGMENTS_AHEAD
    late = stream.wall_clock() - float(newest.program_date_time + newest.duration)
    # A period counts in segment durations, and its segments' dates may be later than it says.
    early = float(MOST_DRIFT) + CLOCK_ERROR_SECONDS
    owed = (min(max(late, 0.0), MOST_LATE_SECONDS) + early) / float(stream.cadence.segment_duration)
    return SEGMENTS_AHEAD + int(owed)


def may_be_elsewhere(stream: LiveStream, window: Window, number: int, part: int = 0) -> bool:
    """Return whether a missing part may be at the channel's maker already: by the clock it has begun.

    A process that follows the channel is behind where it stood still, or couldn't reach the maker. Other
    processes have listed the part meanwhile, and players may ask any of them.

    Args:
        number: media sequence number.
        part: part index.
    """
    return stream.is_followed and has_begun_by_the_clock(stream, window, number, part)


def has_begun_by_the_clock(stream: LiveStream, window: Window, number: int, part: int = 0) -> bool:
    """Return whether a part that isn't here would have begun by now, had the source been in time.

    Args:
        number: media sequence number.
        part: part index.
    """
    newest = window.newest
    if window.ended or newest is None or number < window.next_number:
        return False
    cadence = stream.cadence
    ahead = (number - newest.number) * cadence.segment_duration + part * cadence.part_target
    return newest.program_date_time + ahead <= stream.wall_clock()


def is_starting(stream: LiveStream, window: Window) -> bool:
    """Return whether a channel still reads the segments of its folder."""
    return stream.restores and not stream.ready and not window.ended and not window.waiters.closed


def not_found_max_age(number: int, stream: LiveStream, window: Window, most: int) -> int:
    """Return the seconds for which caches may keep that something isn't there, which end before it may be.

    Args:
        number: media sequence number whose beginning makes the reply wrong; a past one never does.
        most: the longest that it's worth keeping.
    """
    ahead = number - window.next_number
    if ahead < 0 or window.ended:
        return most
    # A late encoder's segments may come all at once, and those of sources that break off are shorter: half of
    # the time is always too early.
    beyond = max(ahead - 1 - due_segments(stream, window), 0)
    return min(most, int(beyond * stream.cadence.segment_duration / 2))
