"""The addresses of relays: ``/relay/NAME``, and those below ``/relay/NAME/v1/`` for existing clients."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.access.authentication import CHALLENGE, unauthorized
from origin.events.admission import Admission
from origin.events.authorization import EventAuthorization
from origin.events.delivery import ChannelReader
from origin.events.reading import stream_events
from origin.responses.refusal import RefusalError
from origin.responses.request_body import client_left, receive_body, require_type, while_connected
from origin.token_relay.completion import COMPLETION_STREAM, Completion
from origin.token_relay.completion_request import UpstreamRequest, read_request
from origin.token_relay.errors import CompletionError, error_data, kind_of
from origin.token_relay.relay import TokenRelay

JSON = "application/json"

PASSED_ON = ("embeddings", "completions", "moderations", "rerank", "score")
"""Addresses below ``/v1/`` whose requests are passed on, and answered in one piece.

Others, such as files and fine-tuning, would change the upstream server with this server's key.
"""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*(?:/[A-Za-z0-9][A-Za-z0-9._:@+-]*){0,3}")
MODEL_CHARACTERS = 256
"""Most characters of a model's name."""


class RelayEndpoint:
    """The ASGI endpoint of all relays of token streams.

    Args:
        relays: by the name of their event channel.
        authorization: decides who may ask: who may publish to the channel.
        admission: has room for readers, or not.
        is_drop_in: whether the answer is the stream itself.
    """

    def __init__(
        self,
        relays: Mapping[str, TokenRelay],
        authorization: EventAuthorization,
        admission: Admission,
        *,
        is_drop_in: bool,
    ) -> None:
        self._relays = relays
        self._authorization = authorization
        self._admission = admission
        self._is_drop_in = is_drop_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, name = Request(scope, receive), scope["path_params"]["name"]
        try:
            relay, caller = await found_relay(self._relays, self._authorization, request, name)
            require_type(request, JSON)
            raw = await receive_body(request, relay.limits.request.request_bytes)
            # In a thread, as millions of bytes take ten milliseconds to be looked through.
            asked = await asyncio.to_thread(
                read_request, raw, relay.limits.request, must_stream=not self._is_drop_in
            )
            if not self._is_drop_in:
                relay.ask(asked, caller)
                await accepted(relay)(scope, receive, send)
                return
            with self._admission.held(relay.channel, request):
                completion = relay.ask(asked, caller)
                with completion.awaited():
                    if asked.is_stream:
                        await self._stream(relay, completion, request, send)
                    else:
                        await self._whole(completion, request, send)
        except RefusalError as error:
            await refusal(error.status, str(error), error.headers)(scope, receive, send)

    async def _stream(self, relay: TokenRelay, completion: Completion, request: Request, send: Send) -> None:
        """Answer with the stream; with an error's status where the upstream server has one in time."""
        if not await _comes(completion, request, relay.limits.head_seconds):
            return
        error, answer = completion.error, completion.answer
        if error is not None and completion.is_empty:
            await error_response(error)(request.scope, request.receive, send)
            return
        await stream_events(answer, ChannelReader(answer.since(None), COMPLETION_STREAM), send, answer.enter)

    @staticmethod
    async def _whole(completion: Completion, request: Request, send: Send) -> None:
        """Answer in one piece."""
        if not await _comes(completion, request, None):
            return
        if completion.whole is not None:
            headers = {"cache-control": "no-store"}
            answer = Response(completion.whole, 200, headers, JSON)
        else:
            answer = error_response(completion.error or CompletionError("the relay broke", 500))
        await answer(request.scope, request.receive, send)


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
        authorization: EventAuthorization,
        admission: Admission,
        path: str,
    ) -> None:
        self._relays = relays
        self._authorization = authorization
        self._admission = admission
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, name = Request(scope, receive), scope["path_params"]["name"]
        try:
            relay, _ = await found_relay(self._relays, self._authorization, request, name)
            asked = await self._read(request, relay)
            with self._admission.held(relay.channel, request):
                whole = await while_connected(request, relay.pass_on(asked))
            answer = Response(whole, 200, {"cache-control": "no-store"}, JSON)
        except CompletionError as error:
            answer = error_response(error)
        except RefusalError as error:
            answer = refusal(error.status, str(error), error.headers)
        await answer(scope, receive, send)

    async def _read(self, request: Request, relay: TokenRelay) -> UpstreamRequest:
        if request.method != "POST":
            model = request.path_params.get("model", "")
            if model and (len(model) > MODEL_CHARACTERS or not _MODEL.fullmatch(model)):
                raise RefusalError(404, "no such model")
            # The upstream server's address has one segment for a name that has several.
            return UpstreamRequest(b"", "GET", f"/{self._path}{model and '/' + quote(model, safe='')}")
        require_type(request, JSON)
        limits = relay.limits.request
        raw = await receive_body(request, limits.request_bytes)
        read = await asyncio.to_thread(read_request, raw, limits, must_stream=False, is_chat=False)
        return UpstreamRequest(read.body, path=f"/{self._path}")


async def found_relay(
    relays: Mapping[str, TokenRelay], authorization: EventAuthorization, request: Request, name: str
) -> tuple[TokenRelay, str]:
    """Return a relay, and with whose key a request may ask it.

    Raises:
        RefusalError: there is no such relay, or the request has no key of it.
    """
    relay = relays.get(name)
    if relay is None:
        raise RefusalError(404, "no such relay")
    caller = await authorization.publisher(request, name)
    if not caller:
        told = unauthorized("the channel's publish_token or server.admin_token is needed").to(request)
        raise RefusalError(401, bytes(told.body).decode().strip(), {"www-authenticate": CHALLENGE})
    return relay, caller


def accepted(relay: TokenRelay) -> Response:
    """Answer with the address of an answer's events, and the id of the position where they begin."""
    place = f"/events/{relay.name}"
    body = msgspec.json.encode({"events": place, "since": relay.channel.last_id})
    headers = {"location": place, "cache-control": "no-store"}
    return Response(body + b"\n", 202, headers, JSON)


async def _comes(completion: Completion, request: Request, seconds: float | None) -> bool:
    """Wait for an answer's beginning, for a time; return whether the client is still connected."""
    leaving = asyncio.ensure_future(client_left(request))
    try:
        await asyncio.wait((completion.begun, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not leaving.done()
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Refuse a request as clients of these servers expect it."""
    told = {"cache-control": "no-store", **(headers or {})}
    return Response(error_data(text, status, kind_of(status)) + "\n", status, told, JSON)


def error_response(error: CompletionError) -> Response:
    """Answer with what the upstream server said instead of an answer."""
    headers = {"cache-control": "no-store"}
    if error.retry_after:
        headers["retry-after"] = error.retry_after
    return Response(error.data + "\n", error.status, headers, JSON)


async def _refuse_unknown(request: Request) -> Response:
    """Refuse what no relay passes on, by the names of what it does."""
    path = request.path_params["path"]
    is_models = path.partition("/")[0] == "models"
    if is_models or path in {"chat/completions", *PASSED_ON}:
        # RFC 9110 §15.5.6: the answer names the methods.
        return refusal(405, "this address takes another method", {"allow": "GET" if is_models else "POST"})
    passed = ", ".join(("chat/completions", "models", *PASSED_ON))
    return refusal(404, f"this isn't passed on to the upstream server; what is: {passed}")


def routes(
    relays: Mapping[str, TokenRelay], authorization: EventAuthorization, admission: Admission | None = None
) -> list[BaseRoute]:
    """Make the routes of all relays.

    Args:
        relays: by the name of their event channel.
        admission: has room for readers, or not.
    """
    admission = admission or Admission()
    post = RelayEndpoint(relays, authorization, admission, is_drop_in=False)
    drop_in = RelayEndpoint(relays, authorization, admission, is_drop_in=True)
    models = PassingEndpoint(relays, authorization, admission, "models")
    return [
        Route("/relay/{name}", post, methods=["POST"]),
        Route("/relay/{name}/v1/chat/completions", drop_in, methods=["POST"]),
        Route("/relay/{name}/v1/models", models, methods=["GET"]),
        Route("/relay/{name}/v1/models/{model:path}", models, methods=["GET"]),
        *(
            Route(
                f"/relay/{{name}}/v1/{path}",
                PassingEndpoint(relays, authorization, admission, path),
                methods=["POST"],
            )
            for path in PASSED_ON
        ),
        Route("/relay/{name}/v1/{path:path}", _refuse_unknown, methods=["GET", "POST"]),
    ]
