"""The addresses of relays: ``/relay/NAME``, and those below ``/relay/NAME/v1/`` for existing clients."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.access.authentication import client_address
from origin.access.authorization import Authorization
from origin.events.admission import Admission
from origin.events.channel_reader import ChannelReader
from origin.events.reading import stream_events
from origin.http.client_limits import network_of
from origin.responses.refusal import RefusalError
from origin.responses.request_body import client_left, receive_body, require_type, while_connected
from origin.token_relay.answer_routes import answer_routes
from origin.token_relay.completion import Completion
from origin.token_relay.completion_request import (
    CompletionRequest,
    UpstreamRequest,
    forwarded_fields,
    read_request,
)
from origin.token_relay.dialects import CHAT, DIALECTS, IDENTITY_EVENTS, Dialect, response_in
from origin.token_relay.errors import CompletionError
from origin.token_relay.relay import TokenRelay
from origin.token_relay.relay_requests import (
    JSON,
    NO_STORE,
    error_response,
    found_relay,
    own_key,
    refusal,
    with_bearer,
)
from packager.threads import SHARED_THREADS

QUEUED = "queued"
"""State of a response that goes on without its caller."""

BROKEN = CompletionError("the relay broke", 500)

PASSED_ON = (
    *("embeddings", "moderations", "rerank", "score"),
    *("messages/count_tokens", "responses/input_tokens"),
)
"""Addresses below ``/v1/`` whose requests are passed on, and answered in one piece.

Others, such as files and fine-tuning, would change the upstream server with this server's key.
"""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(?:/[A-Za-z0-9][A-Za-z0-9._:@+-]*){0,3}")
MODEL_CHARACTERS = 256
"""Most characters of a model's name."""


class RelayEndpoint:
    """The ASGI endpoint of all relays of token streams for one kind of request.

    Args:
        relays: by the name of their event channel.
        authorization: decides who may ask: who may publish to the channel.
        admission: has room for readers, or not.
        dialect: the API whose answer the caller gets; None where the channel's readers alone do.
    """

    def __init__(
        self,
        relays: Mapping[str, TokenRelay],
        authorization: Authorization,
        admission: Admission,
        dialect: Dialect | None,
    ) -> None:
        self._relays = relays
        self._authorization = authorization
        self._admission = admission
        self._is_drop_in = dialect is not None
        self._dialect = dialect or CHAT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(with_bearer(scope), receive)
        try:
            relay, caller = await found_relay(self._relays, self._authorization, request)
            asked = await self._read(request, relay)
            key = own_key(relay, self._authorization, request)
            asked = replace(asked, key=key, user=caller.user)
            if not self._is_drop_in:
                if not relay.publishes:
                    relay.kept_answers.check()
                completion = relay.ask(asked, caller.holder.value, is_kept=not relay.publishes)
                await completion.settle()
                completion.is_told = bool(completion.headers)
                await accepted(relay, completion)(scope, receive, send)
                return
            with self._admission.held(relay.channel, request):
                if not asked.is_stream and self._dialect is not CHAT:
                    whole = await while_connected(request, relay.pass_on(asked.upstream))
                    await _WholeAnswer(whole)(scope, receive, send)
                    return
                completion = relay.ask(asked, caller.holder.value, is_kept=True)
                with completion.awaited():
                    await self._answer(relay, asked, completion, request, send)
        except CompletionError as error:
            await error_response(error, self._dialect)(scope, receive, send)
        except RefusalError as error:
            await refusal(error, self._dialect)(scope, receive, send)

    async def _read(self, request: Request, relay: TokenRelay) -> CompletionRequest:
        require_type(request, JSON)
        limits = relay.limits
        raw = await receive_body(request, limits.request_bytes)
        # In a thread, as millions of bytes take ten milliseconds to be looked through.
        read = await SHARED_THREADS.of(network_of(client_address(request))).run(
            read_request,
            raw,
            limits,
            must_stream=not self._is_drop_in,
            dialect=self._dialect,
            models=relay.models,
        )
        return replace(read, fields=forwarded_fields(request.headers))

    async def _answer(
        self,
        relay: TokenRelay,
        asked: CompletionRequest,
        completion: Completion,
        request: Request,
        send: Send,
    ) -> None:
        if not asked.is_awaited:
            await self._begun_response(completion, request, send)
        elif asked.is_stream:
            await self._stream(relay, completion, request, send)
        else:
            await self._whole(completion, request, send)

    async def _stream(self, relay: TokenRelay, completion: Completion, request: Request, send: Send) -> None:
        """Answer with the stream; with an error's status where the upstream server has one in time."""
        if not await _comes(completion, request, relay.limits.head_seconds):
            return
        error, answer = completion.error, completion.answer
        if error is not None and completion.is_empty:
            await error_response(error, self._dialect)(request.scope, request.receive, send)
            return
        completion.is_told = True
        reader = ChannelReader(answer.since(None), self._dialect.form)
        await stream_events(answer, reader, send, answer.enter, completion.headers)

    async def _begun_response(self, completion: Completion, request: Request, send: Send) -> None:
        """Answer with the response as it begins, which goes on without its caller."""
        completion.is_told = True
        answer = completion.answer
        while True:
            log, is_over = answer.log, answer.ended
            first = log.between(log.first, min(log.end, log.first + IDENTITY_EVENTS))
            threads = SHARED_THREADS.of(network_of(client_address(request)))
            found = await threads.run(response_in, first, QUEUED)
            if found is not None or is_over or len(first) == IDENTITY_EVENTS:
                break
            await while_connected(request, answer.news(log.first + len(first)))
        if found is not None:
            headers = {name.decode(): value.decode() for name, value in completion.headers}
            reply = Response(found, 200, {**NO_STORE, **headers}, JSON)
        else:
            reply = error_response(completion.error or BROKEN, self._dialect)
        await reply(request.scope, request.receive, send)

    async def _whole(self, completion: Completion, request: Request, send: Send) -> None:
        """Answer in one piece."""
        if not await _comes(completion, request, None):
            return
        if completion.whole is not None:
            answer: Response = _WholeAnswer(completion.whole)
        else:
            answer = error_response(completion.error or BROKEN, self._dialect)
        await answer(request.scope, request.receive, send)


class _WholeAnswer(Response):
    """An answer of the upstream server in one piece, whose portions are sent one by one."""

    def __init__(self, portions: Sequence[bytes]) -> None:
        length = str(sum(map(len, portions)))
        super().__init__(None, 200, {**NO_STORE, "content-length": length}, JSON)
        self._portions = portions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        del receive
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for portion in () if scope["method"] == "HEAD" else self._portions:
            await send({"type": "http.response.body", "body": portion, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class PassingEndpoint:
    """The ASGI endpoint of what the upstream server answers in one piece, for its caller alone.

    Args:
        relays: by the name of their event channel.
        authorization: decides who may ask: who may publish to the channel.
        admission: has room for readers, or not.
        path: below ``/v1/``; with a model's name behind it where the address has one.
    """

    def __init__(
        self,
        relays: Mapping[str, TokenRelay],
        authorization: Authorization,
        admission: Admission,
        path: str,
    ) -> None:
        self._relays = relays
        self._authorization = authorization
        self._admission = admission
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(with_bearer(scope), receive)
        try:
            relay, caller = await found_relay(self._relays, self._authorization, request)
            asked = await self._read(request, relay)
            key = own_key(relay, self._authorization, request)
            asked = replace(asked, key=key, user=caller.user)
            with self._admission.held(relay.channel, request):
                whole = await while_connected(request, relay.pass_on(asked))
            answer: Response = _WholeAnswer(whole)
        except CompletionError as error:
            answer = error_response(error)
        except RefusalError as error:
            answer = refusal(error)
        await answer(scope, receive, send)

    async def _read(self, request: Request, relay: TokenRelay) -> UpstreamRequest:
        if request.method != "POST":
            model = request.path_params.get("model", "")
            if model and (len(model) > MODEL_CHARACTERS or not _MODEL.fullmatch(model)):
                raise RefusalError(404, "no such model")
            # The upstream server's address has one segment for a name that has several.
            return UpstreamRequest(b"", "GET", f"/{self._path}{model and '/' + quote(model, safe='')}")
        require_type(request, JSON)
        limits = relay.limits
        raw = await receive_body(request, limits.request_bytes)
        read = await SHARED_THREADS.of(network_of(client_address(request))).run(
            read_request, raw, limits, must_stream=False, dialect=None, models=relay.models
        )
        fields = forwarded_fields(request.headers)
        return UpstreamRequest(read.body, path=f"/{self._path}", fields=fields)


def accepted(relay: TokenRelay, completion: Completion) -> Response:
    """Answer with the address of an answer's events, and the id of the position where they begin."""
    own = {name.decode(): value.decode() for name, value in completion.headers}
    place = own.get("location", f"/events/{relay.name}")
    since = completion.answer.last_id if own else relay.channel.last_id
    headers = {"location": place, **own, **NO_STORE}
    return Response(msgspec.json.encode({"events": place, "since": since}) + b"\n", 202, headers, JSON)


async def _comes(completion: Completion, request: Request, seconds: float | None) -> bool:
    """Wait for an answer's beginning, for a time; return whether the client is still connected."""
    leaving = asyncio.ensure_future(client_left(request))
    try:
        await asyncio.wait((completion.begun, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not leaving.done()
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _refuse_unknown(request: Request) -> Response:
    """Refuse what no relay passes on, by the names of what it does."""
    path = request.path_params["path"]
    is_models = path.partition("/")[0] == "models"
    if is_models or path in _POSTED:
        # RFC 9110 §15.5.6: the answer names the methods.
        headers = {"allow": "GET" if is_models else "POST"}
        return refusal(RefusalError(405, "this address takes another method", headers))
    passed = ", ".join(("chat/completions", "models", *PASSED_ON, "completions", "responses", "messages"))
    return refusal(RefusalError(404, f"this isn't passed on to the upstream server; what is: {passed}"))


_POSTED = frozenset((*(one.name for one in DIALECTS), *PASSED_ON))


def routes(
    relays: Mapping[str, TokenRelay], authorization: Authorization, admission: Admission | None = None
) -> list[BaseRoute]:
    """Make the routes of all relays.

    Args:
        relays: by the name of their event channel.
        admission: has room for readers, or not.
    """
    admission = admission or Admission()
    context = relays, authorization, admission
    models = PassingEndpoint(*context, "models")
    base = "/relay/{name}/v1"
    return [
        Route("/relay/{name}", RelayEndpoint(*context, None), methods=["POST"]),
        *(Route(f"{base}{one.path}", RelayEndpoint(*context, one), methods=["POST"]) for one in DIALECTS),
        *answer_routes(base, *context),
        Route(f"{base}/models", models, methods=["GET"]),
        Route(f"{base}/models/{{model:path}}", models, methods=["GET"]),
        *(Route(f"{base}/{path}", PassingEndpoint(*context, path), methods=["POST"]) for path in PASSED_ON),
        Route(f"{base}/{{path:path}}", _refuse_unknown, methods=["GET", "POST"]),
    ]
