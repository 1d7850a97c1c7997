"""An answer's content for a decoder that can't seek: where an MP4's index is at its end, it comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

from media.errors import MediaError
from media.mp4.boxes import LARGEST_HEADER, Box, header
from media.mp4.faststart import MoovFinder, moved_forward
from packager.sources.ranges import Ranges, complete_length
from packager.sources.retries import PullError

HEAD_BYTES = 1 << 20
"""How much is looked at for what comes first; what has neither index nor media there is given as it comes."""

MAX_INDEX_BYTES = 16 << 20
"""Largest index that is moved; two hours of film and sound need half of it."""

MAX_STEPS = 16
"""Boxes behind the first media whose headers are asked for, one request each; most files have one there."""

_UNTOLD = 1 << 62
"""The length of what doesn't tell it."""


async def content(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncGenerator[bytes]:
    """Look at how an answer begins; fetch its index where that comes late.

    Args:
        client: over which it is fetched.
        answer: with status 200, of which nothing was read.

    Returns:
        Its bytes, in the order in which they are to be given. The answer stays to be closed.

    Raises:
        PullError: its index is at its end, and can't be had.
        MediaError: likewise: it isn't there, or impossible.
        httpx.HTTPError: the server is gone.
    """
    data = answer.aiter_raw()
    size = complete_length(answer)
    finder = MoovFinder(_UNTOLD if size is None else size)
    head = bytearray()
    async for more in data:
        head += more
        if _seen(finder, head) or len(head) >= HEAD_BYTES:
            break
    if not finder.data_first:
        return _as_it_comes(bytes(head), data)
    moov, place, front = await _index(Ranges(client, answer), finder, head)
    return _moov_first(bytes(head), data, front, moov, place)


def _seen(finder: MoovFinder, head: bytearray) -> bool:
    """Go on through the boxes at the beginning; tell whether it is known now what comes first."""
    try:
        while len(head) >= finder.position + LARGEST_HEADER:
            first = bytes(head[finder.position : finder.position + LARGEST_HEADER])
            if finder.receive(first) or finder.data_first:
                return True
    except MediaError:
        return True  # whatever it is: ffmpeg judges it
    return False


async def _index(ranges: Ranges, finder: MoovFinder, head: bytearray) -> tuple[bytes, Box, int]:
    """Fetch the index; give it for its new place, its old one, and where the new one is."""
    for _ in range(MAX_STEPS):
        place = finder.receive(await ranges.read(finder.position, LARGEST_HEADER))
        if place is not None:
            break
    else:
        raise PullError(f"its index isn't in the {MAX_STEPS} boxes behind its media")
    if place.size > MAX_INDEX_BYTES:
        raise PullError(f"its index is at its end, and has {place.size} bytes: more than {MAX_INDEX_BYTES}")
    moov = await ranges.read(place.start, place.size)
    first = header(head, 0, place.start)
    # ISO/IEC 14496-12 §4.3.1: ftyp comes as early as possible; older files have none.
    front = first.end if first.kind == b"ftyp" else 0
    return await asyncio.to_thread(moved_forward, moov, place.start, front), place, front


async def _as_it_comes(head: bytes, data: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for more in data:
        yield more


async def _moov_first(
    head: bytes, data: AsyncIterator[bytes], front: int, moov: bytes, place: Box
) -> AsyncGenerator[bytes]:
    """Give what stands in front of all media, the index, and the rest without it."""
    yield head[:front]
    yield moov
    position = front
    async for more in _as_it_comes(head[front:], data):
        for part in (more[: max(0, place.start - position)], more[max(0, place.end - position) :]):
            if part:
                yield part
        position += len(more)
