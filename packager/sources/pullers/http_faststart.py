"""MP4 over HTTP for a decoder that can't seek: a moov box at the end is fetched first and moved forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import httpx

from media.errors import MediaError
from media.mp4.boxes import LARGEST_HEADER, Box, header
from media.mp4.files.faststart import moved_forward
from media.mp4.files.moov_finder import MoovFinder
from packager.reader_guard import ReaderGuard
from packager.sources.limits import DEFAULT_LIMITS, SourceLimits
from packager.sources.pullers.hls_fetcher import read_body
from packager.sources.retries import PullError
from packager.threads import SHARED_THREADS

_UNKNOWN_LENGTH = 1 << 62
"""Stands for the length of a response without Content-Length."""


async def faststart_content(
    client: httpx.AsyncClient, answer: httpx.Response, limits: SourceLimits = DEFAULT_LIMITS
) -> AsyncGenerator[bytes]:
    """Read a response's content with the moov box in front of the media.

    Args:
        client: requests the moov box if it is at the end.
        answer: an unread response of status 200; the caller closes it.
        limits: the limits of finding and fetching the moov box.

    Returns:
        The content, in the order for a decoder that can't seek.

    Raises:
        PullError: the moov box is at the end and can't be fetched.
        MediaError: the moov box is missing or invalid.
        httpx.HTTPError: the connection failed.
    """
    data = answer.aiter_raw()
    size = complete_length(answer)
    finder = MoovFinder(_UNKNOWN_LENGTH if size is None else size)
    head = bytearray()
    async for more in data:
        head += more
        if _seen(finder, head) or len(head) >= limits.moov_search_bytes:
            break
    if not finder.data_first:
        return _as_it_comes(bytes(head), data)
    ranges = RangeReader(client, answer, limits.request_seconds)
    moov, place, front = await _index(ranges, finder, head, limits)
    return _moov_first(bytes(head), data, front, moov, place)


def _seen(finder: MoovFinder, head: bytearray) -> bool:
    """Parse the boxes at the beginning; return whether moov or mdat was found, or no MP4 at all."""
    try:
        with ReaderGuard("a pulled file"):
            while len(head) >= finder.position + LARGEST_HEADER:
                first = bytes(head[finder.position : finder.position + LARGEST_HEADER])
                if finder.push(first) or finder.data_first:
                    return True
    except MediaError:
        return True  # not MP4: left to ffmpeg
    return False


async def _index(
    ranges: RangeReader, finder: MoovFinder, head: bytearray, limits: SourceLimits
) -> tuple[bytes, Box, int]:
    """Fetch moov; return it adjusted for its new position, its old box, and the new position."""
    for _ in range(limits.moov_boxes):
        place = finder.push(await ranges.read(finder.position, LARGEST_HEADER))
        if place is not None:
            break
    else:
        raise PullError(f"its index isn't in the {limits.moov_boxes} boxes behind its media")
    if place.size > (most := limits.moov.moov_bytes):
        raise PullError(f"its index is at its end, and has {place.size} bytes: more than {most}")
    moov = await ranges.read(place.start, place.size)
    first = header(head, 0, place.start)
    # ISO/IEC 14496-12 §4.3.1: ftyp comes as early as possible; older files have none.
    front = first.end if first.kind == b"ftyp" else 0
    moved = await SHARED_THREADS.run(moved_forward, moov, place.start, front, limits.moov)
    return moved, place, front


async def _as_it_comes(head: bytes, data: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield head
    async for more in data:
        yield more


async def _moov_first(
    head: bytes, data: AsyncIterator[bytes], front: int, moov: bytes, place: Box
) -> AsyncGenerator[bytes]:
    """Yield the bytes before the media, then moov, and the rest without moov."""
    yield head[:front]
    yield moov
    position = front
    async for more in _as_it_comes(head[front:], data):
        for part in (more[: max(0, place.start - position)], more[max(0, place.end - position) :]):
            if part:
                yield part
        position += len(more)


class RangeReader:
    """Requests byte ranges of a representation whose full response is being read (RFC 9110 §14).

    Args:
        answer: the full response, with status 200.
        request_seconds: the timeout of each request.

    Raises:
        PullError: the response has no length or no validator, or the server refuses ranges.
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
            start: position of the first byte.
            length: bytes; fewer are returned only at the end of the representation.

        Raises:
            PullError: the server ignores ranges, is too slow, or its representation has changed.
            httpx.HTTPError: the request failed.
        """
        last = min(start + length, self._length) - 1
        # The URL after redirects: another mirror may have other validators.
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
        """Raise an error unless a response is the expected range of the same representation."""
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
    """Return a response's Content-Length (RFC 9110 §8.6); None without a valid one."""
    value = answer.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else None


def _validators(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
