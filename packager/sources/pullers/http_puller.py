"""Sources that the server fetches over HTTP and pipes into ffmpeg: HLS, MPEG-TS, FLV, MP3, AAC.

So ffmpeg needs no network access, no password appears in the process list, redirects lead to HTTP only, and a
restarted ffmpeg continues without a new connection. Other containers are left to ``http_file``.
"""

from __future__ import annotations

import asyncio

import httpx
import structlog

from media.errors import MediaError
from media.stream_reader import StreamFormat
from packager.reader_guard import ReaderGuard
from packager.sources.containers import HEAD_BYTES, detect_container, is_playlist
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pullers.guarded_http import certificates, guarded_client
from packager.sources.pullers.hls_client import HlsClient
from packager.sources.pullers.hls_fetcher import HlsFetcher
from packager.sources.pullers.http_file import HttpFile
from packager.sources.pump import DEFAULT_OPTIONS, Pump, PumpOptions, Supply
from packager.sources.retries import PullError, SourceRetries
from packager.threads import SHARED_THREADS

HEADERS = {"user-agent": "Headwater", "accept": "*/*", "accept-encoding": "identity"}

log = structlog.get_logger()


class HttpPuller:
    """Fetches one http or https URL, and reconnects when it ends.

    Args:
        channel: the channel's name, for the log.

    Attributes:
        pump: receives the stream; None until its container is known to be one that can be pumped.
    """

    def __init__(self, url: str, channel: str, limits: SourceLimits = DEFAULT_LIMITS) -> None:
        self._url = url
        self._limits = limits
        self._channel = channel
        self._detected = asyncio.Event()
        self._retries = SourceRetries(channel, limits.retry)
        self._hls = HlsClient(self._prepare_pump, limits)
        self._http_file: HttpFile | None = None
        self.pump: Pump | None = None

    async def wait_until_detected(self) -> Supply | None:
        """Wait until the stream's format is known; return what supplies it."""
        await self._detected.wait()
        return self.pump or self._http_file

    @property
    def trouble(self) -> str:
        """Why nothing is received; empty while something is."""
        return self._retries.trouble

    async def run(self) -> None:
        """Fetch until cancelled."""
        await SHARED_THREADS.run(certificates)
        limits = self._limits
        async with guarded_client(
            self._url,
            limits.guard,
            timeout=httpx.Timeout(limits.connect_seconds, read=limits.silent_seconds),
            redirects=limits.redirects,
            headers=HEADERS,
        ) as client:
            while True:
                try:
                    with ReaderGuard("a pulled stream"):
                        is_fetched = await self._fetch(client)
                    if not is_fetched:
                        self._http_file = HttpFile(client, self._url, self._retries, limits)
                        self._detected.set()
                        await asyncio.Event().wait()
                    reason = "it ended"
                except (PullError, MediaError) as error:
                    reason = str(error)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    reason = type(error).__name__  # the text may contain the URL
                finally:
                    if self.pump is not None:
                        self.pump.receive_eof()
                await asyncio.sleep(self._retries.stream_ended(reason))

    async def _fetch(self, client: httpx.AsyncClient) -> bool:
        """Fetch a stream until its end; return False if it must be decoded from its beginning."""
        async with client.stream("GET", self._url) as response:
            listed, brought = await self._receive_stream(response)
        if not listed:
            return brought
        await self._hls.follow(HlsFetcher(client, self._limits), self._url)
        return True

    async def _receive_stream(self, response: httpx.Response) -> tuple[bool, bool]:
        """Receive a response; return whether it is a playlist, and whether it was pumped to its end."""
        if response.status_code != 200:
            raise PullError(f"it answers {response.status_code}")
        head, begun = b"", False
        async for data in response.aiter_raw():
            if begun and self.pump is not None:
                await self.pump.receive_data(data)
                continue
            head += data
            if is_playlist(head):
                return True, False
            container = detect_container(head[:HEAD_BYTES], response.headers.get("content-type", ""))
            if container is None and len(head) < HEAD_BYTES and head.lstrip()[:1] != b"#":
                continue
            if container is None and self.pump is None:
                return False, False
            if container is None:
                raise PullError("it sends something else than before")
            begun = True
            await self._prepare_pump(container).receive_data(head)
        if not begun:
            raise PullError("it sends nothing that can be told")
        return False, True

    def _prepare_pump(
        self,
        container: str,
        reader: StreamFormat | None = None,
        options: PumpOptions = DEFAULT_OPTIONS,
    ) -> Pump:
        """Return the pump, ready for another stream; see `hls_client.MakePump`."""
        if self.pump is None:
            self.pump = Pump(
                container,
                reader,
                options,
                limits=self._limits,
                channel=self._channel,
            )
        else:
            self.pump.begin(container, reader)
        self._detected.set()
        self._retries.stream_began()
        return self.pump
