"""Ends and begins a channel's events: ``POST /live/NAME/end``, ``POST /live/NAME/start``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.publish_authorization import Publishers
from origin.responses.refusal import RefusalError
from packager.publish.channel_commands import RecordingState
from packager.publish.live_stream import LiveStream

UNCACHED = {"cache-control": "no-store"}

END_SECONDS = "headwater.end_seconds"
"""ASGI extension that says for how many seconds at most who ends an event waits for its recording."""

NewestRecording = Callable[[str], Mapping[str, object] | None]
"""Describes the newest recording of a channel, by its name; None where it has none."""


def routes(
    streams: Mapping[str, LiveStream], publishers: Publishers, newest_recording: NewestRecording
) -> list[BaseRoute]:
    """Make the routes that end and begin events.

    Args:
        streams: by name.
        publishers: lets in who may end and begin events.
        newest_recording: describes the recording of a channel's last event.
    """

    async def chosen(request: Request) -> LiveStream:
        stream = streams.get(request.path_params["channel"])
        if stream is None:
            raise RefusalError(404, "Not Found")
        await publishers.authorize(request, stream.name)
        return stream

    async def end(request: Request) -> Response:
        try:
            stream = await chosen(request)
            if not stream.ready:
                raise RefusalError(409, "nothing is on air")
        except RefusalError as error:
            return error.response()
        state = RecordingState.AWAITED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.scope.get("extensions", {}).get(END_SECONDS)):
                state = await stream.commands.end_event()
        recording = newest_recording(stream.name) if state is RecordingState.MADE else None
        # RFC 9110 §15.3.3: it has ended, but what comes of it isn't there yet.
        return _answer(
            {"state": "ended", "recording": recording}, 202 if state is RecordingState.AWAITED else 200
        )

    async def start(request: Request) -> Response:
        try:
            stream = await chosen(request)
            if not stream.commands.begin_event():
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
