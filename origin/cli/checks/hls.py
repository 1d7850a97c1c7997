"""Judges HLS playlists, the segments that they name, and what they have in common (RFC 8216bis)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from urllib.parse import urljoin, urlsplit

import m3u8

from origin.cli.checks import cuts, declared_media, low_latency
from origin.cli.checks.fetching import MAX_SEGMENT_BYTES, Fetcher
from origin.cli.checks.files import fetch_text, judge_file
from origin.cli.checks.manifest_reader import CheckedPiece
from origin.cli.checks.multivariant_rules import (
    ListedTag,
    Multivariant,
    multivariant_findings,
    read_multivariant,
)
from origin.cli.checks.playlist_text import FIRST_TAG, encoding_findings, tag_lines, text_findings
from origin.cli.checks.report import CheckReport, Finding
from origin.cli.checks.segments import ExpectedSegment, Reading, SegmentRules, WholeCheck

MAX_VARIANTS = 32
MAX_KEYS = 8
"""Most keys of a playlist that are fetched."""

AES_KEY_BYTES = 16
DECIMAL_VERSION = 3
"""The version of playlists from which on durations have decimals (RFC 8216bis §8)."""

MAX_HINTS = 8
"""Most hinted parts that are asked for in turn, until one of them comes."""

LONGEST_SEGMENT = 86_400.0
"""Longest EXTINF in seconds that is believed."""

PLAYLIST_TYPES = ("application/vnd.apple.mpegurl", "audio/mpegurl")
DURATIONS = "RFC 8216bis §4.4.4.1"
ATTRIBUTES = "RFC 8216bis §4.4.6.2"
INDEPENDENT = "EXT-X-INDEPENDENT-SEGMENTS says so (RFC 8216bis §4.4.2.1)"

UNREADABLE = (m3u8.ParseError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""Exceptions of the m3u8 package for malformed playlists, which its documentation doesn't name."""

FORBIDDEN_STATUSES = (401, 403)


class PlaylistJudge:
    """Judges playlists.

    Args:
        whole: reads the segments of finished playlists, once all are known.
    """

    def __init__(self, fetcher: Fetcher, report: CheckReport, whole: WholeCheck) -> None:
        self._fetcher = fetcher
        self._report = report
        self._whole = whole
        self._independent = False
        self._starts: dict[str, list[float]] = {}
        self._targets: dict[str, int] = {}
        self._lengths: dict[str, float] = {}
        self._readings: dict[str, Reading] = {}
        # Checks of several playlists together, whose segments are read before.
        self._joint_checks: list[Callable[[], None]] = []

    async def playlist(self, url: str, *, named: bool = False, is_frames: bool = False) -> None:
        """Judge a playlist, which another one may have named, and everything it names.

        Args:
            is_frames: whether the other one says that it is an I-frame playlist.
        """
        self._fetcher.show(url)
        content = await fetch_text(self._fetcher, self._report, url, PLAYLIST_TYPES, "RFC 8216bis §4")
        if content is None:
            return
        self._report.add(url, encoding_findings(content), 2)
        text = content.decode("utf-8-sig", "replace")
        said = f"doesn't begin with {FIRST_TAG} (RFC 8216bis §4.4.1.1)"
        if not self._report.expect(text.startswith(FIRST_TAG), url, said):
            return
        lines = tag_lines(text)
        self._report.add(url, text_findings(lines), 3)
        multivariant = read_multivariant(lines)
        if multivariant is not None and named:
            # The nested playlist isn't followed, since it might name itself.
            said = "is a multivariant playlist in another one"
            self._report.expect(False, url, f"{said}, where a media playlist is right ({ATTRIBUTES})")
        elif multivariant is not None:
            self._report.add(url, multivariant_findings(multivariant), 4)
            await self._multivariant(url, multivariant)
        elif (playlist := self._parsed(url, text)) is not None:
            if is_frames:
                said = "has no EXT-X-I-FRAMES-ONLY, though EXT-X-I-FRAME-STREAM-INF names it"
                self._report.expect(playlist.is_i_frames_only, url, f"{said} (RFC 8216bis §4.4.6.3)")
            await self._media(url, playlist)

    def finish(self) -> None:
        """Judge what several playlists have in common, once the segments have been read."""
        for check_jointly in self._joint_checks:
            check_jointly()

    def _parsed(self, url: str, text: str) -> m3u8.M3U8 | None:
        try:
            return m3u8.loads(text, uri=url)
        except UNREADABLE as error:
            said = str(error).replace("\n", " ") or type(error).__name__
            self._report.expect(False, url, f"the m3u8 package can't read it: {said}")
            return None

    async def _multivariant(self, url: str, playlist: Multivariant) -> None:
        self._independent = playlist.independent
        names = [one.uri for one in (*playlist.variants, *playlist.media) if one.uri]
        for name in list(dict.fromkeys(names))[:MAX_VARIANTS]:
            where = urljoin(url, name)
            await self._fetcher.attempt(where, self.playlist(where, named=True))
        for name in list(dict.fromkeys(one.uri for one in playlist.frames if one.uri))[:MAX_VARIANTS]:
            where = urljoin(url, name)
            await self._fetcher.attempt(where, self.playlist(where, named=True, is_frames=True))
        shown = [urljoin(url, one.uri) for one in playlist.variants if "RESOLUTION" in one.attributes]
        variants = [(where, self._starts[where]) for where in dict.fromkeys(shown) if where in self._starts]
        problem = cuts.misaligned(variants)
        said = f"variants aren't cut alike, so no player can change between them: {problem}"
        self._report.expect(problem is None, url, f"{said} (RFC 8216bis §6.2.4)")
        self._alike(url, playlist)
        self._joint_checks.append(lambda: self._report.add(url, self._declared(url, playlist), 8))

    def _alike(self, url: str, playlist: Multivariant) -> None:
        """Judge what all playlists of a film have in common, apart from those of text and of I-frames."""
        told = [one for one in playlist.media if one.attributes.get("TYPE") != "SUBTITLES"]
        wanted = dict.fromkeys(urljoin(url, one.uri) for one in (*playlist.variants, *told) if one.uri)
        targets = {where: self._targets[where] for where in wanted if where in self._targets}
        listed = ", ".join(f"{seconds} in {where}" for where, seconds in targets.items())
        said = f"target durations differ: {listed} (RFC 8216bis §6.2.4)"
        self._report.expect(len(set(targets.values())) < 2, url, said)
        lengths = [(where, self._lengths[where]) for where in wanted if where in self._lengths]
        problem = cuts.unequal_spans(lengths)
        said = f"playlists don't cover the same span: {problem[0] if problem else ''} (RFC 8216bis §6.2.4)"
        # A sound may end before its pictures, and a lost segment has a whole target duration, or most of it.
        longest = max((self._longest(where) for where in wanted), default=0.0)
        is_must = problem is not None and problem[1] >= cuts.LOST_SHARE * longest
        self._report.expect(problem is None, url, said, is_must=is_must)

    def _longest(self, url: str) -> float:
        """Return the duration of a playlist's longest segment but the last."""
        starts = self._starts.get(url, [])
        return max((after - before for before, after in pairwise(starts)), default=0.0)

    def _declared(self, url: str, playlist: Multivariant) -> Iterator[Finding]:
        """Compare the attributes of variants and renditions with their media."""
        sounds: dict[str, list[Reading]] = {}
        for one in playlist.media:
            reading = self._readings.get(urljoin(url, one.uri)) if one.uri else None
            if reading is None or one.attributes.get("TYPE") != "AUDIO":
                continue
            sounds.setdefault(one.attributes.get("GROUP-ID", ""), []).append(reading)
            where = f"line {one.line} ({one.uri}): "
            tracks, clause = declared_media.tracks_of([reading]), "RFC 8216bis §4.4.6.1"
            if "CHANNELS" in one.attributes:
                found = declared_media.channel_findings(one.attributes["CHANNELS"], tracks, clause)
                yield from _at(where, found)
            if "LANGUAGE" in one.attributes:
                found = declared_media.language_findings(one.attributes["LANGUAGE"], tracks, clause)
                yield from _at(where, found)
        for one in (*playlist.variants, *playlist.frames):
            where = urljoin(url, one.uri)
            if one.uri and where in self._readings:
                group = sounds.get(one.attributes.get("AUDIO", ""), [])
                found = self._variant_findings(one, self._readings[where], group, self._targets[where])
                yield from _at(f"line {one.line} ({one.uri}): ", found)

    @staticmethod
    def _variant_findings(
        variant: ListedTag, reading: Reading, sounds: Sequence[Reading], target: int
    ) -> Iterator[Finding]:
        told, own = variant.attributes, declared_media.tracks_of([reading])
        has_all = bool(own) and all(declared_media.tracks_of([one]) for one in sounds)
        if "CODECS" in told and has_all:
            tracks = declared_media.tracks_of([reading, *sounds])
            yield from declared_media.codec_findings(told["CODECS"], tracks, ATTRIBUTES)
        width, _, height = told.get("RESOLUTION", "").partition("x")
        if width.isdecimal() and height.isdecimal():
            size = int(width[:6]), int(height[:6])
            yield from declared_media.size_findings(size, own, "RESOLUTION", ATTRIBUTES)
        rate = declared_media.decimal(told.get("FRAME-RATE", ""))
        is_frames = any(one.expected.is_frame for one in reading.segments)
        if rate is not None and not is_frames:
            yield from declared_media.rate_findings(rate, own, "FRAME-RATE", ATTRIBUTES)
        yield from declared_media.range_findings(told.get("VIDEO-RANGE"), own, ATTRIBUTES)
        peaks = [declared_media.peak_bits(one, target) for one in sounds]
        peak = declared_media.peak_bits(reading, target) + max(peaks, default=0.0)
        yield from declared_media.bandwidth_finding(
            "BANDWIDTH", variant.number("BANDWIDTH"), peak, ATTRIBUTES
        )
        averages = [declared_media.average_bits(one) for one in sounds]
        average = declared_media.average_bits(reading) + max(averages, default=0.0)
        declared = variant.number("AVERAGE-BANDWIDTH")
        yield from declared_media.bandwidth_finding("AVERAGE-BANDWIDTH", declared, average, ATTRIBUTES)

    async def _media(self, url: str, playlist: m3u8.M3U8) -> None:
        expect = self._report.expect
        target = playlist.target_duration or 0
        said = "has no EXT-X-TARGETDURATION, which it must have (RFC 8216bis §4.4.3.1)"
        expect(target > 0, url, said)
        self._targets[url] = target
        add = self._report.add_alike
        add(url, [self._segment_problem(segment, target) for segment in playlist.segments])
        add(url, low_latency.control_problems(playlist))
        add(url, low_latency.part_problems(playlist))
        await self._addresses(url, playlist)
        await self._keys(url, playlist)
        if playlist.is_endlist:
            self._starts[url] = cuts.starts(playlist)
            self._lengths[url] = sum(one.duration or 0.0 for one in playlist.segments)

            def on_read(reading: Reading) -> None:
                self._readings[url] = reading
                add(url, reading.problems)
                self._report.add(url, (Finding(note, is_must=False) for note in reading.notes))

            # §4.4.4.1: before version 3 durations are whole seconds
            is_rounded = (playlist.version or 1) < DECIMAL_VERSION
            independent = self._independent or bool(playlist.is_independent_segments)
            rules = SegmentRules(DURATIONS, is_rounded, INDEPENDENT if independent else "")
            self._whole.add(list(_listed(url, playlist)), rules, on_read)
        else:
            await self._fetcher.attempt(url, self._directives(url, playlist))
            await self._advances(url, playlist, target)

    @staticmethod
    def _segment_problem(segment: m3u8.Segment, target: int) -> str | None:
        duration = segment.duration or 0.0
        if not segment.uri:
            return None
        if not 0 <= duration < LONGEST_SEGMENT:
            return f"{segment.uri} has an EXTINF of {duration} s ({DURATIONS})"
        said = f"{segment.uri} lasts {segment.duration} s, more than the target duration {target}"
        return f"{said} (RFC 8216bis §4.4.3.1)" if int(duration + 0.5) > target else None

    async def _addresses(self, url: str, playlist: m3u8.M3U8) -> None:
        """Judge the init segments, and the first and last segment, as files.

        Gaps are left out, as they aren't to be loaded (RFC 8216bis §4.4.4.7).
        """
        whole = [one.uri for one in playlist.segments if one.uri and not one.gap_tag]
        names = [section.uri for section in playlist.segment_map if section.uri] + whole[:1] + whole[-1:]
        for name in dict.fromkeys(names):
            where = urljoin(url, name)
            await self._fetcher.attempt(where, judge_file(self._fetcher, self._report, where))

    async def _keys(self, url: str, playlist: m3u8.M3U8) -> None:
        """Fetch the keys of whole segments, which have 16 bytes (RFC 8216bis §4.4.4.4)."""
        clause = "(RFC 8216bis §4.4.4.4)"
        keys = [key for key in playlist.keys if key is not None and key.method not in (None, "NONE")]
        for key in keys[:MAX_KEYS]:
            if not self._report.expect(bool(key.uri), url, f"EXT-X-KEY of {key.method} has no URI {clause}"):
                continue
            where = urljoin(url, key.uri)
            is_plain = key.method == "AES-128" and (key.keyformat or "identity") == "identity"
            if is_plain and urlsplit(where).scheme in ("http", "https"):
                await self._fetcher.attempt(where, self._key(where, clause))

    async def _key(self, where: str, clause: str) -> None:
        answer, content = await self._fetcher.fetch(where, AES_KEY_BYTES)
        is_public = answer.status_code not in FORBIDDEN_STATUSES
        said = f"the key answers {answer.status_code}, where 200 is right {clause}"
        if self._report.expect(answer.status_code == 200, where, said, is_must=is_public):
            said = f"the key has {len(content)} bytes or more, where {AES_KEY_BYTES} are right {clause}"
            self._report.expect(len(content) == AES_KEY_BYTES, where, said)

    async def _advances(self, url: str, playlist: m3u8.M3U8, target: int) -> None:
        """Check that a live playlist has a new segment within 1.5 target durations (RFC 8216bis §6.2.2)."""
        before = (playlist.media_sequence or 0) + len(playlist.segments)
        await asyncio.sleep(target * 1.5 + 0.5)
        _, content = await self._fetcher.fetch(url)
        again = self._parsed(url, content.decode("utf-8", "replace"))
        if again is None:
            return
        after = (again.media_sequence or 0) + len(again.segments)
        expect = self._report.expect
        expect(after > before or again.is_endlist, url, "doesn't go on in time (RFC 8216bis §6.2.2)")
        expect(after >= before, url, "goes back (RFC 8216bis §6.2.2)")
        expect(again.target_duration == target, url, "changed its target duration (RFC 8216bis §4.4.3.1)")

    async def _directives(self, url: str, playlist: m3u8.M3U8) -> None:
        """Try the delivery directives that the server promises (§6.2.5), and the parts it hints (§6.2.6)."""
        control = playlist.server_control
        expect, glue = self._report.expect, "&" if "?" in url else "?"
        if control and control.can_block_reload == "YES":
            before = await self._progress(url)
            newer = await self._progress(f"{url}{glue}_HLS_msn={before[0]}&_HLS_part={before[1]}")
            said = "a blocked reload is answered with nothing newer (RFC 8216bis §6.2.5.2)"
            expect(newer > before, url, said)
        if control and control.can_skip_until is not None:
            before = await self._progress(url)
            delta = await self._progress(f"{url}{glue}_HLS_skip=YES")
            expect(delta >= before, url, "a delta update lacks segments (RFC 8216bis §6.2.5.1)")
        if low_latency.has_parts(playlist):
            # A hinted part may not come, where the segmentation changes or there is a gap.
            for _ in range(MAX_HINTS):
                if came := await self._hinted(url):
                    break
            expect(came, url, "no hinted part is answered with 200 (RFC 8216bis §6.2.6)")

    async def _again(self, url: str) -> m3u8.M3U8 | None:
        """Fetch a playlist again; None if it isn't answered with 200 or can't be read."""
        answer, content = await self._fetcher.fetch(url)
        return self._parsed(url, content.decode("utf-8", "replace")) if answer.status_code == 200 else None

    async def _progress(self, url: str) -> tuple[int, int]:
        playlist = await self._again(url)
        return (0, 0) if playlist is None else low_latency.progress(playlist)

    async def _hinted(self, url: str) -> bool:
        playlist = await self._again(url)
        hint = None if playlist is None else playlist.preload_hint
        if not hint or hint.hint_type != "PART" or hint.byterange_start is not None:
            return True
        part, _ = await self._fetcher.fetch(urljoin(url, hint.uri), MAX_SEGMENT_BYTES)
        return part.status_code == 200


def _at(where: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings with the place that they are about."""
    for one in findings:
        yield Finding(f"{where}{one.text}", one.is_must)


class _Ranges:
    """Reads the ranges of a playlist's segments, of which one without an offset follows the one before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends: dict[str, int] = {}

    def piece(self, uri: str, written: str | None) -> CheckedPiece | None:
        """Return a segment's place; None if its range can't be read."""
        where = urljoin(self._url, uri)
        if written is None:
            return CheckedPiece(where)
        length, _, offset = str(written).partition("@")
        begin = int(offset) if offset.isdecimal() else self._ends.get(where)
        if not length.isdecimal() or not int(length) or begin is None:
            return None
        self._ends[where] = begin + int(length)
        return CheckedPiece(where, (begin, begin + int(length) - 1))


def _listed(url: str, playlist: m3u8.M3U8) -> Iterator[ExpectedSegment]:
    """Yield what a finished playlist says of its segments, without gaps, which aren't to be loaded."""
    timeline, start, ranges = 0, 0.0, _Ranges(url)
    for segment in playlist.segments:
        timeline += bool(segment.discontinuity)
        duration, section = segment.duration or 0.0, segment.init_section
        # §4.4.4.5: the range of an init segment has an offset, or begins at 0
        init = None if section is None else _Ranges(url).piece(section.uri, _from_zero(section.byterange))
        piece = ranges.piece(segment.uri, segment.byterange) if segment.uri else None
        if piece is not None and not segment.gap_tag and (section is None or init is not None):
            method = segment.key.method if segment.key else None
            yield ExpectedSegment(
                piece,
                init,
                start,
                duration,
                timeline,
                is_encrypted=method == "AES-128",
                is_sealed=method not in (None, "NONE"),
                is_frame=bool(playlist.is_i_frames_only),
            )
        start += duration


def _from_zero(written: str | None) -> str | None:
    return f"{written}@0" if written is not None and "@" not in written else written
