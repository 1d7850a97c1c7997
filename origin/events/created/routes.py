"""``POST /events`` makes channels; ``/events/NAME`` serves, describes, changes and deletes them."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Mapping
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from origin.access.authentication import UnauthorizedError, client_address
from origin.access.authorization import NEEDS, Action, NamedResource, Permission, ResourceKind
from origin.events.channel import EventChannel
from origin.events.created.channels import CreatedChannels, ExistsError, FullError, new_token
from origin.events.created.creation_rate import CreationRate
from origin.events.created.open_channels import OpenChannel
from origin.events.created.records import (
    ADMINISTRATOR,
    NAMELESS,
    PUBLISHER,
    SUBJECT,
    TEMPLATE,
    ChannelSettings,
    CreatedChannel,
)
from origin.events.created.requests import described, read_changes, read_wanted
from origin.events.created.store import NotStoredError
from origin.events.formats import GRPC, JSON_TYPE, NDJSON, SSE
from origin.events.publishing import DELETED
from origin.events.reading import IDENTITY_PARAMETERS
from origin.events.routes import NO_CHANNEL, EventAnswers, EventsEndpoint
from origin.http.channel_patterns import matches
from origin.http1 import websocket
from origin.responses.base_url import base_url
from origin.responses.json_response import as_json
from origin.responses.refusal import RefusalError
from origin.responses.request_body import receive_body, require_type

_STREAMS = (SSE.media_type, NDJSON.media_type, GRPC.media_type)
"""Media types that a client names which wants events, and not the state of a channel."""

DIGEST_CHARACTERS = 32


class Creator(NamedTuple):
    """Who makes event channels with a token.

    Attributes:
        name: the ``sub`` of the token; empty for none.
        patterns: of the names of channels that may be made.
        digest: tells the token from others where it has no name.
    """

    name: str
    patterns: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, permission: Permission) -> Creator | None:
        """Return the creator with a permission; None for the administrator, who may make any channel."""
        token = permission.token
        if token is None:
            return None
        digest = sha256(permission.text.encode()).hexdigest()[:DIGEST_CHARACTERS]
        return cls(token.name, token.create, digest)

    def may_create(self, name: str) -> bool:
        """Return whether a channel of a name may be made, or channels of a pattern."""
        return any(matches(pattern, name) for pattern in self.patterns)

    @property
    def recorded(self) -> str:
        """The creator that a channel's record has, by which its creator's channels are counted."""
        return f"{SUBJECT}{self.name}" if self.name else f"{NAMELESS}{self.digest}"


class CreatedChannelsEndpoint:
    """The ASGI endpoint of all event channels of a server: the configured ones, and those made at run time.

    Args:
        configured: the channels of the configuration.
        events: the endpoint of the configured channels alone.
        answers: answers requests for channels that were made.
    """

    def __init__(
        self,
        configured: Mapping[str, EventChannel],
        created: CreatedChannels,
        events: EventsEndpoint,
        answers: EventAnswers,
    ) -> None:
        self._configured = configured
        self._created = created
        self._events = events
        self._answers = answers
        self._authorization = answers.authorization
        self._rate = CreationRate(created.limits.per_address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        name = request.path_params["name"]
        if name in self._configured:
            if request.method in ("PATCH", "DELETE"):
                raise RefusalError(
                    405, "the configuration has made this channel", {"allow": "GET, HEAD, POST"}
                )
            await self._events(scope, receive, send)
            return
        channel = self._created.get(name)
        if channel is None:
            await self._created.catch_up()
            channel = self._created.get(name)
        if channel is None:
            channel = await self._made_by_event(request, name)
        if channel.is_answer and request.method in ("POST", "PATCH"):
            raise RefusalError(405, "a relay publishes here alone", {"allow": "GET, HEAD, DELETE"})
        if request.method in ("PATCH", "DELETE") or _asks_for_state(request):
            answer = await self._manage(request, channel)
            if answer is not None:
                await answer(scope, receive, send)
                return
        async with self._created.open.using(name, scope) as opened:
            if opened is None:
                raise RefusalError(410, DELETED)
            publisher = None if channel.is_answer else opened.publisher
            await self._answers.answer(opened.channel, publisher, request, send)

    async def _made_by_event(self, request: Request, name: str) -> CreatedChannel:
        """Make the channel that a request publishes to, if its template says so.

        Raises:
            RefusalError: there is no such channel.
        """
        if not self._created.is_ready:
            raise _not_stored(NotStoredError("the channels aren't read yet"))
        if self._created.is_gone(name):
            raise RefusalError(410, DELETED)
        template = self._created.template_for(name)
        if request.method != "POST" or template is None or not template.on_publish:
            raise RefusalError(404, NO_CHANNEL)
        publishing = Action.PUBLISH, NamedResource(ResourceKind.EVENTS, name)
        by_token = (await self._authorization.authorize(request, *publishing)).token is not None
        creator = PUBLISHER if by_token else TEMPLATE
        if by_token:
            self._count(request)
        return await self._make(name, creator, template.settings, time.time() + template.seconds)

    def _count(self, request: Request) -> None:
        """Count a channel that a client makes with a web token.

        Raises:
            RefusalError: there are too many of its address.
        """
        if seconds := self._rate.acquire(client_address(request)):
            line = "limits.created_channels_per_address: so many channels were made from this address lately"
            raise RefusalError(429, line, {"retry-after": str(math.ceil(seconds))})

    async def _make(
        self, name: str, creator: str, settings: ChannelSettings, expires: float
    ) -> CreatedChannel:
        try:
            await self._created.create(name, creator, settings, expires, with_tokens=False)
        except ExistsError:
            pass  # another event has made it meanwhile
        except (FullError, NotStoredError) as error:
            raise _refused(error) from None
        found = self._created.get(name)
        if found is None:
            raise RefusalError(410, DELETED)
        return found

    async def create(self, request: Request) -> Response:
        """Make a channel, and answer with its tokens, which nobody can ask for again.

        Raises:
            RefusalError: it isn't made.
        """
        creation = Action.CREATE, NamedResource(ResourceKind.EVENTS)
        creator = Creator.of(await self._authorization.authorize(request, *creation))
        body = await receive_body(request, self._created.limits.creation_bytes)
        if body:
            require_type(request, JSON_TYPE)
        wanted = read_wanted(body, time.time(), self._created.template_for)
        name = wanted.name
        if creator is not None and not creator.may_create(name):
            raise RefusalError(403, "create: the token isn't for channels of this name")
        if name in self._configured or (name in self._created.maker.keys and not name.endswith("*")):
            raise RefusalError(409, "the configuration has a channel of this name")
        if name.endswith("*"):
            name = self._created.unused_name(name)
        if creator is not None:
            self._count(request)
        by = ADMINISTRATOR if creator is None else creator.recorded
        try:
            channel, read, publish = await self._created.create(name, by, wanted.settings, wanted.expires)
        except ExistsError as error:
            raise RefusalError(409, str(error)) from None
        except (FullError, NotStoredError) as error:
            raise _refused(error) from None
        path = f"/events/{channel.name}"
        url = f"{base_url(request)}{path}"
        answer = as_json(
            {"name": channel.name, "url": url, "read_token": read, "publish_token": publish}, 201
        )
        answer.headers["location"] = path
        return answer

    async def _manage(self, request: Request, channel: CreatedChannel) -> Response | None:
        """Describe, change or delete a channel; None for a request for its state by somebody else."""
        if not await self._may_manage(request, channel):
            if request.method in ("GET", "HEAD"):
                return None
            raise UnauthorizedError(NEEDS[Action.MANAGE, ResourceKind.EVENTS].line)
        tokens: dict[str, str] = {}
        if request.method == "PATCH":
            require_type(request, JSON_TYPE)
            body = await receive_body(request, self._created.limits.creation_bytes)
            wanted = read_changes(body, channel, time.time())
            if self._created.get(channel.name) is not channel:
                raise RefusalError(410, DELETED)
            for one in wanted.new_tokens:
                tokens[f"{one}_token"] = new_token()
            await self._stored(
                self._created.change(
                    channel,
                    wanted.settings,
                    wanted.expires,
                    read_token=tokens.get("read_token", ""),
                    publish_token=tokens.get("publish_token", ""),
                )
            )
        elif request.method == "DELETE":
            await self._stored(self._created.delete(channel.name))
            return Response(status_code=204, headers={"cache-control": "no-store"})
        async with self._created.open.using(channel.name) as opened:
            if opened is None:
                raise RefusalError(410, DELETED)
            return as_json({**self._state(channel, opened), **tokens})

    async def _may_manage(self, request: Request, channel: CreatedChannel) -> bool:
        """Return whether a request is the administrator's, or that of a channel's creator.

        An answer may be deleted with its relay's token, too.
        """
        resource = NamedResource(ResourceKind.EVENTS, channel.name)
        is_answer = channel.is_answer and request.method == "DELETE"
        if is_answer and await self._authorization.permission(request, Action.PUBLISH, resource) is not None:
            return True
        found = await self._authorization.permission(request, Action.MANAGE, resource)
        if found is None or (creator := Creator.of(found)) is None:
            return found is not None
        # A token without a name is nobody's: who has another one without a name is somebody else.
        is_own = bool(creator.name) and channel.creator == creator.recorded
        return is_own and creator.may_create(channel.name)

    @staticmethod
    def _state(channel: CreatedChannel, opened: OpenChannel) -> dict[str, object]:
        return {**described(channel, opened.channel.limits), **opened.channel.describe()}

    @staticmethod
    async def _stored(storing: Awaitable[None]) -> None:
        try:
            await storing
        except NotStoredError as error:
            line = f"done, but not stored, so that it may not survive a restart: {error}"
            raise RefusalError(503, line, {"retry-after": "10"}) from None


def _asks_for_state(request: Request) -> bool:
    """Return whether a reader's request may be one for the state of a channel: it doesn't name events."""
    if request.method not in ("GET", "HEAD") or websocket.is_upgrade(
        request.method, request.scope["headers"]
    ):
        return False
    query, accept = request.query_params, request.headers.get("accept", "").lower()
    names = {*IDENTITY_PARAMETERS, "wait"}
    is_resumed = "last-event-id" in request.headers or any(name.lower() in names for name in query)
    return not is_resumed and not any(one in accept for one in _STREAMS)


def _refused(error: FullError | NotStoredError) -> RefusalError:
    if isinstance(error, FullError):
        return RefusalError(429, str(error), {"retry-after": "60"})
    return _not_stored(error)


def _not_stored(error: NotStoredError) -> RefusalError:
    return RefusalError(503, f"channels can't be stored: {error}", {"retry-after": "10"})


def routes(endpoint: CreatedChannelsEndpoint) -> list[BaseRoute]:
    """Make the routes of all event channels, and the one that makes channels."""
    return [
        Route("/events", endpoint.create, methods=["POST"]),
        Route("/events/{name:path}", endpoint, methods=["GET", "HEAD", "POST", "PATCH", "DELETE"]),
    ]
