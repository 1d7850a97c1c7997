"""Judges DASH manifests and the segments of their representations (ISO/IEC 23009-1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from origin.cli.checks import cuts, declared_media
from origin.cli.checks.fetching import Fetcher
from origin.cli.checks.files import fetch_text
from origin.cli.checks.manifest_reader import (
    MEDIA_TYPE,
    CheckedPiece,
    CheckedRepresentation,
    ManifestError,
    duration_seconds,
    indexed_segments,
    parse_manifest,
    read_manifest,
)
from origin.cli.checks.manifest_rules import manifest_findings
from origin.cli.checks.report import CheckReport, Finding
from origin.cli.checks.segments import ExpectedSegment, Reading, SegmentRules, WholeCheck

CLOSED_ACCESS_POINTS = (1, 2)
"""Types of access points before which nothing is needed (ISO/IEC 14496-12 Annex I)."""

DURATIONS = "ISO/IEC 23009-1 §5.3.9.6"
COMMON = "ISO/IEC 23009-1 §5.3.7.2"


class ManifestJudge:
    """Judges manifests.

    Args:
        whole: reads the segments, once all are known.
    """

    def __init__(self, fetcher: Fetcher, report: CheckReport, whole: WholeCheck) -> None:
        self._fetcher = fetcher
        self._report = report
        self._whole = whole
        self._lengths: dict[str, float] = {}
        # When the segments of a representation begin, by their places, in seconds of its media.
        self._begins: dict[str, dict[CheckedPiece, float]] = {}
        # Seconds of the longest segment.
        self._longest = 0.0
        self._joint_checks: list[Callable[[], None]] = []

    async def manifest(self, url: str) -> None:
        """Judge a manifest, and check its claims about its segments; live, about the newest."""
        self._fetcher.show(url)
        content = await fetch_text(self._fetcher, self._report, url, (MEDIA_TYPE,), "ISO/IEC 23009-1 §C.1")
        if content is None:
            return
        try:
            text = content.decode("utf-8-sig", "replace")
            root = parse_manifest(text)
            self._report.add(url, manifest_findings(root), 6)
            buffer_seconds = duration_seconds(root.get("minBufferTime", ""))
            sets = read_manifest(url, text, time.time())
        except ManifestError as error:
            self._report.expect(False, url, str(error))
            return
        for group in sets:
            for one in group:
                where = f"{url}: representation {one.name!r}"
                await self._fetcher.attempt(where, self._representation(where, one, buffer_seconds))
            aligned = [one for one in group if one.aligned and one.video]
            self._joint_checks.append(partial(self._check_aligned, url, aligned))
        self._joint_checks.append(lambda: self._cover(url, [one for group in sets for one in group]))

    def finish(self) -> None:
        """Judge what several representations have in common, once the segments have been read."""
        for check_jointly in self._joint_checks:
            check_jointly()

    async def _representation(self, where: str, one: CheckedRepresentation, buffer_seconds: float) -> None:
        self._fetcher.show(where)
        try:
            pieces: Sequence[CheckedPiece] = one.segments
            if one.index is not None:
                pieces = indexed_segments(one.index, await self._fetcher.bounded(one.index))
        except ManifestError as error:
            self._report.expect(False, where, str(error))
            return
        if not one.is_live:
            self._report.expect(bool(pieces), where, "has no segments (ISO/IEC 23009-1 §5.3.9)")
        if one.init is not None:
            init = await self._fetcher.bounded(one.init)
            self._report.expect(bool(init), where, f"{one.init.url} isn't there")

        def on_read(reading: Reading) -> None:
            self._report.add_alike(where, reading.problems)
            key = _key(where, one)
            self._begins[key] = {
                segment.expected.piece: float(segment.timing.begin)
                for segment in reading.segments
                if segment.timing is not None and segment.timing.begin is not None
            }
            if reading.presented is not None:
                self._lengths[key] = reading.presented
            self._report.add(where, _declared(one, reading, buffer_seconds), 5)

        longest = max((after - before for before, after in pairwise(one.starts)), default=0.0)
        self._longest = max(self._longest, longest)
        claim = f"startWithSAP says {one.access_point} ({COMMON})"
        is_closed = one.video and one.access_point in CLOSED_ACCESS_POINTS
        rules = SegmentRules(DURATIONS, independent=claim if is_closed else "")
        self._whole.add(_listed(one, pieces), rules, on_read)

    def _cover(self, url: str, all_of_them: Sequence[CheckedRepresentation]) -> None:
        """Check that picture and sound of each period end together, and with the period."""
        periods: dict[int, list[tuple[str, float]]] = {}
        for one in all_of_them:
            where = f"representation {one.name!r}"
            length = self._lengths.get(_key(f"{url}: {where}", one))
            if one.is_media and not one.is_live and length is not None:
                spans = periods.setdefault(one.period, [])
                spans.append((where, length))
                if one.period_seconds and all(name != "the period" for name, _ in spans):
                    spans.append(("the period", one.period_seconds))
        for spans in periods.values():
            problem = cuts.unequal_spans(spans)
            said = f"representations don't cover the same span: {problem[0] if problem else ''}"
            # A sound may end before its pictures, and a lost segment has most of a segment's duration.
            is_must = problem is not None and problem[1] >= cuts.LOST_SHARE * self._longest
            self._report.expect(problem is None, url, f"{said} (ISO/IEC 23009-1 §5.3.2.1)", is_must=is_must)

    def _check_aligned(self, url: str, shown: Sequence[CheckedRepresentation]) -> None:
        """Check that representations begin their segments at the same times, as segmentAlignment says."""
        if len(shown) < 2:
            return
        told = [(f"representation {one.name!r}", one.starts) for one in shown if one.starts]
        problem = cuts.misaligned(told)
        if problem is None:
            found = [self._begins.get(_key(f"{url}: representation {one.name!r}", one), {}) for one in shown]
            numbered = [
                [begins.get(piece) for piece in one.segments]
                for one, begins in zip(shown, found, strict=True)
            ]
            for number, times in enumerate(zip(*numbered, strict=False)):
                known = [
                    (f"representation {one.name!r}", [time])
                    for one, time in zip(shown, times, strict=True)
                    if time is not None
                ]
                problem = cuts.misaligned(known)
                if problem is not None:
                    problem = problem.replace("segment 0", f"segment {number}")
                    break
        said = f"segmentAlignment isn't so: {problem} (ISO/IEC 23009-1 §5.3.3.2)"
        self._report.expect(problem is None, url, said)


def _key(where: str, one: CheckedRepresentation) -> str:
    return f"{where} of period {one.period}"


def _declared(one: CheckedRepresentation, reading: Reading, buffer_seconds: float) -> Iterator[Finding]:
    """Compare a representation's attributes with its media."""
    told, tracks = one.attributes, declared_media.tracks_of([reading])
    if "codecs" in told:
        yield from declared_media.codec_findings(told["codecs"], tracks, COMMON)
    elif one.is_media and tracks:
        yield Finding(f"has no codecs, which profiles for MP4 need ({COMMON})", is_must=False)
    width, height = told.get("width", ""), told.get("height", "")
    if one.video and width.isdecimal() and height.isdecimal():
        size = int(width[:6]), int(height[:6])
        yield from declared_media.size_findings(size, tracks, "width and height", COMMON)
    rate = declared_media.decimal(told.get("frameRate", ""))
    if rate is not None and not one.is_trick_play:
        yield from declared_media.rate_findings(rate, tracks, "frameRate", COMMON)
    if one.channels:
        yield from declared_media.channel_findings(one.channels, tracks, "ISO/IEC 23009-1 §5.8.5.4")
    if "lang" in told:
        yield from declared_media.language_findings(told["lang"], tracks, "ISO/IEC 23009-1 §5.3.3.2")
    sampling = told.get("audioSamplingRate", "").partition(" ")[0]
    if sampling.isdecimal():
        yield from declared_media.sampling_findings(int(sampling[:9]), tracks, COMMON)
    bandwidth = told.get("bandwidth", "")
    if bandwidth.isdecimal() and not one.is_image:
        yield from declared_media.dash_bandwidth_finding(reading, int(bandwidth[:12]), buffer_seconds)


def _listed(one: CheckedRepresentation, pieces: Sequence[CheckedPiece]) -> list[ExpectedSegment]:
    """List what a manifest says of a representation's segments."""
    starts: list[float | None] = [*one.starts] if len(one.starts) == len(pieces) else [None] * len(pieces)
    durations = [
        None if start is None or after is None else after - start
        for start, after in zip(starts, [*starts[1:], None], strict=False)
    ]
    is_sealed = one.is_protected
    return [
        ExpectedSegment(piece, one.init, start, duration, is_image=one.is_image, is_sealed=is_sealed)
        for piece, start, duration in zip(pieces, starts, durations, strict=True)
    ]
