"""Makes the media playlists of a live channel (RFC 8216bis); :mod:`media.hls` writes their syntax.

A playlist is rendered once per state: all who wait for a part get the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import structlog

from media.hls.attribute_values import adding_up
from media.hls.date_range import DateRange
from media.hls.media_playlist import MediaPlaylist, Older, Part, RenditionReport, Segment, ServerControl
from media.hls.precompressed_text import Pieces, SharedText, Unrendered, rendered
from packager.publish.dash import LiveManifest
from packager.publish.dash_spans import DelayedManifest, SpanManifest, SpanManifests
from packager.publish.date_ranges import DateRanges
from packager.publish.hls_line_cache import History, playlist_segment
from packager.publish.hls_multivariant import live_totals, multivariant_playlist
from packager.publish.start_point import start_offset
from packager.window.cadence import Cadence
from packager.window.limits import BLOCK_PERIODS, DEFAULT_LIMITS, PublishLimits
from packager.window.model import LivePart, LiveSegment
from packager.window.rendition import Rendition, init_uri, part_uri, variant_renditions
from packager.window.snapshot import DateRangesEntry, PeriodsEntry
from packager.window.window import Window

PART_HOLD_BACK = 3
"""§4.4.3.8: PART-HOLD-BACK is at least two part targets, better three."""

HOLD_BACK = 3
"""§4.4.3.8: HOLD-BACK is at least three target durations."""

SKIP_BOUNDARY = 6
"""§4.4.3.8: CAN-SKIP-UNTIL is at least six target durations."""

PARTS_KEPT = 3
"""§6.2.2: part tags go once they are more than three target durations behind the end."""

FILLED_BYTES = 128
"""Memory that a piece takes whose bytes are made when they are sent."""

_Key = tuple[str, bool, bool, str]

log = structlog.get_logger()

MAX_PLAYLISTS = 64
"""Most rendered playlists that are kept; different query parameters make different ones."""

MAX_PLAYLIST_BYTES = 32 << 20
"""Most bytes of playlists that were made for their query parameters alone."""


class RenderingError(Exception):
    """A playlist or a manifest can't be made in this state; the log says why."""


def media_playlist(
    window: Window,
    cadence: Cadence,
    reports: Sequence[RenditionReport] = (),
    *,
    skip: bool = False,
    suffix: str = "",
    date_ranges: DateRanges | None = None,
    ranges_since: float | None = None,
    history: History | None = None,
) -> MediaPlaylist:
    """Write a rendition's media playlist.

    Args:
        reports: the last segments and parts of the other renditions.
        skip: whether a delta update will do (§6.2.5.1).
        suffix: put behind every URI: ``?`` and query parameters, percent-encoded.
        ranges_since: a delta update leaves out date ranges that were added before; None: it leaves out none.
        history: cached lines of this rendition with this suffix, for playlists of hours.

    Returns:
        The playlist.
    """
    target_duration = cadence.target_duration
    skip_until = Fraction(SKIP_BOUNDARY * target_duration)
    recent = _recent_segments(window, skip_until)
    older = _count_older(window, skip_until)
    # §6.2.5.1: with EXT-X-ENDLIST the directive is ignored.
    skipped = older if skip and not window.ended else 0
    lines = Older() if skipped else (history or History()).older(window, older, suffix)
    # While nothing is published nothing is hinted at: Shaka can't open a list of gaps and a hint.
    is_fed = not window.ended and not (window.open is None and window.listed and window.listed[-1].gap)
    tags, removed = _date_ranges(date_ranges or DateRanges(), ranges_since if skipped else None)
    # The hinted part counts: players have it before they ask for the list again.
    hinted = Fraction(0) if window.ended else cadence.part_target
    return MediaPlaylist(
        target_duration=target_duration,
        segments=[_segment(segment, end + hinted, window, cadence, suffix) for segment, end in recent],
        older=lines,
        media_sequence_number=window.listed[0].number if window.listed else window.next_number,
        discontinuity_sequence=window.discontinuity_sequence,
        start=start_offset(window, Fraction(HOLD_BACK * target_duration)),
        part_target=cadence.part_target,
        server_control=_server_control(cadence, skip_until),
        skipped_segments=skipped,
        date_ranges=tags,
        removed_date_ranges=removed,
        preload_hint=part_uri(*window.next_part, window.extension) + suffix if is_fed else None,
        map_hint=_map_hint(window, suffix),
        rendition_reports=reports,
        ended=window.ended,
    )


def _server_control(cadence: Cadence, skip_until: Fraction) -> ServerControl:
    return ServerControl(
        can_block_reload=True,
        hold_back=Fraction(HOLD_BACK * cadence.target_duration),
        part_hold_back=PART_HOLD_BACK * cadence.part_target,
        can_skip_until=skip_until,
        can_skip_dateranges=True,
    )


def _date_ranges(ranges: DateRanges, since: float | None) -> tuple[list[str], Sequence[str] | None]:
    """Return the tags; where those before a moment are skipped, also the IDs of those that went."""
    if since is None:
        return ranges.lines(), None
    return ranges.lines(since), ranges.removed


def _map_hint(window: Window, suffix: str) -> str | None:
    """Name the init segment that the next part needs, where it isn't the one before's (Appendix B.1)."""
    if window.ended or window.open is not None or not window.listed:
        return None
    same = window.timeline == window.listed[-1].timeline
    name = None if same else init_uri(window.timeline)
    return None if name is None else name + suffix


def _recent_segments(window: Window, boundary: Fraction) -> list[tuple[LiveSegment, Fraction]]:
    """Return the segments that no delta update skips, with the seconds from their beginning to the end."""
    found = [] if window.open is None else [(window.open, window.open.duration)]
    distance = Fraction(0) if window.open is None else window.open.duration
    for segment in itertools.islice(reversed(window.listed), _count_recent(window, boundary)):
        distance += segment.duration
        found.append((segment, distance))
    found.reverse()
    return found


def _count_recent(window: Window, boundary: Fraction) -> int:
    """Return the number of finished segments that no delta update skips."""
    # In integers, as every segment asks for it: seconds by a scale.
    most, per_second = boundary.as_integer_ratio()
    count, whole, scale = 0, 0, 1
    for segment in reversed(window.listed):
        # §4.4.5.2: the boundary counts from the end of the last whole segment.
        if whole * per_second > most * scale:
            break
        length, parts = segment.duration.as_integer_ratio()
        if scale % parts:
            common = math.lcm(scale, parts)
            whole, scale = whole * (common // scale), common
        whole += length * (scale // parts)
        count += 1
    return count


def _count_older(window: Window, boundary: Fraction) -> int:
    """Return the number of segments that are listed before the recent ones."""
    listed = window.next_number - window.listed[0].number if window.listed else 0
    return listed - _count_recent(window, boundary)


def _segment(
    segment: LiveSegment, distance: Fraction, window: Window, cadence: Cadence, suffix: str
) -> Segment:
    finished = segment is not window.open
    # With the first part's tag the others' go too: a list that began in mid-segment would misname them.
    # §6.2.1: parts go that aren't at the live edge, which what has ended hasn't. hls.js would wait for the
    # last one's middle to be buffered in all renditions; but sound and picture don't end together.
    at_edge = not window.ended and distance <= PARTS_KEPT * cadence.target_duration
    with_parts = segment.parts and (not finished or at_edge)
    if with_parts and cadence.longest is not None:
        # §4.4.3.7: no part exceeds the target. A slow source's picture does, and is listed with its segment.
        with_parts = not _has_longer(segment.parts, cadence.part_target)
    parts = _parts(segment, window.extension, suffix) if with_parts else ()
    return playlist_segment(segment, window.extension, suffix, parts, finished=finished)


def _has_longer(parts: Sequence[LivePart], target: Fraction) -> bool:
    """Return whether a part is longer than the target."""
    known: Fraction | None = None
    for part in parts:
        # Most durations are the same object as the one before, and fractions are slow to compare.
        if part.duration is not known:
            known = part.duration
            if known > target:
                return True
    return False


def _parts(segment: LiveSegment, extension: str, suffix: str) -> Sequence[Part]:
    # hls.js takes a segment for loaded when its parts reach its end, to the microsecond.
    durations = adding_up(part.duration for part in segment.parts)
    return [
        Part(part_uri(segment.number, index, extension) + suffix, duration, part.independent)
        for index, (part, duration) in enumerate(zip(segment.parts, durations, strict=True))
    ]


class Presentation:
    """A channel's playlists, rendered once per state.

    Args:
        renditions: by name.
        limits: how many rendered playlists are kept.
        clock: returns monotonic seconds.

    Attributes:
        date_ranges: the EXT-X-DATERANGE tags of publishers.
        clock: the clock by which date ranges are removed.
        spans: the DASH manifests of spans that grow.
    """

    def __init__(
        self,
        renditions: Mapping[str, Rendition],
        cadence: Cadence,
        limits: PublishLimits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._renditions = renditions
        self._cadence = cadence
        self.clock = clock
        # An error stands for what can't be rendered in this state: that is tried once, however many wait.
        self._rendered: dict[_Key, Pieces | RenderingError] = {}
        self._rendered_bytes = 0
        self._state: list[int] = []
        self.date_ranges = DateRanges(limits)
        self._histories = {name: History(limits.block_segments) for name in renditions}
        self._manifest = LiveManifest(renditions, cadence, BLOCK_PERIODS, self.date_ranges)
        self.spans = SpanManifests([one.window for one in renditions.values() if one.language is None])
        for name, rendition in renditions.items():
            rendition.window.on_listed = _weak_callback(weakref.WeakMethod(self._keep_up), name)

    def add_date_range(self, tag: DateRange) -> None:
        """Add a publisher's date range; see ``DateRanges.add``."""
        self.date_ranges.add(tag, self.clock())

    def state(self) -> Iterator[DateRangesEntry | PeriodsEntry]:
        """Return a snapshot of what playlists and manifests say beyond the windows, for another process."""
        return itertools.chain((self.date_ranges.state(self.clock()),), self._manifest.state())

    def begin_from(self, entry: DateRangesEntry | PeriodsEntry) -> None:
        """Continue from another process's date ranges or periods."""
        if isinstance(entry, DateRangesEntry):
            self.date_ranges.begin_from(entry, self.clock())
        else:
            self._manifest.begin_from(entry)

    def take_over(self, newer: Presentation) -> None:
        """Take the date ranges, cached lines and periods of another presentation, which is given up.

        Args:
            newer: of the same renditions; theirs take over its windows.
        """
        newer.date_ranges.version += self.date_ranges.version
        self.date_ranges = self._manifest.date_ranges = newer.date_ranges
        self._histories = newer._histories
        self._manifest.take_over(newer._manifest)

    @property
    def live_edge(self) -> Fraction | None:
        """Date of the end of the newest that any variant has, in seconds since the epoch.

        None before there is any, and when nothing comes any more.
        """
        windows = [rendition.window for rendition in variant_renditions(self._renditions.values())]
        if any(window.ended for window in windows):
            return None
        newest = [segment for window in windows if (segment := window.newest) is not None]
        return max((segment.program_date_time + segment.duration for segment in newest), default=None)

    def media(self, name: str, *, skip: bool = False, suffix: str = "") -> bytes:
        """Return the bytes of a rendition's media playlist as of now; the rest as for `media_pieces`."""
        return b"".join(rendered(self.media_pieces(name, skip=skip, suffix=suffix)))

    def media_pieces(
        self, name: str, *, skip: bool = False, skip_date_ranges: bool = False, suffix: str = ""
    ) -> Pieces:
        """Return the bytes of a rendition's media playlist as of now, in pieces.

        Args:
            skip: as for :func:`media_playlist`.
            skip_date_ranges: whether that may leave out the date ranges that players have.
            suffix: as for :func:`media_playlist`.

        Returns:
            Pieces, to be joined; the same object until something changes. Long ones are the same objects for
            minutes.

        Raises:
            RenderingError: it can't be rendered.
        """

        def render() -> Pieces:
            now, boundary = self.clock(), SKIP_BOUNDARY * self._cadence.target_duration
            self._evict_date_ranges(now, boundary)
            return media_playlist(
                self._renditions[name].window,
                self._cadence,
                self._reports(name, suffix),
                skip=skip,
                suffix=suffix,
                date_ranges=self.date_ranges,
                # §6.2.5.1: skipped is what came more than CAN-SKIP-UNTIL before the request.
                ranges_since=now - boundary if skip_date_ranges else None,
                history=self._histories[name],
            ).pieces()

        return self._render_once((name, skip, skip_date_ranges, suffix), render)

    def edge(self, name: str, suffix: str, query: str) -> MediaPlaylist:
        """Return the end of a rendition's media playlist as of now: what a delta update doesn't skip.

        Args:
            suffix: put behind the addresses of media.
            query: put behind the addresses of the other renditions' playlists.
        """
        window, reports = self._renditions[name].window, self._reports(name, query)
        return media_playlist(window, self._cadence, reports, skip=True, suffix=suffix)

    def skip_boundary(self, name: str) -> int:
        """Return the number of the first segment of a rendition that no delta update skips."""
        window = self._renditions[name].window
        return window.next_number - _count_recent(
            window, Fraction(SKIP_BOUNDARY * self._cadence.target_duration)
        )

    def span_pieces(self, name: str, query: str, render: Callable[[], Pieces], *, skip: bool) -> Pieces:
        """Return the text of a span of a rendition as of now, in pieces, as for `media_pieces`.

        Args:
            query: the query of the span's addresses, by which its texts are kept.
            render: called once per state.
            skip: whether it is a delta update.

        Raises:
            RenderingError: it can't be rendered.
        """
        return self._render_once((name, skip, False, f"span{query}"), render)

    def _reports(self, name: str, suffix: str) -> list[RenditionReport]:
        return [
            RenditionReport(f"../{other.name}/media.m3u8{suffix}", *reported)
            for other in self._renditions.values()
            if other.name != name and (reported := other.window.last_reported) is not None
        ]

    def multivariant(self, suffix: str = "") -> bytes:
        """Return the bytes of the multivariant playlist as of now; every rendition must have a timeline.

        Raises:
            RenderingError: it can't be rendered.
        """

        def render() -> Pieces:
            renditions = list(self._renditions.values())
            rate, totals = self._cadence.frame_rate, live_totals(renditions)
            playlist = multivariant_playlist(renditions, rate, totals, suffix=suffix)
            return (playlist.render().encode(),)

        return b"".join(rendered(self._render_once(("", False, False, suffix), render)))

    def manifest(self, now: float, suffix: str = "") -> bytes:
        """Return the bytes of the DASH manifest as of now; the rest as for `manifest_pieces`."""
        return b"".join(rendered(self.manifest_pieces(now, suffix)))

    def manifest_in_steps(self, now: float) -> Iterator[None]:
        """Write lasting parts of the DASH manifest ahead, in steps; `manifest_pieces` does the rest."""
        # An error is raised there.
        with contextlib.suppress(Exception):
            yield from self._manifest.written_in_steps(now)

    def manifest_pieces(self, now: float, suffix: str = "") -> Pieces:
        """Return the DASH manifest at a time in seconds since the epoch, in pieces; as for multivariant.

        Raises:
            RenderingError: it can't be rendered.
        """
        # In one state of the windows it may have to be rendered more than once: it is settled some time.
        key = ("", True, True, suffix)
        if isinstance(failed := self._cached(key), RenderingError):
            raise RenderingError(*failed.args)
        try:
            return self._manifest.pieces(suffix, now)
        except Exception as error:
            raise self._failed(key, error) from error

    def delayed_manifest(self, now: float, delay: Fraction, suffix: str) -> Pieces | None:
        """Return the DASH manifest for those who watch so many seconds later; see :class:`LiveManifest`."""
        return self._manifest.delayed(suffix, now, delay)

    def span(
        self, segments: Mapping[str, Sequence[LiveSegment]], date_ranges: Sequence[DateRange]
    ) -> SpanManifest:
        """Make the DASH manifest of a span that grows, to be added to ``spans``; it may be made in a thread.

        Args:
            segments: segments of the span that are here, by rendition.
            date_ranges: the ranges of the span that may have left the live playlist.
        """
        return SpanManifest(self._manifest, self._cadence, self._coded(segments), date_ranges)

    def delayed(
        self, segments: Mapping[str, Sequence[LiveSegment]], date_ranges: Sequence[DateRange]
    ) -> DelayedManifest:
        """Make the DASH manifest of the channel as it was a while ago; it may be made in a thread.

        Args:
            segments: segments of that time, by rendition.
        """
        return DelayedManifest(self._manifest, self._cadence, self._coded(segments), date_ranges)

    def _coded(self, segments: Mapping[str, Sequence[LiveSegment]]) -> Mapping[str, Sequence[LiveSegment]]:
        """Return the segments of pictures and sound."""
        return {name: own for name, own in segments.items() if self._renditions[name].language is None}

    def span_manifest(
        self, start: Fraction, now: float, last: int | None, suffix: str, location: str
    ) -> Pieces | None:
        """Return the DASH manifest of a span that grows, or has just ended, in pieces.

        Args:
            start: the span's, in seconds since the epoch, by which ``spans`` has it.
            now: as for `manifest_pieces`; the rest as for `SpanManifest.pieces`.

        Returns:
            None where ``spans`` doesn't have it.

        Raises:
            RenderingError: it can't be rendered.
        """
        found = self.spans.find(start)
        if found is None:
            return None
        key = "", True, False, f"span {start} {last} {location}{suffix}"
        return self._render_once(key, lambda: found.pieces(suffix, now, last, location))

    def lost_segment(self, name: str, number: int, now: float) -> bytes | None:
        """Return DASH's replacement for a segment that never came, or None; see :class:`LiveManifest`."""
        return self._manifest.lost_segment(self._renditions[name], number, now)

    def media_time(self, number: int) -> Fraction | None:
        """Return the media time of a segment's beginning in seconds, as the DASH manifest has it."""
        return self._manifest.media_time(number)

    def make_lines(self, name: str) -> None:
        """Write the lasting lines of a rendition's playlist ahead, so that later requests don't wait."""
        window = self._renditions[name].window
        boundary = Fraction(SKIP_BOUNDARY * self._cadence.target_duration)
        # The publisher goes on in any case; a request for the playlist reports and logs the error.
        with contextlib.suppress(Exception):
            self._histories[name].keep_up(window, _count_older(window, boundary))

    def _keep_up(self, name: str) -> None:
        """Make what lasts of the playlists when a segment comes."""
        # Now, and not when somebody asks: all processes that serve this forget the same ranges.
        self._evict_date_ranges(self.clock(), SKIP_BOUNDARY * self._cadence.target_duration)
        self.make_lines(name)
        if self._cadence.regular and name == next(iter(self._renditions)):
            with contextlib.suppress(Exception):
                self._manifest.keep_up()

    def _evict_date_ranges(self, now: float, kept: float) -> None:
        windows = [rendition.window for rendition in self._renditions.values()]
        dates = [window.listed[0].program_date_time for window in windows if window.listed]
        if dates:
            self.date_ranges.evict(min(dates), now, kept)

    def _render_once(self, key: _Key, render: Callable[[], Pieces]) -> Pieces:
        """Return the rendered text of this state, or render the text.

        Raises:
            RenderingError: it can't be rendered.
        """
        found = self._cached(key)
        if found is None:
            try:
                found = self._rendered[key] = render()
            except Exception as error:
                raise self._failed(key, error) from error
            if key[-1]:
                self._rendered_bytes += _own_bytes(found)
        if isinstance(found, RenderingError):
            raise RenderingError(*found.args)  # a new one: one that is kept would collect tracebacks
        return found

    def _failed(self, key: _Key, error: Exception) -> RenderingError:
        """Keep and log the error of a rendering, for all requests in this state."""
        failed = self._rendered[key] = RenderingError(repr(error))
        log.error(
            "a playlist of a rendition can't be rendered",
            rendition=key[0],
            reason=repr(error),
            exc_info=error,
        )
        return RenderingError(*failed.args)

    def _cached(self, key: _Key) -> Pieces | RenderingError | None:
        # Rendition reports are of the other renditions' state, too.
        state = [rendition.window.version for rendition in self._renditions.values()]
        state.append(self.date_ranges.version)
        full = len(self._rendered) >= MAX_PLAYLISTS or self._rendered_bytes >= MAX_PLAYLIST_BYTES
        if state != self._state or (full and key not in self._rendered):
            self._state = state
            self._rendered.clear()
            self._rendered_bytes = 0
        return self._rendered.get(key)


def _own_bytes(pieces: Pieces) -> int:
    """Return the bytes of memory that a text shares with no other text."""
    filled = sum(isinstance(piece, Unrendered) for piece in pieces)
    own = sum(len(piece) for piece in pieces if not isinstance(piece, Unrendered | SharedText))
    return own + filled * FILLED_BYTES


def _weak_callback(method: weakref.WeakMethod[Callable[[str], None]], name: str) -> Callable[[], None]:
    """Return a callback for a window, which holds the presentation by a weak reference."""

    def follow() -> None:
        if (found := method()) is not None:
            found(name)

    return follow
