"""Clients that wait for segments of films are served in turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from packager.encode.encode_queue import EncodedMedia
from packager.encode.renditions import EncodedRendition
from packager.process.ffmpeg_discovery import Tools
from packager.transient_errors import NotReadyError
from packager.vod.movie.movie_reader import Read
from tests.packager.encode.encoded_library import encoding, library
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

FILM = "bframes.mp4"
PIECES = [(track, number) for track in ("audio-aac", "video-180p") for number in range(3)]
"""The film's encoded segments."""


class Encoder:
    """Encodes nothing, one segment after the other as it is told to, and writes down which."""

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.turn = asyncio.Semaphore(0)

    async def encode(
        self, _tools: Tools, rendition: EncodedRendition, number: int, _bounds: object, _read: Read
    ) -> bytes:
        self.encoded.append(PIECES.index((rendition.track.name, number)))
        await self.turn.acquire()
        return b"segment"


async def ask(media: EncodedMedia, client: str, *numbers: int) -> list[asyncio.Task[object]]:
    """Ask for segments by their places among the pieces, each once the one before is in the queue."""
    tasks, before = list[asyncio.Task[object]](), media.waiting
    for number in numbers:
        tasks.append(asyncio.create_task(media.segment(FILM, *PIECES[number], client=client)))
        await until(lambda: media.waiting == before + len(tasks), "its place in the queue")
    return tasks


async def test_who_asks_for_one_segment_comes_before_the_rest_of_who_asks_for_many(
    tools: Tools, tmp_path: Path
) -> None:
    encoder = Encoder()
    async with encoding(library(tmp_path, FILM), tools, encode=encoder.encode, at_once=1) as media:
        tasks = await ask(media, "a", 0, 1, 2, 3)
        tasks += await ask(media, "b", 4)
        for _ in range(100):
            encoder.turn.release()
        await asyncio.gather(*tasks)
    assert encoder.encoded.index(4) == 2, "behind the one that was being encoded, and one of the other's"


async def test_in_a_full_queue_the_newest_of_who_asks_for_most_makes_room(
    tools: Tools, tmp_path: Path
) -> None:
    encoder = Encoder()
    async with encoding(library(tmp_path, FILM), tools, encode=encoder.encode, waiting=3, at_once=1) as media:
        first = await ask(media, "a", 0)
        await until(lambda: media.running == 1, "the first segment's turn")
        rest = await ask(media, "a", 1, 2, 3)
        other = asyncio.create_task(media.segment(FILM, *PIECES[4], client="b"))
        with pytest.raises(NotReadyError):
            await rest[-1]
        for _ in range(100):
            encoder.turn.release()
        await asyncio.gather(*first, *rest[:-1], other)
    assert 3 not in encoder.encoded[: encoder.encoded.index(4)]
