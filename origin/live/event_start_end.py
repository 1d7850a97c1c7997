"""Ends and begins a channel's events: ``POST /live/NAME/end``, ``POST /live/NAME/start``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.live.publishing import PublishedChannels
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import as_json
from origin.responses.refusal import RefusalError
from packager.publish.channel_commands import RecordingState

END_SECONDS = "headwater.end_seconds"
"""ASGI extension that says for how many seconds at most who ends an event waits for its recording."""

NewestRecording = Callable[[str], Mapping[str, object] | None]
"""Describes the newest recording of a channel, by its name; None where it has none."""


def routes(channels: PublishedChannels, newest_recording: NewestRecording) -> list[BaseRoute]:
    """Make the routes that end and begin events.

    Args:
        newest_recording: describes the recording of a channel's last event.
    """

    async def end(request: Request) -> Response:
        stream = await channels.authorized(request)
        if not stream.ready:
            raise RefusalError(409, "nothing is on air")
        state = RecordingState.AWAITED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(request.scope.get("extensions", {}).get(END_SECONDS)):
                state = await stream.commands.end_event()
        recording = newest_recording(stream.name) if state is RecordingState.MADE else None
        # RFC 9110 §15.3.3: the event has ended, but its recording isn't there yet.
        status = 202 if state is RecordingState.AWAITED else 200
        return as_json({"state": "ended", "recording": recording}, status)

    async def start(request: Request) -> Response:
        stream = await channels.authorized(request)
        if not stream.commands.begin_event():
            raise RefusalError(409, "it is on air")
        return as_json({"state": "starting"}, 202)

    return [
        Route(f"/live/{CHANNEL}/end", end, methods=["POST"]),
        Route(f"/live/{CHANNEL}/start", start, methods=["POST"]),
    ]
