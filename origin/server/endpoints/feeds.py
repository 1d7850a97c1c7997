"""RSS of recordings: ``/recordings/feed.xml`` for all channels, and ``/recordings/NAME/feed.xml`` for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.television import rss
from media.television.rss import FeedDescription, FeedItem
from origin.access.authentication import client_address
from origin.access.visible_items import VisibleItems
from origin.answers.asgi import ReplyResponse
from origin.http.client_limits import network_of
from origin.http1.answer_turns import AnswerTurns
from origin.recordings.handler import RecordingHandler
from origin.responses.json_response import UNCACHED
from origin.responses.refusal import plain_refusal
from origin.server.endpoints.television import listing_base, private_text_reply
from origin.server.services.services import Services
from packager.bounded_dict import BoundedDict
from packager.fair_queue import TooManyWaitingError
from packager.library.local_storage import NotFoundError
from packager.recordings.kept_recordings import AnyRecording
from packager.recordings.metadata import RecordingMetadata

log = structlog.get_logger()

MOST_ITEMS = 200
"""Most recordings of a feed, the newest."""

MEASURING_SECONDS = 5.0
"""Longest time in which the sizes of MP4s are found out; items without one come with the next request."""

SIZES_KEPT = 8192
"""Most recordings whose sizes are remembered."""


class Enclosure(NamedTuple):
    """The MP4 of a recording."""

    nbytes: int
    media_type: str


def routes(services: Services, movies: RecordingHandler) -> list[BaseRoute]:
    """Make the routes.

    Args:
        movies: answers requests for the MP4s of recordings, and measures these.
    """
    feeds = RecordingFeeds(services, movies)
    return [
        Route("/recordings/feed.xml", feeds.of_all),
        Route("/recordings/{channel}/feed.xml", feeds.of_channel),
    ]


class RecordingFeeds:
    """The endpoints of the feeds."""

    def __init__(self, services: Services, movies: RecordingHandler) -> None:
        self._services = services
        self._movies = movies
        self._enclosures = BoundedDict[tuple[str, RecordingMetadata], Enclosure](SIZES_KEPT)

    async def of_all(self, request: Request) -> Response:
        """Answer with the newest recordings of all channels and stations."""
        visible = await self._services.access.visible_to(request)
        shown = await self._shown(request, visible, tuple(self._services.recordings))
        return await self._answer(request, visible, shown, "Recordings", "/recordings/feed.xml")

    async def of_channel(self, request: Request) -> Response:
        """Answer with the newest recordings of a channel or station."""
        channel = request.path_params["channel"]
        if channel not in self._services.recordings:
            return plain_refusal(404, headers=UNCACHED)
        visible = await self._services.access.visible_to(request)
        shown = await self._shown(request, visible, (channel,))
        if not shown:
            raise self._services.access.needs_token(request, f"/live/{channel}/recordings/")
        return await self._answer(request, visible, shown, channel, f"/recordings/{quote(channel)}/feed.xml")

    async def _shown(self, request: Request, visible: VisibleItems, names: Sequence[str]) -> list[str]:
        """Return those of some channels whose recordings a request may have."""
        mounts = self._services.mounts
        stations = [mounts[name] for name in names if name in mounts]
        heard = await self._services.station_access.accessible(request, stations)
        # A hidden station is only found by its name.
        is_listed = len(names) == 1
        return [
            name
            for name in names
            if visible.shows(f"/live/{name}/recordings/")
            and (name not in mounts or (name in heard and (is_listed or not mounts[name].options.is_hidden)))
        ]

    async def _answer(
        self, request: Request, visible: VisibleItems, channels: Sequence[str], title: str, path: str
    ) -> Response:
        base, items = listing_base(request, visible), list[FeedItem]()
        loop, network = asyncio.get_running_loop(), network_of(client_address(request))
        until = loop.time() + MEASURING_SECONDS
        for channel, recording in await self._newest(request, channels):
            enclosure = self._enclosures.use((channel, recording.metadata))
            if enclosure is None and loop.time() < until:
                enclosure = await self._measured(channel, recording, network)
            if enclosure is not None:
                items.append(_item(channel, recording.metadata, enclosure, base))
        feed = FeedDescription(
            title=title,
            link=f"{base}/",
            url=f"{base}{path}",
            description=f"{title} of this server" if len(channels) != 1 else f"Recordings of {title}",
            author=title,
            image=f"{base}/live/{quote(channels[0])}/snapshot.jpg" if len(channels) == 1 else "",
        )
        text = rss.write_feed(feed, items).encode()
        return ReplyResponse(lambda asked: private_text_reply(text, rss.MEDIA_TYPE, asked))

    async def _newest(self, request: Request, channels: Sequence[str]) -> list[tuple[str, AnyRecording]]:
        """Return the newest recordings that have an MP4, the newest first."""
        every = await AnswerTurns.of(request.scope).spread(
            (channel, one)
            for channel in channels
            for one in islice(self._services.recordings[channel], MOST_ITEMS)
            if not one.obstacle
        )
        return nsmallest(MOST_ITEMS, every, key=lambda one: (one[1].metadata.age, one[0]))

    async def _measured(self, channel: str, recording: AnyRecording, network: str) -> Enclosure | None:
        """Find out the size of a recording's MP4; None where that can't be found out now."""
        try:
            found = Enclosure(*await self._movies.measure(recording, network))
        except (NotFoundError, TooManyWaitingError):
            return None
        except OSError as error:
            log.error("recording can't be read", recording=str(recording.path), reason=str(error))
            return None
        self._enclosures[channel, recording.metadata] = found
        return found


def _item(channel: str, metadata: RecordingMetadata, enclosure: Enclosure, base: str) -> FeedItem:
    date = datetime.fromtimestamp(metadata.start, UTC).strftime("%Y-%m-%d %H:%M UTC")
    address = f"{base}/live/{quote(channel)}/recordings/{metadata.id}"
    return FeedItem(
        guid=f"{channel}/{metadata.id}",
        title=metadata.title or f"{channel}, {date}",
        date=metadata.start,
        seconds=metadata.shown_duration,
        url=f"{address}/event.mp4",
        nbytes=enclosure.nbytes,
        media_type=enclosure.media_type,
        link=f"{base}/#live/{quote(channel)}/{metadata.id}",
    )
