"""The playlists of a span of a channel's past that is over (RFC 8216bis), of type VOD. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from media.hls.media_playlist import Map, MediaPlaylist, Older
from media.hls.precompressed_text import PackedText, Text, rendered
from packager.past.outlined_span import Column, Mask, OutlinedSpan, OutlinedTrack, behind_breaks
from packager.past.outlines import MEDIA, NO_TIMELINE, PIECE_SEGMENTS, THERE, Positions, segment_lines
from packager.publish.hls_line_cache import Suffix
from packager.publish.hls_multivariant import SpanTotals
from packager.window.model import TEXT_EXTENSION
from packager.window.rendition import init_name
from packager.window.segment_totals import SegmentTotals


def span_playlist(
    span: OutlinedSpan,
    rendition: str,
    start: Fraction,
    target_duration: int,
    date_ranges: Sequence[str],
    suffix: str,
) -> MediaPlaylist:
    """Make the media playlist of a rendition.

    Gaps that all renditions share are left out, and what is behind them begins with a discontinuity.

    Args:
        start: where playback begins, in seconds since the epoch.
        date_ranges: EXT-X-DATERANGE tags.
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
    """
    positions, breaks = behind_breaks(span.media, span.breaks | (span.there & ~span.media))
    own = span.tracks[rendition]
    pieces: Sequence[Text] = list(SpanLines(span, own).pieces(positions, breaks))
    if suffix:
        pieces = [Suffix(own.extension, suffix).behind(b"".join(rendered(pieces)))]
    first = int(positions[0])
    offset = start - Fraction(*span.having(first, own).ratio("date", first))
    return MediaPlaylist(
        target_duration=target_duration,
        segments=(),
        older=Older(lasting=pieces),
        media_sequence_number=span.numbers[first],
        playlist_type="VOD",
        date_ranges=date_ranges,
        ended=True,
        start=offset if offset > 0 else None,
    )


class SpanLines:
    """The lines of a rendition's segments, most of them in pieces that all playlists share."""

    def __init__(self, span: OutlinedSpan, own: OutlinedTrack) -> None:
        self._span = span
        self._own = own
        self._latest: tuple[PackedText | None, bytes] = (None, b"")

    def pieces(self, positions: Positions, breaks: Mask) -> Iterator[bytes | PackedText]:
        """Yield the lines of some numbers, of which some are behind a discontinuity."""
        is_there = self._own.has(THERE)[positions]
        maps = self._maps(np.where(is_there, self._own.column("timeline")[positions], NO_TIMELINE), breaks)
        # Whatever isn't the next number of the same kind begins a stretch.
        begins = breaks | (maps != NO_TIMELINE)
        begins[1:] |= (np.diff(positions) != 1) | (np.diff(is_there.view(np.int8)) != 0)
        begins[:1] = True
        edges = [*np.flatnonzero(begins).tolist(), len(positions)]
        waiting: list[bytes] = []
        for begin, behind in pairwise(edges):
            if breaks[begin]:
                waiting.append(b"#EXT-X-DISCONTINUITY\n")
            if maps[begin] != NO_TIMELINE:
                waiting.append(f"{Map(init_name(int(maps[begin])))}\n".encode())
            at = int(positions[begin])
            lines = self._known if is_there[begin] else self._lacking
            for piece in lines(at, at + behind - begin):
                if isinstance(piece, bytes):
                    waiting.append(piece)
                    continue
                if waiting:
                    yield b"".join(waiting)
                    waiting = []
                yield piece
        yield b"".join(waiting)

    def _maps(self, timelines: Column, breaks: Mask) -> Column:
        """Return the numbers of the init segments that are said, each before its segment."""
        if self._own.extension == TEXT_EXTENSION:
            return np.full_like(timelines, NO_TIMELINE)
        coded = np.flatnonzero(timelines != NO_TIMELINE)
        is_said = breaks.copy()
        # RFC 8216bis §4.4.4.5: it holds until another one is said, beyond gaps of which none is known.
        is_said[coded] |= np.diff(timelines[coded], prepend=NO_TIMELINE) != 0
        return np.where(is_said, timelines, NO_TIMELINE)

    def _known(self, begin: int, behind: int) -> Iterator[bytes | PackedText]:
        """Yield the lines of numbers that the rendition has."""
        while begin < behind:
            outline, at = self._own.outline(begin)
            end = min(at + behind - begin, at - at % PIECE_SEGMENTS + PIECE_SEGMENTS)
            piece = outline.piece(at // PIECE_SEGMENTS)
            is_whole = end - at == PIECE_SEGMENTS
            yield piece if is_whole else outline.cut(self._rendered(piece), at, end)
            begin += end - at

    def _rendered(self, piece: PackedText) -> bytes:
        """Return the text of a piece; a stretch may end in one, and the next one begin there."""
        if self._latest[0] is not piece:
            self._latest = piece, piece.render()
        return self._latest[1]

    def _lacking(self, begin: int, behind: int) -> Iterator[bytes]:
        """Yield the lines of gaps for numbers that other renditions have."""
        for position in range(begin, behind):
            other = self._span.having(position)
            date, duration = other.ratio("date", position), other.ratio("duration", position)
            yield segment_lines(self._span.numbers[position], date, duration, self._own.extension, gap=True)


def span_totals(span: OutlinedSpan, target_duration: int) -> Mapping[str, SpanTotals]:
    """Add up what a multivariant playlist says of each rendition."""
    return {name: _totals(own, target_duration) for name, own in span.tracks.items()}


def _totals(own: OutlinedTrack, target_duration: int) -> SpanTotals:
    totals = SegmentTotals(target_duration)
    for one in own.sums(np.flatnonzero(own.has(THERE | MEDIA))):
        totals.add_alike(*one)
    return SpanTotals(totals, own.newest_timeline)
