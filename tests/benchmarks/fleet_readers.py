"""Readers of a cluster: of what is live, of what is rewound, and of files and films in S3."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field

import httpx
import m3u8

from tests.benchmarks.fleet import (
    CHANNEL,
    FILM,
    FILM_BYTES,
    RENDITIONS,
    UNREAD,
    UNREAD_BYTES,
    UNREAD_COUNT,
    VOD_FILM,
)
from tests.benchmarks.soak import Count, Follower

FOLLOWERS = 6
RANGES_PAUSE_SECONDS = 0.05
FILES_PAUSE_SECONDS = 1.0
"""Between two questions of each other reader of what is in S3."""

RANGE_BYTES = 1 << 16
VOD_FOLDER = f"/vod/{VOD_FILM}"


@dataclass(slots=True)
class Seen(Count):
    """What readers saw.

    Attributes:
        refused: moments, by the monotonic clock, at which one was told to come again later.
    """

    refused: list[float] = field(default_factory=list)


class FleetReaders:
    """Readers of a cluster beside its viewer, whom S3's absence is told by 503 with Retry-After alone.

    Args:
        url: of nginx.
        client: whose connections they use.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._seen = Seen()

    def work(self) -> Iterator[Coroutine[None, None, None]]:
        """Give what each of them does, without an end."""
        for rendition in itertools.islice(itertools.cycle(RENDITIONS), FOLLOWERS):
            yield self._follow(rendition)
        yield self._repeat(self._take_range, RANGES_PAUSE_SECONDS)
        yield self._repeat(self._rewind, FILES_PAUSE_SECONDS)
        yield self._repeat(self._play_film, FILES_PAUSE_SECONDS)
        unread = itertools.cycle(map(UNREAD.format, range(UNREAD_COUNT)))
        yield self._repeat(lambda: self._take_unread(next(unread)), FILES_PAUSE_SECONDS)

    def take(self) -> Seen:
        """Give what was seen since this was asked last."""
        # They are changed in place: followers have them in hand.
        seen, taken = self._seen, Seen(0, self._seen.answers, [*self._seen.errors], [*self._seen.refused])
        seen.answers = 0
        seen.errors.clear()
        seen.refused.clear()
        return taken

    async def _repeat(self, ask: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            try:
                await ask()
            except httpx.HTTPError as error:
                self._seen.errors.append(f"{type(error).__name__} {error}")
            await asyncio.sleep(pause)

    async def _follow(self, rendition: str) -> None:
        """Follow a rendition part by part; begin anew behind what fails."""
        while True:
            follower = Follower(self._client, f"{self._url}/live/{CHANNEL}/{rendition}", self._seen)
            try:
                while True:
                    await follower.parts()
            except LookupError:  # counted already
                await asyncio.sleep(RANGES_PAUSE_SECONDS)
            except httpx.HTTPError as error:
                self._seen.errors.append(f"{type(error).__name__} {error}")

    async def _take_range(self) -> None:
        """Ask for a range of a file that all caches have."""
        begin = random.randrange(FILM_BYTES - RANGE_BYTES)
        field = {"Range": f"bytes={begin}-{begin + RANGE_BYTES - 1}"}
        await self._ask(f"/media/{FILM}", 206, RANGE_BYTES, field)

    async def _take_unread(self, name: str) -> None:
        """Ask for a file that no cache has."""
        await self._ask(f"/media/{name}", 200, UNREAD_BYTES, may_wait=True)

    async def _play_film(self) -> None:
        """Ask for the playlist of a film that all caches have, and for one of its segments."""
        playlist = m3u8.loads(await self._ask(f"{VOD_FOLDER}/video/media.m3u8"))
        if playlist.segments:
            await self._ask(f"{VOD_FOLDER}/video/{random.choice(playlist.segments).uri}")

    async def _rewind(self) -> None:
        """Ask for one of the segments that the DVR has, and memory no longer."""
        folder = f"/live/{CHANNEL}/{RENDITIONS[0]}"
        names = [one.uri for one in m3u8.loads(await self._ask(f"{folder}/media.m3u8")).segments]
        # The oldest may be gone when it is asked for.
        if rewound := names[2 : len(names) // 2]:
            await self._ask(f"{folder}/{random.choice(rewound)}", may_wait=True)

    async def _ask(
        self,
        path: str,
        status: int = 200,
        size: int | None = None,
        fields: dict[str, str] | None = None,
        *,
        may_wait: bool = False,
    ) -> str:
        """Ask, and note what is wrong of the answer.

        Args:
            path: of what is asked for.
            status: that the answer must have.
            size: of its body; None for any.
            fields: of the request's header.
            may_wait: whether it may come later, where the answer says when.

        Returns:
            The text; empty for what isn't the right answer.
        """
        self._seen.answers += 1
        answer = await self._client.get(f"{self._url}{path}", headers=fields)
        if answer.status_code == status and size in (None, len(answer.content)):
            return answer.text if path.endswith(".m3u8") else ""
        if may_wait and answer.status_code == 503 and answer.headers.get("retry-after", "").isdecimal():
            self._seen.refused.append(time.monotonic())
        else:
            self._seen.errors.append(f"{answer.status_code} with {len(answer.content)} bytes for {path}")
        return ""
