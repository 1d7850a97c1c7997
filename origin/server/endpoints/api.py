"""The JSON lists of channels and stations, ``/health`` and ``/metrics``.

``/api/item/…`` describes one item of a list to who knows its address, also where the lists are protected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import structlog
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authentication import Secret, presents_key
from origin.access.authorization import Action, NamedResource, ResourceKind
from origin.access.token_middleware import token_of
from origin.access.visible_items import VisibleItems
from origin.config.kept_secrets import SecretsError
from origin.config.options import event_templates
from origin.events.channel import EventChannel
from origin.http.channel_patterns import is_made_live_name, own_name, template_of
from origin.http.path_prefixes import ITEM_PREFIX, VISITOR_ADDRESS
from origin.http1.answer_turns import AnswerTurns
from origin.live.requests.dvr_segments import OldestDates, StoredSegments
from origin.radio.mounts.mount import Mount
from origin.recordings.handler import describe
from origin.responses.base_url import base_url
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.list_pages import ListPage
from origin.responses.refusal import RefusalError, plain_refusal
from origin.server.endpoints.descriptions import (
    NO_RECORDINGS,
    describe_closed_channel,
    describe_closed_station,
    describe_event_channel,
    describe_publisher,
    describe_relay,
    describe_station,
    describe_stream,
)
from origin.server.endpoints.made_tables import TableEndpoint
from origin.server.endpoints.metrics import exposition
from origin.server.services.service_states import health, state_of_stream
from origin.server.services.services import Services
from origin.token_relay.relay import TokenRelay
from packager.dvr.past_blocks import PastBlocks
from packager.library.catalogue import MAX_PAGE_ITEMS, PAGE_ITEMS
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.replication.live_log import LIVE

log = structlog.get_logger()

CHECKED_AT_ONCE = 150
"""Most event channels of a page whose keys are compared with that of the request."""

CONFIGURATION = frozenset({"configuration", "schema"})
"""Query parameters by which a list is that of the configuration's tables, or describes their keys."""

_VISIBLE = "headwater.visible"
"""Key of a scope with what lists show to its request, by the area of their addresses."""

Described = list[dict[str, Any]]


Item = TypeVar("Item", Channel | LiveStream, Mount, EventChannel, TokenRelay)


def routes(services: Services, tables: Mapping[str, TableEndpoint]) -> list[BaseRoute]:
    """Make the routes of ``/api/…`` except for the library's, ``/health`` and ``/metrics``.

    Args:
        tables: answer requests for the configuration of what is listed, by section.
    """
    answers = Api(services, tables)
    return [
        Route(VISITOR_ADDRESS, answers.visitor),
        Route(f"{ITEM_PREFIX}live/{{name:path}}", answers.live_item),
        Route(f"{ITEM_PREFIX}radio/{{name:path}}", answers.radio_item),
        Route(f"{ITEM_PREFIX}events/{{name:path}}", answers.events_item),
        Route("/api/live", answers.live),
        Route(f"/api/live/{CHANNEL}/recordings", answers.recordings),
        Route(f"/api/live/{CHANNEL}/publish_key", answers.publish_key),
        Route(f"/api/live/{CHANNEL}/publish_key", answers.renew_publish_key, methods=["POST"]),
        Route("/api/radio", answers.radio),
        Route("/api/events", answers.events),
        Route("/api/relays", answers.relays),
        Route("/health", answers.health),
        Route("/metrics", answers.metrics),
    ]


class Api:
    """The endpoints; each list is an array of objects."""

    def __init__(self, services: Services, tables: Mapping[str, TableEndpoint]) -> None:
        self._tables = tables
        self._services = services
        self._access = services.access
        self._oldest_dates = OldestDates(StoredSegments(services.live.dvr_bucket, PastBlocks))

    async def visitor(self, request: Request) -> Response:
        """Answer what a page may show to who has opened it; a token's holder has lists of what it covers."""
        access, is_admin = self._access, await self._access.is_admin(request)
        has_lists = is_admin or access.is_open(request, "api") or await access.has_token(request.scope)
        shown: dict[str, object] = {
            "lists": has_lists,
            "owner": is_admin or access.is_local(request),
            "administrator": is_admin,
            "url": base_url(request),
        }
        if is_admin and self._services.sessions is not None:
            shown["counts_viewers"] = True
        if is_admin and self._services.library.preparation is not None:
            shown["prepares_films"] = True
        if has_lists and (hidden := await self._hidden(request, is_admin=is_admin)):
            shown["hidden"] = hidden
        if has_lists and event_templates(self._services.config):
            shown["channels_at_run_time"] = True
        return as_json(shown)

    async def _hidden(self, request: Request, *, is_admin: bool) -> list[str]:
        """Name the lists that don't show all of their items to a request."""
        services = self._services
        guard = services.guard
        if guard is None or is_admin:
            return []
        token = token_of(request.scope, guard.keys)
        paths = {
            "library": guard.protected.file_paths,
            "live": [f"/live/{name}" for name in services.live.channels],
            "radio": [f"/radio/{name}" for name in services.mounts],
            "events": [f"/events/{name}" for name in services.events.channels],
        }
        turns, hidden = AnswerTurns.of(request.scope), list[str]()
        for area, several in paths.items():
            if await turns.spread(one for one in several if not guard.shows(token, one)):
                hidden.append(area)
        return hidden

    async def live(self, request: Request) -> Response:
        """List the live channels, those that other nodes of the cluster make after the server's own."""
        if not CONFIGURATION.isdisjoint(request.query_params):
            return await self._tables["live"].list_all(request)
        live = self._services.live
        streams: list[Channel | LiveStream] = [*live.channels.values(), *live.streams_of_others()]
        return await self._page(request, "live", streams, self._describe_channels)

    async def live_item(self, request: Request) -> Response:
        """Describe a channel, without its publisher, and the one recording that the address names."""
        live = self._services.live
        name, recording = own_name(request.path_params["name"], live.channels)
        own = [live.channels[name]] if name in live.channels else []
        others = [one for one in live.streams_of_others() if one.name == name]
        found = [await self._describe_channel(request, one, recording) for one in own or others]
        for one in found:
            one["publisher"] = None
        kept = self._services.recordings.get(name)
        if kept is not None and kept.get(recording) is not None:
            # A token for a recording opens that alone.
            if not (await self._visible(request, "live")).shows(f"/live/{name}"):
                found = [describe_closed_channel(one) for one in found]
            name = f"{name}/recordings/{recording}"
        return await self._item(request, "live", name, found)

    async def _describe_channels(
        self, request: Request, streams: Sequence[Channel | LiveStream]
    ) -> Described:
        """Describe channels, as many as have no more recordings together than a page may have items."""
        return await _with_recordings(self._describe_channel(request, one) for one in streams)

    async def _describe_channel(
        self, request: Request, one: Channel | LiveStream, recording: str | None = None
    ) -> dict[str, Any]:
        """Describe a channel of this server or of another node, with all recordings or with one."""
        server, live = self._services.config.server, self._services.live
        channel = one if isinstance(one, Channel) else None
        stream = one.stream if isinstance(one, Channel) else one
        # The nodes of a cluster serve one log, which may have more than this node's own.
        served = stream if channel is None else live.served_stream(channel)
        state = state_of_stream(stream) if channel is None else channel.state
        oldest = await self._oldest(request, "live", served)
        described = describe_stream(stream, state, served.viewers, oldest)
        if channel is not None:
            described["dvr_seconds"] = max(channel.options.dvr_window, channel.options.past_seconds)
        return {
            **described,
            "window_hours": self._services.config.limits.window_hours,
            **self._describe_owner(stream.name),
            "restarts": 0 if channel is None else channel.restarts,
            "publisher": None
            if channel is None
            else describe_publisher(channel, server.rtmp_port, server.srt_port),
            **await self._recordings(request, stream.name, recording),
        }

    async def _oldest(self, request: Request, area: str, stream: LiveStream) -> float | None:
        """Return from which date on the request may play a channel; None if its token allows no clips."""
        visible = await self._visible(request, area)
        return await self._oldest_dates.of(stream) if visible.may_clip(f"/live/{stream.name}") else None

    async def _item(self, request: Request, area: str, name: str, found: list[dict[str, object]]) -> Response:
        """Answer with an item, none where it doesn't exist, as a list of its kind; 401 without its token."""
        visible = await self._visible(request, area)
        if not visible.may_fetch(f"/{area}/{name}"):
            raise self._access.needs_token(request, f"/{area}/{name}")
        return as_json(visible.based(found if visible.shows(f"/{area}/{name}") else []))

    async def _page(
        self,
        request: Request,
        area: str,
        items: Iterable[Item],
        describe_items: Callable[[Request, Sequence[Item]], Awaitable[Described]],
    ) -> Response:
        """Answer with a page of the items that the request may see, whose addresses have its token.

        Args:
            area: the first part of their addresses.
            describe_items: describes those of the page, or the first ones of these.
        """
        page = ListPage.of(request.query_params)
        visible = await self._visible(request, area)
        listed = await AnswerTurns.of(request.scope).spread(
            one for one in tuple(items) if visible.shows(f"/{area}/{one.name}")
        )
        described = await describe_items(request, page.of_items(listed))
        return await self._write(request, page, described, len(listed), visible)

    async def _write(
        self, request: Request, page: ListPage, items: Described, total: int, visible: VisibleItems
    ) -> Response:
        written = await AnswerTurns.of(request.scope).spread(
            msgspec.json.encode(visible.based(one)) for one in items
        )
        fields = page.fields(f"{visible.base}{quote(request.scope['path'])}", len(items), total)
        return Response(b"[%b]" % b",".join(written), 200, {**UNCACHED, **fields}, "application/json")

    async def _visible(self, request: Request, area: str) -> VisibleItems:
        """Return what the list of an area shows to a request, which may present a key of its items."""
        known: dict[str, VisibleItems] = request.scope.setdefault(_VISIBLE, {})
        if area in known:
            return known[area]
        keys: Iterable[Secret] = ()
        if area == "radio":
            keys = self._readers_secrets(ResourceKind.RADIO, self._services.mounts)
        elif area == "events":
            keys = self._readers_secrets(ResourceKind.EVENTS, self._services.events.channels)
        further = islice(keys, CHECKED_AT_ONCE)
        known[area] = await self._access.visible_to(request, further)
        return known[area]

    def _readers_secrets(self, kind: ResourceKind, names: Iterable[str]) -> Iterator[Secret]:
        return self._services.authorization.readers_secrets(NamedResource(kind, name) for name in names)

    def _describe_owner(self, channel: str) -> dict[str, object]:
        """Describe which node of a cluster makes what all serve of a channel, and its state there."""
        cluster = self._services.live.cluster
        if cluster is None:
            return {}
        owner = cluster.owners.get(f"{LIVE}/{channel}")
        if owner is None or not cluster.is_owned_elsewhere(channel):
            return {"owner": None if owner is None else owner.name}
        return {"owner": owner.name, "state": owner.state}

    async def _recordings(self, request: Request, channel: str, named: str | None) -> Mapping[str, object]:
        """Describe a channel's newest recordings, or the one with a name alone."""
        every, guard = self._services.recordings.get(channel), self._services.guard
        is_hidden = guard is not None and guard.protected.hides_recordings(channel)
        if every is None:
            return NO_RECORDINGS
        if is_hidden:
            visible = await self._visible(request, "live")
            if not visible.shows(f"/live/{channel}/recordings/{named or ''}"):
                return NO_RECORDINGS
        found = [one for one in (every if named is None else [every.get(named)]) if one is not None]
        newest = found[:PAGE_ITEMS]
        described = await AnswerTurns.of(request.scope).spread(describe(channel, one) for one in newest)
        address = f"/api/live/{quote(channel)}/recordings?offset={PAGE_ITEMS}"
        return {
            "recordings": described,
            "earlier_recordings": address if len(found) > len(newest) else None,
        }

    async def recordings(self, request: Request) -> Response:
        """List the recordings of a channel or station, the newest first."""
        name = request.path_params["channel"]
        mount = self._services.mounts.get(name)
        is_heard = mount is None or await self._services.station_access.accessible(request, [mount])
        visible = await self._visible(request, "live" if mount is None else "radio")
        if not is_heard or not visible.shows(f"/live/{name}/recordings/"):
            raise self._access.needs_token(request, f"/live/{name}/recordings/")
        if (every := self._services.recordings.get(name)) is None:
            return plain_refusal(404, headers=UNCACHED)
        page, recordings = ListPage.of(request.query_params), tuple(every)
        described = await AnswerTurns.of(request.scope).spread(
            describe(name, one) for one in page.of_items(recordings)
        )
        return await self._write(request, page, described, len(recordings), visible)

    async def publish_key(self, request: Request) -> Response:
        """Answer the administrator with a channel's key, on every port: no option opens this address.

        A key that an earlier start has made is null: only its hash is known.
        """
        channel = request.path_params["channel"]
        await self._require_key(request, channel)
        return as_json({"publish_key": self._services.publishers.keys.key(channel) or None})

    async def renew_publish_key(self, request: Request) -> Response:
        """Make another key of a channel for the administrator, in place of one that was made."""
        channel = request.path_params["channel"]
        await self._require_key(request, channel)
        if is_made_live_name(channel):
            return plain_refusal(409, f"the key is that of all of {template_of(channel)!r}", UNCACHED)
        if not self._services.publishers.may_renew_key(channel):
            return plain_refusal(409, "publish_key is in the configuration: change it there", UNCACHED)
        try:
            return as_json({"publish_key": await self._services.publishers.renew_key(channel)})
        except (OSError, SecretsError) as error:
            log.error("publish_key can't be changed", channel=channel, reason=str(error))
            return plain_refusal(503, "the server can't keep another key: see its log", UNCACHED)

    async def _require_key(self, request: Request, channel: str) -> None:
        await self._access.require_admin(request)
        if channel not in self._services.publishers.keys:
            raise RefusalError(404, "")

    async def radio(self, request: Request) -> Response:
        """List the stations, without details of those that the request may not listen to."""
        if not CONFIGURATION.isdisjoint(request.query_params):
            return await self._tables["radio"].list_all(request)
        every = tuple(self._services.mounts.values())
        listed = [one for one in every if not one.options.is_hidden]
        if len(listed) < len(every) and presents_key(request, with_basic=False):
            keys = islice(self._readers_secrets(ResourceKind.RADIO, self._services.mounts), CHECKED_AT_ONCE)
            if await self._access.shows_all(request, *keys):
                return await self._page(request, "radio", every, self._stations)
        return await self._page(request, "radio", listed, self._stations)

    async def radio_item(self, request: Request) -> Response:
        """Describe a station, and the one recording that the address names."""
        # Behind the name, an address of the page may also have a moment of the station's past.
        name, _, recording = request.path_params["name"].partition("/")
        mount = self._services.mounts.get(name)
        found = [] if mount is None else await self._stations(request, [mount], recording)
        return await self._item(request, "radio", name, found)

    async def _stations(
        self, request: Request, mounts: Sequence[Mount], recording: str | None = None
    ) -> Described:
        """Describe stations, as many as have no more recordings together than a page may have items."""
        heard = await self._services.station_access.accessible(request, mounts)

        async def describe_next(mount: Mount) -> dict[str, Any]:
            if mount.name not in heard:
                return describe_closed_station(mount)
            return await self._describe_station(request, mount, recording)

        return await _with_recordings(map(describe_next, mounts))

    async def _describe_station(
        self, request: Request, mount: Mount, recording: str | None
    ) -> dict[str, object]:
        stream = self._services.live.simulcast_stream(mount.name)
        oldest = None if stream is None else await self._oldest(request, "radio", stream)
        window_hours = self._services.config.limits.window_hours
        recordings = await self._recordings(request, mount.name, recording)
        return describe_station(mount, stream, recordings, oldest, window_hours=window_hours)

    async def events(self, request: Request) -> Response:
        """List the event channels, without details of those that the request may not read."""
        channels = self._services.events.channels.values()
        return await self._page(request, "events", channels, self._event_channels)

    async def events_item(self, request: Request) -> Response:
        """Describe one event channel."""
        name = request.path_params["name"]
        channel = self._services.events.channels.get(name)
        channels = [] if channel is None else [channel]
        return await self._item(request, "events", name, await self._event_channels(request, channels))

    async def relays(self, request: Request) -> Response:
        """List the relays of token streams, whose callers need a token, with their addresses."""
        if not CONFIGURATION.isdisjoint(request.query_params):
            return await self._tables["relay"].list_all(request)

        async def describe_all(_: Request, relays: Sequence[TokenRelay]) -> Described:
            return list(map(describe_relay, relays))

        # Where the channel of a relay is for those with a token, its relay isn't listed to others either.
        return await self._page(request, "events", self._services.events.relays.values(), describe_all)

    async def _event_channels(self, request: Request, channels: Sequence[EventChannel]) -> Described:
        if presents_key(request, with_basic=False):
            channels = channels[:CHECKED_AT_ONCE]
        resources, authorization = (
            [NamedResource(ResourceKind.EVENTS, one.name) for one in channels],
            self._services.authorization,
        )
        readable = await authorization.permissions(request, Action.READ, resources, with_basic=False)
        return [
            describe_event_channel(
                channel, is_protected=not authorization.is_open(one), is_readable=one in readable
            )
            for channel, one in zip(channels, resources, strict=True)
        ]

    async def health(self, request: Request) -> Response:
        """Answer 200, or 503 during shutdown; the body describes the services."""
        workers = self._services.workers
        report = health(self._services, {} if workers is None else await workers.states())
        if not await self._access.may_see(request, "health"):
            report = {key: report[key] for key in ("live", "ready")}
        return as_json(report, 200 if report["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        """Write all metrics as Prometheus text."""
        text = await exposition(self._services.registry, self._services.workers)
        return Response(text, headers={**UNCACHED, "content-type": CONTENT_TYPE_LATEST})


async def _with_recordings(items: Iterable[Awaitable[dict[str, Any]]]) -> Described:
    """Return the descriptions of the first items, until they have as many recordings as a page has items.

    Args:
        items: none is described that isn't returned.
    """
    described: Described = []
    recordings = 0
    for one in items:
        described.append(await one)
        recordings += len(described[-1]["recordings"])
        if recordings >= MAX_PAGE_ITEMS:
            break
    return described
