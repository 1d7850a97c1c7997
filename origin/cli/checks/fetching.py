"""Fetches playlists, segments and ranges for ``headwater check``, each bounded in time and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx

from origin.cli.checks.manifest_reader import CheckedPiece
from origin.cli.checks.report import CheckReport
from packager.sources.retries import PullError

MAX_BYTES_BEFORE = 4 << 30
"""Most bytes before a range that are skipped where a server ignores ranges."""

MAX_PLAYLIST_BYTES = 4 << 20
MAX_SEGMENT_BYTES = 64 << 20

FETCH_SECONDS = 120.0
"""Longest time that a playlist or a segment may take."""

FAILURES = (httpx.HTTPError, httpx.InvalidURL, PullError, TimeoutError)
"""Errors of requests that get no answer."""


class Fetcher:
    """Sends requests, and reports which addresses don't answer.

    Attributes:
        is_server: whether a server is judged, and not a folder.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        report: CheckReport,
        on_progress: Callable[[str], None],
        *,
        is_server: bool,
    ) -> None:
        self._client = client
        self._report = report
        self.show = on_progress
        self.is_server = is_server

    async def head(self, url: str) -> httpx.Response:
        """Send HEAD."""
        return await self._client.head(url)

    async def attempt(self, url: str, judging: Awaitable[None]) -> None:
        """Judge an address; if it can't be fetched, that is a finding and the rest goes on."""
        try:
            await judging
        except FAILURES as error:
            self._report.expect(False, url, f"can't be fetched: {error or type(error).__name__}")

    async def fetch(
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

    async def bounded(self, piece: CheckedPiece) -> bytes:
        """Fetch a segment; return nothing if it is too large to be decoded, or isn't there."""
        return (await self.loaded(piece))[1]

    async def loaded(self, piece: CheckedPiece) -> tuple[str | None, bytes]:
        """Fetch a segment; return what is wrong with the answer, or its bytes.

        A server may ignore the range, and send more (RFC 9110 §14.2).
        """
        content, most = bytearray(), MAX_SEGMENT_BYTES
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
