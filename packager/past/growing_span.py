"""The media playlists of spans that grow (RFC 8216bis §6.2.1), of type EVENT: what lasts is made once.

Segments that a delta update skips don't change any more, whether they are in the live playlist still or not.
Their lines are compressed in pieces, and those of the segments that follow are added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from fractions import Fraction
from operator import attrgetter

import numpy as np
from msgspec.structs import replace

from media.hls.media_playlist import Map, MediaPlaylist, Older
from media.hls.precompressed_text import FilledText, PackedText, TextTemplate
from packager.bounded_dict import SizedDict
from packager.past.outlined_span import OutlinedSpan
from packager.past.outlines import NO_TIMELINE, PIECE_SEGMENTS, THERE
from packager.past.past_window import PastWindow
from packager.past.span_playlists import SpanLines
from packager.past.stored_ranges import StoredRanges
from packager.publish.date_ranges import DateRanges
from packager.publish.hls_line_cache import Suffix, playlist_segment
from packager.window.model import TEXT_EXTENSION, LiveSegment
from packager.window.rendition import Rendition, extension_of, init_name
from packager.window.window import Window

MOST_SPANS = 128
"""Most playlists of a channel whose lines are kept: of 32 spans with four renditions."""

MOST_BYTES = 32 << 20
"""Most bytes of these lines; a day of a rendition has less than one MiB."""

MOST_FOLLOWED = 512
"""Most segments whose lines are added while others wait: some milliseconds' worth."""

LONGEST_PIECE = 64 << 10
"""Bytes of lines that are compressed together."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The end of a live playlist, as of now.

    Attributes:
        playlist: a delta update of the live playlist.
        number: the first media sequence number that this has.
    """

    playlist: MediaPlaylist
    number: int


class SpanRanges:
    """The date ranges of a span that grows.

    Args:
        stored: ranges that may have left the live playlist.
        version: version of the live playlist's ranges when these were read.
    """

    def __init__(self, stored: StoredRanges, version: int) -> None:
        self._stored = stored
        self.version = version
        self._known: tuple[int, Fraction, Fraction | None] | None = None
        self._lines: Sequence[str] = ()

    def lines(self, begin: Fraction, end: Fraction, listed: DateRanges) -> Sequence[str]:
        """Return the EXT-X-DATERANGE tags of a span, whose end only rises.

        Args:
            begin: seconds since the epoch.
            end: seconds since the epoch.
            listed: the ranges of the live playlist.
        """
        if self._known is not None:
            version, since, until = self._known
            if version == listed.version and since <= end and (until is None or end <= until):
                return self._lines
        self._lines = self._stored.lines_within(begin, end, listed.lines_within(begin, end))
        starts = [*self._stored.starts, *(tag.start_date for tag in listed.tags())]
        later = min((one for one in starts if one >= end), default=None)
        self._known = listed.version, end, later
        return self._lines


class GrowingSpan:
    """A rendition's playlist of a span that grows, with the lines of all segments that don't change any more.

    It is made in a thread, perhaps; once requests use it, it belongs to the event loop.

    Args:
        first: the first segment of the span, of any rendition.
        past: the segments that the windows don't have any more, as columns; each number is there.

    Attributes:
        first: the first segment of the span.
        has_media: whether any rendition has more than gaps in what the windows didn't have any more.
        next_number: the number behind the segments whose lines are made.
        nbytes: memory of the lines, about.
        ranges: the date ranges of the span.
    """

    def __init__(self, rendition: str, first: LiveSegment, past: OutlinedSpan | None = None) -> None:
        self.first = first
        self.has_media = past is not None and any(map(past.has_media, past.tracks))
        self.next_number = first.number
        self.nbytes = 0
        self.ranges = SpanRanges(StoredRanges(), -1)
        self._extension = extension_of(rendition)
        self._pieces: list[PackedText] = []
        self._templates: list[TextTemplate] = []
        # Lines behind the pieces, some segments' each.
        self._tail: list[str] = []
        self._map: Map | None = None
        if past is not None:
            self._begin(past, rendition)

    def _begin(self, past: OutlinedSpan, rendition: str) -> None:
        own, breaks = past.tracks[rendition], past.breaks_of(rendition)
        breaks[:1] = False
        made = list(SpanLines(past, own).pieces(np.arange(len(past.numbers)), breaks))
        if made and isinstance(made[-1], bytes) and len(made[-1]) < LONGEST_PIECE:
            text = made.pop()
            if isinstance(text, bytes) and text:
                self._tail.append(text.decode().removesuffix("\n"))
        for one in made:
            self._put(_packed(one) if isinstance(one, bytes) else (one,))
        self.next_number = past.numbers.stop
        timelines = own.column("timeline")[own.has(THERE)]
        coded = timelines[timelines != NO_TIMELINE]
        if len(coded) and self._extension != TEXT_EXTENSION:
            self._map = Map(init_name(int(coded[-1])))

    def _put(self, pieces: Iterable[PackedText]) -> None:
        for one in pieces:
            self._pieces.append(one)
            self.nbytes += len(one.deflated.data)

    def extend(self, segments: Iterable[LiveSegment]) -> None:
        """Add the lines of the rendition's next segments, none of which changes any more."""
        for segment in segments:
            # RFC 8216bis §4.4.4.3: it would be one to what was before the playlist.
            is_first = segment.number == self.first.number
            own = replace(segment, discontinuity=False) if is_first else segment
            said = playlist_segment(own, self._extension, "")
            self._tail.append("\n".join(said.lines(self._map)))
            self._map = said.map or self._map
            self.next_number = segment.number + 1
            if self.next_number % PIECE_SEGMENTS == 0:
                self._put(_packed("".join(f"{line}\n" for line in self._tail).encode()))
                self._tail = []

    @property
    def lasting(self) -> tuple[PackedText, ...]:
        """The lines that all of the span's playlists have in common, but for the last ones."""
        return tuple(self._pieces)

    def follow(self, window: Window, number: int) -> None:
        """Add the lines of the segments of the rendition's window up to a number.

        Args:
            number: the first number that a delta update doesn't skip.
        """
        self.extend(settled_segments(window, self.next_number, number))

    def may_follow(self, window: Window) -> bool:
        """Return whether the window has all segments behind those whose lines are made."""
        return window.finished.oldest_number <= self.next_number

    def past(self, start: Fraction, end: Fraction | None, renditions: Iterable[Rendition]) -> PastWindow:
        """Return the first and the last segment of the span, of which more is to come.

        Args:
            start: of the span, in seconds since the epoch.
            end: of the span, in seconds since the epoch; None: it has none.
            renditions: all renditions of the channel.
        """
        windows = {one.name: one.window for one in renditions}
        name, leading = next(iter(windows.items()))
        number = max(min(one.next_number for one in windows.values()) - 1, self.first.number)
        last = leading.at(number)
        while last is not None and number > self.first.number and end is not None:
            if last.program_date_time < end:
                break
            number -= 1
            last = leading.at(number)
        segments = {name: (self.first, last or self.first)}
        return PastWindow(start, segments, self.first.program_date_time, is_whole=False)

    def playlist(
        self, past: PastWindow, end: Fraction | None, window: Window, edge: Edge, *, skip: bool, suffix: str
    ) -> MediaPlaylist:
        """Make the playlist as of now, with the parts of the live playlist, but without date ranges.

        Args:
            past: the span, as ``past`` returns it.
            end: of the span, in seconds since the epoch; None: it has none.
            window: the window of the rendition.
            skip: whether a delta update will do (§6.2.5.1).
            suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
        """
        self.follow(window, edge.number)
        live, number = edge.playlist, self.first.number
        skipped = max(edge.number - number, 0) if skip else 0
        newer = [*live.segments[max(number - edge.number, 0) :]]
        if not skipped:
            waiting = (window.at(one) for one in range(self.next_number, edge.number))
            newer[:0] = [playlist_segment(one, self._extension, suffix) for one in waiting if one is not None]
            if newer and self.next_number == number:
                newer[0] = replaced(newer[0], discontinuity=False)
        recent = [one for one in newer if end is None or (one.program_date_time or 0) < end]
        is_open = len(recent) == len(newer)
        return MediaPlaylist(
            target_duration=live.target_duration,
            segments=recent,
            older=Older() if skipped else self._older(suffix),
            media_sequence_number=number,
            playlist_type="EVENT",
            # Players would begin it near its end (§4.4.2.2).
            start=max(past.start - self.first.program_date_time, Fraction(0)),
            part_target=live.part_target,
            # Date ranges are those of the span, and all of them are there.
            server_control=live.server_control and replaced(live.server_control, can_skip_dateranges=False),
            skipped_segments=skipped,
            preload_hint=live.preload_hint if is_open else None,
            map_hint=live.map_hint if is_open else None,
            rendition_reports=live.rendition_reports,
        )

    def _older(self, suffix: str) -> Older:
        if not suffix:
            return Older((), self.lasting, tuple(self._tail), self._map)
        for one in self._pieces[len(self._templates) :]:
            self._templates.append(TextTemplate(one))
        carried = Suffix(self._extension, suffix)
        return Older(
            (),
            [FilledText(one, carried.replacements) for one in self._templates],
            [carried.behind(f"{lines}\n".encode()).decode()[:-1] for lines in self._tail],
            self._map and Map(self._map.uri + suffix),
        )


class GrowingSpans:
    """The playlists of a channel's spans that were asked for lately, by their starts and renditions."""

    def __init__(self) -> None:
        self._kept = SizedDict[tuple[Fraction, str], GrowingSpan](
            MOST_SPANS, MOST_BYTES, attrgetter("nbytes")
        )

    def find(self, start: Fraction, rendition: str) -> GrowingSpan | None:
        """Return a playlist.

        Args:
            start: seconds since the epoch.
        """
        found = self._kept.get((start, rendition))
        if found is not None:
            self._kept[start, rendition] = found  # measured again, since it grows
        return found

    def add(self, start: Fraction, rendition: str, made: GrowingSpan) -> None:
        """Keep a playlist; those that weren't asked for for longest give way.

        Args:
            start: seconds since the epoch.
        """
        self._kept[start, rendition] = made

    def forget(self, start: Fraction, rendition: str) -> None:
        """Drop a playlist that can't go on.

        Args:
            start: seconds since the epoch.
        """
        self._kept.pop((start, rendition), None)

    @property
    def nbytes(self) -> int:
        """Memory of all lines, about."""
        return self._kept.nbytes


def settled_segments(window: Window, number: int, behind: int) -> Iterator[LiveSegment]:
    """Yield the segments of a range of numbers, up to the first that may still become a gap."""
    for one in range(number, behind):
        segment = window.at(one)
        if segment is None or not window.finished.is_settled(segment):
            return
        yield segment


def _packed(text: bytes) -> Iterator[PackedText]:
    """Compress lines in pieces, each of whole lines."""
    begin = 0
    while begin < len(text):
        end = begin + LONGEST_PIECE
        end = len(text) if end >= len(text) else text.rfind(b"\n", begin, end) + 1 or end
        yield PackedText.of(text[begin:end])
        begin = end
