"""An answer's content for a decoder that can't seek: where an MP4's index is at its end, it comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

from media.errors import MediaError
from media.mp4.boxes import LARGEST_HEADER, Box, header
from media.mp4.faststart import MoovFinder, moved_forward
from packager.sources.hls_fetcher import read_body
from packager.sources.limits import DEFAULT_LIMITS, FaststartLimits
from packager.sources.retries import PullError

_UNKNOWN_LENGTH = 1 << 62
"""The length of what doesn't tell it."""


async def faststart_content(
    client: httpx.AsyncClient, answer: httpx.Response, limits: FaststartLimits = DEFAULT_LIMITS.faststart
) -> AsyncGenerator[bytes]:
    """Look at how an answer begins; fetch its index where that comes late.

    Args:
        client: over which it is fetched.
        answer: with status 200, of which nothing was read.
        limits: what fetching its index may cost.

    Returns:
        Its bytes, in the order in which they are to be given. The answer stays to be closed.

    Raises:
        PullError: its index is at its end, and can't be had.
        MediaError: likewise: it isn't there, or impossible.
        httpx.HTTPError: the server is gone.
    """
    data = answer.aiter_raw()
    size = complete_length(answer)
    finder = MoovFinder(_UNKNOWN_LENGTH if size is None else size)
    head = bytearray()
    async for more in data:
        head += more
        if _seen(finder, head) or len(head) >= limits.head_bytes:
            break
    if not finder.data_first:
        return _as_it_comes(bytes(head), data)
    ranges = RangeReader(client, answer, limits.request_seconds)
    moov, place, front = await _index(ranges, finder, head, limits)
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


async def _index(
    ranges: RangeReader, finder: MoovFinder, head: bytearray, limits: FaststartLimits
) -> tuple[bytes, Box, int]:
    """Fetch the index; give it for its new place, its old one, and where the new one is."""
    for _ in range(limits.boxes):
        place = finder.receive(await ranges.read(finder.position, LARGEST_HEADER))
        if place is not None:
            break
    else:
        raise PullError(f"its index isn't in the {limits.boxes} boxes behind its media")
    if place.size > limits.index_bytes:
        raise PullError(
            f"its index is at its end, and has {place.size} bytes: more than {limits.index_bytes}"
        )
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


class RangeReader:
    """Asks again, part by part, for what an answer brings whole (RFC 9110 §14), and for nothing else.

    Its server may have changed it by then.

    Args:
        client: over which it was fetched.
        answer: with status 200; its content may go on being read.
        request_seconds: in which each part must be there.

    Raises:
        PullError: it doesn't tell its length, or nothing by which a change of it could be seen.
    """

    def __init__(self, client: httpx.AsyncClient, answer: httpx.Response, request_seconds: float) -> None:
        length = complete_length(answer)
        if length is None:
            raise PullError("its index is at its end, and its server doesn't tell its length")
        if answer.headers.get("accept-ranges", "").strip().lower() == "none":  # RFC 9110 §14.3
            raise PullError("its index is at its end, and its server gives no ranges")
        self._client = client
        self._request = answer.request
        self._request_seconds = request_seconds
        self._length = length
        self._validators = _validators(answer)
        if not any(self._validators):
            raise PullError("its index is at its end, and its server has no validators for ranges")

    async def read(self, start: int, length: int) -> bytes:
        """Fetch a range.

        Args:
            start: of its first byte.
            length: in bytes; less is fetched only where the end comes first.

        Raises:
            PullError: the server gives no ranges, or has something else by now, or takes too long.
            httpx.HTTPError: it can't be had.
        """
        last = min(start + length, self._length) - 1
        # As it was answered, behind redirects: another mirror may have other validators.
        headers = httpx.Headers(self._request.headers)
        headers["range"] = f"bytes={start}-{last}"
        tag = self._validators[0]
        if tag and not tag.startswith("W/"):  # RFC 9110 §13.1.5: only a strong one
            headers["if-range"] = tag
        try:
            async with (
                asyncio.timeout(self._request_seconds),
                self._client.stream("GET", self._request.url, headers=headers) as answer,
            ):
                self._judge(answer, f"bytes {start}-{last}/{self._length}")
                data = bytes(await read_body(answer, last - start + 1))
        except TimeoutError as error:
            raise PullError("a range takes too long") from error
        if len(data) != last - start + 1:
            raise PullError("its server cuts ranges off")
        return data

    def _judge(self, answer: httpx.Response, expected: str) -> None:
        """Refuse what isn't this range of what is being brought."""
        if answer.status_code in (200, 206) and _validators(answer) != self._validators:
            # RFC 9110 §15.3.7.3: parts of different states aren't combined.
            raise PullError("it changed while it was fetched")
        if answer.status_code == 200:  # RFC 9110 §14.2: a server may ignore Range
            raise PullError("its index is at its end, and its server gives no ranges")
        if answer.status_code != 206:
            raise PullError(f"it answers {answer.status_code} for a range")
        given = answer.headers.get("content-range", "")
        if given.strip().lower() != expected:  # RFC 9110 §14.4
            raise PullError("it answers with another range, or of another length")


def complete_length(answer: httpx.Response) -> int | None:
    """Take an answer's Content-Length (RFC 9110 §8.6); None where it has none that makes sense."""
    value = answer.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else None


def _validators(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
