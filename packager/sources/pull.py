"""Streams that the server itself fetches over HTTP and brings to ffmpeg: MPEG-TS, FLV, MP3, AAC.

So the decoder has no network, nobody sees the URL's password among the processes, a redirect leads to HTTP
and nowhere else, and a restarted ffmpeg goes on with what is there instead of connecting anew. What is a list
of other addresses (HLS), or can only be decoded from its beginning, ffmpeg fetches.
"""

from __future__ import annotations

import asyncio

import httpx
import structlog

from media.errors import MediaError
from packager.sources.pump import Pump

CONNECT_SECONDS = 10.0
SILENT_SECONDS = 10.0
"""How long the other side may send nothing."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds until it is asked again: doubled each time."""

QUIET_AFTER = 3
"""Failures in a row that are told; those behind them aren't news."""

MAX_REDIRECTS = 5
HEAD_BYTES = 4096
"""How much of a stream is looked at to see what it is."""

PACKET = 188
TYPES = {
    "video/mp2t": "mpegts",
    "video/x-flv": "flv",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/aacp": "aac",
}
"""Containers by media type; for what doesn't begin with a frame."""

HEADERS = {"user-agent": "Headwater", "accept": "*/*", "accept-encoding": "identity"}

_log = structlog.get_logger()


class PullError(Exception):
    """The answer is no stream that can be brought; the text says why, and nothing of the address."""


def recognise(head: bytes, media_type: str = "") -> str | None:
    """Tell what a stream is.

    Args:
        head: its first bytes, up to ``HEAD_BYTES``.
        media_type: what its server calls it.

    Returns:
        ffmpeg's name of the container; None where it isn't one that is brought.
    """
    if head.startswith(b"FLV"):
        return "flv"
    # ISO/IEC 13818-1 §2.4.3.2: a packet each 188 bytes
    for start in range(min(PACKET, max(len(head) - 2 * PACKET, 0))):
        if head[start] == head[start + PACKET] == head[start + 2 * PACKET] == 0x47:
            return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ISO/IEC 13818-7 §6.2: layer 0 is ADTS
        return "aac"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3"
    if head[:4] in (b"OggS", b"fLaC", b"\x1aE\xdf\xa3") or head[4:8] == b"ftyp" or head.lstrip()[:1] == b"#":
        return None
    return TYPES.get(media_type.partition(";")[0].strip().lower())


class Puller:
    """Fetches one URL, and again when it ends; see ``run``.

    Args:
        url: http or https.
        channel: its name, for the log.

    Attributes:
        pump: where the stream goes; None until it was seen that it can be brought.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._decided = asyncio.Event()
        # Whether a stream comes, whether one ever came, and how often none did since one came for long.
        self._there = self._played = False
        self._failures = 0
        self.pump: Pump | None = None

    async def decided(self) -> Pump | None:
        """Wait until it is known what the stream is; None where ffmpeg must fetch it."""
        await self._decided.wait()
        return self.pump

    async def run(self) -> None:
        """Fetch for as long as it is asked; end only where the stream isn't one that is brought."""
        limits, pause = httpx.Timeout(CONNECT_SECONDS, read=SILENT_SECONDS), FIRST_PAUSE
        async with httpx.AsyncClient(
            timeout=limits, follow_redirects=True, max_redirects=MAX_REDIRECTS, headers=HEADERS
        ) as client:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    async with client.stream("GET", self._url) as response:
                        if not await self._carry(response):
                            return
                    reason = "it ended"
                except (PullError, MediaError) as error:
                    reason = str(error)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    reason = type(error).__name__  # its text may have the address in it
                finally:
                    if self.pump is not None:
                        self.pump.receive_eof()
                if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                    pause, self._failures = FIRST_PAUSE, 0
                if not self._failures or (self._there and self._failures < QUIET_AFTER):
                    _log.warning("source isn't there", channel=self._channel, reason=reason)
                self._there, self._failures = False, self._failures + 1
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _carry(self, response: httpx.Response) -> bool:
        """Bring an answer's stream to its end; False where it isn't one that is brought."""
        if response.status_code != 200:
            raise PullError(f"it answers {response.status_code}")
        head, begun = b"", False
        async for data in response.aiter_raw():
            if begun and self.pump is not None:
                await self.pump.receive(data)
                continue
            head += data
            container = recognise(head[:HEAD_BYTES], response.headers.get("content-type", ""))
            if container is None and len(head) < HEAD_BYTES and head.lstrip()[:1] != b"#":
                continue
            if container is None and self.pump is None:
                self._decided.set()
                return False
            if container is None:
                raise PullError("it sends something else than before")
            begun = True
            await self._begin(container, head)
        if not begun:
            raise PullError("it sends nothing that can be told")
        return True

    async def _begin(self, container: str, head: bytes) -> None:
        if self.pump is None:
            self.pump = Pump(container)
        else:
            self.pump.begin(container)
        self._decided.set()
        if self._failures > 0 and (self._failures <= QUIET_AFTER or not self._played):
            _log.info("source is there", channel=self._channel)
        self._there = self._played = True
        await self.pump.receive(head)
