"""The addresses of answers that are kept: clients' own calls read them on, cancel and delete them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.access.authentication import client_address
from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.events.admission import Admission
from origin.events.channel import END, EventChannel
from origin.events.channel_reader import ChannelReader
from origin.events.created.channels import CreatedChannels
from origin.events.created.records import CreatedChannel
from origin.events.event_log import Resumption, is_identity
from origin.events.reading import answer_head, stream_events
from origin.events.routes import sending_until
from origin.http.client_limits import network_of
from origin.responses.refusal import RefusalError
from origin.responses.request_body import while_connected
from origin.token_relay.answer_channels import AnswerChannels, only_one, reason_of
from origin.token_relay.completion import FINISHED, LEFT, STOPPED
from origin.token_relay.dialects import DIALECTS, IDENTITY_EVENTS, RESPONSES, Dialect, response_in
from origin.token_relay.errors import ERROR
from origin.token_relay.relay import TokenRelay
from origin.token_relay.relay_requests import (
    JSON,
    NO_STORE,
    found_relay,
    permission_to_ask,
    refusal,
    refused_key,
    relay_named,
    with_bearer,
)
from packager.threads import SHARED_THREADS

EXPIRED = "no answer has this id, or it is no longer kept"

COMPLETED, INCOMPLETE, CANCELLED, BROKEN = "completed", "incomplete", "cancelled", "failed"
UNDER_WAY = "in_progress"
"""States of a response."""

LOOKS, LOOK_SECONDS = 3, 0.1
"""How often an id is looked for that other nodes may be about to tell, and seconds between."""

_NUMBER = re.compile(r"[0-9]{1,12}")
_TRUE = frozenset(("true", "1"))


class AnswerEndpoint:
    """The ASGI endpoint of an answer of one API that is kept.

    Args:
        relays: by the name of their event channel.
        authorization: decides who may read, and who may change something: who may publish to the channel.
        admission: has room for readers, or not.
    """

    def __init__(
        self,
        relays: Mapping[str, TokenRelay],
        authorization: Authorization,
        admission: Admission,
        dialect: Dialect,
    ) -> None:
        self._relays = relays
        self._authorization = authorization
        self._admission = admission
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(with_bearer(scope), receive)
        try:
            if request.method in ("GET", "HEAD"):
                await self._read(request, send)
                return
            relay, _ = await found_relay(self._relays, self._authorization, request)
            answers = relay.kept_answers
            found = only_one(await self._found(answers, request))
            if found is None:
                raise RefusalError(404, EXPIRED)
            if request.method == "POST":
                answer = await self._cancel(answers.created, found, request)
            else:
                await self._delete(answers.created, found)
                told = {"id": request.path_params["id"], "object": "response", "deleted": True}
                answer = Response(msgspec.json.encode(told), 200, NO_STORE, JSON)
        except RefusalError as error:
            answer = refusal(error, self._dialect)
        await answer(scope, receive, send)

    async def _read(self, request: Request, send: Send) -> None:
        """Answer a request for an answer, from anybody who may read it.

        Raises:
            RefusalError: there is none, or the request may not read it.
        """
        relay = relay_named(self._relays, request)
        answers, allowed = relay.kept_answers, None
        candidates = await answers.find(self._dialect, request.path_params["id"])
        # Whether there is an answer is nothing for strangers either.
        if len(candidates) == 1:
            resource = NamedResource(ResourceKind.EVENTS, candidates[0].name)
            allowed = await self._authorization.permission(request, Action.READ, resource)
        if allowed is None:
            allowed = await permission_to_ask(self._authorization, relay, request)
        if allowed is None:
            raise refused_key(request, relay)
        found = only_one(candidates or await self._found(answers, request))
        if found is None:
            raise RefusalError(404, EXPIRED)
        with sending_until(allowed.until, send) as sending:
            await self._answer(answers, found, request, sending)

    async def _answer(
        self, answers: AnswerChannels, found: CreatedChannel, request: Request, send: Send
    ) -> None:
        number, identity = _position_in(request)
        is_stream = number is not None or bool(identity) or _asks_for_stream(request)
        if not is_stream and self._dialect is not RESPONSES:
            raise RefusalError(400, "stream: must be true, as this answer was streamed")
        async with answers.created.open.using(found.name) as opened:
            if opened is None:
                raise RefusalError(404, EXPIRED)
            channel = opened.channel
            if is_stream and request.method == "HEAD":
                await answer_head(self._dialect.form, send)
                return
            if not is_stream:
                state = await _state_of(channel, request)
                answer = Response(state, 200, NO_STORE, JSON)
                await answer(request.scope, request.receive, send)
                return
            with self._admission.held(channel, request):
                await channel.catch_up(identity)
                resumption = channel.since(identity)
                if not resumption.complete:
                    raise RefusalError(400, "Last-Event-ID: no event of this answer")
                if number is not None:
                    with channel.polling():
                        position = await while_connected(request, self._position(channel, number))
                    resumption = Resumption(position, identity=channel.log.identity_before(position))
                headers = [(b"location", b"/events/" + found.name.encode())]
                reader = ChannelReader(resumption, self._dialect.form)
                await stream_events(channel, reader, send, channel.enter, headers)

    async def _position(self, channel: EventChannel, number: int) -> int:
        """Return the position behind the event with a number, as soon as that or the end has come."""
        log = channel.log
        while (found := self._dialect.position_behind(log, number)) is None:
            if channel.ended or channel.closed:
                found = log.end
                break
            await channel.news(log.end)
        # An answer that broke off never ends silently, however much a reader says that it had.
        for position in range(max(log.first, log.end - 2), found):
            if log.between(position, position + 1)[0].name in (ERROR, END) and channel.ended:
                return position
        return found

    async def _found(self, answers: AnswerChannels, request: Request) -> list[CreatedChannel]:
        """Find an answer; wait a moment where another node may be about to tell its id.

        Raises:
            RefusalError: nobody knows now.
        """
        for _ in range(LOOKS):
            if found := await answers.find(self._dialect, request.path_params["id"]):
                return found
            if answers.created.cluster is None:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return []

    async def _delete(self, created: CreatedChannels, found: CreatedChannel) -> None:
        """Delete an answer.

        Raises:
            RefusalError: it can't be deleted now at the nodes of a cluster.
        """
        if created.cluster is None:
            created.discard(found)
        else:
            await created.delete(found.name)

    async def _cancel(self, created: CreatedChannels, found: CreatedChannel, request: Request) -> Response:
        """End an answer; one that is over stays as it is.

        Raises:
            RefusalError: it is no longer kept, or Redis is away.
        """
        async with created.open.using(found.name) as opened:
            if opened is None:
                raise RefusalError(404, EXPIRED)
            if not opened.channel.ended:
                seconds = await created.stop(found, STOPPED)
                await _wait_for_end(opened.channel, seconds)
            if self._dialect is RESPONSES:
                body = await _state_of(opened.channel, request)
            else:
                told = {"id": found.name, "status": _status_of(opened.channel)}
                body = msgspec.json.encode(told)
        return Response(body, 200, NO_STORE, JSON)


async def _wait_for_end(channel: EventChannel, seconds: float) -> None:
    """Wait for the end of an answer, for a time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not channel.ended and not channel.closed:
                await channel.news(channel.log.end)


def _asks_for_stream(request: Request) -> bool:
    accept = request.headers.get("accept", "").lower()
    return request.query_params.get("stream", "").lower() in _TRUE or "text/event-stream" in accept


def _position_in(request: Request) -> tuple[int | None, str]:
    """Return the number behind which a request reads on, or the id of an event of the channel.

    Raises:
        RefusalError: it is neither.
    """
    number = request.query_params.get("starting_after") or request.headers.get("last-event-id", "")
    if not number:
        return None, ""
    if _NUMBER.fullmatch(number):
        return int(number), ""
    if is_identity(number):
        return None, number
    raise RefusalError(400, "starting_after: the number of an event")


def _status_of(channel: EventChannel) -> str:
    """Return the state of an answer in the words of responses."""
    reason = reason_of(channel)
    if not reason:
        return UNDER_WAY
    if reason == FINISHED:
        return COMPLETED
    return CANCELLED if reason in (STOPPED, LEFT) else BROKEN


async def _state_of(channel: EventChannel, request: Request) -> bytes:
    """Return the response as JSON that a channel has, as far as it has come.

    Raises:
        RefusalError: nothing of it has come yet.
    """
    log = channel.log
    last = log.between(max(log.first, log.end - IDENTITY_EVENTS), log.end)
    first = log.between(log.first, min(log.first + IDENTITY_EVENTS, log.end))
    # Without an event that says so the upstream server's response isn't complete.
    status = INCOMPLETE if (told := _status_of(channel)) == COMPLETED else told
    # In a thread, as the whole text is in the last of them.
    threads = SHARED_THREADS.of(network_of(client_address(request)))
    found = await threads.run(response_in, [*first, *last], status)
    if found is None:
        raise RefusalError(404, "nothing of the response has come yet", {"retry-after": "1"})
    return found


def answer_routes(
    base: str,
    relays: Mapping[str, TokenRelay],
    authorization: Authorization,
    admission: Admission,
) -> list[BaseRoute]:
    """Make the routes of answers that are kept.

    Args:
        base: of the addresses of all relays.
    """
    made: list[BaseRoute] = []
    for dialect in DIALECTS:
        endpoint = AnswerEndpoint(relays, authorization, admission, dialect)
        made += [
            Route(f"{base}{dialect.path}/{{id}}", endpoint, methods=["GET", "DELETE"]),
            Route(f"{base}{dialect.path}/{{id}}/cancel", endpoint, methods=["POST"]),
        ]
    return made
