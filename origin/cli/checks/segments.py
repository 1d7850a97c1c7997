"""Reads all segments of what is finite, and holds them against what a playlist or manifest says of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from media.errors import MediaError
from media.stream_reader import CLOCK_RATE
from media.ts.timestamps import CLOCK_WRAP
from origin.cli.checks import segment_structure
from origin.cli.checks.fetching import FAILURES
from origin.cli.checks.manifest_reader import CheckedPiece
from origin.cli.checks.segment_media import VIDEO, SegmentMedia, TrackMedia, read_segment
from packager.reader_guard import ReaderGuard
from packager.threads import SHARED_THREADS

AES_BLOCK = 16
"""Bytes of which an encrypted segment is a multiple (RFC 8216bis §4.4.4.4)."""

LEAST_APART_SECONDS, APART_SHARE = 0.5, 0.25
"""By how much times may differ: the larger of seconds, and of a share of the playlist's durations."""

SUM_SHARE = 0.005
"""By how much the sum of a playlist's durations may differ, since each is rounded."""

FRAME_FIELDS = 2
"""Most samples of an I-frame playlist's segment: both fields of a picture."""

WRAP_SECONDS = CLOCK_WRAP / CLOCK_RATE

Load = Callable[[CheckedPiece], Awaitable[tuple[str | None, bytes]]]
"""Fetches a piece; returns what is wrong with the answer, and the bytes."""


@dataclass(frozen=True, slots=True)
class ExpectedSegment:
    """A segment as a playlist or a manifest lists it.

    Attributes:
        start: seconds from its timeline's beginning; None where nothing is said.
        duration: in seconds; None where nothing is said.
        timeline: how many discontinuities are before it.
        is_encrypted: whether the whole of it is, so that its structure can't be seen.
        is_sealed: whether it or its samples are encrypted, so that its media may not be read.
        is_image: whether it is an image of a seek bar's pictures.
        is_frame: whether it is a picture of an I-frame playlist, whose last samples may be cut off.
    """

    piece: CheckedPiece
    init: CheckedPiece | None
    start: float | None = None
    duration: float | None = None
    timeline: int = 0
    is_encrypted: bool = False
    is_sealed: bool = False
    is_image: bool = False
    is_frame: bool = False


OnRead = Callable[["Reading"], None]


@dataclass(frozen=True, slots=True)
class ReadSegment:
    """A segment that was fetched.

    Attributes:
        size: in bytes.
        media: None of text, images, what is encrypted, and what can't be read.
    """

    expected: ExpectedSegment
    size: int
    media: SegmentMedia | None

    @property
    def timing(self) -> TrackMedia | None:
        """The track whose times are the segment's, if they are in it."""
        main = None if self.media is None else self.media.main
        return main if main is not None and main.begin is not None else None


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading the segments of a playlist, as many as were chosen.

    Attributes:
        problems: an element for each check, None if it passed.
        notes: findings that break no MUST.
        segments: all segments that were fetched.
        is_whole: whether these are all that are listed.
        presented: seconds from the playlist's beginning to the presented end of its last segment's media;
            None if unknown.
    """

    problems: Sequence[str | None]
    segments: Sequence[ReadSegment]
    is_whole: bool
    presented: float | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """The rules for the segments of a playlist or representation.

    Attributes:
        clause: of the standard that has their durations.
        is_rounded: whether durations are whole seconds, so that their sum may differ from the media's.
        independent: which claim and clause say that each can be decoded alone; empty if none does.
    """

    clause: str
    is_rounded: bool = False
    independent: str = ""


@dataclass(frozen=True, slots=True)
class _WaitingPlaylist:
    """The segments of a playlist that wait to be read.

    Attributes:
        segments: as many as may be read of it, from everywhere, the last among them.
        listed: number of segments in the playlist, at least as many.
    """

    segments: Sequence[ExpectedSegment]
    listed: int
    rules: SegmentRules
    on_read: OnRead


class WholeCheck:
    """Judges segments one by one, as many of each playlist as the run's budget allows.

    Args:
        load: fetches a segment or an init segment.
        most: segments that are looked at in the whole run.
        on_progress: called with a line about how many of how many were looked at.
    """

    def __init__(self, load: Load, most: int, on_progress: Callable[[str], None]) -> None:
        self._load = load
        self._most = most
        self._on_progress = on_progress
        self._waiting: list[_WaitingPlaylist] = []
        self.looked_at = self.listed = 0

    def add(self, segments: Sequence[ExpectedSegment], rules: SegmentRules, on_read: OnRead) -> None:
        """Have a playlist's segments read once all playlists are known."""
        self.listed += len(segments)
        chosen = _chosen(segments, self._most)
        self._waiting.append(_WaitingPlaylist(chosen, len(segments), rules, on_read))

    async def run(self) -> None:
        """Read the segments of all playlists, and report on each playlist."""
        shares = _shares([len(one.segments) for one in self._waiting], self._most)
        for one, share in zip(self._waiting, shares, strict=True):
            one.on_read(await self._read(one, _chosen(one.segments, share)))

    async def _read(self, listed: _WaitingPlaylist, wanted: Sequence[ExpectedSegment]) -> Reading:
        # Of a hostile playlist each segment has an init segment of its own: only one is held.
        held: tuple[CheckedPiece, bytes] | None = None
        problems: list[str | None] = []
        fetched = list[ReadSegment]()
        timed = list[ReadSegment]()
        for one in wanted:
            if one.init is not None and (held is None or held[0] != one.init):
                held = one.init, (await self._loaded(one.init))[1]
            init = None if one.init is None or held is None else held[1]
            told, segment = await self._segment(one, init)
            if segment is not None:
                fetched.append(segment)
                if told is None and segment.timing is not None:
                    told = _wrong_media(segment, timed[-1] if timed else None, listed.rules)
                    timed.append(segment)
            problems.append(None if told is None else f"{one.piece.url} {told}")
            self.looked_at += 1
            self._on_progress(f"{self.looked_at} of {self.listed} segments")
        presented = None
        if timed:
            first = next(one for one in timed if one.expected.timeline == timed[-1].expected.timeline)
            if not listed.rules.is_rounded and not timed[-1].expected.is_frame:
                problems.append(_wrong_sum(first, timed[-1], listed.rules.clause))
            if timed[-1].expected is listed.segments[-1]:
                presented = _presented(timed[-1])
        return Reading(problems, fetched, len(fetched) == listed.listed, presented, _notes(fetched))

    async def _loaded(self, piece: CheckedPiece) -> tuple[str | None, bytes]:
        try:
            return await self._load(piece)
        except FAILURES as error:
            return f"can't be fetched: {error or type(error).__name__}", b""

    async def _segment(
        self, one: ExpectedSegment, init: bytes | None
    ) -> tuple[str | None, ReadSegment | None]:
        """Fetch and read a segment; return what is wrong with it, and the segment if it is there."""
        told, data = await self._loaded(one.piece)
        if told is not None:
            return told, None
        without_media = ReadSegment(one, len(data), None)
        if one.is_encrypted:
            is_whole = len(data) > 0 and len(data) % AES_BLOCK == 0
            said = f"has {len(data)} bytes, which no AES-128 has: multiples of {AES_BLOCK} are right"
            return None if is_whole else f"{said} (RFC 8216bis §4.4.4.4)", without_media
        if one.is_image:
            return segment_structure.image_problem(data), without_media
        told = segment_structure.problem(data, has_init=init is not None, is_frame=one.is_frame)
        if told is not None or segment_structure.is_webvtt(data):
            return told, without_media
        try:
            with ReaderGuard("segment"):
                media = await SHARED_THREADS.run(read_segment, init or b"", data)
        except MediaError as error:
            return None if one.is_sealed else f"has no media that can be read: {error}", without_media
        return media.problem, ReadSegment(one, len(data), media)


def _shares(counts: Sequence[int], most: int) -> list[int]:
    """Share a budget of segments between playlists: what short ones leave is for the others, two at least."""
    shares = [0] * len(counts)
    order = sorted(range(len(counts)), key=counts.__getitem__)
    for done, index in enumerate(order):
        shares[index] = min(counts[index], max(2, most // (len(order) - done)))
        most -= shares[index]
    return shares


def _chosen(segments: Sequence[ExpectedSegment], most: int) -> Sequence[ExpectedSegment]:
    """Choose as many segments as may be read, from everywhere, the last among them."""
    if len(segments) <= most:
        return segments
    places = {round(number * (len(segments) - 1) / (most - 1)) for number in range(most)}
    return [segments[place] for place in sorted(places)]


def _wrong_media(one: ReadSegment, before: ReadSegment | None, rules: SegmentRules) -> str | None:
    """Describe how a segment's media differ from what is said of them."""
    timing, expected = one.timing, one.expected
    if timing is None or timing.begin is None:
        return None
    if expected.is_frame:
        if timing.whole > FRAME_FIELDS and expected.piece.span is None:
            told = f"has {timing.whole} pictures, where a segment of an I-frame playlist is one"
            return f"{told} (RFC 8216bis §4.4.3.6)"
        if timing.alone is False:
            return "has no picture that can be decoded alone in an I-frame playlist (RFC 8216bis §4.4.3.6)"
    elif expected.duration is not None:
        has = float(timing.duration)
        if has < expected.duration - _allowed(expected.duration):
            return f"has {has:.2f} s of media, where {expected.duration:.2f} s are said ({rules.clause})"
    if rules.independent and before is not None and timing.kind == VIDEO and timing.alone is False:
        return f"can't be decoded alone, though {rules.independent}"
    return _wrong_begin(one, before, rules)


def _notes(segments: Sequence[ReadSegment]) -> list[str]:
    """Describe ranges of an I-frame playlist that have more than a picture, downloaded in vain."""
    long = [
        one
        for one in segments
        if one.expected.is_frame
        and one.expected.piece.span
        and one.timing
        and one.timing.whole > FRAME_FIELDS
    ]
    if not long or long[0].timing is None:
        return []
    told = f"{len(long)} ranges of an I-frame playlist have more than its picture, the first"
    return [f"{told} {long[0].timing.whole} pictures, where one is right (RFC 8216bis §4.4.3.6)"]


def _wrong_begin(one: ReadSegment, before: ReadSegment | None, rules: SegmentRules) -> str | None:
    """Describe how the time between two segments differs from what is said."""
    if before is None or before.expected.timeline != one.expected.timeline:
        return None
    now, then, start, earlier = one.timing, before.timing, one.expected.start, before.expected.start
    if now is None or then is None or None in (now.begin, then.begin, start, earlier):
        return None
    said = (start or 0.0) - (earlier or 0.0)
    is_so = _unwrapped(float((now.begin or 0) - (then.begin or 0)), said)
    if abs(said - is_so) <= _allowed(said):
        return None
    told = f"begins {is_so:.2f} s behind {before.expected.piece.url}, where {said:.2f} s are said"
    return f"{told} ({rules.clause})"


def _unwrapped(seconds: float, near: float) -> float:
    """Return a difference of times that wrap as those of MPEG-TS do, the one next to another time."""
    return near + (seconds - near + WRAP_SECONDS / 2) % WRAP_SECONDS - WRAP_SECONDS / 2


def _presented(last: ReadSegment) -> float | None:
    """Return the presented end of the last segment's media in seconds from the playlist's beginning."""
    timing, start = last.timing, last.expected.start
    if start is None or timing is None or timing.begin is None:
        return None
    return start + float(timing.end - timing.begin)


def _wrong_sum(first: ReadSegment, last: ReadSegment, clause: str) -> str | None:
    """Describe how the sum of segments' durations differs from the time that their media are presented."""
    begin, end = first.timing, last.timing
    begins, ends, duration = first.expected.start, last.expected.start, last.expected.duration
    if begin is None or begin.begin is None or end is None or None in (begins, ends, duration):
        return None
    said = (ends or 0.0) + (duration or 0.0) - (begins or 0.0)
    is_so = _unwrapped(float(end.end - begin.begin), said)
    if abs(said - is_so) <= max(LEAST_APART_SECONDS, SUM_SHARE * said):
        return None
    told = f"lasts {said:.2f} s by the durations of its segments, and its media {is_so:.2f} s"
    return f"{told} ({clause})"


def _allowed(seconds: float) -> float:
    return max(LEAST_APART_SECONDS, APART_SHARE * seconds)
