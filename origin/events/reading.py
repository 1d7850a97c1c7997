"""GET of an event channel: server-sent events, NDJSON, long poll and poll, with the same events and ids."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from origin.events.admission import Admission
from origin.events.channel import EventChannel
from origin.events.channel_reader import ChannelReader
from origin.events.delivery import as_text
from origin.events.event_log import Resumption
from origin.events.formats import GRPC, JSON, NDJSON, SSE, Format
from origin.http1.answer_turns import AnswerTurns
from origin.http1.body_writer import STREAM, Stream, at_end, may_outlive, outlive
from origin.responses.refusal import RefusalError
from origin.responses.request_body import client_left

SEND_BUFFER_BYTES = 16 * 1024
"""Socket send buffer of a reader (Linux doubles it)."""

UNBUFFERED = [
    (b"cache-control", b"no-cache, no-store"),
    # nginx passes on at once what says so, whatever its configuration.
    (b"x-accel-buffering", b"no"),
]

_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_QUALITY = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


_OFFERED = (SSE, NDJSON, JSON, GRPC)


def _ranges_of(form: Format) -> tuple[str, str, str]:
    """Name the media ranges that have a format, the most specific first."""
    return form.media_type, f"{form.media_type.partition('/')[0]}/*", "*/*"


_ACCEPTED = frozenset(name for form in _OFFERED for name in _ranges_of(form))


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """The parameters of a GET of an event channel.

    Attributes:
        identity: after which event; None or "" for a new reader.
        is_poll: whether the answer has an end.
        wait: for how many seconds an answer without events is held back.
    """

    form: Format
    identity: str | None
    is_poll: bool
    wait: float = 0.0


class EventReading:
    """Answers GET and HEAD of event channels.

    Args:
        admission: has room for them, or not.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def answer(
        self,
        channel: EventChannel,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        token: str | None = None,
        enter: Callable[[ChannelReader, Stream], None] | None = None,
    ) -> None:
        """Answer one request.

        Args:
            token: by which the reader named itself.
            enter: adds it to the channel; None: the channel does that itself.
        """
        request = Request(scope, receive)
        wanted = wanted_of(request, channel.limits.wait_seconds)
        await channel.catch_up(wanted.identity)
        resumption = channel.since(wanted.identity)
        if scope["method"] == "HEAD":
            await answer_head(wanted.form, send)
            return
        if channel.is_over(resumption):
            # WHATWG HTML §9.2.3: 204 tells an EventSource not to reconnect.
            await _nothing()(scope, receive, send)
            return
        with self._admission.held(channel, request):
            channel.note_resumption(wanted.identity, resumption)
            if wanted.is_poll:
                with channel.polling() if wanted.wait else contextlib.nullcontext():
                    answer = await self._poll(request, channel, wanted, resumption)
                    await answer(scope, receive, send)
            else:
                reader = ChannelReader(resumption, wanted.form, token)
                await stream_events(channel, reader, send, enter or channel.enter, scope=scope)

    async def _poll(
        self, request: Request, channel: EventChannel, wanted: WantedEvents, resumption: Resumption
    ) -> Response:
        """Answer with the events that are kept, or come within the wait; 204 for none."""
        if resumption.complete and resumption.sequence >= channel.log.end and wanted.wait:
            await _wait(request, channel, resumption.sequence, wanted.wait)
            # Newer events may have pushed out the first ones meanwhile.
            resumption = channel.since(resumption.identity) if resumption.identity else resumption
        parts = _parts(channel, wanted.form, resumption)
        # The next poll, with the last id, gets the rest.
        turns = AnswerTurns.of(request.scope)
        return poll_answer(wanted.form, await turns.collect(parts, channel.limits.answer_bytes))


IDENTITY_PARAMETERS = ("last_event_id", "lasteventid", "last-event-id", "evs_last_event_id", "since")
"""Names of the parameter with the last event's id, in lower case: those that scripts use, and those of
EventSource polyfills (``lastEventId`` of event-source-polyfill, ``evs_last_event_id`` of eventsource.js)."""


def wanted_of(request: Request, longest_wait: float) -> WantedEvents:
    """Read what a request asks for.

    Raises:
        RefusalError: it can't be had.
    """
    query = request.query_params
    form = _preferred(request.headers.get("accept", ""))
    identity = identity_of(request)
    is_stream = form is SSE and "text/event-stream" in request.headers.get("accept", "").lower()
    is_poll = ("since" in query and not is_stream) or form is JSON
    wait = query.get("wait", "0")
    if not _SECONDS.fullmatch(wait):
        raise RefusalError(400, "wait: a number of seconds")
    if is_poll and form is SSE:
        form = JSON
    return WantedEvents(form, identity, is_poll, min(float(wait), longest_wait))


def identity_of(request: Request) -> str | None:
    """Return the id after which a request wants events; None or "" for a new reader."""
    query = request.query_params
    # EventSource sends the header only when it reconnects by itself; a script may use the query.
    named = {name.lower(): value for name, value in query.items() if value}
    found = (named[name] for name in IDENTITY_PARAMETERS if name in named)
    return request.headers.get("last-event-id") or next(found, None)


def _preferred(accept: str) -> Format:
    """Choose a format by the Accept field (RFC 9110 §12.5.1); server-sent events where all are as welcome."""
    if not accept.strip():
        return SSE
    qualities: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, _, parameters = item.partition(";")
        if (name := name.strip()) in _ACCEPTED:
            qualities.setdefault(name, _quality(parameters))
    best, found = 0.0, None
    for form in _OFFERED:
        # RFC 9110 §12.5.1: the most specific name counts.
        quality = next((qualities[name] for name in _ranges_of(form) if name in qualities), 0.0)
        if quality > best:
            best, found = quality, form
    if found is None:
        raise RefusalError(406, f"one of {SSE.media_type}, {NDJSON.media_type}, {JSON.media_type}")
    return found


def _quality(parameters: str) -> float:
    found = (_QUALITY.fullmatch(one.strip()) for one in parameters.split(";"))
    return next((float(weight[1]) for weight in found if weight is not None), 1.0)


async def stream_events(
    channel: EventChannel,
    reader: ChannelReader,
    send: Send,
    enter: Callable[[ChannelReader, Stream], None],
    headers: Sequence[tuple[bytes, bytes]] = (),
    scope: Scope | None = None,
) -> None:
    """Answer with the events of a channel, until the reader has left.

    Args:
        enter: adds the reader to the channel.
        headers: further ones of the response.
        scope: lets the call return once the reader has entered, where the server knows how to.
    """
    fields = [*_stream_headers(reader.form), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": fields})

    def begin(stream: Stream) -> None:
        reader.stream = stream
        enter(reader, stream)

    await send({"type": STREAM, "take": begin, "buffer": SEND_BUFFER_BYTES})
    # The stream was not taken if the client has disconnected already.
    if reader.entered is None:
        return
    if scope is not None and may_outlive(scope):
        outlive(scope)
        at_end(scope, lambda: channel.note_cleanup(reader.gone))
        return
    await reader.done
    channel.note_cleanup(reader.gone)


def _stream_headers(form: Format) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", form.media_type.encode()),
        *UNBUFFERED,
        (b"vary", b"Accept"),
        (b"connection", b"close"),
    ]


async def answer_head(form: Format, send: Send) -> None:
    """Answer a HEAD as a stream would begin."""
    headers = _stream_headers(form)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _parts(channel: EventChannel, form: Format, resumption: Resumption) -> Iterator[bytes]:
    """Yield the notice of a gap, if there is any, and the events behind it."""
    events = channel.after(resumption, channel.limits.answer_bytes)
    if not resumption.complete:
        gap = as_text({"reason": resumption.reason, "lost": resumption.lost})
        yield form.write("reset", gap, resumption.identity)
    for event in events:
        yield event.written(form)


def poll_answer(form: Format, events: Sequence[bytes]) -> Response:
    """Answer a poll with events; 204 for none."""
    if not events:
        return _nothing()
    body = b"[%b]" % b",".join(events) if form is JSON else b"".join(events)
    headers = {"cache-control": "no-cache, no-store", "vary": "Accept"}
    return Response(body, 200, headers, form.media_type)


async def _wait(request: Request, channel: EventChannel, sequence: int, seconds: float) -> None:
    """Wait for an event, for a time, or until the client has gone."""
    coming = asyncio.ensure_future(channel.news(sequence))
    leaving = asyncio.ensure_future(_left_at(request))
    try:
        await asyncio.wait((coming, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in (coming, leaving):
            wait.cancel()
        await asyncio.gather(coming, leaving, return_exceptions=True)
        if leaving.done() and not leaving.cancelled():
            channel.note_cleanup(leaving.result())


async def _left_at(request: Request) -> float:
    await client_left(request)
    return asyncio.get_running_loop().time()


def _nothing() -> Response:
    return Response(status_code=204, headers={"cache-control": "no-store"})
