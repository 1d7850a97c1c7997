"""Timed metadata: ``POST /live/NAME/metadata`` with JSON puts a date range on a channel's playlists."""

from __future__ import annotations

import hmac
import ipaddress
import itertools
import time
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from media.daterange import CLIENT_ATTRIBUTE, DateRange
from media.m3u8 import date_time
from packager.dateranges import DateRangeError
from packager.live import Channel

MAX_BODY = 16 << 10
"""Most bytes of a request's body."""

MAX_ATTRIBUTES = 32
"""Most attributes of one date range."""

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts under which a page of this same machine asks; any other name may be somebody else's."""

Text = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r'^[^"\x00-\x1f\x7f]*$')]
Length = Annotated[float, Meta(ge=0, le=86_400)]


class Metadata(Struct, frozen=True, forbid_unknown_fields=True):
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


class RefusalError(Exception):
    """The answer is this status with this line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def routes(channels: Mapping[str, Channel], publish_keys: Mapping[str, str]) -> list[BaseRoute]:
    """The routes of this wing.

    Args:
        channels: by name.
        publish_keys: by the channel's name; who publishes on any other must be on this machine.
    """
    counter = itertools.count(1)

    async def publish(request: Request) -> Response:
        try:
            channel = channels.get(request.path_params["channel"])
            if channel is None:
                raise RefusalError(404, "Not Found")
            authorize(request, publish_keys.get(channel.name))
            tag = date_range(await _body(request), channel, f"{int(time.time() * 1000)}-{next(counter)}")
            channel.presentation.date_ranges.add(tag, time.monotonic())
        except RefusalError as error:
            return PlainTextResponse(f"{error}\n", error.status, {"cache-control": "no-store"})
        except DateRangeError as error:
            return PlainTextResponse(f"{error}\n", 409, {"cache-control": "no-store"})
        answer = msgspec.json.encode({"id": tag.id, "start": date_time(tag.start_date)})
        return Response(answer, 201, {"cache-control": "no-store"}, "application/json")

    return [Route("/live/{channel}/metadata", publish, methods=["POST"])]


def authorize(request: Request, key: str | None) -> None:
    """Let a publisher in.

    Args:
        request: with ``?key=``, or Authorization Bearer, or Basic with the key as password.
        key: the channel's, or None: then only this machine may publish.

    Raises:
        RefusalError: 401 or 403.
    """
    if key is not None:
        if not hmac.compare_digest(_given_key(request).encode(), key.encode()):
            raise RefusalError(401, "the channel's publish_key is needed")
        return
    # What came through a proxy isn't from this machine, whoever the connection is from; and a page under a
    # foreign name that resolves to this machine isn't ours.
    forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    address = "" if request.client is None else request.client.host
    if forwarded or host not in LOCAL_NAMES or not _is_loopback(address):
        raise RefusalError(403, "only from this machine, since the channel has no publish_key")


def _given_key(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return request.query_params.get("key", "")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> Metadata:
    # A form of another site can't send this type without being asked first (fetch standard, CORS).
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusalError(415, "the body must be application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise RefusalError(413, f"more than {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(data, type=Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, str(error).replace("\n", " ")) from error


def date_range(metadata: Metadata, channel: Channel, new_id: str) -> DateRange:
    """Make the tag.

    Args:
        metadata: what was published.
        channel: on which.
        new_id: for a range that nobody named.

    Returns:
        The tag; it begins with the newest media where the publisher doesn't say otherwise.

    Raises:
        RefusalError: 400, or 503 while nothing is on air.
    """
    names = metadata.attributes
    if len(names) > MAX_ATTRIBUTES or not all(CLIENT_ATTRIBUTE.fullmatch(name) for name in names):
        raise RefusalError(400, f"attributes: at most {MAX_ATTRIBUTES}, with names such as X-TITLE")
    edge = channel.presentation.edge
    if edge is None:
        raise RefusalError(503, "nothing is on air")
    start = edge
    if metadata.start is not None:
        if metadata.start.tzinfo is None:
            raise RefusalError(400, "start: a date with a zone")
        start = Fraction(round(metadata.start.timestamp() * 1000), 1000)
    known = channel.presentation.date_ranges.start_of(metadata.id or "")
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


def _milliseconds(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1000), 1000)
