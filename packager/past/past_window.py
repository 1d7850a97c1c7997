"""A span of a live channel's past as a presentation of its own (RFC 8216bis §4.4.3.5, §6.2.1). Pure.

Its media are those of the live playlists: only playlists and manifests are made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import islice

from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS
from packager.window.model import LiveSegment
from packager.window.rendition import Rendition, variant_renditions


@dataclass(frozen=True)
class PastWindow:
    """The segments of each rendition within a span.

    Attributes:
        start: where playback begins, in seconds since the epoch.
        segments: by rendition, of the same numbers; the first one holds the start.
        oldest: date of the oldest segment that the channel has.
        is_whole: whether nothing of the span is still to come.
        outlined: the segments as columns, where these were read in their place.
        blocks: all listed segments of the blocks of the span's segments, by rendition.
    """

    start: Fraction
    segments: Mapping[str, Sequence[LiveSegment]]
    oldest: Fraction
    is_whole: bool
    outlined: OutlinedSpan | None = None
    blocks: Mapping[str, Sequence[LiveSegment]] = field(default_factory=dict)

    @cached_property
    def columns(self) -> OutlinedSpan:
        """The segments as columns."""
        return self.outlined or OutlinedSpan.of(self.segments)

    @property
    def is_cut(self) -> bool:
        """Whether the channel no longer has the beginning."""
        return self.start < self.oldest

    @property
    def first(self) -> LiveSegment:
        """The first segment of a rendition: those of the same number have the same date."""
        return next(iter(self.segments.values()))[0] if self.outlined is None else self.outlined.first

    @property
    def last(self) -> LiveSegment:
        """The last one."""
        return next(iter(self.segments.values()))[-1] if self.outlined is None else self.outlined.last

    @property
    def behind(self) -> Fraction:
        """Date of the end of the last segment, in seconds since the epoch."""
        return self.last.program_date_time + self.last.duration


def past_window(
    renditions: Mapping[str, Rendition], start: Fraction, end: Fraction | None
) -> PastWindow | None:
    """Find the segments of a span.

    Args:
        renditions: by name, each with a segment.
        start: in seconds since the epoch.
        end: likewise; None: it goes on as long as the channel does.

    Returns:
        None if the channel has none of it.
    """
    leading = variant_renditions(list(renditions.values()))[0].window
    listed = leading.finished.dated(start, end)
    if not listed:
        return None
    first = max(bisect_right(listed, start, key=_date) - 1, 0)
    behind = len(listed) if end is None else bisect_right(listed, end, key=_date)
    # A segment that begins where the span ends has none of it.
    if behind and end is not None and listed[behind - 1].program_date_time == end:
        behind -= 1
    if behind <= first or listed[behind - 1].program_date_time + listed[behind - 1].duration <= start:
        return None
    newest, edge = leading.listed[-1], listed[-1].program_date_time + listed[-1].duration
    # Nothing comes behind segments of before the clock was set back. A span that grows has all that came.
    has_passed = end is not None and (newest.program_date_time + newest.duration >= end or edge >= end)
    last = listed[behind - 1] if leading.ended or has_passed else newest
    numbers = range(listed[first].number, last.number + 1)
    for rendition in renditions.values():
        own = rendition.window.listed
        if not own:
            return None
        numbers = range(max(numbers.start, own[0].number), min(numbers.stop, own[-1].number + 1))
    if not numbers:
        return None
    # The last segment of another rendition may come a moment later.
    is_over = leading.ended or (has_passed and numbers[-1] == last.number)
    oldest = listed[0].program_date_time
    if is_over and listed[behind - 1].number - listed[first].number >= behind - first:
        return _with_holes(renditions, [one.number for one in islice(listed, first, behind)], start, oldest)
    blocks = {name: _blocks_of(rendition, numbers) for name, rendition in renditions.items()}
    begins = {name: numbers.start - own[0].number for name, own in blocks.items()}
    segments = {name: own[begins[name] : begins[name] + len(numbers)] for name, own in blocks.items()}
    if not has_media(segments):
        return None
    return PastWindow(start, segments, oldest, is_over, blocks=blocks)


def _with_holes(
    renditions: Mapping[str, Rendition], numbers: Sequence[int], start: Fraction, oldest: Fraction
) -> PastWindow | None:
    """Make a span that is over, among whose numbers are others that its dates don't find."""
    rows = {
        name: [found for one in numbers if (found := rendition.window.at(one)) is not None]
        for name, rendition in renditions.items()
    }
    if any(len(own) < len(numbers) for own in rows.values()) or not has_media(rows):
        return None
    return PastWindow(start, rows, oldest, is_whole=True)


def has_media(segments: Mapping[str, Sequence[LiveSegment]]) -> bool:
    """Return whether any rendition has more than gaps; one that was added since has nothing else."""
    return any(not one.gap for own in segments.values() for one in own)


def _date(segment: LiveSegment) -> Fraction:
    return segment.program_date_time


def _blocks_of(rendition: Rendition, numbers: range) -> list[LiveSegment]:
    """Return the listed segments of all blocks that have some of these numbers."""
    listed = rendition.window.listed
    first = listed[0].number
    begin = max(numbers.start - numbers.start % BLOCK_SEGMENTS - first, 0)
    behind = numbers.stop + -numbers.stop % BLOCK_SEGMENTS - first
    return list(islice(listed, begin, behind))
