"""``headwater check URL``: judges the playlists, segments and ranges of any origin by the standards.

Each finding has its place, what was found there, what would be right, and the clause. A folder is judged by
the same rules, except those about servers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from origin.cli.checks import folder_transport
from origin.cli.checks.dash import ManifestJudge
from origin.cli.checks.fetching import FAILURES, Fetcher
from origin.cli.checks.files import judge_file
from origin.cli.checks.hls import PlaylistJudge
from origin.cli.checks.manifest_reader import MEDIA_TYPE
from origin.cli.checks.report import CheckReport
from origin.cli.checks.segments import WholeCheck
from origin.config.errors import CommandError
from origin.tls.client_trust import explained, trusted_context
from packager.sources.pullers.guarded_http import guarded_client
from packager.threads import SHARED_THREADS

MAX_SEGMENTS = 1000
"""Most segments of finished playlists and manifests that are read where nothing else is said."""

TIMEOUT_SECONDS = 30.0
"""Longest silence of a server."""

MAX_REDIRECTS = 20
"""Most redirects that lead to an answer."""


class CheckError(CommandError):
    """The address can't be judged at all; the text is one line."""


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
                is_manifest = MEDIA_TYPE in media_type.lower() or name.endswith(".mpd")
                is_text = is_playlist or is_manifest
                if answer.is_success and not is_text and "content-length" not in answer.headers:
                    raise CheckError(
                        f"{url}: an endless {media_type}: only playlists and files can be judged"
                    )
            if is_text:
                await judge.text(url, is_manifest=is_manifest and not is_playlist)
            else:
                await judge.file(url)
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
                await judge.text(url, is_manifest=url.endswith(".mpd"))
            except FAILURES as error:
                report.expect(False, url, f"can't be judged: {error or type(error).__name__}")
        await judge.finish()


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """The number of segments that are read at most, and the callback for the progress."""

    most: int
    on_progress: Callable[[str], None]


class _Judge:
    """Judges playlists, manifests and files of one origin."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        report: CheckReport,
        thoroughness: Thoroughness,
        *,
        is_server: bool = True,
    ) -> None:
        self._report = report
        self._fetcher = Fetcher(client, report, thoroughness.on_progress, is_server=is_server)
        self._whole = WholeCheck(self._fetcher.loaded, thoroughness.most, thoroughness.on_progress)
        self._playlists = PlaylistJudge(self._fetcher, report, self._whole)
        self._manifests = ManifestJudge(self._fetcher, report, self._whole)

    async def text(self, url: str, *, is_manifest: bool) -> None:
        """Judge a manifest, or else a playlist."""
        await (self._manifests.manifest(url) if is_manifest else self._playlists.playlist(url))

    async def file(self, url: str) -> None:
        """Judge a file's ranges and conditions."""
        await judge_file(self._fetcher, self._report, url)

    async def finish(self) -> None:
        """Read the segments of what is finite, and judge each, and what several playlists have in common."""
        await self._whole.run()
        self._report.looked_at, self._report.listed = self._whole.looked_at, self._whole.listed
        self._playlists.finish()
        self._manifests.finish()
