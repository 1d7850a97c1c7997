"""A request for a live media playlist: what it waits for, what it then gets, and for how long that is true.

Decisions alone; `routes.py` carries them out as ASGI, `fast_path.py` on the connection.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import NamedTuple

from starlette.datastructures import QueryParams

from media.hls.precompressed_text import Pieces
from origin.live import directives
from origin.live.directives import Directives
from packager.publish.dash_periods import MOST_DRIFT
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition
from packager.window.window import Window

SEGMENTS_AHEAD = 1
"""How many segments behind the next one are waited for: a player's clock may be ahead."""

MOST_LATE_SECONDS = 10
"""How late an encoder may be so that segments are waited for that are due by the clock: players of DASH go
by it (ISO/IEC 23009-1 §5.3.9.5.3). What comes late may come all at once."""

CLOCK_ERROR_SECONDS = 0.5
"""By how much a player's clock may be ahead of this one: it set it by an answer that was on its way."""

MOST_AT_ONCE = 2 << 20
"""A playlist that carries query parameters is made and sent piece by piece if it has more bytes than this."""

LINE_BYTES = 80
"""Bytes of a segment's lines in a playlist, about, without query parameters."""

QUERIES_KEPT = 256
"""Most parsed query strings that are cached."""


@functools.lru_cache(maxsize=QUERIES_KEPT)
def read_query(query: bytes, carried: tuple[str, ...] = directives.CARRIED) -> Directives:
    """Read a query string; those of many players are the same.

    Args:
        carried: names of the parameters that go onto URIs.

    Raises:
        DirectiveError: as `directives.parse`.
    """
    return directives.parse(QueryParams(query).multi_items(), carried)


class Reload(NamedTuple):
    """A request for a media playlist."""

    stream: LiveStream
    rendition: Rendition
    wanted: Directives

    @property
    def window(self) -> Window:
        """The rendition's window, where it waits."""
        return self.rendition.window

    @property
    def error_max_age(self) -> int:
        """Seconds for which caches may keep a refusal."""
        return _refusal_max_age(self.stream.target_duration, blocking=self.wanted.number is not None)

    @property
    def too_early_max_age(self) -> int:
        """Seconds for which caches may keep the refusal of what lies too far ahead."""
        number = (self.wanted.number or 0) - directives.MAX_AHEAD
        return not_found_max_age(number, self.stream, self.window, self.error_max_age)

    @property
    def max_age(self) -> int:
        """Seconds for which caches may keep the playlist."""
        target_duration = self.stream.target_duration
        return max(target_duration // 2, 1) if self.wanted.number is None else 6 * target_duration

    @property
    def longest_wait(self) -> int:
        """Seconds that it may wait."""
        return self.window.waiters.limits.blocked_target_durations * self.stream.target_duration

    @property
    def key(self) -> Hashable:
        """Identify what it waits for, the same for all who wait for it."""
        return self.wanted.number, self.wanted.part

    def check(self) -> None:
        """Refuse what lies too far ahead, and can't have come anywhere.

        Raises:
            DirectiveError: it does.
        """
        wanted = self.wanted
        if wanted.number is None:
            return
        window = self.window
        if not window.ended and not may_be_elsewhere(self.stream, window, wanted.number, wanted.part or 0):
            last = window.last or (window.next_number - 1, 0)
            directives.check(wanted, last, self.stream.cadence)

    def is_sent_in_steps(self) -> bool:
        """Return whether the playlist has so many addresses to change that writing and sending alternate."""
        suffix = self.wanted.suffix
        if not suffix:
            return False
        window = self.window
        # §6.2.5.1: with EXT-X-ENDLIST a delta update is the whole.
        whole = not self.wanted.skip or window.ended
        return whole and len(window.listed) * (LINE_BYTES + len(suffix)) > MOST_AT_ONCE

    def has_come(self) -> bool:
        """Return whether the playlist has what is asked for (§6.2.5.2)."""
        number = self.wanted.number
        if number is None:
            return True
        window = self.window
        # §6.2.5.2: with EXT-X-ENDLIST the directives are ignored.
        return window.ended or window.reached(number, self.wanted.part)

    def render(self) -> Pieces:
        """Return the playlist as of now, in pieces; the same object to all who ask in the same state."""
        return self.stream.presentation.media_pieces(
            self.rendition.name,
            skip=self.wanted.skip,
            skip_date_ranges=self.wanted.skip_date_ranges,
            suffix=self.wanted.suffix,
        )


def refusal_max_age(query: bytes, target_duration: int) -> int:
    """Return the seconds for which caches may keep that there is no playlist, with or without directives."""
    return _refusal_max_age(target_duration, blocking=b"_HLS_msn" in query or b"_HLS_part" in query)


def _refusal_max_age(target_duration: int, *, blocking: bool) -> int:
    # Appendix B: with a directive, errors keep for four target durations, playlists for six.
    return (4 if blocking else 1) * target_duration


def not_found_max_age(number: int, stream: LiveStream, window: Window, most: int) -> int:
    """Return the seconds for which caches may keep that something isn't there, which end before it may be.

    Args:
        number: media sequence number whose beginning makes the answer wrong; a past one never does.
        most: the longest that it's worth keeping.
    """
    ahead = number - window.next_number
    if ahead < 0 or window.ended:
        return most
    # What an encoder lacks may come at once; and segments of sources that break off are shorter: half of the
    # time is always too early.
    beyond = max(ahead - 1 - due_segments(stream, window), 0)
    return min(most, int(beyond * stream.cadence.segment_duration / 2))


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

    Who follows the channel is behind where it stood still, or couldn't reach the maker. Other processes have
    listed the part meanwhile, and players may ask any.

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
