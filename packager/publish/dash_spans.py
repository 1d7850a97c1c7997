"""The DASH manifests of spans of a live channel, also of what has left its playlists (ISO/IEC 23009-1).

The periods of a span are found once, from its first segment on, wherever that is: so they are the same on all
nodes, and stay what they are while the live playlist moves on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import takewhile
from operator import attrgetter

from media.dash import live_mpd
from media.hls.date_range import DateRange
from media.hls.precompressed_text import FilledText, Pieces, TextTemplate
from packager.bounded_dict import BoundedDict, SizedDict
from packager.publish.dash import LiveManifest, Timelines, having_events, iso_date
from packager.publish.dash_periods import FinishedRow, LivePeriod, PeriodTracker
from packager.window.cadence import Cadence
from packager.window.model import LiveSegment
from packager.window.window import Window

MOST_SPANS = 32
"""Most spans of a channel whose periods are kept."""

MOST_SPAN_BYTES = 16 << 20
"""Most bytes of the periods that are kept of them."""

MOST_RANGES = 2000
"""Most date ranges of a span that are kept, the newest."""

STEPS_AVAILABLE = 2
"""Segments for which the first one of a span stays available behind its time, until players have the next
manifest."""

STEPS_BEGUN = 3
"""Segments that a period has in all renditions once nothing of its beginning changes any more."""

Segments = Mapping[str, Sequence[LiveSegment]]
"""By rendition, but for captions: segments and gaps of the same numbers."""


class SpanManifest:
    """The manifest of a span that grows as the channel does.

    It is made in a thread: of a day that takes long. From ``go_on`` on it belongs to the event loop.

    Args:
        live: the manifest of the channel.
        segments: segments of the span, up to some that are listed now.
        date_ranges: the ranges of the span that are known, and in the live playlist perhaps no more.
    """

    def __init__(
        self, live: LiveManifest, cadence: Cadence, segments: Segments, date_ranges: Sequence[DateRange] = ()
    ) -> None:
        self.first = next(iter(segments.values()))[0]
        self._live = live
        self._cadence = cadence
        # By ID, all that were known: those of hours ago aren't in the live playlist any more.
        self._ranges = BoundedDict[str, DateRange](MOST_RANGES)
        self._ranges.update({one.id: one for one in date_ranges})
        self._windows: Sequence[Window] = ()
        self._tracker, begun = _followed(segments, cadence)
        self._timelines = dict(begun)
        # By the numbers of their stretches.
        self._written: dict[int, tuple[LivePeriod, Timelines, bytes]] = {}
        # The first periods, which don't change any more, and their text.
        self._lasting: tuple[list[LivePeriod], TextTemplate] = [], TextTemplate(b"")
        self._texts(having_events(self._tracker.periods(ended=False, settled=False), date_ranges))

    def go_on(self, windows: Sequence[Window]) -> None:
        """Follow the renditions' windows from now on."""
        self._windows = windows
        self._tracker.go_on(windows)

    @property
    def nbytes(self) -> int:
        """Bytes of the periods' texts."""
        return sum(len(text) for _, _, text in self._written.values()) + self._lasting[1].size

    @property
    def may_go_on(self) -> bool:
        """Whether the windows have all that has come since the manifest was asked for last."""
        needed = self._tracker.needed
        return self._windows[0].listed[0].number <= self._tracker.seen + 1 and all(
            one.finished.oldest_number <= needed for one in self._windows
        )

    def pieces(self, suffix: str, now: float, last: int | None, location: str) -> Pieces:
        """Return the manifest as of now, in pieces, the longest of which lasts; none without periods.

        Players begin at its beginning, by how far that is behind the newest, and then ask at the location.

        Args:
            suffix: put behind every address: ``?`` and query parameters, percent-encoded.
            now: seconds since the epoch.
            last: media sequence number of the span's last segment; None: more comes.
            location: relative address of the versions that follow the first; empty for one of these.
        """
        periods = self._periods(last)
        if not periods:
            return ()
        reference, step = self._windows[0], self._cadence.segment_duration
        newest = reference.listed[-1]
        length = newest.program_date_time + newest.duration - periods[0].start
        whole = self._live.header(now, periods)
        made = replace(
            whole,
            time_shift_depth=length + STEPS_AVAILABLE * step + self._cadence.target_duration,
            presentation_delay=length if location else whole.presentation_delay,
            latency=None,
            location=location,
            ended=last is not None or reference.ended,
            end=max(one.start + (one.length or 0) for one in periods),
        )
        before, behind = made.around()
        lasting, others = self._texts(periods)
        rest = TextTemplate(live_mpd.BETWEEN.join(others) + behind)
        replacements = self._live.replacements(suffix)
        return tuple(
            FilledText(one, replacements) for one in (TextTemplate(before), lasting, rest) if one.size
        )

    def _periods(self, last: int | None) -> list[LivePeriod]:
        self._tracker.follow()
        periods = self._tracker.periods(ended=self._windows[0].ended, settled=False)
        if last is not None:
            step = self._cadence.segment_duration
            periods = [cut for one in periods if (cut := one.until(last, step)) is not None]
        self._ranges.update({one.id: one for one in self._live.date_ranges.whole()})
        return having_events(periods, list(self._ranges.values()))

    def _texts(self, periods: Sequence[LivePeriod]) -> tuple[TextTemplate, list[bytes]]:
        """Return the text of the periods that don't change any more, as one, and those of the others."""
        over = list(takewhile(self._tracker.is_over, periods))
        kept, template = self._lasting
        if over != kept:
            template = TextTemplate(b"".join(self._text(one) + live_mpd.BETWEEN for one in over))
            self._lasting = over, template
        return template, [self._text(one) for one in periods[len(over) :]]

    def _text(self, period: LivePeriod) -> bytes:
        number = period.stretch.number
        timelines = self._timelines.get(number)
        if timelines is None:
            timelines = self._live.timelines(period)
            if all(one.next_number >= period.first + STEPS_BEGUN for one in self._windows):
                # Later, the windows don't have its beginning any more.
                self._timelines[number] = timelines
        known = self._written.get(number)
        if known is None or known[:2] != (period, timelines):
            known = self._written[number] = period, timelines, self._live.period(period, timelines).write()
        return known[2]


class SpanManifests:
    """The manifests of a channel's spans that were asked for lately, by the dates of their beginnings.

    Args:
        windows: the windows of pictures and sound.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._kept = SizedDict[Fraction, SpanManifest](MOST_SPANS, MOST_SPAN_BYTES, attrgetter("nbytes"))

    def find(self, start: Fraction) -> SpanManifest | None:
        """Return the manifest of a span, if all of the span is known.

        Args:
            start: seconds since the epoch.
        """
        found = self._kept.get(start)
        if found is None or not found.may_go_on:
            self._kept.pop(start, None)
            return None
        self._kept[start] = found  # measured again, since it grows
        return found

    def add(self, start: Fraction, made: SpanManifest) -> None:
        """Keep the manifest of a span.

        Args:
            start: seconds since the epoch.
        """
        made.go_on(self._windows)
        self._kept[start] = made

    def forget(self, start: Fraction) -> None:
        """Drop the manifest of a span, whose beginning isn't there any more."""
        self._kept.pop(start, None)


class DelayedManifest:
    """The manifest of a channel as it was a while ago, for some minutes in which it stays the same.

    Args:
        live: the manifest of the channel.
        segments: segments that players may ask for in these minutes.
        date_ranges: the ranges of that time.
    """

    def __init__(
        self, live: LiveManifest, cadence: Cadence, segments: Segments, date_ranges: Sequence[DateRange] = ()
    ) -> None:
        self._live = live
        # A later manifest doesn't know of a gap that has left it: so no period begins behind a gap.
        tracker, timelines = _followed(segments, cadence, has_gaps=True)
        found = tracker.periods(ended=False, settled=False)
        texts: dict[int, Timelines] = dict(timelines)
        if found:
            # As it was when its first segment was new: then its periods are the same for all of its time.
            first, leading = found[0], next(iter(timelines[found[0].stretch.number].values()))
            number = first.first if leading is None else leading.number
            found[0] = first.from_timeline(number, cadence.segment_duration)
            texts[found[0].stretch.number] = timelines[first.stretch.number]
        self._periods = having_events(found, date_ranges)
        written = (live.period(one, texts[one.stretch.number]).write() for one in self._periods)
        self._text = live_mpd.BETWEEN.join(written)

    def pieces(self, suffix: str, now: float, delay: Fraction, published: Fraction, depth: int) -> Pieces:
        """Return the manifest for those who watch so many seconds later, in pieces; none without periods.

        Segments become available so much later than they are (§5.3.1.2); what they are and their dates stay.

        Args:
            suffix: put behind every address: ``?`` and query parameters, percent-encoded.
            now: seconds since the epoch.
            delay: seconds.
            published: since when this is the manifest, in seconds since the epoch.
            depth: seconds that players can go back.
        """
        if not self._periods:
            return ()
        whole = self._live.header(now, self._periods)
        made = replace(
            whole,
            publish_time=iso_date(float(published)),
            availability_start=iso_date(float(delay)),
            time_shift_depth=Fraction(depth),
            latency=whole.latency and whole.latency.later(delay),
            ended=False,
        )
        before, behind = made.around()
        return (FilledText(TextTemplate(before + self._text + behind), self._live.replacements(suffix)),)


def _followed(
    segments: Segments, cadence: Cadence, *, has_gaps: bool = False
) -> tuple[PeriodTracker, Mapping[int, Timelines]]:
    """Follow segments; return also with which timelines the renditions begin each period, by its stretch."""
    listed = {name: FinishedRow(own, cadence.target_duration) for name, own in segments.items()}
    step = cadence.segment_duration
    tracker = PeriodTracker(list(listed.values()), step, forgets=False, has_gaps=has_gaps)
    tracker.follow()
    periods = tracker.periods(ended=False, settled=False)
    begun = {
        one.stretch.number: {name: own.timeline_at(one.first) for name, own in listed.items()}
        for one in periods
    }
    return tracker, begun
