"""GET of several event channels: server-sent events and NDJSON, or their kept events as JSON."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from origin.access.authentication import UnauthorizedError, begin_check, presents_key
from origin.access.authorization import NEEDS, Action, Authorization, NamedResource, ResourceKind
from origin.access.protected_addresses import TokenGuard
from origin.access.request_tokens import LEAST_DOTS, addressed_token, client_of, unaddressed_token
from origin.events import sse_writer
from origin.events.admission import Admission
from origin.events.channel_keys import is_foreign
from origin.events.delivery import RETRY_MILLISECONDS
from origin.events.formats import JSON, NDJSON, SSE, Format
from origin.events.limits import ChannelLimits, EventLimits
from origin.events.multiplexing.merged_reader import (
    ChannelDirectory,
    MergedReader,
    Readable,
    Writer,
    json_event,
)
from origin.events.multiplexing.positions import read_positions
from origin.events.reading import (
    SEND_BUFFER_BYTES,
    UNBUFFERED,
    answer_head,
    identity_of,
    poll_answer,
    wanted_of,
)
from origin.http1.answer_turns import AnswerTurns
from origin.http1.body_writer import STREAM, Stream, as_chunk
from origin.responses.refusal import RefusalError

STALLED_SECONDS = 60.0
"""Seconds for which a client may take nothing of the events that wait for it."""

COUNTED = "the viewers of a name are counted: this channel is read at its own address"


def sse_event(channel: str, name: str, data: str, identity: str) -> bytes:
    """Write a server-sent event; its channel is the first in its id."""
    del channel
    return sse_writer.event(data, name="" if name == "message" else name, identity=identity)


def json_line(channel: str, name: str, data: str, identity: str) -> bytes:
    """Write an event as a line of NDJSON."""
    return json_event(channel, name, data, identity) + b"\n"


_WRITERS: Mapping[Format, Writer] = {SSE: sse_event, NDJSON: json_line, JSON: json_event}


class MultiplexedReading:
    """Answers requests for several channels.

    Args:
        admission: has room for readers, or not.
        guard: decides about channels whose addresses need a token; None where none does.
    """

    def __init__(
        self,
        directory: ChannelDirectory,
        authorization: Authorization,
        admission: Admission,
        limits: EventLimits,
        guard: TokenGuard | None = None,
    ) -> None:
        self._guard = guard
        self.directory = directory
        self._authorization = authorization
        self.admission = admission
        self.limits = limits

    def merged(self, request: Request, write: Writer) -> MergedReader:
        """Make what reads the channels of a request, with the keys that it presents."""

        async def access(names: Collection[str], key: str) -> Readable:
            # A command of a WebSocket, and a channel that was made later, is checked as a request by itself.
            begin_check(request)
            ends, refusals = await self._addressed(request, names, key)
            found = await self._readable_until(request, ends, [key] if key else [])
            return Readable({name: min(until, ends[name]) for name, until in found.items()}, refusals)

        turns = AnswerTurns.of(request.scope)
        return MergedReader(self.directory, access, write, self.limits.channels_per_reader, turns)

    async def _readable_until(
        self, request: Request, names: Collection[str], keys: Collection[str]
    ) -> dict[str, float]:
        """Return which channels a request may read, and until when.

        Args:
            keys: further ones beside those of the request's query.

        Raises:
            UnauthorizedError: a key is wrong: it opens none of the channels that need keys.
        """
        resources, with_basic = (
            [NamedResource(ResourceKind.EVENTS, name) for name in names],
            not is_foreign(request),
        )
        found = await self._authorization.permissions(
            request, Action.READ, resources, with_basic=with_basic, keys=keys
        )
        closed = [one for one in resources if not self._authorization.is_open(one)]
        has_key = bool(keys) or presents_key(request, with_basic=with_basic)
        if has_key and closed and found.keys().isdisjoint(closed):
            raise UnauthorizedError(NEEDS[Action.READ, ResourceKind.EVENTS].line)
        return {one.name: permission.until for one, permission in found.items()}

    async def _addressed(self, request: Request, names: Collection[str], key: str) -> Readable:
        """Return the channels whose addresses a request may fetch, by its token or by a further one.

        Where the viewers of a name are counted, they read such channels one by one.
        """
        if self._guard is None:
            return Readable(dict.fromkeys(names, math.inf), {})
        scope, ends, refusals = request.scope, dict[str, float](), dict[str, str]()
        tokens = [unaddressed_token(scope["headers"], addressed_token(scope))]
        if key.count(".") >= LEAST_DOTS:
            tokens.append(key)
        for token in tokens:
            await self._guard.keys.fetch_missing(token)
        for name in names:
            grants = [self._guard.decide(token, f"/events/{name}", "", client_of(scope)) for token in tokens]
            grant = next((one for one in grants if one is None or not one.refusal), grants[-1])
            if grant is None:
                ends[name] = math.inf
            elif grant.refusal:
                refusals[name] = grant.refusal
            elif grant.name and self._guard.sessions is not None:
                refusals[name] = COUNTED
            else:
                ends[name] = grant.ends
        return Readable(ends, refusals)

    def wanted(self, request: Request, *, needs: bool = True) -> list[str]:
        """Return the channels and patterns that a request names.

        Raises:
            RefusalError: none, or too many.
        """
        named = list(dict.fromkeys(request.query_params.getlist("channel")))
        if len(named) > self.limits.channels_per_reader or (needs and not named):
            raise RefusalError(
                400, f"channel: names of 1 to {self.limits.channels_per_reader} channels, or patterns"
            )
        return named

    async def subscribe_all(self, merged: MergedReader, request: Request, named: Sequence[str]) -> None:
        """Read the channels of a request from where its id says.

        Raises:
            RefusalError: the client may not, or there is no room.
        """
        identity = identity_of(request)
        positions = read_positions(identity, self.limits.channels_per_reader) if identity else {}
        if positions is not None:
            merged.go_on_behind(positions)
        await merged.subscribe(named, positions)
        self.admission.check(self.limits.channel.retry_seconds)

    async def answer(self, request: Request, send: Send) -> None:
        """Answer a GET."""
        reading = self.limits.channel
        named, wanted = self.wanted(request), wanted_of(request, reading.wait_seconds)
        write = _WRITERS.get(wanted.form)
        if write is None:
            raise RefusalError(406, f"one of {SSE.media_type}, {NDJSON.media_type}, {JSON.media_type}")
        with self.admission.held_for_client(request, reading.retry_seconds):
            async with self.merged(request, write) as merged:
                await self.subscribe_all(merged, request, named)
                if request.method == "HEAD":
                    await answer_head(wanted.form, send)
                elif wanted.is_poll:
                    answer = await _polled(merged, wanted.form, wanted.wait, reading)
                    await answer(request.scope, request.receive, send)
                else:
                    await _stream(merged, wanted.form, reading, send)


async def _polled(merged: MergedReader, form: Format, wait: float, limits: ChannelLimits) -> Response:
    """Answer with the events that are kept, or come within the wait; 204 for none."""
    until = time.monotonic() + wait
    events = await merged.gather(limits.answer_bytes)
    while not events and (left := until - time.monotonic()) > 0 and not merged.is_closing:
        await merged.wait(left)
        events = await merged.gather(limits.answer_bytes)
    return poll_answer(form, events)


async def _stream(merged: MergedReader, form: Format, limits: ChannelLimits, send: Send) -> None:
    """Answer with the channels' events until the client has left, or nothing comes any more."""
    headers = [
        (b"content-type", form.media_type.encode()),
        *UNBUFFERED,
        (b"vary", b"Accept"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    taken: list[Stream] = []
    await send({"type": STREAM, "take": taken.append, "buffer": SEND_BUFFER_BYTES})
    if not taken:
        return  # the client has disconnected already
    stream = taken[0]
    begin = form.heartbeat
    if form is SSE:
        begin = sse_writer.comment("events") + sse_writer.retry(RETRY_MILLISECONDS)
        if identity := merged.identity:
            # WHATWG HTML §9.2.6: a client remembers an id without data, and dispatches no event.
            begin += b"id: %b\n\n" % identity.encode()
    await write_events(merged, stream, limits, begin, form.heartbeat)
    if not stream.closed:
        stream.end(limits.close_seconds)


async def write_events(
    merged: MergedReader, stream: Stream, limits: ChannelLimits, begin: bytes, heartbeat: bytes
) -> None:
    """Write the channels' events to a client until it has left, or nothing comes any more.

    Args:
        begin: the first bytes.
        heartbeat: bytes that show that the connection is alive; empty for none.
    """
    stream.on_close = stream.on_room = merged.wake
    _write(stream, begin)
    taken = time.monotonic()
    while not stream.closed:
        if stream.buffered >= limits.write_bytes:
            # The events wait in the channels' logs; of those that are lost there the client gets a notice.
            if time.monotonic() - taken > STALLED_SECONDS:
                stream.abort()
                return
            await merged.wait_for_room(limits.beat_seconds)
            continue
        taken = time.monotonic()
        events = await merged.gather(limits.write_bytes)
        if events:
            _write(stream, b"".join(events))
            continue
        if merged.is_over or merged.is_closing:
            return
        seconds = min(limits.heartbeat_seconds, max(merged.ends - time.time(), 0.0))
        if not await merged.wait(seconds) and heartbeat and not stream.buffered:
            _write(stream, heartbeat)


def _write(stream: Stream, data: bytes) -> None:
    if data and not stream.closed:
        with contextlib.suppress(OSError):
            stream.write(as_chunk(data) if stream.chunked else data)
