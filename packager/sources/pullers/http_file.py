"""Sources over HTTP that can only be decoded from their beginning: MP4, Matroska, Ogg, FLAC.

The server requests them anew for each ffmpeg, so that ffmpeg needs no network access and redirects go through
the guard. An MP4 with its index at the end is reordered by ``http_faststart``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx

from media.errors import MediaError
from packager.process.process import Process
from packager.reader_guard import ReaderGuard
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pullers.http_faststart import faststart_content
from packager.sources.retries import PullError, SourceRetries


@dataclass(frozen=True, slots=True)
class _Opened:
    """A response, and its content in the order for ffmpeg."""

    answer: httpx.Response
    content: AsyncGenerator[bytes]

    async def aclose(self) -> None:
        await self.content.aclose()
        await self.answer.aclose()


class HttpFile:
    """A ``Supply`` that requests one URL anew for each ffmpeg.

    Args:
        limits: bytes, requests and seconds that fetching an index behind the media may take.

    Attributes:
        container: empty, so that ffmpeg detects the container.
        stream: always None: changes aren't detected.
    """

    container = ""
    paced = False
    stream: object = None

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        retries: SourceRetries,
        limits: SourceLimits = DEFAULT_LIMITS,
    ) -> None:
        self._client = client
        self._url = url
        self._retries = retries
        self._limits = limits
        self._opened: _Opened | None = None

    @property
    def has_stream(self) -> bool:
        """Whether a response has begun that no ffmpeg was given yet; see ``Supply``."""
        return self._opened is not None

    async def wait_until_flowing(self) -> None:
        """Request the URL until a response begins; it is kept for the next ``give``."""
        while self._opened is None:
            try:
                with ReaderGuard("a pulled file"):
                    self._opened = await self._ask()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # The text of the error may contain the URL.
                await self._retries.wait_after_failure(type(error).__name__)
            except (PullError, MediaError) as error:
                await self._retries.wait_after_failure(str(error))
        self._retries.stream_began()

    async def _ask(self) -> _Opened:
        request = self._client.build_request("GET", self._url)
        async with contextlib.AsyncExitStack() as stack:
            answer = await self._client.send(request, stream=True)
            stack.push_async_callback(answer.aclose)
            if answer.status_code != 200:
                raise PullError(f"it answers {answer.status_code}")
            opened = _Opened(answer, await faststart_content(self._client, answer, self._limits))
            stack.pop_all()
        return opened

    async def feed(self, process: Process) -> None:
        """Write the content to an ffmpeg's standard input, until the end of either."""
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                async for data in opened.content:
                    await process.write(data)
            except (BrokenPipeError, httpx.HTTPError):
                pass  # the process's owner notices its end
            finally:
                await opened.aclose()
        process.close_stdin()
