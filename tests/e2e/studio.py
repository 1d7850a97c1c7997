"""A station that is published to at real time, and who hears it and reads its titles over HTTP/2."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx

from tests.eventstream import read
from tests.radio_server import FRAME_BYTES, Server, numbered_frame, numbers
from tests.waiting import until

STATION = "talk.mp3"
PASSWORD = "sesame"
KEY = f"Authorization: Basic {base64.b64encode(f'source:{PASSWORD}'.encode()).decode()}"
FRAMES_AT_ONCE = 10
FRAME_SECONDS = 1152 / 44100


@dataclass
class Studio:
    """A source client of the station, at real time; its frames are numbered."""

    port: int
    sent: int = 0

    async def broadcast(self, on_air: asyncio.Event) -> None:
        """Send until it is cancelled."""
        loop = asyncio.get_running_loop()
        client = await Server(self.port).source(STATION, KEY)
        started = loop.time()
        try:
            while True:
                for _ in range(FRAMES_AT_ONCE):
                    client.writer.write(numbered_frame(self.sent))
                    self.sent += 1
                await client.writer.drain()
                on_air.set()
                await asyncio.sleep(started + self.sent * FRAME_SECONDS - loop.time())
        finally:
            client.abort()

    async def announce(self, title: str) -> None:
        query = urlencode({"mode": "updinfo", "mount": f"/radio/{STATION}", "song": title})
        answer = await Server(self.port).open(KEY, "Connection: close", path=f"/admin/metadata?{query}")
        assert answer.status == 200
        await answer.close()


@dataclass
class Titles:
    """A reader of a station's titles: when each came."""

    came: dict[str, float] = field(default_factory=dict)

    async def read(self, client: httpx.AsyncClient) -> None:
        """Read until it is cancelled."""
        stream = b""
        async with client.stream("GET", f"/events/radio/{STATION}") as answer:
            async for chunk in answer.aiter_raw():
                stream += chunk
                for message in read(stream):
                    if message.name == "title":
                        self.came.setdefault(
                            json.loads(message.data)["title"], asyncio.get_running_loop().time()
                        )

    async def has(self, title: str) -> None:
        """Wait until a title has come."""
        await until(lambda: title in self.came, title)


async def listen(client: httpx.AsyncClient, studio: Studio) -> list[int]:
    """Listen until two seconds of what was sent after the beginning are heard; their numbers."""
    data, last = b"", studio.sent + 2 * round(1 / FRAME_SECONDS)
    while True:
        async with client.stream("GET", f"/radio/{STATION}") as answer:
            assert answer.http_version == "HTTP/2"
            if answer.status_code in (404, 503):  # a busy studio was late, and the station went off the air
                await asyncio.sleep(0.1)
                continue
            assert answer.headers["content-type"] == "audio/mpeg"
            async for chunk in answer.aiter_raw():
                data += chunk
                heard = numbers(data[: len(data) // FRAME_BYTES * FRAME_BYTES])
                if heard and heard[-1] >= last:
                    return heard
        raise AssertionError("the station ended")
