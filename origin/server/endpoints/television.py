"""Channels and stations for apps of televisions: ``/playlist.m3u`` with catch-up, and ``/guide.xml``.

``/playlist.svg`` is the QR code of the list's own URL.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypedDict
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.television import m3u
from media.television.m3u import ListedChannel
from media.xmltv import writer as xmltv
from media.xmltv.writer import GuideChannel, GuideProgramme
from origin.access.authentication import client_address
from origin.access.visible_items import VisibleItems
from origin.answers import gzip_cache
from origin.answers.asgi import ReplyResponse, request_of
from origin.answers.reply import Reply
from origin.answers.representation_replies import text_reply
from origin.answers.request import Request as HandlerRequest
from origin.config.lan_address import qr_picture
from origin.config.options import dvr_seconds
from origin.config.stations import has_dvr
from origin.http.client_limits import network_of
from origin.http.path_prefixes import LISTS
from origin.http1.answer_turns import AnswerTurns
from origin.radio.mounts.mount import Mount
from origin.responses.base_url import base_url
from origin.responses.refusal import RefusalError
from origin.server.endpoints.page import SVG
from origin.server.services.services import Services
from packager.bounded_dict import SizedDict
from packager.past.programmes import LATEST, Schedule
from packager.threads import SHARED_THREADS

*PLAYLISTS, GUIDE = LISTS

CODE = "/playlist.svg"

LIVE, RADIO = "Live", "Radio"
"""Headings under which apps list channels."""

MAX_AGE = 60
"""Seconds for which a client may keep a list; its caches alone, as others may see more or less."""

FRESH_SECONDS = 10
"""Seconds for which a guide that was written is good for further requests."""

MOST_PROGRAMMES = 50_000
"""Most programmes of a guide, those nearest to now: apps read all of it at each start."""

COMING_SECONDS = 86_400
"""Seconds ahead for which a channel without programmes has one for each hour."""

LONGEST_CODED_URL = 1000
"""Most characters of a URL in a QR code, whose modules a telephone's camera can still tell apart."""

HOUR, DAY = 3600, 86_400

KEPT_BYTES = 32 << 20
"""Most bytes of lists and guides that are kept for further requests."""


class ServedChannel(NamedTuple):
    """A channel or station that a request may see.

    Attributes:
        kept_seconds: for which it can be played back.
        schedule: its programmes; None where none are known.
    """

    listed: ListedChannel
    kept_seconds: float
    schedule: Schedule | None = None


def routes(services: Services) -> list[BaseRoute]:
    """Make the routes."""
    television = Television(services)
    return [
        *(Route(path, television.playlist) for path in PLAYLISTS),
        Route(GUIDE, television.guide),
        Route(CODE, television.code),
    ]


class Television:
    """The endpoints of the list and the guide."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._written = SizedDict[Hashable, bytes](None, KEPT_BYTES, len)

    async def playlist(self, request: Request) -> Response:
        """List the channels and stations that a request may see.

        Query parameters: ``type``, ``live`` or ``radio``; ``group``, a heading.
        """
        base, channels = await self._channels(request)
        listed = tuple(one.listed for one in channels)
        write = partial(_playlist, listed, f"{base}{GUIDE}")
        return await self._answer(request, (base, listed), write, m3u.MEDIA_TYPE)

    async def guide(self, request: Request) -> Response:
        """Answer with the programmes of these channels and stations."""
        base, channels = await self._channels(request)
        now = int(time.time()) // FRESH_SECONDS * FRESH_SECONDS
        write = partial(_guide, channels, now)
        return await self._answer(request, (base, tuple(channels), now), write, xmltv.MEDIA_TYPE)

    async def code(self, request: Request) -> Response:
        """Answer with the QR code of the list's URL, which has the token of the request's path."""
        url = f"{base_url(request)}{PLAYLISTS[0]}"
        if len(url) > LONGEST_CODED_URL:
            raise RefusalError(404, "The address of the list is too long for a QR code.")
        return await self._answer(request, (CODE, url), partial(qr_picture, url), SVG)

    async def _answer(
        self, request: Request, key: Hashable, write: Callable[[], bytes], media_type: str
    ) -> Response:
        """Answer with a text that is written and compressed in a thread, once for all who ask for it."""
        asked = request_of(request.scope)
        threads = SHARED_THREADS.of(network_of(client_address(request)), (self, key, asked.takes_gzip))
        text = await threads.run(_prepared, self._written.use(key), write, is_packed=asked.takes_gzip)
        self._written[key] = text
        return ReplyResponse(partial(private_text_reply, text, media_type))

    async def _channels(self, request: Request) -> tuple[str, list[ServedChannel]]:
        """Return the beginning of addresses, and what a request may see of channels and stations."""
        visible = await self._services.access.visible_to(request)
        base = listing_base(request, visible)
        wanted, group = request.query_params.get("type", ""), request.query_params.get("group", "")
        if wanted not in ("", "live", "radio"):
            raise RefusalError(400, "type: live or radio")
        found, turns = list[ServedChannel](), AnswerTurns.of(request.scope)
        if wanted != "radio" and group in ("", LIVE):
            found += await turns.spread(
                one for one in self._live(base, visible) if visible.shows(f"/live/{one.listed.id}")
            )
        if wanted != "live" and group in ("", RADIO):
            mounts = [one for one in self._services.mounts.values() if not one.options.is_hidden]
            heard = await self._services.station_access.accessible(request, mounts)
            key = request.query_params.get("key", "")
            found += await turns.spread(
                self._station(one, base, key, visible) for one in mounts if one.name in heard
            )
        return base, found

    def _live(self, base: str, visible: VisibleItems) -> Iterator[ServedChannel]:
        """Yield all live channels, those of other nodes of a cluster after the server's own."""
        services, options = self._services, self._services.live.options
        own = [one.stream for one in services.live.channels.values()]
        for number, stream in enumerate([*own, *services.live.streams_of_others()], 1):
            if stream.is_withdrawn:
                continue
            address = f"{base}/live/{quote(stream.name)}"
            kept = dvr_seconds(options[stream.name]) if stream.name in options else 0.0
            has_picture = any(one.video is not None for one in stream.renditions.values())
            listed = ListedChannel(
                id=stream.name,
                name=stream.name,
                url=f"{address}/master.m3u8",
                group=LIVE,
                logo=f"{address}/snapshot.jpg" if has_picture else "",
                number=number,
                **_catchup(address, kept if visible.may_clip(f"/live/{stream.name}") else 0.0),
            )
            store = services.programmes.store(stream.name)
            yield ServedChannel(listed, kept, None if store is None else store.schedule)

    def _station(self, mount: Mount, base: str, key: str, visible: VisibleItems) -> ServedChannel:
        """Return a station.

        Args:
            key: the password that the request has, which the station's address needs, too.
        """
        config, options = self._services.config, self._services.stations.options.get(mount.name)
        kept = 0.0 if options is None or not has_dvr(options, config) else dvr_seconds(options)
        query = f"?key={quote(key)}" if key and mount.options.listener_password else ""
        listed = ListedChannel(
            id=f"radio/{mount.name}",
            name=mount.description.name or mount.name,
            url=f"{base}/radio/{quote(mount.name)}{query}",
            group=RADIO,
            is_radio=True,
            **_catchup(
                f"{base}/live/{quote(mount.name)}", kept if visible.may_clip(f"/live/{mount.name}") else 0.0
            ),
        )
        store = self._services.programmes.store(mount.name)
        return ServedChannel(listed, kept, None if store is None else store.schedule)


class Catchup(TypedDict):
    """The attributes of a `ListedChannel` that can be played back."""

    catchup_days: int
    catchup_url: str


def _catchup(address: str, seconds: float) -> Catchup:
    """Return how far back a channel can be played.

    Args:
        address: path of the folder that has its playlists.
        seconds: for which it is kept.
    """
    url = f"{address}/master.m3u8?start={{utc}}&end={{utcend}}" if seconds else ""
    return {"catchup_days": math.ceil(seconds / DAY), "catchup_url": url}


def _prepared(text: bytes | None, write: Callable[[], bytes], *, is_packed: bool) -> bytes:
    """Return a text, written unless it is there, whose validators and gzip are in their caches. Blocks."""
    text = write() if text is None else text
    (gzip_cache.gzip_tag if is_packed else gzip_cache.tag)((text,))
    if is_packed:
        gzip_cache.gzip((text,))
    return text


def listing_base(request: Request, visible: VisibleItems) -> str:
    """Return the beginning of absolute addresses, with the token of the request wherever it has it."""
    base = base_url(request)
    return base if not visible.base or base.endswith(visible.base) else f"{base}{visible.base}"


def private_text_reply(text: bytes, media_type: str, request: HandlerRequest) -> Reply:
    """Return the reply with a text for apps of televisions and podcasts."""
    reply = text_reply(request, (text,), media_type, MAX_AGE, coded=request.takes_gzip)
    # Other clients may see more or fewer channels at the same address.
    return reply._replace(head=reply.head.private())


def _playlist(channels: Iterable[ListedChannel], guide_url: str) -> bytes:
    return m3u.write_playlist(channels, guide_url).encode()


def _guide(channels: Sequence[ServedChannel], now: int) -> bytes:
    """Write the guide of channels; of thousands of programmes that takes a while."""
    listed = sorted(channels, key=lambda one: one.listed.id)
    most = MOST_PROGRAMMES // max(1, len(listed))
    named = (GuideChannel(one.listed.id, one.listed.name, one.listed.logo) for one in listed)
    programmes = (programme for one in listed for programme in _programmes(one, now, most))
    return "".join(xmltv.write_guide("Headwater", named, programmes)).encode()


def _programmes(channel: ServedChannel, now: int, most: int) -> Iterator[GuideProgramme]:
    """Yield programmes of a channel in their order, those nearest to now.

    Args:
        now: seconds since the epoch.
        most: most programmes.
    """
    begin, name = now - int(channel.kept_seconds), channel.listed.id
    if channel.schedule is None or not len(channel.schedule):
        first = max(begin // HOUR, now // HOUR - most // 2)
        for hour in range(first, min(first + most, (now + COMING_SECONDS) // HOUR)):
            yield GuideProgramme(name, hour * HOUR, (hour + 1) * HOUR, channel.listed.name)
        return
    known = channel.schedule.touching(begin * 1000, LATEST)
    current = bisect_right(known, now * 1000, key=lambda one: one.start_ms)
    for one in known[max(0, current - most // 2) :][:most]:
        yield GuideProgramme(
            name,
            one.start_ms // 1000,
            one.end_ms // 1000,
            one.title or channel.listed.name,
            one.subtitle,
            one.description,
            one.categories,
        )
