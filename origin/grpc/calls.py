"""The calls of gRPC; those of event channels are requests to the application, as those of any wire."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, urlencode

import grpc
import msgspec
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import ReflectionServicer
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.events.event_log import is_identity
from origin.events.formats import GRPC, JSON_TYPE
from origin.grpc.call import Call, CallEndedError, CallError
from origin.grpc.limits import GrpcLimits
from origin.grpc.messages import EVENTS, POOL, PublishReply, PublishRequest, SubscribeRequest
from origin.http.answer import Headers
from origin.http.client_limits import ClientLimit, TooManyError
from origin.http.trusted_proxies import TrustedProxies
from origin.http1.application_exchange import exchange_of, take_slowly
from origin.http_streams.application_answer import ApplicationAnswer
from origin.http_streams.stream import value_of

log = structlog.get_logger()

FIELD_BYTES = 32
"""RFC 9113 §6.5.2: counted for each field beside its name and value."""

HEALTH = "grpc.health.v1.Health"

REFLECTION_V1 = REFLECTION.replace("v1alpha", "v1")
"""The same service by its newer name: messages and method are those of v1alpha."""

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The status codes of gRPC, by the application's; INTERNAL for all others."""

FIELDS = frozenset({b"authorization", b"forwarded", b"user-agent", b"x-forwarded-for", b"x-forwarded-proto"})
"""The metadata that become header fields."""


class Calls:
    """The answers to all calls.

    Args:
        app: answers the requests of event channels.
        client_calls: most calls of one client's address.
        is_ready: returns whether clients are to come to this server.

    Attributes:
        proxies: whose word on their clients is believed.
        is_closing: whether the server ends, so that readers are to come again.
    """

    def __init__(
        self,
        app: ASGIApp,
        proxies: TrustedProxies,
        client_calls: ClientLimit,
        is_ready: Callable[[], bool],
        limits: GrpcLimits,
        *,
        scheme: str = "http",
    ) -> None:
        self._app = app
        self.proxies = proxies
        self._client_calls = client_calls
        self._is_ready = is_ready
        self._limits = limits
        self._scheme = scheme
        self.is_closing = False
        # How many calls are being answered.
        self._under_way = 0
        self._reflection = ReflectionServicer((EVENTS, HEALTH, REFLECTION_V1, REFLECTION), POOL)
        check = health_pb2.HealthCheckRequest
        self._methods: dict[str, tuple[Any, Callable[[Any, Call], Awaitable[bytes | None]]]] = {
            f"/{EVENTS}/Subscribe": (SubscribeRequest, self._subscribe),
            f"/{EVENTS}/Publish": (PublishRequest, self._publish),
            f"/{HEALTH}/Check": (check, self._check),
            f"/{HEALTH}/Watch": (check, self._watch),
        }
        for service in (REFLECTION, REFLECTION_V1):
            asked = reflection_pb2.ServerReflectionRequest
            self._methods[f"/{service}/ServerReflectionInfo"] = asked, self._reflect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, which is a call by HTTP/2."""
        exchange = exchange_of(scope)
        if (
            not isinstance(exchange, ApplicationAnswer)
            or scope["method"] != "POST"
            or not value_of(scope["headers"], b"content-type").startswith(GRPC.media_type.encode())
        ):
            refusal = PlainTextResponse("calls of gRPC are POST requests by HTTP/2\n", 415)
            await refusal(scope, receive, send)
            return
        # A call that lacks its message has a deadline of its own.
        take_slowly(scope, math.inf)
        await self._answer_in_time(Call(exchange, scope, receive, send, self._limits.message_bytes))

    async def _answer_in_time(self, call: Call) -> None:
        """Answer a call, and hold its client's place until it has ended."""
        if _bytes_of(call.metadata) > self._limits.metadata_bytes:
            await call.cut(CODES[429], "the metadata are too long")
            return
        if self._under_way >= self._limits.connections:
            await call.cut(CODES[429], "too many calls")
            return
        self._under_way += 1
        # A client that has got the status may call again at once, so its place is free before.
        with contextlib.ExitStack() as places:
            places.callback(self._leave)
            call.when_over(places.close)
            try:
                places.enter_context(self._client_calls.held(call.client[0]))
                async with asyncio.timeout(call.seconds):
                    await self._answer_while_there(call)
            except TooManyError:
                await call.cut(CODES[429], "too many calls of one address")
            except TimeoutError:
                await call.cut(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    def _leave(self) -> None:
        self._under_way -= 1

    async def _answer_while_there(self, call: Call) -> None:
        answering, leaving = asyncio.ensure_future(self._answer(call)), asyncio.ensure_future(call.ended())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, call: Call) -> None:
        code, line, reply = grpc.StatusCode.OK, "", None
        try:
            if call.method not in self._methods:
                raise CallError(grpc.StatusCode.UNIMPLEMENTED, "no such method")
            kind, method = self._methods[call.method]
            reply = await method(await self._read(kind, call), call)
        except CallError as error:
            code, line = error.code, str(error)
        except CallEndedError:
            return
        except Exception:  # one broken call must not take the others with it
            log.exception("grpc call broke", method=call.method)
            code, line = grpc.StatusCode.INTERNAL, "the server failed"
        try:
            async with asyncio.timeout(self._limits.end_seconds):
                if reply is not None:
                    await call.write(reply)
                await call.end(code, line)
        except TimeoutError:
            await call.cut(grpc.StatusCode.DEADLINE_EXCEEDED, "the client doesn't read the reply")
        except CallEndedError:
            pass

    async def _read(self, kind: Any, call: Call) -> Any:
        """Read a request.

        Raises:
            CallError: it doesn't come, or is no message of this kind.
        """
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                return kind.FromString(await call.read())
        except TimeoutError:
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "the call's message didn't come") from None
        except DecodeError:
            raise CallError(CODES[400], f"the message is no {kind.DESCRIPTOR.name}") from None

    # Events

    async def _subscribe(self, request: Any, call: Call) -> None:
        if request.since and not is_identity(request.since):
            raise CallError(CODES[400], "since: the id of an event of the channel, or nothing")
        query, fields = {"last_event_id": request.since}, [(b"accept", GRPC.media_type.encode())]
        exchange = _AppRequest(self._scope("GET", request.channel, query, fields, call), b"", call)
        await exchange.run(self._app)
        if exchange.status not in (200, 204):
            raise exchange.error()
        if self.is_closing:
            raise CallError(CODES[503], "the server restarts")
        if not exchange.is_complete:
            # Behind what the client hasn't read, a status would wait as long as that.
            await call.cut(CODES[429], "the reader is too far behind")
            raise CallEndedError

    async def _publish(self, request: Any, call: Call) -> bytes:
        query, fields = {"event": request.event or "message"}, [(b"content-type", b"text/plain")]
        scope = self._scope("POST", request.channel, query, fields, call)
        exchange = _AppRequest(scope, request.data.encode(), call)
        await exchange.run(self._app)
        if exchange.status != 200:
            raise exchange.error()
        (identity,) = msgspec.json.decode(exchange.body)["ids"]
        return _serialized(PublishReply(id=identity))

    def _scope(
        self,
        method: str,
        channel: str,
        query: dict[str, str],
        fields: Iterable[tuple[bytes, bytes]],
        call: Call,
    ) -> Scope:
        """Make the request of a call about a channel."""
        told = [(name, value) for name, value in call.metadata if name in FIELDS]
        path = f"/events/{channel}"
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "2",
            "method": method,
            "scheme": self._scheme,
            "path": path,
            "raw_path": quote(path).encode("ascii"),
            "query_string": urlencode(query).encode(),
            "root_path": "",
            "headers": [*told, *fields],
            "client": call.client,
            "server": None,
        }

    # Health

    def _health(self, service: str) -> Any:
        """Return the health of a service; "" is the whole server."""
        if service not in ("", EVENTS, HEALTH):
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        is_ready = self._is_ready() and not self.is_closing
        kinds = health_pb2.HealthCheckResponse
        return kinds.SERVING if is_ready else kinds.NOT_SERVING

    async def _check(self, request: Any, _: Call) -> bytes:
        status = self._health(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise CallError(CODES[404], "no such service")
        return _serialized(health_pb2.HealthCheckResponse(status=status))

    async def _watch(self, request: Any, call: Call) -> None:
        last = None
        while not self.is_closing:
            if (status := self._health(request.service)) != last:
                await call.write(_serialized(health_pb2.HealthCheckResponse(status=status)))
                last = status
            await asyncio.sleep(self._limits.watch_seconds)
        raise CallError(CODES[503], "the server restarts")

    # Reflection

    async def _reflect(self, request: Any, call: Call) -> None:
        while request.WhichOneof("message_request"):
            for reply in self._reflection.ServerReflectionInfo(iter((request,)), None):
                await call.write(_serialized(reply))
            request = await self._read(type(request), call)


class _AppRequest:
    """A request to the application, whose reply is written to a call.

    Attributes:
        status: of the reply; 0 before it has begun.
        body: of a reply that isn't a stream of messages.
        is_complete: whether the reply has come to its end.
    """

    def __init__(self, scope: Scope, body: bytes, call: Call) -> None:
        self._scope = scope
        self._requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._call = call
        self._left = asyncio.Event()
        self.status = 0
        self._headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_complete = False

    async def run(self, app: ASGIApp) -> None:
        """Have a request answered; a client's leaving, or its deadline, ends it as any client's leaving."""
        asking = asyncio.ensure_future(app(self._scope, self._next_message, self._send))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._left.set()
            await asking
            raise

    def error(self) -> CallError:
        """Return what ends the call with the code and the line of the reply."""
        line = self.body.decode("utf-8", "replace").strip()
        if self._headers.get(b"content-type", b"").startswith(JSON_TYPE.encode()):
            line = msgspec.json.decode(self.body)["error"]
        return CallError(CODES.get(self.status, grpc.StatusCode.INTERNAL), line)

    async def _next_message(self) -> Message:
        if self._requests:
            return self._requests.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], dict(message["headers"])
            if self._is_stream:
                with contextlib.suppress(CallEndedError):
                    await self._call.begin()
            return
        data = message.get("body", b"")
        self.is_complete = not message.get("more_body", False)
        if not self._is_stream:
            self.body += data
            return
        if data:
            await self._call.write_framed(data)

    @property
    def _is_stream(self) -> bool:
        return self.status == 200 and self._headers.get(b"content-type") == GRPC.media_type.encode()


def _bytes_of(metadata: Headers) -> int:
    """Return how long metadata are, as SETTINGS_MAX_HEADER_LIST_SIZE counts them."""
    return sum(len(name) + len(value) + FIELD_BYTES for name, value in metadata)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
