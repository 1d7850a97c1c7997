"""``headwater check URL``: judges the playlists, segments and ranges of any origin by the standards.

Playlists are read by the m3u8 package and fetched by httpx, so that nothing is shared with the server that
may be judged. Each finding cites its clause. A folder is judged by the same rules, except those about
servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import httpx
import m3u8

from origin.cli import check_low_latency, check_segments, dash_manifest_reader, folder_transport
from origin.cli.check_whole import FAILURES, ExpectedSegment, WholeCheck
from origin.cli.dash_manifest_reader import CheckedPiece
from origin.config.errors import CommandError
from origin.http.media_types import media_type_in
from origin.tls.client_trust import explained, trusted_context
from packager.sources.pullers.guarded_http import guarded_client
from packager.threads import SHARED_THREADS

MAX_SEGMENTS = 1000
"""Most segments of finished playlists and manifests that are read where nothing else is said."""

MAX_VARIANTS = 32
DECIMAL_VERSION = 3
"""The version of playlists from which on durations have decimals (RFC 8216bis §8)."""

MAX_ALIKE = 3
"""Most findings of one kind about a playlist that are listed one by one."""

MAX_HINTS = 8
"""Most hinted parts that are asked for in turn, until one of them comes."""

MAX_BYTES_BEFORE = 4 << 30
"""Most bytes before a range that are skipped where a server ignores ranges."""

MAX_PLAYLIST_BYTES = 4 << 20
LONGEST_SEGMENT = 86_400.0
"""Longest EXTINF in seconds that is believed."""

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""

FETCH_SECONDS = 120.0
"""Longest time that a playlist or a segment may take."""

MAX_REDIRECTS = 20
"""Most redirects that lead to an answer."""

TRANSPORT_STREAM = b"G"
CLOSED_ACCESS_POINTS = (1, 2)
"""Types of access points before which nothing is needed (ISO/IEC 14496-12 Annex I)."""

PLAYLIST_TYPES = ("application/vnd.apple.mpegurl", "audio/mpegurl")


UNREADABLE = (m3u8.ParseError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""Exceptions of the m3u8 package for malformed playlists, which its documentation doesn't name."""


class CheckError(CommandError):
    """The address can't be judged at all; the text is one line."""


@dataclass(slots=True)
class CheckReport:
    """The result: how many checks ``passed``, and the findings of those that didn't.

    Attributes:
        faults: findings that break a MUST of a standard, or that no player can overlook.
        notes: findings that break a SHOULD alone.
        looked_at: segments of finished playlists and manifests that were read.
        listed: segments of these playlists and manifests, those among them that weren't read.
    """

    passed: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked_at: int = 0
    listed: int = 0

    @property
    def findings(self) -> list[str]:
        """All findings, the worst first."""
        return self.faults + self.notes

    def expect(self, good: bool, where: str, otherwise: str, *, is_must: bool = True) -> bool:
        """Count a check of an address, and return whether it passed; else `otherwise` is the finding.

        Args:
            is_must: whether a standard has a MUST for it (RFC 2119 §1), and not a SHOULD.
        """
        if good:
            self.passed += 1
        else:
            (self.faults if is_must else self.notes).append(f"{where}: {otherwise}")
        return good


async def check(
    url: str,
    most: int = MAX_SEGMENTS,
    on_progress: Callable[[str], None] = lambda _: None,
    *,
    is_insecure: bool = False,
) -> CheckReport:
    """Judge the playlist, manifest or file at an http or https address, or a folder of a package.

    Args:
        most: number of segments of finished playlists and manifests that are read at most.
        on_progress: called with a line about what is being judged.
        is_insecure: whether a server with any certificate is trusted.

    Raises:
        CheckError: the address doesn't answer, or its answer never ends.
    """
    report = CheckReport()
    folder = None if "://" in url else await SHARED_THREADS.run(folder_transport.open_folder, Path(url))
    if folder is not None:
        await _check_folder(*folder, report, Thoroughness(most, on_progress))
        return report
    # Lengths and ranges of a compressed body would be others than the file's.
    plain = {"accept-encoding": "identity"}
    trust = await SHARED_THREADS.run(lambda: trusted_context(is_insecure=is_insecure))
    async with guarded_client(
        url, redirects=MAX_REDIRECTS, trust=trust, timeout=TIMEOUT_SECONDS, headers=plain
    ) as client:
        judge = _Judge(client, report, Thoroughness(most, on_progress))
        try:
            async with client.stream("GET", url) as answer:
                media_type = answer.headers.get("content-type", "")
                name = url.partition("?")[0]
                is_playlist = "mpegurl" in media_type.lower() or name.endswith(".m3u8")
                is_manifest = dash_manifest_reader.MEDIA_TYPE in media_type.lower() or name.endswith(".mpd")
                is_text = is_playlist or is_manifest
                if answer.is_success and not is_text and "content-length" not in answer.headers:
                    raise CheckError(
                        f"{url}: an endless {media_type}: only playlists and files can be judged"
                    )
            one = judge.playlist if is_playlist else judge.manifest if is_manifest else judge.file
            await one(url)
            await judge.finish()
        except FAILURES as error:
            raise CheckError(f"{url}: {explained(error)}") from error
    return report


async def _check_folder(
    transport: folder_transport.FolderTransport,
    urls: Sequence[str],
    report: CheckReport,
    thoroughness: Thoroughness,
) -> None:
    """Judge the playlists and manifests of a folder."""
    if not urls:
        raise CheckError(f"no {' and no '.join(folder_transport.PLAYLISTS)} in that folder")
    async with httpx.AsyncClient(transport=transport) as client:
        judge = _Judge(client, report, thoroughness, is_server=False)
        for url in urls:
            try:
                await (judge.manifest(url) if url.endswith(".mpd") else judge.playlist(url))
            except FAILURES as error:
                report.expect(False, url, f"can't be judged: {error or type(error).__name__}")
        await judge.finish()


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """The number of segments that are read at most, and the callback for the progress."""

    most: int
    on_progress: Callable[[str], None]


class _Judge:
    def __init__(
        self,
        client: httpx.AsyncClient,
        report: CheckReport,
        thoroughness: Thoroughness,
        *,
        is_server: bool = True,
    ) -> None:
        self._client = client
        self._report = report
        self._is_server = is_server
        self._independent = False
        self._starts: dict[str, list[float]] = {}
        self._targets: dict[str, int] = {}
        self._lengths: dict[str, float] = {}
        self._show = thoroughness.on_progress
        self._whole = WholeCheck(self._loaded, thoroughness.most, thoroughness.on_progress)
        # Checks of several playlists together, whose segments are read before.
        self._joint_checks: list[Callable[[], None]] = []

    async def playlist(self, url: str, *, named: bool = False) -> None:
        """Judge a playlist, which another one may have named, and everything it names."""
        self._show(url)
        text = await self._playlist_text(url)
        if text is None:
            return
        playlist = self._read(url, text)
        if playlist is None:
            return
        if playlist.is_variant and named:
            # The nested playlist isn't followed, since it might name itself.
            self._report.expect(
                False, url, "is a multivariant playlist in another one (RFC 8216bis §4.4.6.2)"
            )
        elif playlist.is_variant:
            await self._multivariant(url, playlist)
        else:
            await self._media(url, playlist)

    async def _try(self, url: str, judging: Awaitable[None]) -> None:
        """Judge an address; if it can't be fetched, that is a finding and the rest goes on."""
        try:
            await judging
        except FAILURES as error:
            self._report.expect(False, url, f"can't be fetched: {error or type(error).__name__}")

    def _read(self, url: str, text: str) -> m3u8.M3U8 | None:
        try:
            return m3u8.loads(text, uri=url)
        except UNREADABLE as error:
            said = str(error).replace("\n", " ") or type(error).__name__
            self._report.expect(False, url, f"the m3u8 package can't read it: {said}")
            return None

    async def _playlist_text(self, url: str) -> str | None:
        text = await self._text(url, PLAYLIST_TYPES, "RFC 8216bis §4")
        started = text is not None and text.startswith("#EXTM3U")
        if text is not None:
            said = "doesn't begin with #EXTM3U (RFC 8216bis §4.4.1.1)"
            self._report.expect(started, url, said)
        return text if started else None

    async def _text(self, url: str, media_types: Sequence[str], clause: str) -> str | None:
        """Fetch a playlist or a manifest, and judge how it is sent; None where it isn't."""
        answer, content = await self._fetch(url)
        expect = self._report.expect
        if not expect(answer.status_code == 200, url, f"answers {answer.status_code}"):
            return None
        if self._is_server:
            self._judge_headers(url, answer, media_types, clause)
        large = f"is larger than {MAX_PLAYLIST_BYTES} bytes"
        fits = expect(len(content) <= MAX_PLAYLIST_BYTES, url, large)
        return content.decode("utf-8", "replace") if fits else None

    def _judge_headers(
        self, url: str, answer: httpx.Response, media_types: Sequence[str], clause: str
    ) -> None:
        expect = self._report.expect
        media_type = media_type_in(answer.headers.get("content-type", ""))
        # RFC 8216bis §4: a path that ends with .m3u8 will do.
        is_named = httpx.URL(url).path.endswith(".m3u8")
        told = f"has Content-Type {media_type or 'none'} ({clause})"
        expect(media_type in media_types, url, told, is_must=not is_named)
        told = "has no Cache-Control (RFC 8216bis Appendix B)"
        expect("cache-control" in answer.headers, url, told, is_must=False)
        told = "has Age, which an origin doesn't send (RFC 9111 §5.1)"
        expect("age" not in answer.headers, url, told, is_must=False)
        coding = answer.headers.get("content-encoding", "identity")
        told = f"has Content-Encoding {coding}, which Accept-Encoding doesn't name (RFC 9110 §12.5.3)"
        expect(coding == "identity", url, told, is_must=False)

    async def _fetch(
        self, url: str, most: int = MAX_PLAYLIST_BYTES, headers: Mapping[str, str] | None = None
    ) -> tuple[httpx.Response, bytes]:
        """Fetch a playlist, or something else, without decoding it; stop soon behind the most it may have."""
        content = bytearray()
        async with (
            asyncio.timeout(FETCH_SECONDS),
            self._client.stream("GET", url, headers=headers) as answer,
        ):
            async for data in answer.aiter_raw():
                content += data
                if len(content) > most:
                    break
        return answer, bytes(content)

    async def _multivariant(self, url: str, playlist: m3u8.M3U8) -> None:
        groups = {(media.type, media.group_id) for media in playlist.media}
        for variant in playlist.playlists:
            information = variant.stream_info
            where = urljoin(url, variant.uri)
            expect = self._report.expect
            told = "has no CODECS (RFC 8216bis §4.4.6.2)"
            expect(bool(information.codecs), where, told, is_must=False)
            expect((information.bandwidth or 0) > 0, where, "has no BANDWIDTH (RFC 8216bis §4.4.6.2)")
            average = information.average_bandwidth or 0
            told = "AVERAGE-BANDWIDTH is above BANDWIDTH"
            expect(average <= (information.bandwidth or 0), where, told, is_must=False)
            if information.audio:
                known = ("AUDIO", information.audio) in groups
                expect(known, where, f"AUDIO group {information.audio!r} isn't there (RFC 8216bis §4.4.6.2)")
            if information.subtitles:
                known = ("SUBTITLES", information.subtitles) in groups
                told = f"SUBTITLES group {information.subtitles!r} isn't there"
                expect(known, where, f"{told} (RFC 8216bis §4.4.6.2)")
        self._independent = bool(playlist.is_independent_segments)
        names = [item.uri for item in (*playlist.playlists, *playlist.media) if item.uri]
        for name in list(dict.fromkeys(names))[:MAX_VARIANTS]:
            where = urljoin(url, name)
            await self._try(where, self.playlist(where, named=True))
        shown = [urljoin(url, one.uri) for one in playlist.playlists if one.stream_info.resolution]
        cuts = [(where, self._starts[where]) for where in dict.fromkeys(shown) if where in self._starts]
        problem = check_segments.misaligned(cuts)
        said = f"variants aren't cut alike, so no player can change between them: {problem}"
        self._report.expect(problem is None, url, f"{said} (RFC 8216bis §6.2.4)")
        self._alike(url, playlist)

    def _alike(self, url: str, playlist: m3u8.M3U8) -> None:
        """Judge what all playlists of a film have in common, apart from those of text."""
        told = [one for one in playlist.media if one.type != "SUBTITLES"]
        wanted = dict.fromkeys(urljoin(url, one.uri) for one in (*playlist.playlists, *told) if one.uri)
        targets = {where: self._targets[where] for where in wanted if where in self._targets}
        listed = ", ".join(f"{seconds} in {where}" for where, seconds in targets.items())
        said = f"target durations differ: {listed} (RFC 8216bis §6.2.4)"
        self._report.expect(len(set(targets.values())) < 2, url, said)
        lengths = [(where, self._lengths[where]) for where in wanted if where in self._lengths]
        problem = check_segments.unequal_spans(lengths)
        said = f"playlists don't cover the same span: {problem} (RFC 8216bis §6.2.4)"
        self._report.expect(problem is None, url, said)

    async def _media(self, url: str, playlist: m3u8.M3U8) -> None:
        expect = self._report.expect
        target = playlist.target_duration or 0
        expect(target > 0, url, "has no EXT-X-TARGETDURATION (RFC 8216bis §4.4.3.1)")
        self._targets[url] = target
        self._add_problems(url, [self._segment_problem(segment, target) for segment in playlist.segments])
        self._add_problems(url, list(check_low_latency.control_problems(playlist)))
        self._add_problems(url, list(check_low_latency.part_problems(playlist)))
        await self._addresses(url, playlist)
        if playlist.is_endlist:
            self._starts[url] = check_segments.starts(playlist)
            self._lengths[url] = sum(one.duration or 0.0 for one in playlist.segments)
            # §4.4.4.1: before version 3 durations are whole seconds
            is_rounded = (playlist.version or 1) < DECIMAL_VERSION

            def add(problems: list[str | None], _presented: float | None) -> None:
                self._add_problems(url, problems)

            self._whole.add(_listed(url, playlist), add, is_rounded=is_rounded)
            if self._independent or playlist.is_independent_segments:
                await self._try(url, self._segments_alone(url, playlist))
        else:
            await self._try(url, self._directives(url, playlist))
            await self._advances(url, playlist, target)

    @staticmethod
    def _segment_problem(segment: m3u8.Segment, target: int) -> str | None:
        duration = segment.duration or 0.0
        if not segment.uri:
            return None
        if not 0 <= duration < LONGEST_SEGMENT:
            return f"{segment.uri} has an EXTINF of {duration} s"
        said = f"{segment.uri} lasts {segment.duration} s, more than the target duration {target}"
        return f"{said} (RFC 8216bis §4.4.3.1)" if int(duration + 0.5) > target else None

    def _add_problems(self, url: str, problems: Sequence[str | None]) -> None:
        """Count checks of one kind, and list the first that fail."""
        wrong = [problem for problem in problems if problem is not None]
        self._report.passed += len(problems) - len(wrong)
        self._report.faults += [f"{url}: {problem}" for problem in wrong[:MAX_ALIKE]]
        if len(wrong) > MAX_ALIKE:
            self._report.faults.append(f"{url}: and {len(wrong) - MAX_ALIKE} more of that kind")

    async def _addresses(self, url: str, playlist: m3u8.M3U8) -> None:
        """Judge the init segments, and the first and last segment, as files.

        Gaps are left out, as they aren't to be loaded (RFC 8216bis §4.4.4.7).
        """
        whole = [one.uri for one in playlist.segments if one.uri and not one.gap_tag]
        names = [section.uri for section in playlist.segment_map if section.uri] + whole[:1] + whole[-1:]
        for name in dict.fromkeys(names):
            where = urljoin(url, name)
            await self._try(where, self.file(where))

    async def finish(self) -> None:
        """Read the segments of what is finite, and judge each, and what several playlists have in common."""
        await self._whole.run()
        self._report.looked_at, self._report.listed = self._whole.looked_at, self._whole.listed
        for check_jointly in self._joint_checks:
            check_jointly()

    async def _segments_alone(self, url: str, playlist: m3u8.M3U8) -> None:
        """Decode some segments alone, as EXT-X-INDEPENDENT-SEGMENTS promises (RFC 8216bis §4.4.2.1)."""
        maps: dict[CheckedPiece, bytes] = {}
        for segment in check_segments.chosen(playlist):
            section = segment.init_section
            piece, init = _piece(url, segment), None if section is None else _piece(url, section)
            if piece is None or (section is not None and init is None):
                continue
            if init is not None and init not in maps:
                maps[init] = await self._bounded(init)
            data = await self._bounded(piece)
            if init is None and data[:1] != TRANSPORT_STREAM:
                continue  # sound, whose frames all stand alone
            alone = await check_segments.decodes_alone(maps[init] if init else b"", data) if data else None
            if alone is not None:
                told = f"{segment.uri} can't be decoded alone, though EXT-X-INDEPENDENT-SEGMENTS says so"
                self._report.expect(alone, url, f"{told} (RFC 8216bis §4.4.2.1)")

    async def manifest(self, url: str) -> None:
        """Judge a DASH manifest, and check its claims about its segments; live, about the newest."""
        text = await self._text(url, (dash_manifest_reader.MEDIA_TYPE,), "ISO/IEC 23009-1 §C.1")
        if text is None:
            return
        try:
            sets = dash_manifest_reader.read_manifest(url, text, time.time())
            for one in sets:
                for representation in one:
                    where = f"{url}: representation {representation.name!r}"
                    await self._try(where, self._representation(where, representation))
                await self._try(url, self._aligned(url, [other for other in one if other.aligned]))
            self._joint_checks.append(lambda: self._cover(url, [one for group in sets for one in group]))
        except dash_manifest_reader.ManifestError as error:
            self._report.expect(False, url, str(error))

    async def _pieces(
        self, representation: dash_manifest_reader.CheckedRepresentation
    ) -> Sequence[CheckedPiece]:
        """List a representation's segments, by their index where there is one."""
        if representation.index is None:
            return representation.segments
        return dash_manifest_reader.indexed_segments(
            representation.index, await self._bounded(representation.index)
        )

    async def _representation(self, where: str, one: dash_manifest_reader.CheckedRepresentation) -> None:
        self._show(where)
        pieces = await self._pieces(one)
        if not one.is_live:
            self._report.expect(bool(pieces), where, "has no segments (ISO/IEC 23009-1 §5.3.9)")
        init = b"" if one.init is None else await self._bounded(one.init)
        if one.init is not None:
            self._report.expect(bool(init), where, f"{one.init.url} isn't there")

        def add(problems: list[str | None], presented: float | None) -> None:
            self._add_problems(where, problems)
            if presented is not None:
                self._lengths[f"{where} of period {one.period}"] = presented

        self._whole.add(_listed_in_manifest(one, pieces), add)
        if not one.video or one.access_point not in CLOSED_ACCESS_POINTS:
            return
        for piece in check_segments.some(pieces[1:]):
            data = await self._bounded(piece)
            alone = await check_segments.decodes_alone(init, data) if data else None
            if alone is not None:
                told = f"{piece.url} can't be decoded alone, though startWithSAP says {one.access_point}"
                self._report.expect(alone, where, f"{told} (ISO/IEC 23009-1 §5.3.7.2)")

    def _cover(self, url: str, all_of_them: Sequence[dash_manifest_reader.CheckedRepresentation]) -> None:
        """Check that picture and sound of each period end together, and with the period."""
        periods: dict[int, list[tuple[str, float]]] = {}
        for one in all_of_them:
            where = f"representation {one.name!r}"
            length = self._lengths.get(f"{url}: {where} of period {one.period}")
            if one.is_media and not one.is_live and length is not None:
                spans = periods.setdefault(one.period, [])
                spans.append((where, length))
                if one.period_seconds and all(name != "the period" for name, _ in spans):
                    spans.append(("the period", one.period_seconds))
        for spans in periods.values():
            problem = check_segments.unequal_spans(spans)
            said = f"representations don't cover the same span: {problem} (ISO/IEC 23009-1 §5.3.2.1)"
            self._report.expect(problem is None, url, said)

    async def _aligned(
        self, url: str, representations: Sequence[dash_manifest_reader.CheckedRepresentation]
    ) -> None:
        """Check that representations begin their segments at the same times, as segmentAlignment says."""
        shown = [one for one in representations if one.video]
        if len(shown) < 2:
            return
        cuts = [(f"representation {one.name!r}", list(one.starts)) for one in shown if one.starts]
        problem = check_segments.misaligned(cuts)
        listed = [await self._pieces(one) for one in shown]
        numbers = range(1, min(map(len, listed)))
        for number in check_segments.some(numbers) if problem is None else ():
            times = []
            for one, pieces in zip(shown, listed, strict=True):
                init = b"" if one.init is None else await self._bounded(one.init)
                time = await check_segments.first_time(init, await self._bounded(pieces[number]))
                times.append((f"representation {one.name!r}", time))
            known = [(name, [time]) for name, time in times if time is not None]
            problem = check_segments.misaligned(known)
            if problem is not None:
                problem = problem.replace("segment 0", f"segment {number}")
                break
        said = f"segmentAlignment isn't so: {problem} (ISO/IEC 23009-1 §5.3.3.2)"
        self._report.expect(problem is None, url, said)

    async def _bounded(self, piece: CheckedPiece) -> bytes:
        """Fetch a segment; return nothing if it is too large to be decoded, or isn't there."""
        return (await self._loaded(piece))[1]

    async def _loaded(self, piece: CheckedPiece) -> tuple[str | None, bytes]:
        """Fetch a segment; return what is wrong with the answer, or its bytes.

        A server may ignore the range, and send more (RFC 9110 §14.2).
        """
        content, most = bytearray(), check_segments.MAX_SEGMENT_BYTES
        first, last = piece.span or (0, most)
        if piece.span is not None and (first > last or last - first >= most):
            return f"has the range {first}-{last}, which can't be a segment", b""
        headers = {} if piece.span is None else {"range": f"bytes={first}-{last}"}
        async with (
            asyncio.timeout(FETCH_SECONDS),
            self._client.stream("GET", piece.url, headers=headers) as answer,
        ):
            if answer.status_code not in (200, 206):
                return f"isn't there: {answer.status_code}", b""
            before = first if answer.status_code == 200 else 0
            if before > MAX_BYTES_BEFORE:
                return "isn't answered by its range (RFC 9110 §14.2)", b""
            async for data in answer.aiter_raw():
                passed_over = min(before, len(data))
                before -= passed_over
                content += memoryview(data)[passed_over:]
                if len(content) > last - first:
                    break
        wanted = bytes(content[: last - first + 1])
        if len(wanted) > most:
            return f"has more than {most} bytes", b""
        if piece.span is not None and len(wanted) <= last - first:
            return f"is cut off: {len(wanted)} bytes of the range {first}-{last} are there", b""
        return None, wanted

    async def _advances(self, url: str, playlist: m3u8.M3U8, target: int) -> None:
        """Check that a live playlist has a new segment within 1.5 target durations (RFC 8216bis §6.2.2)."""
        before = (playlist.media_sequence or 0) + len(playlist.segments)
        await asyncio.sleep(target * 1.5 + 0.5)
        _, content = await self._fetch(url)
        again = self._read(url, content.decode("utf-8", "replace"))
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
        if check_low_latency.has_parts(playlist):
            # A hinted part may not come, where the segmentation changes or there is a gap.
            for _ in range(MAX_HINTS):
                if came := await self._hinted(url):
                    break
            expect(came, url, "no hinted part is answered with 200 (RFC 8216bis §6.2.6)")

    async def _again(self, url: str) -> m3u8.M3U8 | None:
        """Fetch a playlist again; None if it isn't answered with 200 or can't be read."""
        answer, content = await self._fetch(url)
        return self._read(url, content.decode("utf-8", "replace")) if answer.status_code == 200 else None

    async def _progress(self, url: str) -> tuple[int, int]:
        playlist = await self._again(url)
        return (0, 0) if playlist is None else check_low_latency.progress(playlist)

    async def _hinted(self, url: str) -> bool:
        playlist = await self._again(url)
        hint = None if playlist is None else playlist.preload_hint
        if not hint or hint.hint_type != "PART" or hint.byterange_start is not None:
            return True
        part, _ = await self._fetch(urljoin(url, hint.uri), check_segments.MAX_SEGMENT_BYTES)
        return part.status_code == 200

    async def file(self, url: str) -> None:
        """Judge how a file's address answers ranges and conditions."""
        self._show(url)
        expect = self._report.expect
        head = await self._client.head(url)
        if not self._is_server:
            expect(head.status_code == 200, url, "isn't there")
            return
        if not expect(
            head.status_code == 200, url, f"answers HEAD with {head.status_code} (RFC 9110 §9.3.2)"
        ):
            return
        size = int(head.headers.get("content-length", -1))
        told = "has no Content-Length header (RFC 9110 §8.6)"
        if not expect(size >= 0, url, told, is_must=False) or size == 0:
            return
        # A server may ignore ranges (RFC 9110 §14.2), and send whole files: their first bytes are read.
        first, _ = await self._fetch(url, 1, {"range": "bytes=0-0"})
        status = first.status_code
        has_ranges = expect(status == 206, url, _answers("a range", status, "§14.2"), is_must=False)
        told = f"{_content_range(first)}, where it is bytes 0-0/{size} (RFC 9110 §14.4)"
        if has_ranges:
            expect(first.headers.get("content-range") == f"bytes 0-0/{size}", url, told)
        _, last = await self._fetch(url, 1, {"range": "bytes=-1"})
        told = "a suffix range isn't answered (RFC 9110 §14.1.2)"
        expect(len(last) == 1, url, told, is_must=has_ranges)
        beyond, _ = await self._fetch(url, 1, {"range": f"bytes={size}-"})
        told = _answers("a range beyond the end", beyond.status_code, "§15.5.17")
        if expect(beyond.status_code == 416, url, told, is_must=False):
            told = f"{_content_range(beyond)}, where 416 has bytes */{size} (RFC 9110 §14.4)"
            expect(beyond.headers.get("content-range") == f"bytes */{size}", url, told, is_must=False)
        tag = head.headers.get("etag")
        if expect(tag is not None, url, "has no ETag header (RFC 9110 §8.8.3)", is_must=False):
            known, _ = await self._fetch(url, 1, {"if-none-match": tag})
            status = known.status_code
            expect(status == 304, url, f"If-None-Match gives {status} (RFC 9110 §13.1.2)")


def _answers(what: str, status: int, section: str) -> str:
    return f"answers {what} with {status} (RFC 9110 {section})"


def _content_range(answer: httpx.Response) -> str:
    """Describe the Content-Range of an answer."""
    value = answer.headers.get("content-range")
    return "has no Content-Range header" if value is None else f"has Content-Range {value}"


def _piece(url: str, one: m3u8.Segment | m3u8.InitializationSection) -> CheckedPiece | None:
    """Return the place of a segment or an init segment; None if its range follows another one's."""
    if not one.byterange:
        return CheckedPiece(urljoin(url, one.uri))
    length, _, offset = str(one.byterange).partition("@")
    if not (length.isdecimal() and offset.isdecimal()):
        return None
    return CheckedPiece(urljoin(url, one.uri), (int(offset), int(offset) + int(length) - 1))


def _listed(url: str, playlist: m3u8.M3U8) -> list[ExpectedSegment]:
    """List what a finished playlist says of its segments, without gaps, which aren't to be loaded."""
    found: list[ExpectedSegment] = []
    timeline, start = 0, 0.0
    for segment in playlist.segments:
        timeline += bool(segment.discontinuity)
        duration = segment.duration or 0.0
        section = segment.init_section
        piece = _piece(url, segment) if segment.uri else None
        init = None if section is None else _piece(url, section)
        if piece is not None and not segment.gap_tag and (section is None or init is not None):
            is_encrypted = bool(segment.key and segment.key.method == "AES-128")
            found.append(ExpectedSegment(piece, init, start, duration, timeline, is_encrypted))
        start += duration
    return found


def _listed_in_manifest(
    one: dash_manifest_reader.CheckedRepresentation, pieces: Sequence[CheckedPiece]
) -> list[ExpectedSegment]:
    """List what a manifest says of a representation's segments."""
    starts: list[float | None] = [*one.starts] if len(one.starts) == len(pieces) else [None] * len(pieces)
    durations = [
        None if start is None or after is None else after - start
        for start, after in zip(starts, [*starts[1:], None], strict=False)
    ]
    return [
        ExpectedSegment(piece, one.init, start, duration, is_image=one.is_image)
        for piece, start, duration in zip(pieces, starts, durations, strict=True)
    ]
