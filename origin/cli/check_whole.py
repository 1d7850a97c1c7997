"""Reads all segments of what is finite, and holds them against what a playlist or manifest says of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx

from origin.cli import check_segments, segment_structure
from origin.cli.dash_manifest_reader import CheckedPiece
from packager.sources.retries import PullError

AES_BLOCK = 16
"""Bytes of which an encrypted segment is a multiple (RFC 8216bis §4.4.4.4)."""

LEAST_APART_SECONDS, APART_SHARE = 0.5, 0.25
"""By how much times may differ: the larger of seconds, and of a share of the playlist's durations."""

SUM_SHARE = 0.005
"""By how much the sum of a playlist's durations may differ, since each is rounded."""

Load = Callable[[CheckedPiece], Awaitable[tuple[str | None, bytes]]]
"""Fetches a piece; returns what is wrong with the answer, and the bytes."""

FAILURES = (httpx.HTTPError, httpx.InvalidURL, PullError, TimeoutError)
"""Errors of requests that get no answer."""


@dataclass(frozen=True, slots=True)
class ExpectedSegment:
    """A segment as a playlist or a manifest lists it.

    Attributes:
        start: seconds from its timeline's beginning; None where nothing is said.
        duration: in seconds; None where nothing is said.
        timeline: how many discontinuities are before it.
        is_encrypted: whether the whole of it is, so that its structure can't be seen.
        is_image: whether it is an image of a seek bar's pictures.
    """

    piece: CheckedPiece
    init: CheckedPiece | None
    start: float | None = None
    duration: float | None = None
    timeline: int = 0
    is_encrypted: bool = False
    is_image: bool = False


OnRead = Callable[[list[str | None], float | None], None]

_Timed = tuple[ExpectedSegment, check_segments.SegmentTiming]


@dataclass(frozen=True, slots=True)
class _WaitingPlaylist:
    """The segments of a playlist that wait to be read.

    Attributes:
        segments: as many as may be read of it, from everywhere, the last among them.
        is_rounded: whether durations are whole seconds, so that their sum may differ from the media's.
        on_read: called with the faults, and with the seconds from the playlist's beginning to the presented
            end of its last segment's media; None if unknown.
    """

    segments: Sequence[ExpectedSegment]
    is_rounded: bool
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

    def add(self, segments: Sequence[ExpectedSegment], on_read: OnRead, *, is_rounded: bool = False) -> None:
        """Have a playlist's segments read once all playlists are known; see `_WaitingPlaylist`."""
        self.listed += len(segments)
        self._waiting.append(_WaitingPlaylist(_chosen(segments, self._most), is_rounded, on_read))

    async def run(self) -> None:
        """Read the segments of all playlists, and report on each playlist."""
        shares = _shares([len(one.segments) for one in self._waiting], self._most)
        for one, share in zip(self._waiting, shares, strict=True):
            one.on_read(*await self._problems(one, _chosen(one.segments, share)))

    async def _problems(
        self, listed: _WaitingPlaylist, wanted: Sequence[ExpectedSegment]
    ) -> tuple[list[str | None], float | None]:
        """Judge segments; return the arguments of `_WaitingPlaylist.on_read`."""
        # Of a hostile playlist each segment has an init segment of its own: only one is held.
        held: tuple[CheckedPiece, bytes] | None = None
        found: list[str | None] = []
        before: _Timed | None = None
        first: _Timed | None = None
        for one in wanted:
            if one.init is not None and (held is None or held[0] != one.init):
                held = one.init, (await self._loaded(one.init))[1]
            init = None if one.init is None or held is None else held[1]
            told, timing = await self._problem(one, init)
            if told is None and timing is not None:
                told = _wrong_time(one, timing, before)
                before = one, timing
                if first is None or first[0].timeline != one.timeline:
                    first = before
            found.append(None if told is None else f"{one.piece.url} {told}")
            self.looked_at += 1
            self._on_progress(f"{self.looked_at} of {self.listed} segments")
        if first is None or before is None:
            return found, None
        if not listed.is_rounded:
            found.append(_wrong_sum(first, before))
        if before[0] is listed.segments[-1] and before[0].start is not None:
            return found, before[0].start + before[1].presented_end - before[1].begin
        return found, None

    async def _loaded(self, piece: CheckedPiece) -> tuple[str | None, bytes]:
        try:
            return await self._load(piece)
        except FAILURES as error:
            return f"can't be fetched: {error or type(error).__name__}", b""

    async def _problem(
        self, one: ExpectedSegment, init: bytes | None
    ) -> tuple[str | None, check_segments.SegmentTiming | None]:
        told, data = await self._loaded(one.piece)
        if told is not None:
            return told, None
        if one.is_encrypted:
            is_whole = len(data) > 0 and len(data) % AES_BLOCK == 0
            return None if is_whole else f"has {len(data)} bytes, which no AES-128 has", None
        if one.is_image:
            return segment_structure.image_problem(data), None
        told = segment_structure.problem(data, has_init=init is not None)
        if told is not None or segment_structure.is_webvtt(data):
            return told, None
        timing = await check_segments.timing(init or b"", data)
        return ("has no media that ffprobe can read" if timing is None else None), timing


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


def _wrong_time(
    one: ExpectedSegment,
    timing: check_segments.SegmentTiming,
    before: _Timed | None,
) -> str | None:
    """Describe how a segment's times differ from what is said of them."""
    if one.duration is not None:
        has = timing.end - timing.begin + timing.longest_gap
        if has < one.duration - _allowed(one.duration):
            return f"has {has:.2f} s of media, where {one.duration:.2f} s are said (RFC 8216bis §4.4.4.1)"
    if before is None or before[0].timeline != one.timeline or one.start is None or before[0].start is None:
        return None
    said, is_so = one.start - before[0].start, timing.begin - before[1].begin
    if abs(said - is_so) > _allowed(said):
        told = f"begins {is_so:.2f} s behind {before[0].piece.url}, where {said:.2f} s are said"
        return f"{told} (RFC 8216bis §4.4.4.1)"
    return None


def _wrong_sum(first: _Timed, last: _Timed) -> str | None:
    """Describe how the sum of segments' durations differs from the time that their media are presented."""
    (begins, begin), (ends, end) = first, last
    if begins.start is None or ends.start is None or ends.duration is None:
        return None
    said, is_so = ends.start + ends.duration - begins.start, end.presented_end - begin.begin
    if abs(said - is_so) <= max(LEAST_APART_SECONDS, SUM_SHARE * said):
        return None
    told = f"lasts {said:.2f} s by the durations of its segments, and its media {is_so:.2f} s"
    return f"{told} (RFC 8216bis §4.4.4.1)"


def _allowed(seconds: float) -> float:
    return max(LEAST_APART_SECONDS, APART_SHARE * seconds)
