"""Forwards requests that change a live channel, or a station's recordings, to the node that owns the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.access.authentication import client_address
from origin.access.guess_delay import GUESS_DELAY
from origin.http.client_limits import network_of
from origin.http1.application_exchange import wait_while_connected
from origin.live.event_start_end import END_SECONDS
from origin.responses.refusal import RefusalError
from origin.responses.request_body import receive_body
from origin.server.endpoints.error_responses import routed_application
from packager.cluster.commands import (
    ChannelCommand,
    CommandAnswer,
    CommandTooLongError,
    OwnerUnavailableError,
)
from packager.cluster.limits import ClusterLimits
from packager.cluster.node import SIMULCAST, ClusterNode
from packager.replication.live_log import LIVE

log = structlog.get_logger()

_COMMANDS = {
    "POST": re.compile(r"/live/([^/]+)/(metadata|end|start|recordings|captions/[^/]+)"),
    "DELETE": re.compile(r"/live/([^/]+)/recordings/([^/]+)"),
}
"""By method, the paths whose requests change what a channel publishes or keeps."""

_FIELDS = frozenset({"content-type", "cache-control", "retry-after", "www-authenticate"})
"""The header fields of an answer that are carried."""

MAX_BODY_BYTES = 64 << 10
"""Longest body of a request, and of the answer to it."""


class OwnerRequests:
    """ASGI middleware that carries requests to the owners of channels, and answers those of other nodes.

    Args:
        app: answers all requests about channels that this node owns, and all others.
        is_kept_here: returns whether this node's disk has a channel's recording of a name, made while it was
            the owner; the node itself removes such a recording.
        stations: names of the stations whose live channels have a DVR.
    """

    def __init__(
        self,
        app: ASGIApp,
        node: ClusterNode,
        is_kept_here: Callable[[str, str], bool] = lambda _, __: False,
        stations: Collection[str] = (),
    ) -> None:
        self._app = app
        self._node = node
        self._is_kept_here = is_kept_here
        self._stations = frozenset(stations)
        self._limits = node.commands.limits
        route = Route("/live/{channel}/{path:path}", self._carry, methods=list(_COMMANDS))
        self._carrying = routed_application([route])
        node.commands.carry_out = self._carry_out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_elsewhere = scope["type"] == "http" and self._is_elsewhere(scope["method"], scope["path"])
        await (self._carrying if is_elsewhere else self._app)(scope, receive, send)

    def _is_elsewhere(self, method: str, path: str) -> bool:
        """Return whether another node answers a request."""
        found = _command_at(method, path)
        if found is None:
            return False
        if found[1] in self._stations:
            is_of_recordings = method == "DELETE" or found[2] == "recordings"
            return is_of_recordings and self._node.is_station_owned_elsewhere(found[1])
        if not self._node.is_owned_elsewhere(found[1]):
            return False
        return method != "DELETE" or not self._is_kept_here(found[1], found[2])

    async def _carry(self, request: Request) -> Response:
        """Have the owner answer a request."""
        limits, address = self._limits, client_address(request)
        try:
            # A longer one, or one without an end, is taken by the owner alone.
            too_long = f"more than {MAX_BODY_BYTES} bytes are only taken by the channel's packager"
            command = _command(request, address, await receive_body(request, MAX_BODY_BYTES, too_long))
            kind = SIMULCAST if command.channel in self._stations else LIVE
            answer = await self._node.commands.ask(command, network_of(address), kind)
        except CommandTooLongError:
            # RFC 6585 §5: the header fields are too large, as the body isn't.
            raise RefusalError(431, "the address and its key are too long") from None
        except OwnerUnavailableError as error:
            raise _refusal(str(error), limits) from None
        # Here nothing waits for it but its own connection.
        await wait_while_connected(request, answer.delay_seconds)
        fields = {name: value for name, value in answer.fields.items() if name in _FIELDS}
        return Response(answer.body, answer.status, fields)

    async def _carry_out(self, command: ChannelCommand) -> CommandAnswer:
        """Answer a request that has come from another node."""
        path = f"/live/{command.channel}/{command.path}"
        is_station = command.channel in self._stations
        made = self._node.simulcasts if is_station else self._node.channels
        channel = made.get(command.channel)
        if channel is None or not channel.is_certain_owner or _command_at(command.method, path) is None:
            return _unowned(self._limits)
        collected = _CollectedAnswer(command.body, MAX_BODY_BYTES)
        scope = _scope(command, path, self._limits)
        try:
            await self._app(scope, collected.next_message, collected.send)
        except Exception:  # the error concerns this command alone
            log.exception("a command of another node failed", path=path)
            return CommandAnswer(500, {}, b"")
        return collected.answer(scope["extensions"][GUESS_DELAY].get("seconds", 0.0))


class _CollectedAnswer:
    """The answer of an application to a request that came without a connection.

    Args:
        most: bytes that the answer's body may have.
    """

    def __init__(self, body: bytes, most: int) -> None:
        self._request: bytes | None = body
        self._most = most
        self._status = 500
        self._fields: dict[str, str] = {}
        self._body = bytearray()

    async def next_message(self) -> Message:
        """Return the request's body, and then its end."""
        body, self._request = self._request, None
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Collect a message of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            fields = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
            self._fields = {name: value for name, value in fields if name in _FIELDS}
        else:
            self._body += message.get("body", b"")
            if len(self._body) > self._most:
                raise ValueError(f"an answer of more than {self._most} bytes")

    def answer(self, delay_seconds: float) -> CommandAnswer:
        """Return the whole, which the other node is to hold back for some time."""
        return CommandAnswer(self._status, self._fields, bytes(self._body), delay_seconds)


def _command_at(method: str, path: str) -> re.Match[str] | None:
    return None if (paths := _COMMANDS.get(method)) is None else paths.fullmatch(path)


def _command(request: Request, address: str, body: bytes) -> ChannelCommand:
    # The fields' bytes as they came: Starlette reads them as Latin-1.
    authorization = request.headers.get("authorization", "").encode("latin-1")
    content_type = request.headers.get("content-type", "").encode("latin-1")
    channel, path = request.path_params["channel"], request.path_params["path"]
    query: bytes = request.scope["query_string"]
    said = authorization, content_type, address[:64], body
    return ChannelCommand(channel, path, query, *said, request.method)


def _scope(command: ChannelCommand, path: str, limits: ClusterLimits) -> dict[str, Any]:
    """Make the ASGI scope of a request without a connection, which so came to no port that is trusted."""
    named = ((b"authorization", command.authorization), (b"content-type", command.content_type))
    headers = [(name, value) for name, value in named if value]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": command.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": command.query,
        "root_path": "",
        "headers": [*headers, (b"content-length", b"%d" % len(command.body))],
        "client": (command.client, 0) if command.client else None,
        "server": None,
        "extensions": {END_SECONDS: limits.end_seconds, GUESS_DELAY: {}},
    }


def _refusal(line: str, limits: ClusterLimits) -> RefusalError:
    return RefusalError(503, line, {"retry-after": str(limits.retry_seconds)})


def _unowned(limits: ClusterLimits) -> CommandAnswer:
    """Answer a request that came too late: the channel has another owner."""
    fields = {"content-type": "text/plain; charset=utf-8", "retry-after": str(limits.retry_seconds)}
    return CommandAnswer(503, fields, b"another node owns this channel now\n")
