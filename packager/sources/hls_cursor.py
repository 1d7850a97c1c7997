"""Which segments of a playlist that is read again and again are next (RFC 8216bis §6.3.3, §6.3.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from media.hls.reader import ListedSegment, MediaListing

BEGIN_SEGMENTS = 3
"""How many segments before the end of a live playlist one begins."""

MAX_BEHIND = 6
"""How many segments one may be behind before one begins anew."""

STALE = 3
"""By how many numbers a playlist may go back: caches give older ones. One that goes back further is new."""

SHORTEST_PAUSE = 1.0
"""Seconds from one look at a playlist that goes on to the next."""


@dataclass(frozen=True, slots=True)
class Step:
    """A segment to be fetched.

    Attributes:
        segment: which.
        breaks: whether it doesn't follow the one before: the playlist says so, or some are missed.
    """

    segment: ListedSegment
    breaks: bool


class PlaylistCursor:
    """A place in one playlist."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._broken = False

    def rewind(self) -> None:
        """Begin anew, with the newest."""
        self._next = None

    def take(self, listing: MediaListing) -> list[Step]:
        """Give the segments that are next.

        Args:
            listing: the playlist as it is now.
        """
        if not listing.segments:
            return []
        first, last = listing.segments[0].number, listing.segments[-1].number
        begin = first if listing.ended else max(first, last + 1 - BEGIN_SEGMENTS)
        following = begin if self._next is None else self._next
        behind = following < first or (not listing.ended and last + 1 - following > MAX_BEHIND)
        if behind or following > last + 1 + STALE:
            following, self._broken = begin, True
        steps = []
        for segment in listing.segments[following - first :] if following <= last else ():
            self._broken |= segment.discontinuity
            if not segment.gap:
                steps.append(Step(segment, self._broken))
            self._broken = segment.gap
        self._next = max(following, last + 1)
        return steps


def pause(listing: MediaListing, *, changed: bool) -> float:
    """Give the seconds from one request for a playlist to the next (§6.3.4).

    Args:
        listing: what came last.
        changed: whether it had something new.
    """
    if not changed or not listing.segments:
        return listing.target_duration / 2
    return min(max(float(listing.segments[-1].duration), SHORTEST_PAUSE), float(listing.target_duration))
