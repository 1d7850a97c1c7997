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
from packager.sources.guarded_http import certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTimeouts:
    """Timeouts of a remote publisher.

    Attributes:
        answer_seconds: for the server to take what is sent, and for its answer behind the last event.
        silent_seconds: after so long without an event, an empty line tells the server that more may come.
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
        self._headers = {"authorization": f"Bearer {token}", "content-type": NDJSON_TYPE}
        self._timeouts = timeouts or RemoteTimeouts()
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        timeout = httpx.Timeout(self._timeouts.answer_seconds, connect=self._timeouts.connect_seconds)
        # To read all authorities' certificates takes longer than a loop should be held.
        trusted = await asyncio.to_thread(certificates)
        self._client = httpx.AsyncClient(timeout=timeout, verify=trusted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def publish_from(self, events: AsyncIterable[object], name: str = "message") -> int:
        """Publish what an asynchronous iterator gives, each as it comes, all in one request.

        A generator is closed in any case, so that it lets go of its model. If it fails, what it gave before
        is published.

        Args:
            events: texts, which are published as they are, or what can be encoded as JSON.

        Returns:
            How many were published.

        Raises:
            NotPublishedError: the server took them not all.
            httpx.HTTPError: it can't be reached, or broke off.
            RuntimeError: outside of its context.
        """
        if self._client is None:
            raise RuntimeError("the channel isn't open: async with RemoteChannel(…) as channel")
        async with contextlib.AsyncExitStack() as source:
            if isinstance(events, AsyncGenerator):
                await source.enter_async_context(contextlib.aclosing(events))
            lines = await source.enter_async_context(contextlib.aclosing(self._lines(events, name)))
            answer = await self._client.post(self._url, content=lines, headers=self._headers)
        try:
            told = msgspec.json.decode(answer.content, type=_PublishAnswer)
        except msgspec.DecodeError:
            told = _PublishAnswer(error=answer.text.strip()[:200])
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


async def _next_of(iterator: AsyncIterator[object]) -> tuple[object] | None:
    """Return the next one, None behind the last: StopAsyncIteration can't be a task's result."""
    try:
        return (await anext(iterator),)
    except StopAsyncIteration:
        return None
