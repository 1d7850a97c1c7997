"""Captions from publishers: ``POST /live/NAME/captions/LANGUAGE`` with WebVTT, a file or a body without end.

Of a file (with Content-Length) all cues are taken or none; of a body that comes bit by bit, each as soon as
it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.errors import MediaError
from media.hls.attribute_values import date_time
from media.subtitles import webvtt
from media.subtitles.webvtt import Cue, CueReader
from origin.http1.application_exchange import take_slowly
from origin.http1.shared_turns import budget_of
from origin.live.limits import DEFAULT_LIMITS, PublishingLimits
from origin.live.publishing import PublishedChannels, date_on_air
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import as_json
from origin.responses.refusal import RefusalError
from origin.responses.request_body import require_type
from packager.publish.channel_commands import Commands, TooManyCuesError, TooManyFeedsError
from packager.publish.date_ranges import ImplausibleDateError
from packager.publish.live_stream import LiveStream
from packager.reader_guard import ReaderGuard

LONGEST_OFFSET = 86_400
"""Seconds by which cues may be shifted."""


@dataclass(slots=True)
class _Taken:
    """The result of publishing a body's cues."""

    cues: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class _PublishedTrack:
    """The captions of one language that a body's cues go to, with times that count from ``zero``."""

    commands: Commands
    language: str
    zero: Fraction
    taken: _Taken

    def push(self, cues: list[Cue]) -> None:
        """Push cues, all or none."""
        self.taken.late += self.commands.add_captions(self.language, cues, self.zero)
        self.taken.cues += len(cues)


def routes(channels: PublishedChannels, limits: PublishingLimits = DEFAULT_LIMITS) -> list[BaseRoute]:
    """Make the route to which captions are posted."""
    endpoint = _PublishedCaptions(channels, limits).publish
    return [Route(f"/live/{CHANNEL}/captions/{{language}}", endpoint, methods=["POST"])]


class _PublishedCaptions:
    def __init__(self, channels: PublishedChannels, limits: PublishingLimits) -> None:
        self._channels = channels
        self._limits = limits

    async def publish(self, request: Request) -> Response:
        """Push the captions of a request's body."""
        stream = await self._channels.authorized(request)
        require_type(request, webvtt.MEDIA_TYPE)
        language = request.path_params["language"]
        if language not in stream.languages:
            named = ", ".join(stream.languages) or "no language"
            raise RefusalError(404, f"the channel has no captions of this language: its captions are {named}")
        taken = _Taken()
        try:
            with ReaderGuard(stream.name):
                zero = _zero(request, stream)
                async with stream.commands.feeding_captions():
                    await self._push_cues(request, _PublishedTrack(stream.commands, language, zero, taken))
        except ImplausibleDateError as error:
            raise RefusalError(400, f"{error}; {taken.cues} cues were taken") from error
        except TooManyCuesError as error:
            raise RefusalError(409, f"{error}; {taken.cues} cues were taken") from error
        except MediaError as error:
            raise RefusalError(422, f"{error}; {taken.cues} cues were taken") from error
        except TooManyFeedsError as error:
            raise RefusalError(503, str(error), {"retry-after": "2"}) from error
        except TimeoutError as error:
            raise RefusalError(503, f"the channel ends; {taken.cues} cues were taken") from error
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        return as_json({"cues": taken.cues, "late": taken.late, "start": date_time(zero)}, 201)

    async def _push_cues(self, request: Request, track: _PublishedTrack) -> None:
        if "content-length" in request.headers:
            await self._file(request, track)
        else:
            take_slowly(request.scope, self._limits.captions_idle_seconds)
            await self._endless(request, track)

    async def _file(self, request: Request, track: _PublishedTrack) -> None:
        if int(request.headers["content-length"]) > self._limits.captions_bytes:
            raise RefusalError(413, f"more than {self._limits.captions_bytes} bytes")
        reader, cues, budget = CueReader(self._limits.cues), list[Cue](), budget_of(request.scope)
        async for data in request.stream():
            async for portion in budget.portions(data):
                reader.receive_data(portion)
                cues += reader.cues()
        reader.receive_eof()
        track.push([*cues, *reader.cues()])

    async def _endless(self, request: Request, track: _PublishedTrack) -> None:
        reader, budget = CueReader(self._limits.cues), budget_of(request.scope)
        try:
            async for data in request.stream():
                async for portion in budget.portions(data):
                    reader.receive_data(portion)
                    track.push(list(reader.cues()))
            reader.receive_eof()
        finally:
            # Cues before a line that is wrong, or before the connection's end, count.
            track.push(list(reader.cues()))


def _zero(request: Request, stream: LiveStream) -> Fraction:
    """Return the date of cue time 0: ``start``, or the date on air now, shifted by ``offset`` seconds.

    Raises:
        RefusalError: 400, or 503 while nothing is on air.
        ImplausibleDateError: the start can't be meant.
    """
    parameters = request.query_params
    try:
        start, offset = parameters.get("start"), float(parameters.get("offset", "0"))
        date = None if start is None else datetime.fromisoformat(start)
    except ValueError as error:
        raise RefusalError(400, "start: an ISO 8601 date; offset: a number of seconds") from error
    if not abs(offset) <= LONGEST_OFFSET:
        raise RefusalError(400, f"offset: at most {LONGEST_OFFSET} seconds")
    return date_on_air(stream, date) + Fraction(round(offset * 1000), 1000)
