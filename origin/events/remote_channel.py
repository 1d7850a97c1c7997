"""An event channel of a server that runs elsewhere, for programs that publish on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import msgspec

from origin.events.delivery import as_text
from origin.events.formats import NDJSON_TYPE
from packager.sources.pullers.guarded_http import certificates, guarded_client, read_content
from packager.threads import SHARED_THREADS

MOST_ANSWER_BYTES = 64 << 10
"""Longest answer that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTimeouts:
    """Timeouts of a remote publisher.

    Attributes:
        answer_seconds: for the server to read each piece, and for its answer behind the last event.
        silent_seconds: after so long without an event, an empty line shows the server that more may come.
    """

    connect_seconds: float = 10.0
    answer_seconds: float = 60.0
    silent_seconds: float = 15.0


class NotPublishedError(Exception):
    """The server didn't take all events.

    Attributes:
        count: events that it has published nevertheless.
    """

    def __init__(self, status: int, reason: str, count: int) -> None:
        super().__init__(f"the server answers {status}: {reason}")
        self.status = status
        self.count = count


class RemoteChannel:
    """A channel of a running server; an asynchronous context that keeps its connections.

    Args:
        url: of the channel, such as ``http://127.0.0.1:8000/events/chat``.
        token: the channel's ``publish_token``.
    """

    def __init__(self, url: str, token: str, timeouts: RemoteTimeouts | None = None) -> None:
        self._url = url
        self._headers = {
            "authorization": f"Bearer {token}",
            "content-type": NDJSON_TYPE,
            "accept-encoding": "identity",
        }
        self._timeouts = timeouts or RemoteTimeouts()
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        timeout = httpx.Timeout(self._timeouts.answer_seconds, connect=self._timeouts.connect_seconds)
        # To read all authorities' certificates takes longer than a loop should be held.
        trusted = await SHARED_THREADS.run(certificates)
        self._client = guarded_client(self._url, trust=trusted, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def publish_from(self, events: AsyncIterable[object], name: str = "message") -> int:
        """Publish the items of an asynchronous iterator as they come, all in one request.

        A generator is closed in any case, so that it can release its model. If it fails, its earlier items
        are published.

        Args:
            events: texts, which are published unchanged, or values, which are encoded as JSON.

        Returns:
            The number of published events.

        Raises:
            NotPublishedError: the server didn't publish all of them.
            httpx.HTTPError: the server can't be reached, or broke off.
            RuntimeError: the channel isn't open.
        """
        if self._client is None:
            raise RuntimeError("the channel isn't open: async with RemoteChannel(…) as channel")
        async with contextlib.AsyncExitStack() as source:
            if isinstance(events, AsyncGenerator):
                await source.enter_async_context(contextlib.aclosing(events))
            lines = await source.enter_async_context(contextlib.aclosing(self._lines(events, name)))
            post = self._client.stream("POST", self._url, content=lines, headers=self._headers)
            answer = await source.enter_async_context(post)
            content = await read_content(answer, MOST_ANSWER_BYTES)
        try:
            told = _ANSWER.decode(content)
        except msgspec.DecodeError:
            told = _PublishAnswer(error=content.decode("utf-8", "replace").strip()[:200])
        if answer.status_code != 200:
            raise NotPublishedError(answer.status_code, told.error, told.count)
        return told.count

    async def _lines(self, events: AsyncIterable[object], name: str) -> AsyncGenerator[bytes]:
        """Write the body of a request."""
        iterator = aiter(events)
        coming = asyncio.ensure_future(_next_of(iterator))
        try:
            while True:
                done, _ = await asyncio.wait((coming,), timeout=self._timeouts.silent_seconds)
                if not done:
                    yield b"\n"
                    continue
                found = coming.result()
                if found is None:
                    return
                (one,) = found
                text = str(one) if isinstance(one, str) else as_text(one)
                yield msgspec.json.encode({"data": text, "event": name}) + b"\n"
                coming = asyncio.ensure_future(_next_of(iterator))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class _PublishAnswer(msgspec.Struct):
    count: int = 0
    error: str = ""


_ANSWER = msgspec.json.Decoder(_PublishAnswer)


async def _next_of(iterator: AsyncIterator[object]) -> tuple[object] | None:
    """Return the next one, None behind the last: StopAsyncIteration can't be a task's result."""
    try:
        return (await anext(iterator),)
    except StopAsyncIteration:
        return None
