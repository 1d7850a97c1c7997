"""Makes the columns of spans whose segments are listed, of outlines that stay in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import BLOCK_SEGMENTS, OUTLINE_BYTES, Outline
from packager.past.past_window import PastWindow
from packager.single_flight_cache import CacheLimits, SingleFlightCache
from packager.window.model import LiveSegment
from packager.window.rendition import extension_of

SEGMENT_BYTES = 256
"""Memory of a listed segment whose media are elsewhere, about."""

OUTLINES_KEPT = CacheLimits(items=1 << 16, nbytes=64 << 20)
"""The outlines of listed segments that stay in memory; a day of four renditions has 350."""


class _ListedOutline(NamedTuple):
    """An outline, and the segments of which it was made."""

    outline: Outline
    segments: Sequence[LiveSegment]


class ListedOutlines:
    """Makes spans of segments that are listed; other threads may call it."""

    def __init__(self) -> None:
        self._kept = SingleFlightCache[tuple[int, int, int], _ListedOutline](
            OUTLINES_KEPT, lambda _: OUTLINE_BYTES + BLOCK_SEGMENTS * SEGMENT_BYTES
        )

    def outlined(self, past: PastWindow) -> PastWindow:
        """Return a span with its columns, where all of it is listed, and nothing still to come."""
        if not past.is_whole or not past.blocks:
            return past
        return replace(past, outlined=self.span(past))

    def span(self, past: PastWindow) -> OutlinedSpan:
        """Return the columns of a span of the playlists."""
        outlines = {
            name: [self._outline(one, extension_of(name)) for one in _by_block(own)]
            for name, own in past.blocks.items()
        }
        return OutlinedSpan(range(past.first.number, past.last.number + 1), outlines)

    def _outline(self, segments: Sequence[LiveSegment], extension: str) -> Outline:
        # The segments of an outline are kept with it, so that no others have their identities.
        key = id(segments[0]), id(segments[-1]), len(segments)
        known = self._kept.find(key)
        if known is not None and known.segments == segments:
            return known.outline
        made = Outline.of(segments, extension)
        if all(one.gap or (one.stored is not None and not one.data) for one in segments):
            self._kept.get(key, lambda: _ListedOutline(made, segments))
        return made


def _by_block(segments: Sequence[LiveSegment]) -> Iterator[Sequence[LiveSegment]]:
    """Yield the segments of each block, of which none is missing in between."""
    begin = 0
    while begin < len(segments):
        behind = begin + BLOCK_SEGMENTS - segments[begin].number % BLOCK_SEGMENTS
        yield segments[begin:behind]
        begin = behind
