"""Rebuilds lost index lines from the segments themselves. Pure.

A segment's file has its track, times, duration and parts, and its name has its number. Dates come from
remaining lines of any rendition, since all have the same offset from media time within one run of the source;
else from the files' modification times.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from msgspec.structs import replace

from media.errors import MediaError
from media.mp4.fragments.fragments import read_track
from media.mp4.fragments.live_segment_reader import LiveSegmentFacts
from packager.dvr.index import IndexLine, is_possible
from packager.window.model import Timeline

NEAR = 1000
"""Lines within so many numbers of a lost one are used to check where its segment belongs."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """The file of a stored segment, with its size, date and content.

    Attributes:
        size: its length in bytes.
        modified: in seconds since the epoch.
        facts: its content; None of WebVTT.
    """

    size: int
    modified: float
    facts: LiveSegmentFacts | None = None


class Dates:
    """The known dates of a channel's segments, from all renditions.

    Attributes:
        counted: whether any remaining line has the number of discontinuities.
    """

    def __init__(self) -> None:
        self.counted = False
        self._lines: dict[int, IndexLine] = {}
        self._intact: dict[int, IndexLine] = {}
        self._timelines: dict[int, list[IndexLine]] = {}
        self._sorted: set[int] = set()

    def learn(
        self, lines: Iterable[IndexLine], timelines: Mapping[int, Timeline], *, rebuilt: bool = False
    ) -> None:
        """Add lines of a rendition.

        Args:
            lines: in ascending order of their numbers.
            rebuilt: whether the lines were rebuilt.
        """
        for line in lines:
            timeline = None if line.init is None else timelines.get(line.init)
            if not line.parts or timeline is None or not timeline.has_map:
                continue
            self._lines.setdefault(line.number, line)
            if not rebuilt:
                self.counted = True
                self._intact.setdefault(line.number, line)
            self._timelines.setdefault(timeline.number, []).append(line)
            self._sorted.discard(timeline.number)

    def line(self, number: int) -> IndexLine | None:
        """Return any rendition's line of a number; None without one."""
        return self._lines.get(number)

    def offset(self, timeline: int, number: int) -> Fraction | None:
        """Return the seconds from media time to dates near a number; None if unknown."""
        known = self._timelines.get(timeline)
        if not known:
            return None
        if timeline not in self._sorted:
            known.sort(key=_number)
            self._sorted.add(timeline)
        at = bisect.bisect(known, number, key=_number)
        near = min(known[max(at - 1, 0) : at + 1], key=lambda line: abs(line.number - number))
        return Fraction(*near.date) - Fraction(*near.presentation_time)

    def begin_of(self, number: int) -> Fraction | None:
        """Return the date of the first known segment from a number on; None without any."""
        found = min((one for one in self._lines if one >= number), default=None)
        return None if found is None else Fraction(*self._lines[found].date)

    def left(self, number: int) -> int:
        """Return the number of discontinuities before a number, as far as known."""
        before = max((one for one in self._intact if one < number), default=None)
        if before is not None:
            return self._intact[before].left + self._intact[before].discontinuity
        behind = min(self._intact, default=None)
        return 0 if behind is None else self._intact[behind].left


def rebuild(
    files: Mapping[int, SegmentFile],
    lines: Mapping[int, IndexLine],
    doubtful: Mapping[int, IndexLine],
    timelines: Mapping[int, Timeline],
    dates: Dates,
) -> dict[int, IndexLine]:
    """Rebuild the lines of segments without any.

    Args:
        files: segments by number, also of some that have lines beside those that haven't.
        lines: the remaining lines, by number.
        doubtful: lines whose files have another length than they say.
        timelines: the rendition's, by number.
        dates: the known dates of the channel's renditions.

    Returns:
        Lines by number, of those that belong where they are.
    """
    texts = [number for number, one in timelines.items() if not one.has_map]
    media = {number: one for number, one in timelines.items() if one.has_map}
    files = {one: file for one, file in files.items() if not _contradicts(doubtful.get(one), file)}
    lost = {number: file for number, file in files.items() if number not in lines}
    as_texts = texts and not media
    found = _texts(lost, sorted(texts), dates) if as_texts else _media(files, lines, media, dates)
    return _counted(found, lines, dates)


def _contradicts(line: IndexLine | None, file: SegmentFile) -> bool:
    """Return whether a file has other times than its line, so that it was changed."""
    if line is None or file.facts is None:
        return line is not None
    (time, scale), (duration, per_second) = line.presentation_time, line.duration
    # Ticks per second are the same in both: so the ratio of the two times is.
    return time * per_second * file.facts.duration == file.facts.presentation_time * duration * scale


def _texts(lost: Mapping[int, SegmentFile], timelines: Sequence[int], dates: Dates) -> dict[int, IndexLine]:
    """Rebuild lines of captions, which have the dates of the video's segments."""
    found = {}
    for number, file in lost.items():
        like, init = dates.line(number), _timeline_of(number, timelines)
        if like is not None and init is not None:
            line = IndexLine(number, like.date, like.duration, init=init, parts=(file.size,))
            found[number] = line
    return found


def _timeline_of(number: int, timelines: Sequence[int]) -> int | None:
    """Return the last timeline that begins at or before a number."""
    at = bisect.bisect(timelines, number)
    return timelines[at - 1] if at else None


def _media(
    files: Mapping[int, SegmentFile],
    lines: Mapping[int, IndexLine],
    timelines: Mapping[int, Timeline],
    dates: Dates,
) -> dict[int, IndexLine]:
    order = sorted(timelines)
    groups: dict[int, dict[int, SegmentFile]] = {}
    for number, file in sorted(files.items()):
        known = lines.get(number)
        init = _timeline_of(number, order) if known is None else known.init
        if init is not None and init in timelines and file.facts is not None:
            try:
                track_id = read_track(timelines[init].init).track_id
            except (MediaError, ValueError, StopIteration):
                continue
            if file.facts.track_id == track_id:
                groups.setdefault(init, {})[number] = file
    found: dict[int, IndexLine] = {}
    for init in sorted(groups, reverse=True):  # the dates of a later timeline bound the one before it
        first, last = min(groups[init]) - NEAR, max(groups[init]) + NEAR
        near = {
            number: line
            for number, line in lines.items()
            if line.init == init and line.parts and first <= number <= last
        }
        placed = _placed(groups[init], near, timelines[init])
        rows = {number: file for number, file in placed.items() if number not in lines}
        found |= _dated(rows, timelines[init], dates)
    return dict(sorted(found.items()))


def _placed(
    files: Mapping[int, SegmentFile], known: Mapping[int, IndexLine], timeline: Timeline
) -> dict[int, SegmentFile]:
    """Drop segments whose times don't match their numbers: in a timeline they follow without a break.

    Args:
        files: of one timeline, in the order of their numbers.
        known: lines of that timeline.
    """

    def follows(one: int, other: int) -> bool | None:
        before, behind = files.get(one), files.get(other)
        if before is None or behind is None or before.facts is None or behind.facts is None:
            return None
        return before.facts.decode_time + before.facts.duration == behind.facts.decode_time

    timescale = read_track(timeline.init).timescale
    shown = {number: Fraction(*line.presentation_time) for number, line in known.items()}
    usual = _usual_duration(files.values(), known.values(), timescale)

    def fits(number: int, anchors: Sequence[int]) -> bool | None:
        at = bisect.bisect(anchors, number)
        nearest = min(anchors[max(at - 1, 0) : at + 1], key=lambda one: abs(one - number), default=None)
        if nearest is None:
            return None
        expected = shown[nearest] + (number - nearest) * usual
        return abs(_shown(files[number], timescale) - expected) < usual / 2

    kept, anchors = set[int](), sorted(shown)
    chains = sorted(_chains(files, follows), key=lambda chain: (chain[0] != timeline.number, -len(chain)))
    if chains and not anchors:
        # Without a line to compare with, take the timeline's beginning, or its longest chain.
        kept.update(chains[0])
        shown.update((number, _shown(files[number], timescale)) for number in chains[0])
        anchors = sorted(shown)
    for chain in chains:
        # By lines that are left it is known where a chain belongs, if it has one of their segments.
        if not known.keys().isdisjoint(chain) or fits(chain[0], anchors) in (None, True):
            kept.update(chain)
    for number in kept:
        shown[number] = _shown(files[number], timescale)
    anchors = sorted(shown)
    for number in files.keys() - kept:
        beside = [one for one in (number - 1, number + 1) if one in shown]
        follow = [follows(min(one, number), max(one, number)) for one in beside]
        place = fits(number, anchors)
        if False not in follow and (place or (place is None and number == timeline.number)):
            kept.add(number)
    # A segment is left out that doesn't end exactly where the next one begins.
    cut = {number for number in kept if number + 1 in kept and follows(number, number + 1) is False}
    wanted = (kept - cut).union(known)
    return {number: file for number, file in files.items() if number in wanted}


def _chains(
    files: Mapping[int, SegmentFile], follows: Callable[[int, int], bool | None]
) -> Iterator[list[int]]:
    """Yield runs of at least two numbers whose segments follow each other without a break."""
    chain: list[int] = []
    for number in files:
        if chain and not (number == chain[-1] + 1 and follows(chain[-1], number)):
            yield from [chain] if len(chain) > 1 else []
            chain = []
        chain.append(number)
    yield from [chain] if len(chain) > 1 else []


def _shown(file: SegmentFile, timescale: int) -> Fraction:
    return Fraction(0 if file.facts is None else file.facts.presentation_time, timescale)


def _usual_duration(files: Iterable[SegmentFile], known: Iterable[IndexLine], timescale: int) -> Fraction:
    """Return the most frequent duration."""
    durations = Counter(line.duration for line in known)
    facts = (file.facts for file in files if file.facts is not None)
    durations.update(Fraction(one.duration, timescale).as_integer_ratio() for one in facts)
    ((ratio, _),) = durations.most_common(1)
    return Fraction(*ratio)


def _dated(rows: Mapping[int, SegmentFile], timeline: Timeline, dates: Dates) -> dict[int, IndexLine]:
    """Rebuild the lines of one timeline's segments."""
    timescale = read_track(timeline.init).timescale
    found: dict[int, IndexLine] = {}
    written: Fraction | None = None
    for number, file in rows.items():
        if file.facts is None:
            continue
        shown, lasts = (
            Fraction(ticks, timescale) for ticks in (file.facts.presentation_time, file.facts.duration)
        )
        offset = dates.offset(timeline.number, number)
        if offset is None:
            written = _written(rows, timescale, dates) if written is None else written
            offset = written
        line = IndexLine(
            number,
            (shown + offset).as_integer_ratio(),
            lasts.as_integer_ratio(),
            init=timeline.number,
            parts=file.facts.part_sizes,
            presentation_time=shown.as_integer_ratio(),
        )
        if is_possible(line):
            found[number] = line
    dates.learn(found.values(), {timeline.number: timeline}, rebuilt=True)
    return found


def _written(rows: Mapping[int, SegmentFile], timescale: int, dates: Dates) -> Fraction:
    """Estimate the seconds from media time to dates by the files' modification times.

    A file is written after the end of its segment; the shortest delay is the best estimate.
    """
    ends = [
        (file.modified, Fraction(file.facts.presentation_time + file.facts.duration, timescale))
        for file in rows.values()
        if file.facts is not None
    ]
    offset = min(Fraction(round(1000 * modified), 1000) - end for modified, end in ends)
    behind = dates.begin_of(max(rows) + 1)
    return offset if behind is None else min(offset, behind - max(end for _, end in ends))


def _counted(
    found: Mapping[int, IndexLine], lines: Mapping[int, IndexLine], dates: Dates
) -> dict[int, IndexLine]:
    """Set discontinuities and their counts in rebuilt lines."""
    there = sorted((*found.values(), *(line for line in lines.values() if line.parts)), key=_number)
    begins = {two.number for one, two in pairwise(there) if one.init != two.init}
    known = next((line for line in there if line.number in lines), None)
    first = there[0].number if there else 0
    if known is None:
        left = dates.left(first)
    else:
        left = max(known.left - sum(number in begins for number in found if number < known.number), 0)
    counted: dict[int, IndexLine] = {}
    for line in there:
        if line.number in lines:
            left = line.left + line.discontinuity
        else:
            discontinuity = line.number in begins
            counted[line.number] = replace(line, left=left, discontinuity=discontinuity)
            left += discontinuity
    return counted


def _number(line: IndexLine) -> int:
    return line.number
