"""The end and the beginning of a channel's events: ``POST /live/NAME/end``, ``POST /live/NAME/start``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.live.authorization import Publishers, RefusalError
from origin.live.recordings import describe
from packager.live.channel import Channel

UNCACHED = {"cache-control": "no-store"}


def routes(channels: Mapping[str, Channel], publishers: Publishers) -> list[BaseRoute]:
    """The routes of these addresses.

    Args:
        channels: by name.
        publishers: lets in who may end and begin events.
    """

    async def chosen(request: Request) -> Channel:
        channel = channels.get(request.path_params["channel"])
        if channel is None:
            raise RefusalError(404, "Not Found")
        await publishers.authorize(request, channel.name)
        return channel

    async def end(request: Request) -> Response:
        try:
            channel = await chosen(request)
            if not channel.ready:
                raise RefusalError(409, "nothing is on air")
        except RefusalError as error:
            return error.response()
        done = await channel.live_event.end()
        latest = next(iter(channel.live_event.recordings or ()), None) if done else None
        recording = None if latest is None else describe(channel.name, latest)
        # RFC 9110 §15.3.3: it has ended, but what comes of it isn't there yet.
        return _answer({"state": channel.state, "recording": recording}, 200 if done else 202)

    async def start(request: Request) -> Response:
        try:
            channel = await chosen(request)
            if not channel.live_event.begin():
                raise RefusalError(409, "it is on air")
        except RefusalError as error:
            return error.response()
        return _answer({"state": "starting"}, 202)

    return [
        Route("/live/{channel}/end", end, methods=["POST"]),
        Route("/live/{channel}/start", start, methods=["POST"]),
    ]


def _answer(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, UNCACHED, "application/json")
