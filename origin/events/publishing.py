"""POST to an event channel: one event, or a stream of them in one request; and what an event may be."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from origin.events.channel import RESERVED, EventChannel, NumberingUnavailableError
from origin.events.formats import JSON_TYPE, NDJSON_TYPE
from origin.events.limits import EventLimits
from origin.http.token_bucket import TokenBucket
from origin.http1.application_exchange import take_slowly
from origin.responses.refusal import RefusalError
from origin.responses.request_body import media_type_of, receive_body, require_plain

LINE_TYPES = frozenset((NDJSON_TYPE, "application/jsonl", "application/ndjson"))
TEXT_TYPES = frozenset(("", "text/plain"))

ENVELOPE_BYTES = 1024
"""White space that may surround an event's data."""

ESCAPED = 3
"""Ratio of JSON's length to that of the text in it, at most: letters of two bytes may be written with six."""

DELETED = "the channel was deleted"

_NAME = re.compile(r"[^\0-\x1f\x7f]+")

NAME_CHARACTERS = 64
"""Longest name of an event's type."""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """An event as publishers write it in JSON."""

    data: msgspec.Raw
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ENVELOPE = msgspec.json.Decoder(_Envelope)


class EventPublisher:
    """Handles the publications of one channel's authorized publishers.

    Args:
        has_room: returns whether there is memory for one more event.
    """

    def __init__(
        self,
        channel: EventChannel,
        limits: EventLimits,
        clock: Callable[[], float] = time.monotonic,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._has_room = has_room
        self._channel = channel
        self._limits = limits
        # With bursts, so that a publisher may catch up.
        self._rate = TokenBucket(
            max(limits.publish_rate * limits.burst_seconds, 1.0), limits.publish_rate, clock
        )

    @property
    def _most_bytes(self) -> int:
        """Most bytes of an event's body, in which JSON can escape each character."""
        return ESCAPED * self._limits.event_bytes + ENVELOPE_BYTES

    def check_json(self, raw: bytes | str, event: str | None = None) -> tuple[str, str]:
        """Read an event that is written as ``{"data": …, "event": "…"}``; return its type and its text.

        Args:
            event: the type of an event that doesn't name its own.

        Raises:
            RefusalError: the event is refused.
        """
        data = raw.encode() if isinstance(raw, str) else raw
        if len(data) > self._most_bytes:
            raise self._too_large()
        return self.check(*read_envelope(data, event))

    def check(self, name: str, text: str) -> tuple[str, str]:
        """Check that an event may be published now, and count it; return its type and its text.

        Raises:
            RefusalError: the event is refused.
        """
        if len(name) > NAME_CHARACTERS or not _NAME.fullmatch(name):
            most = NAME_CHARACTERS
            raise RefusalError(400, f"event: 1 to {most} characters without control characters")
        if name in RESERVED:
            raise RefusalError(400, f"event: {name!r} is the channel's own")
        if len(text.encode("utf-8", "replace")) > self._limits.event_bytes:
            raise self._too_large()
        if self._channel.closed:
            raise RefusalError(*((410, DELETED) if self._channel.deleted else (503, "the server ends")))
        if not self._has_room():
            raise RefusalError(429, "the channels' events take all memory", {"retry-after": "10"})
        if seconds := self._rate.acquire():
            raise RefusalError(429, "too many events", {"retry-after": str(int(seconds) + 1)})
        return name, text

    async def publish(self, events: Sequence[tuple[str, str]]) -> list[str]:
        """Publish events that were checked, and return their ids.

        Raises:
            RefusalError: the events are refused.
        """
        try:
            return await self._channel.publish_all(events)
        except ValueError:
            raise self._too_large() from None
        except NumberingUnavailableError as error:
            raise RefusalError(503, str(error), {"retry-after": str(error.retry_seconds)}) from None

    def _too_large(self) -> RefusalError:
        return RefusalError(413, f"an event has more than {self._limits.event_bytes} bytes")

    async def answer(self, request: Request) -> Response:
        """Publish what a request brings, and answer with the ids."""
        ids: deque[str] = deque(maxlen=self._limits.answered_ids)
        count = 0
        status, told = 200, dict[str, object]()
        headers = {"cache-control": "no-store"}
        try:
            async for published in self._published(request):
                ids.extend(published)
                count += len(published)
                # A stream of them may have come in one piece.
                await asyncio.sleep(0)
        except RefusalError as error:
            status, told = error.status, {"error": str(error)}
            headers.update(error.headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        if count and self._channel.stored is not None:
            # An event whose id was sent to its publisher isn't lost when this process is killed.
            await self._channel.stored()
        body = msgspec.json.encode({**told, "count": count, "ids": list(ids)})
        return Response(body + b"\n", status, headers, JSON_TYPE)

    async def _published(self, request: Request) -> AsyncIterator[list[str]]:
        """Publish what comes; yield the ids of what was published together."""
        kind, event = media_type_of(request), request.query_params.get("event")
        if kind in LINE_TYPES:
            take_slowly(request.scope, self._limits.publisher_idle_seconds)
            async for lines in self._lines(request):
                for begin in range(0, len(lines), most := self._channel.limits.published_at_once):
                    refusals: list[RefusalError] = []
                    yield await self.publish(self._checked(lines[begin : begin + most], event, refusals))
                    if refusals:
                        raise refusals[0]
        elif kind == JSON_TYPE:
            yield await self.publish([self.check_json(await self._body(request), event)])
        elif kind in TEXT_TYPES:
            try:
                text = (await self._body(request)).decode()
            except UnicodeDecodeError:
                raise RefusalError(400, "the body isn't UTF-8") from None
            yield await self.publish([self.check("message" if event is None else event, text)])
        else:
            raise RefusalError(415, f"the body must be {JSON_TYPE}, {NDJSON_TYPE} or text/plain")

    def _checked(
        self, lines: Sequence[bytes], event: str | None, refusals: list[RefusalError]
    ) -> list[tuple[str, str]]:
        """Check lines up to the first that isn't taken, whose refusal is noted."""
        checked: list[tuple[str, str]] = []
        try:
            checked.extend(self.check_json(line, event) for line in lines if line.strip())
        except RefusalError as error:
            refusals.append(error)
        return checked

    async def _body(self, request: Request) -> bytes:
        return await receive_body(request, self._most_bytes, str(self._too_large()))

    async def _lines(self, request: Request) -> AsyncIterator[list[bytes]]:
        """Yield the lines of a body, those of one chunk together.

        A line that is cut off by the end of the connection is dropped.
        """
        require_plain(request)
        most = self._most_bytes
        rest = bytearray()
        async for chunk in request.stream():
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                yield lines
            if len(rest) > most:
                raise self._too_large()
        if rest:
            # RFC 9112 §8: the body is complete; its last line needs no end.
            yield [bytes(rest)]


def read_envelope(raw: bytes, event: str | None = None) -> tuple[str, str]:
    """Read the type and the text of an event that is written as JSON.

    Data that isn't a string stays unchanged JSON.

    Args:
        event: the type of an event that doesn't name its own; None for ``message``.

    Raises:
        RefusalError: 400.
    """
    try:
        envelope = _ENVELOPE.decode(raw)
        values = [bytes(one) for one in (envelope.data, envelope.event) if isinstance(one, msgspec.Raw)]
        # A repeated name has only its last value here, and no other names are allowed.
        if raw.count(b'"') - sum(value.count(b'"') for value in values) != 2 * len(values):
            raise ValueError("a key stands twice")
        data = values[0].strip()
        text = msgspec.json.decode(data, type=str) if data.startswith(b'"') else data.decode()
        if len(values) > 1 and event is not None:
            raise ValueError("its type is in the address, too")
        name = (
            msgspec.json.decode(values[1], type=str)
            if len(values) > 1
            else "message"
            if event is None
            else event
        )
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise RefusalError(400, f'not an event as {{"data": …, "event": "…"}}: {reason}') from None
    return name, text
