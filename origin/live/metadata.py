"""Timed metadata: ``POST /live/NAME/metadata`` with JSON puts an event on a channel's time.

It is published twice: as a date range in the playlists, and as an ID3 tag in the media itself.
"""

from __future__ import annotations

import itertools
import time
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.hls.attribute_values import UNQUOTABLE, date_time
from media.hls.date_range import FURTHER_ATTRIBUTE, DateRange
from media.mp3.id3 import FRAME_NAME, is_whole_id3v2, write_id3v2
from origin.live.limits import DEFAULT_LIMITS, PublishingLimits
from origin.live.publishing import PublishedChannels, date_on_air
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import as_json
from origin.responses.refusal import RefusalError
from origin.responses.request_body import receive_body, require_type
from packager.publish.channel_commands import TooManyEventsError
from packager.publish.date_ranges import ADDED, DateRangeError, DateRanges, ImplausibleDateError
from packager.publish.live_stream import LiveStream

MAX_ATTRIBUTES = 32
"""Most attributes of one date range, and frames of one tag."""

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
    """Names begin with ``X-``, or are ``CUE``, ``SCTE35-OUT``, ``SCTE35-IN`` or ``SCTE35-CMD``."""
    id3: dict[str, FrameText] | str = {}
    """Frames of the tag in the media, such as ``TIT2`` or ``TXXX:description``; or a whole tag in base64."""


_REQUEST = msgspec.json.Decoder(TimedMetadataRequest)


def routes(channels: PublishedChannels, limits: PublishingLimits = DEFAULT_LIMITS) -> list[BaseRoute]:
    """Make the route to which timed metadata is posted."""
    counter = itertools.count(1)

    async def publish(request: Request) -> Response:
        stream = await channels.authorized(request)
        metadata = await _body(request, limits.metadata_bytes)
        try:
            listed = channels.served(stream).presentation.date_ranges
            tag = date_range(metadata, stream, listed, f"{int(time.time() * 1000)}-{next(counter)}")
            # In a cluster, another packager may have used the ID.
            listed.check_id(tag)
            stream.commands.publish_metadata(tag, id3_tag(metadata, tag))
        except ImplausibleDateError as error:
            raise RefusalError(400, str(error)) from error
        except (DateRangeError, TooManyEventsError) as error:
            raise RefusalError(409, str(error)) from error
        return as_json({"id": tag.id, "start": date_time(tag.start_date)}, 201)

    return [Route(f"/live/{CHANNEL}/metadata", publish, methods=["POST"])]


async def _body(request: Request, limit: int) -> TimedMetadataRequest:
    require_type(request, "application/json")
    data = await receive_body(request, limit)
    try:
        return _REQUEST.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, str(error).replace("\n", " ")) from error


def date_range(
    metadata: TimedMetadataRequest, stream: LiveStream, listed: DateRanges, new_id: str
) -> DateRange:
    """Make the date range of a request; it begins with the newest media unless the publisher says otherwise.

    Args:
        listed: the date ranges that viewers get: in a cluster also those that began at another packager.
        new_id: for a range that nobody named.

    Raises:
        RefusalError: 400, or 503 while nothing is on air.
        ImplausibleDateError: its start can't be meant.
    """
    names = metadata.attributes
    if len(names) > MAX_ATTRIBUTES or not all(FURTHER_ATTRIBUTE.fullmatch(name) for name in names):
        raise RefusalError(400, f"attributes: at most {MAX_ATTRIBUTES}, named X-…, CUE or SCTE35-…")
    if ADDED in names:
        raise RefusalError(400, f"attributes: {ADDED} is what this server says of a range that comes late")
    start = date_on_air(stream, metadata.start)
    known = listed.start_of(metadata.id or "")
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


def id3_tag(metadata: TimedMetadataRequest, tag: DateRange) -> bytes:
    """Make the ID3v2.4 tag that says in the media what the date range says in the playlists.

    Args:
        metadata: the published metadata, whose frames stand behind those of the range.

    Raises:
        RefusalError: 400: a frame that can't be written, or what isn't a tag.
    """
    if isinstance(metadata.id3, str):
        return _given_tag(metadata.id3)
    names = metadata.id3
    if len(names) > MAX_ATTRIBUTES or not all(FRAME_NAME.fullmatch(name) for name in names):
        raise RefusalError(400, f"id3: at most {MAX_ATTRIBUTES} frames, such as TIT2, WOAR or TXXX:name")
    try:
        return write_id3v2([*_described(tag), *names.items()])
    except ValueError as error:
        raise RefusalError(400, f"id3: {error}") from error


def _described(tag: DateRange) -> Iterator[tuple[str, str]]:
    """Yield the frames that name a range, so that a reader of the frames finds the range in the playlist."""
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
