"""Players that follow a live channel by blocking reload, a crowd of them on one thread."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATIENCE = 120.0

Position = tuple[int, int]
"""Media sequence number and part index."""

_LISTED = re.compile(r'#EXT-X-PART:.*?URI="(\d+)\.(\d+)\.m4s"')
_HINT = re.compile(r'#EXT-X-PRELOAD-HINT:.*?URI="(\d+)\.(\d+)\.m4s"')


def listed(playlist: str) -> list[Position]:
    """The parts that a playlist lists."""
    return [(int(number), int(index)) for number, index in _LISTED.findall(playlist)]


def hinted(playlist: str) -> Position:
    """The part that a playlist hints at."""
    ((number, index),) = _HINT.findall(playlist)
    return int(number), int(index)


@dataclass(frozen=True)
class Reply:
    """An answer, with its content decoded."""

    status: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


class Connection:
    """One connection of a client that keeps it open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, target: str, *, coded: bool = False) -> Reply:
        """Ask for something, compressed if that is possible."""
        accepted = "Accept-Encoding: gzip\r\n" if coded else ""
        self._writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n{accepted}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            if "transfer-encoding: chunked" in head:
                body = await self._chunks()
            else:
                length = re.search(r"\r\ncontent-length: (\d+)", head)
                assert length is not None, head
                body = await self._reader.readexactly(int(length[1]))
        if "content-encoding: gzip" in head:
            body = gzip.decompress(body)
        return Reply(int(head.split(" ", 2)[1]), body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return body


@asynccontextmanager
async def connected(address: tuple[str, int]) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


@dataclass
class Crowd:
    """What a crowd has got.

    Attributes:
        playlists: When a playlist came to those who waited for it, by rendition and part.
        parts: The digests of what came as a part, with how often each did.
        direct: When a player without a cache before it had the playlist.
    """

    playlists: dict[tuple[str, Position], list[float]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[tuple[str, Position], Counter[bytes]] = field(default_factory=lambda: defaultdict(Counter))
    direct: dict[tuple[str, Position], float] = field(default_factory=dict)

    def outdated(self) -> list[bool]:
        """Of each playlist that was waited for: whether a player without a cache had one of a segment more.

        A machine that is slow is so for both of them, and for the source; and who asks for a part that has
        been there for a while is late by itself.
        """
        return [
            moment > later
            for (rendition, (number, index)), moments in self.playlists.items()
            for moment in moments
            if (later := self.direct.get((rendition, (number + 1, index)))) is not None
        ]


def beyond(playlist: str, position: Position) -> Position:
    """The part that comes behind one: the next that is listed, or the one that is hinted at."""
    return min((name for name in listed(playlist) if name > position), default=hinted(playlist))


async def follow(
    address: tuple[str, int],
    rendition: str,
    first: Position,
    end: int,
    crowd: Crowd,
    *,
    coded: bool,
    delta: bool,
) -> None:
    """Follow a rendition from a part to the end of a segment: each playlist has the part, then the part."""
    position, skip = first, "&_HLS_skip=YES" if delta else ""
    async with connected(address) as client:
        while position[0] <= end:
            query = f"_HLS_msn={position[0]}&_HLS_part={position[1]}{skip}"
            moments, waits = crowd.playlists[rendition, position], (rendition, position) not in crowd.direct
            answer = await client.get(f"{rendition}/media.m3u8?{query}", coded=coded)
            assert answer.status == 200, (query, answer)
            if waits:
                moments.append(time.monotonic())
            # §6.2.5.2: where a segment ended early, since its source was late, the next one has begun.
            assert max([*listed(answer.text), hinted(answer.text)]) > position
            if position in listed(answer.text):
                part = await client.get(f"{rendition}/{position[0]}.{position[1]}.m4s")
                assert part.status == 200
                crowd.parts[rendition, position][hashlib.sha256(part.content).digest()] += 1
            position = beyond(answer.text, position)


async def follow_directly(
    address: tuple[str, int], rendition: str, first: Position, end: int, crowd: Crowd
) -> None:
    """Ask the origin itself for the playlists alone, and note when they come."""
    position = first
    async with connected(address) as client:
        while position[0] <= end:
            query = f"_HLS_msn={position[0]}&_HLS_part={position[1]}"
            answer = await client.get(f"{rendition}/media.m3u8?{query}")
            crowd.direct[rendition, position] = time.monotonic()
            position = beyond(answer.text, position)
