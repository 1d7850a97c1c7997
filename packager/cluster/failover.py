"""Failover: continues the shared log of a channel with the segments of another packager.

Each packager makes the channel all the time, with numbers from its clock, whether or not its log is the one
that all nodes serve. A packager that takes the shared log over continues it with its next whole segment: the
segment that the former owner left open is closed, gaps stand for segments that nobody published, and a
discontinuity follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from packager.cluster.lease import Reached
from packager.publish.live_stream import LiveStream
from packager.window.log import (
    CadenceEntry,
    DateRangeEntry,
    DiscontinuityEntry,
    EndEntry,
    Entry,
    GapEntry,
    InitEntry,
    PartEntry,
    SegmentDoneEntry,
)
from packager.window.model import LiveSegment, Timeline
from packager.window.rendition import Rendition

Append = Callable[[Entry], None]

UNTOLD_DISCONTINUITIES = 2
"""Added to a former owner's last report: one discontinuity may be unreported, and the next one follows it."""


def is_shared(entry: Entry) -> bool:
    """Return whether an entry is for all nodes: what is on its owner's disk is nothing to others."""
    shared = (
        InitEntry,
        DiscontinuityEntry,
        PartEntry,
        SegmentDoneEntry,
        GapEntry,
        DateRangeEntry,
        EndEntry,
    )
    return isinstance(entry, shared)


class Dvr(Protocol):
    """Stored segments of a shared channel, which its windows list behind the live edge."""

    def for_all(self, entry: CadenceEntry) -> CadenceEntry:
        """Append the places of stored segments to the log, and the time for which they stay listed."""

    def restore(self, shared: LiveStream, number: int, now: Fraction, append: Append) -> None:
        """Restore stored segments into new windows, which continue with a number."""


def go_on(
    shared: LiveStream,
    own: LiveStream,
    append: Append,
    dvr: Dvr | None = None,
    *,
    gone_seconds: float,
    anew: bool = False,
    keeps_ranges: bool = True,
    reached: Reached | None = None,
) -> bool:
    """Bring a shared log to the position of a packager's own log, so that entries of that can follow.

    Args:
        shared: the stream that the shared log is folded into; appended entries change it.
        own: the stream that the packager's own log is folded into.
        append: appends to the shared log.
        dvr: the shared log's DVR; None for none.
        gone_seconds: by how much the numbers of the former owner may be ahead. If they are further ahead, the
            new owner doesn't wait for their time, as the log would expire before.
        anew: whether this node lacks some of the shared log, so that new windows must begin.
        keeps_ranges: whether new windows begin with the date ranges that the shared log has.
        reached: the end of the shared log, where this node may lack entries.

    Returns:
        False where the shared log is still ahead, and nothing was appended.
    """
    own_entry, entry = own.begun_with, shared.begun_with
    if own_entry is None:
        return False
    wanted = _for_all(own_entry, dvr)
    following = -1 if entry is None else _next_number(shared.renditions)
    own_next = _own_next(own.renditions)
    if reached is not None:
        ahead = (reached.number - own_next) * own.cadence.segment_duration
        following = max(following, reached.number if ahead <= gone_seconds else -1)
        told = reached.discontinuity_sequence + UNTOLD_DISCONTINUITIES
        wanted = replace(wanted, discontinuity_sequence=max(wanted.discontinuity_sequence, told))
    number = max(_oldest_number(own.renditions), following)
    if number > own_next:
        return False
    if anew or needs_new_windows(shared, own_entry, dvr):
        ended = entry is not None and _has_ended(shared)
        _begin_anew(shared, own, replace(wanted, first_number=number), append, keeps_ranges=keeps_ranges)
        if dvr is not None and not ended:
            dvr.restore(shared, number, _date_of(own, number), append)
    else:
        _close(shared, number, own, append)
    _copy(own.renditions, number, append)
    return True


def reached_by(shared: LiveStream) -> Reached | None:
    """Return the position of a shared log; None before its first entry."""
    if shared.begun_with is None:
        return None
    windows = [one.window for one in shared.renditions.values()]
    newest = max(one.newest_discontinuity_sequence for one in windows)
    return Reached(_next_number(shared.renditions), newest)


def begin_empty(shared: LiveStream, entry: CadenceEntry, append: Callable[[CadenceEntry], None]) -> None:
    """Begin empty windows in a shared log whose channel isn't made now; earlier segments are withdrawn.

    Args:
        shared: the stream that the shared log is folded into.
        entry: with which the windows of such a channel begin.
        append: appends to the shared log.
    """
    number = entry.first_number
    if shared.begun_with is not None:
        number = max(number, _next_number(shared.renditions))
    append(_behind(shared, replace(_for_all(entry, None), first_number=number)))


def needs_new_windows(shared: LiveStream, own_entry: CadenceEntry, dvr: Dvr | None) -> bool:
    """Return whether the windows of a shared log can't take a packager's next segments.

    Args:
        shared: the stream that the shared log is folded into.
        own_entry: the entry that the packager's windows were made from.
        dvr: as for ``go_on``.
    """
    entry = shared.begun_with
    return entry is None or _has_ended(shared) or not _is_alike(entry, _for_all(own_entry, dvr))


def _date_of(own: LiveStream, number: int) -> Fraction:
    """Return the beginning of a finished, open or next segment in seconds since the epoch."""
    for rendition in own.renditions.values():
        window = rendition.window
        segment = window.at(number) or window.open
        if segment is not None:
            return segment.program_date_time
    return number * own.cadence.segment_duration


def _has_ended(shared: LiveStream) -> bool:
    return any(one.window.ended for one in shared.renditions.values())


def _is_alike(entry: CadenceEntry, other: CadenceEntry) -> bool:
    """Return whether windows that began with one entry can take segments that belong to another."""
    return (entry.cadence, entry.renditions) == (other.cadence, other.renditions)


def _for_all(entry: CadenceEntry, dvr: Dvr | None) -> CadenceEntry:
    """Leave out what only the node has that makes the channel: its disk."""
    renditions = tuple(replace(one, folder=None) for one in entry.renditions)
    entry = replace(entry, renditions=renditions, dvr_window=0.0, has_past=False)
    return entry if dvr is None else dvr.for_all(entry)


def _next_number(renditions: Mapping[str, Rendition]) -> int:
    """Return the number behind all that a shared log has, open segments included."""
    return max(one.window.next_number + (one.window.open is not None) for one in renditions.values())


def _own_next(renditions: Mapping[str, Rendition]) -> int:
    return min(one.window.next_number for one in renditions.values())


def _oldest_number(renditions: Mapping[str, Rendition]) -> int:
    """Return the first number from which on all renditions have their segments in memory."""
    return max(_oldest_in_memory(one) for one in renditions.values())


def _oldest_in_memory(rendition: Rendition) -> int:
    window, number = rendition.window, rendition.window.next_number
    for segment in reversed(window.listed):
        if not segment.gap and not segment.parts:
            break
        number = segment.number
    return number


def _begin_anew(
    shared: LiveStream, own: LiveStream, entry: CadenceEntry, append: Append, *, keeps_ranges: bool
) -> None:
    tags = own.presentation.date_ranges.tags()
    if shared.begun_with is not None and keeps_ranges:
        ranges = shared.presentation.date_ranges
        now = Fraction(shared.wall_clock())
        tags = [*ranges.tags(), *(ranges.arrived(tag, now) for tag in ranges.new_of(tags))]
    append(_behind(shared, entry))
    for tag in tags:
        append(DateRangeEntry(tag))


def _behind(shared: LiveStream, entry: CadenceEntry) -> CadenceEntry:
    """Count a discontinuity behind what a shared log has given (RFC 8216bis §6.2.2)."""
    if shared.begun_with is None:
        return entry
    newest = max(one.window.newest_discontinuity_sequence for one in shared.renditions.values())
    return replace(entry, discontinuity_sequence=max(entry.discontinuity_sequence, newest + 1))


def _close(shared: LiveStream, number: int, own: LiveStream, append: Append) -> None:
    """Close what is open, and let gaps stand for all before a number."""
    for name, rendition in shared.renditions.items():
        window = rendition.window
        if (segment := window.open) is not None:
            # Of captions nobody knows the whole text but who is gone; the first part is a text by itself.
            append(SegmentDoneEntry(name, bytes(segment.parts[0].data) if rendition.language else b""))
        duration = own.cadence.segment_duration
        while window.next_number < number:
            last = window.listed[-1] if window.listed else None
            date = window.next_number * duration if last is None else last.program_date_time + last.duration
            append(GapEntry(name, date, duration, False))


def _copy(renditions: Mapping[str, Rendition], number: int, append: Append) -> None:
    """Append all segments from a number on, side by side, and the parts of those that aren't finished."""
    timelines: dict[str, Timeline | None] = dict.fromkeys(renditions)
    last = max(one.window.next_number for one in renditions.values())
    for current in range(number, last + 1):
        for name, rendition in renditions.items():
            window = rendition.window
            is_open = window.open is not None and window.open.number == current
            segment = window.open if is_open else window.at(current)
            if segment is None:
                continue
            _begin_timeline(name, segment.timeline, timelines, append)
            _copy_segment(rendition, segment, append, is_open=is_open)
    for name, rendition in renditions.items():
        _begin_timeline(name, rendition.window.timeline, timelines, append)


def _begin_timeline(
    name: str, timeline: Timeline | None, known: dict[str, Timeline | None], append: Append
) -> None:
    if timeline is not None and known[name] != timeline:
        known[name] = timeline
        append(InitEntry(name, timeline.init, timeline.entry, timeline.frame_rate))


def _copy_segment(rendition: Rendition, segment: LiveSegment, append: Append, *, is_open: bool) -> None:
    if segment.gap:
        append(GapEntry(rendition.name, segment.program_date_time, segment.duration, segment.discontinuity))
        return
    is_text = rendition.language is not None
    date, last = Fraction(segment.program_date_time), len(segment.parts) - 1
    for index, part in enumerate(segment.parts):
        ends = index == last and not is_open and not is_text
        append(PartEntry(rendition.name, part, date, ends))
        date += part.duration
    if is_text and not is_open:
        append(SegmentDoneEntry(rendition.name, bytes(segment.data)))
