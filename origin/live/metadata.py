"""Timed metadata: ``POST /live/NAME/metadata`` with JSON puts an event on a channel's time.

It is published twice: as a date range in the playlists, and as an ID3 tag in the media itself.
"""

from __future__ import annotations

import itertools
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.hls.attribute_values import UNQUOTABLE, date_time
from media.hls.date_range import CLIENT_ATTRIBUTE, DateRange
from media.mp3.id3 import FRAME_NAME, is_whole_id3v2, write_id3v2
from origin.access.publish_authorization import Publishers
from origin.live.limits import DEFAULT_LIMITS, PublishingLimits
from origin.responses.refusal import RefusalError
from origin.responses.request_body import receive_body, require_type
from packager.publish.channel_commands import TooManyEventsError
from packager.publish.date_ranges import DateRangeError, ImplausibleDateError, check_date
from packager.publish.live_stream import LiveStream

# "$" would let the end of a line stand at the end; tabs separate the IDs of ranges that went (§4.4.5.2).
Text = Annotated[str, Meta(min_length=1, max_length=1024, pattern=rf"^[^\t{UNQUOTABLE}]*\Z")]
FrameText = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00]*\Z")]
Length = Annotated[float, Meta(ge=0, le=86_400)]


class TimedMetadataRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body: everything is optional."""

    id: Text | None = None
    """A new name, or that of a range with a planned duration, which now gets its duration."""
    class_: Text | None = msgspec.field(default=None, name="class")
    start: datetime | None = None
    """ISO 8601 with a zone; without it the range begins with what is on air now."""
    duration: Length | None = None
    """Seconds; 0 where there is no planned duration either."""
    planned_duration: Length | None = None
    attributes: dict[str, Text | float] = {}
    """Names begin with ``X-``."""
    id3: dict[str, FrameText] | str = {}
    """Frames of the tag in the media, such as ``TIT2`` or ``TXXX:description``; or a whole tag in base64."""


def routes(
    streams: Mapping[str, LiveStream],
    publishers: Publishers,
    limits: PublishingLimits = DEFAULT_LIMITS,
) -> list[BaseRoute]:
    """Make the route to which timed metadata is posted.

    Args:
        streams: by name.
        publishers: lets in who may publish.
        limits: what a request may bring.
    """
    counter = itertools.count(1)

    async def publish(request: Request) -> Response:
        try:
            stream = streams.get(request.path_params["channel"])
            if stream is None:
                raise RefusalError(404, "Not Found")
            await publishers.authorize(request, stream.name)
            metadata = await _body(request, limits.metadata_bytes)
            tag = date_range(metadata, stream, f"{int(time.time() * 1000)}-{next(counter)}", limits)
            stream.commands.publish_metadata(tag, id3_tag(metadata, tag, limits))
        except RefusalError as error:
            return error.response()
        except ImplausibleDateError as error:
            return RefusalError(400, str(error)).response()
        except (DateRangeError, TooManyEventsError) as error:
            return RefusalError(409, str(error)).response()
        answer = msgspec.json.encode({"id": tag.id, "start": date_time(tag.start_date)})
        return Response(answer, 201, {"cache-control": "no-store"}, "application/json")

    return [Route("/live/{channel}/metadata", publish, methods=["POST"])]


async def _body(request: Request, limit: int) -> TimedMetadataRequest:
    require_type(request, "application/json")
    data = await receive_body(request, limit)
    try:
        return msgspec.json.decode(data, type=TimedMetadataRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, str(error).replace("\n", " ")) from error


def date_range(
    metadata: TimedMetadataRequest, stream: LiveStream, new_id: str, limits: PublishingLimits
) -> DateRange:
    """Make the date range of a request.

    Args:
        new_id: for a range that nobody named.
        limits: how many attributes it may have.

    Returns:
        The tag; it begins with the newest media where the publisher doesn't say otherwise.

    Raises:
        RefusalError: 400, or 503 while nothing is on air.
        ImplausibleDateError: its start can't be meant.
    """
    names = metadata.attributes
    if len(names) > limits.attributes or not all(CLIENT_ATTRIBUTE.fullmatch(name) for name in names):
        raise RefusalError(400, f"attributes: at most {limits.attributes}, with names such as X-TITLE")
    edge = stream.presentation.live_edge
    if edge is None:
        raise RefusalError(503, "nothing is on air")
    start = edge
    if metadata.start is not None:
        start = check_date(metadata.start, edge)
    known = stream.presentation.date_ranges.start_of(metadata.id or "")
    if metadata.start is None and known is not None:
        start = known
    duration = metadata.duration
    if duration is None and metadata.planned_duration is None:
        duration = 0
    return DateRange(
        metadata.id or new_id,
        start,
        metadata.class_,
        None if duration is None else _milliseconds(duration),
        None if metadata.planned_duration is None else _milliseconds(metadata.planned_duration),
        names,
    )


def id3_tag(metadata: TimedMetadataRequest, tag: DateRange, limits: PublishingLimits) -> bytes:
    """Make the ID3 tag that says in the media what the date range says in the playlists.

    Args:
        metadata: what was published; its frames stand behind those of the range.
        limits: how many frames it may have.

    Returns:
        An ID3v2.4 tag.

    Raises:
        RefusalError: 400: a frame that can't be written, or what isn't a tag.
    """
    if isinstance(metadata.id3, str):
        return _given_tag(metadata.id3)
    names = metadata.id3
    if len(names) > limits.attributes or not all(FRAME_NAME.fullmatch(name) for name in names):
        raise RefusalError(400, f"id3: at most {limits.attributes} frames, such as TIT2, WOAR or TXXX:name")
    try:
        return write_id3v2([*_described(tag), *names.items()])
    except ValueError as error:
        raise RefusalError(400, f"id3: {error}") from error


def _described(tag: DateRange) -> Iterator[tuple[str, str]]:
    """Yield the frames that name a range, so that who reads them finds it in the playlist."""
    yield "TXXX:ID", tag.id
    if tag.class_ is not None:
        yield "TXXX:CLASS", tag.class_
    for name, value in sorted(tag.client_attributes.items()):
        yield f"TXXX:{name}", value if isinstance(value, str) else f"{value:g}"


def _given_tag(text: str) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise RefusalError(400, "id3: neither frames by name nor base64") from error
    if not is_whole_id3v2(data):
        raise RefusalError(400, "id3: not one whole ID3v2.4 tag")
    return data


def _milliseconds(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1000), 1000)
