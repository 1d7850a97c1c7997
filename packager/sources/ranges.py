"""Ranges of what an answer is bringing whole, and of nothing else: its server may have changed it by then."""

from __future__ import annotations

import asyncio

import httpx

from packager.sources.fetching import LONGEST_REQUEST, body
from packager.sources.retries import PullError


class Ranges:
    """Asks again for what an answer has, part by part (RFC 9110 §14).

    Args:
        client: over which it was fetched.
        answer: with status 200; its content may go on being read.

    Raises:
        PullError: it doesn't tell its length, or nothing by which a change of it could be seen.
    """

    def __init__(self, client: httpx.AsyncClient, answer: httpx.Response) -> None:
        length = complete_length(answer)
        if length is None:
            raise PullError("its index is at its end, and its server doesn't tell its length")
        if answer.headers.get("accept-ranges", "").strip().lower() == "none":  # RFC 9110 §14.3
            raise PullError("its index is at its end, and its server gives no ranges")
        self._client = client
        self._request = answer.request
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
                asyncio.timeout(LONGEST_REQUEST),
                self._client.stream("GET", self._request.url, headers=headers) as answer,
            ):
                self._judge(answer, f"bytes {start}-{last}/{self._length}")
                data = bytes(await body(answer, last - start + 1))
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
