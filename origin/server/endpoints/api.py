"""The JSON lists of channels and stations, ``/health`` and ``/metrics``.

``/api/item/…`` describes one item of a list to who knows its address, also where the lists are protected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authentication import challenge, unauthorized
from origin.access.policy import AccessPolicy, sees_covered_alone
from origin.access.protected_addresses import TokenGuard
from origin.access.token_middleware import base_path, token_of
from origin.config.kept_secrets import SecretsError
from origin.events.authorization import EventAuthorization
from origin.events.channel import EventChannel
from origin.http.path_prefixes import ITEM_PREFIX, VISITOR_ADDRESS
from origin.http1.answer_turns import AnswerTurns
from origin.live.requests.dvr_segments import OldestDates, StoredSegments
from origin.radio.authorization import StationAuthorization, is_protected
from origin.radio.mounts import now_playing
from origin.radio.mounts.mount import Mount
from origin.recordings.handler import describe
from origin.responses.json_response import UNCACHED, as_json, based
from origin.responses.refusal import plain_refusal
from origin.server.endpoints.metrics import exposition
from origin.server.services.service_states import health, state_of_stream
from origin.server.services.services import Services
from origin.token_relay.relay import TokenRelay
from packager.dvr.past_blocks import PastBlocks
from packager.ffmpeg.ladder import COPY
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.replication.live_log import LIVE

log = structlog.get_logger()


def routes(
    services: Services,
    access: AccessPolicy,
    authorization: StationAuthorization,
    event_authorization: EventAuthorization,
    guard: TokenGuard | None = None,
) -> list[BaseRoute]:
    """Make the routes of ``/api/…`` except for the library's, ``/health`` and ``/metrics``.

    Args:
        access: decides who sees the details of ``/health``, and the keys of channels.
        authorization: decides who may see a station's titles.
        event_authorization: decides who may see what an event channel has.
        guard: checks the tokens with which protected channels and stations are listed.
    """
    answers = Api(services, access, authorization, event_authorization, guard)
    return [
        Route(VISITOR_ADDRESS, answers.visitor),
        Route(f"{ITEM_PREFIX}live/{{name:path}}", answers.live_item),
        Route(f"{ITEM_PREFIX}radio/{{name:path}}", answers.radio_item),
        Route(f"{ITEM_PREFIX}events/{{name:path}}", answers.events_item),
        Route("/api/live", answers.live),
        Route("/api/live/{channel}/publish_key", answers.publish_key),
        Route("/api/live/{channel}/publish_key", answers.renew_publish_key, methods=["POST"]),
        Route("/api/radio", answers.radio),
        Route("/api/events", answers.events),
        Route("/api/relays", answers.relays),
        Route("/health", answers.health),
        Route("/metrics", answers.metrics),
    ]


class Api:
    """The endpoints; each list is an array of objects."""

    def __init__(
        self,
        services: Services,
        access: AccessPolicy,
        authorization: StationAuthorization,
        event_authorization: EventAuthorization,
        guard: TokenGuard | None = None,
    ) -> None:
        self._guard = guard
        self._services_of = services
        self._access = access
        self._authorization = authorization
        self._event_authorization = event_authorization
        self._oldest_dates = OldestDates(StoredSegments(services.live.dvr_bucket, PastBlocks))

    async def visitor(self, request: Request) -> Response:
        """Answer what a page may show to who has opened it; a token's holder has lists of what it covers."""
        access, is_admin = self._access, await self._access.is_admin(request)
        has_lists = is_admin or access.is_open(request, "api") or await access.has_token(request.scope)
        return as_json(
            {
                "lists": has_lists,
                "owner": is_admin or access.is_local(request),
                "administrator": is_admin,
            }
        )

    async def live(self, request: Request) -> Response:
        """List the live channels, those that other nodes of the cluster make behind the server's own."""
        return self._listed(request, "live", await self._channels(request))

    async def live_item(self, request: Request) -> Response:
        """Describe a channel, without its publisher, and the one recording that the address names."""
        name, _, recording = request.path_params["name"].partition("/")
        live = self._services_of.live
        if (channel := live.channels.get(name)) is not None:
            found = [await self._describe_channel(request, channel, recording)]
        else:
            others = [one for one in live.streams_of_others() if one.name == name]
            found = [await self._describe_stream(request, one, recording) for one in others]
        for one in found:
            one["publisher"] = None
        return self._item(request, "live", name, found)

    async def _channels(self, request: Request) -> list[dict[str, Any]]:
        live = self._services_of.live
        return [
            *[await self._describe_channel(request, one) for one in list(live.channels.values())],
            *[await self._describe_stream(request, one) for one in live.streams_of_others()],
        ]

    async def _describe_channel(
        self, request: Request, channel: Channel, recording: str | None = None
    ) -> dict[str, Any]:
        """Describe a channel, with all recordings or with one."""
        server, live = self._services_of.config.server, self._services_of.live
        # The nodes of a cluster serve one log, which may have more than this node's own.
        served = live.served_stream(channel)
        oldest = await self._oldest_dates.of(served)
        return {
            **describe_stream(channel.stream, channel.state, served.viewers, oldest),
            "window_hours": self._services_of.config.limits.window_hours,
            **self._describe_owner(channel.name),
            "restarts": channel.restarts,
            "publisher": describe_publisher(channel, server.rtmp_port, server.srt_port),
            "recordings": await self._recordings(request, channel.name, recording),
        }

    async def _describe_stream(
        self, request: Request, stream: LiveStream, recording: str | None = None
    ) -> dict[str, Any]:
        oldest = await self._oldest_dates.of(stream)
        return {
            **describe_stream(stream, state_of_stream(stream), stream.viewers, oldest),
            "window_hours": self._services_of.config.limits.window_hours,
            **self._describe_owner(stream.name),
            "restarts": 0,
            "publisher": None,
            "recordings": await self._recordings(request, stream.name, recording),
        }

    def _item(self, request: Request, area: str, name: str, found: list[dict[str, object]]) -> Response:
        """Answer with an item, none where it doesn't exist, as a list of its kind; 401 without its token."""
        guard = self._guard
        if guard is not None and not guard.shows(token_of(request.scope, guard.keys), f"/{area}/{name}"):
            return unauthorized("a token is needed", {**UNCACHED, "www-authenticate": challenge(request)})
        return self._listed(request, area, found)

    def _listed(self, request: Request, area: str, items: list[dict[str, object]]) -> Response:
        """Answer with the items that the request may see, whose addresses have its token."""
        if self._guard is not None:
            token = token_of(request.scope, self._guard.keys)
            shows = partial(self._guard.shows, token, covered_alone=sees_covered_alone(request.scope))
            items = [one for one in items if shows(f"/{area}/{one['name']}")]
            items = based(items, base_path(request.scope, self._guard.keys))
        return as_json(items)

    def _describe_owner(self, channel: str) -> dict[str, object]:
        """Describe which node of a cluster makes what all serve of a channel, and its state there."""
        cluster = self._services_of.live.cluster
        if cluster is None:
            return {}
        owner = cluster.owners.get(f"{LIVE}/{channel}")
        if owner is None or not cluster.is_owned_elsewhere(channel):
            return {"owner": None if owner is None else owner.name}
        return {"owner": owner.name, "state": owner.state}

    async def _recordings(self, request: Request, channel: str, named: str | None) -> list[dict[str, object]]:
        """Describe a channel's recordings, or the one with a name alone."""
        every = self._services_of.recordings.get(channel)
        if every is None:
            return []
        found = tuple(every) if named is None else (every.get(named),)
        lines = (describe(channel, one) for one in found if one is not None)
        return await AnswerTurns.of(request.scope).spread(lines)

    async def publish_key(self, request: Request) -> Response:
        """Answer the administrator with a channel's key, on every port: no option opens this address.

        A key that an earlier start has made is null: only its hash is known.
        """
        channel = request.path_params["channel"]
        refusal = await self._refuse_key(request, channel)
        return refusal or as_json({"publish_key": self._services_of.publishers.keys.key(channel) or None})

    async def renew_publish_key(self, request: Request) -> Response:
        """Make another key of a channel for the administrator, in place of one that was made."""
        channel = request.path_params["channel"]
        refusal = await self._refuse_key(request, channel)
        if refusal is not None:
            return refusal
        if not self._services_of.publishers.may_renew_key(channel):
            return plain_refusal(409, "publish_key is in the configuration: change it there", UNCACHED)
        try:
            return as_json({"publish_key": await self._services_of.publishers.renew_key(channel)})
        except (OSError, SecretsError) as error:
            log.error("publish_key can't be changed", channel=channel, reason=str(error))
            return plain_refusal(503, "the server can't keep another key: see its log", UNCACHED)

    async def _refuse_key(self, request: Request, channel: str) -> Response | None:
        if (refusal := await self._access.refuse_others(request)) is not None:
            return refusal
        return None if channel in self._services_of.publishers.keys else plain_refusal(404, headers=UNCACHED)

    async def radio(self, request: Request) -> Response:
        """List the stations, without details of those that the request may not listen to."""
        return self._listed(
            request, "radio", await self._stations(request, self._services_of.mounts.values())
        )

    async def radio_item(self, request: Request) -> Response:
        """Describe a station, and the one recording that the address names."""
        # Behind the name, an address of the page may also have a moment of the station's past.
        name, _, recording = request.path_params["name"].partition("/")
        mount = self._services_of.mounts.get(name)
        found = [] if mount is None else await self._stations(request, [mount], recording)
        return self._item(request, "radio", name, found)

    async def _stations(
        self, request: Request, mounts: Collection[Mount], recording: str | None = None
    ) -> list[dict[str, Any]]:
        heard = await self._authorization.accessible_stations(request, mounts)
        return [
            await self._describe_station(request, mount, recording)
            if mount.name in heard
            else describe_closed_station(mount)
            for mount in mounts
        ]

    async def _describe_station(
        self, request: Request, mount: Mount, recording: str | None
    ) -> dict[str, object]:
        stream = self._services_of.live.simulcast_stream(mount.name)
        oldest = None if stream is None else await self._oldest_dates.of(stream)
        window_hours = self._services_of.config.limits.window_hours
        recordings = await self._recordings(request, mount.name, recording)
        return describe_station(mount, stream, recordings, oldest, window_hours=window_hours)

    async def events(self, request: Request) -> Response:
        """List the event channels, without details of those that the request may not read."""
        return self._listed(
            request, "events", await self._event_channels(request, self._services_of.events.channels)
        )

    async def events_item(self, request: Request) -> Response:
        """Describe one event channel."""
        name = request.path_params["name"]
        channel = self._services_of.events.channels.get(name)
        channels = {} if channel is None else {name: channel}
        return self._item(request, "events", name, await self._event_channels(request, channels))

    async def relays(self, request: Request) -> Response:
        """List the relays of token streams, whose callers need a token, with their addresses."""
        relays = self._services_of.events.relays.values()
        # Where the channel of a relay is for those with a token, its relay isn't listed to others either.
        return self._listed(request, "events", [describe_relay(one) for one in relays])

    async def _event_channels(
        self, request: Request, channels: Mapping[str, EventChannel]
    ) -> list[dict[str, object]]:
        readable = await self._event_authorization.readable(request, channels)
        protected = self._event_authorization.is_protected
        return [
            describe_event_channel(one, is_protected=protected(name), is_readable=name in readable)
            for name, one in channels.items()
        ]

    async def health(self, request: Request) -> Response:
        """Answer 200, or 503 during shutdown; the body describes the services."""
        workers = self._services_of.workers
        report = health(self._services_of, {} if workers is None else await workers.states())
        if not await self._access.may_see(request, "health"):
            report = {key: report[key] for key in ("live", "ready")}
        return as_json(report, 200 if report["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        """Write all metrics as Prometheus text."""
        text = await exposition(self._services_of.registry, self._services_of.workers)
        return Response(text, headers={**UNCACHED, "content-type": CONTENT_TYPE_LATEST})


def describe_stream(stream: LiveStream, state: str, viewers: int, oldest: float | None) -> dict[str, object]:
    """Describe what is published of a live channel, whichever node of a cluster makes it.

    Args:
        state: the channel's, as far as this node knows it.
        viewers: how many clients fetch its playlists here.
        oldest: date from which on it can be played, in seconds since the epoch.
    """
    return {
        "name": stream.name,
        "state": state,
        # An event that is over, without a DVR or behind its time, isn't served any more.
        "hls": None if stream.is_withdrawn else f"/live/{stream.name}/master.m3u8",
        "available_from": oldest,
        "renditions": [name for name, one in stream.renditions.items() if one.language is None],
        "captions": stream.languages,
        "part_target": float(stream.cadence.part_target),
        "target_duration": stream.target_duration,
        "viewers": viewers,
    }


def describe_publisher(channel: Channel, rtmp_port: int = 0, srt_port: int = 0) -> dict[str, object] | None:
    """Describe a channel's publisher and its stream; None for a channel with another source.

    Everybody may read the description, so it has neither the publisher's address nor the channel's key.

    Args:
        rtmp_port: the port for publishing by RTMP; 0 for none.
    """
    published = channel.published
    if published is None:
        return None
    live, source = published.live, channel.source
    ladder = () if channel.options.bitrates else channel.options.ladder
    has_ladder = len(ladder) > 1 and COPY in ladder
    told: dict[str, object] = {
        "on_air": published.is_on_air,
        "elsewhere": published.elsewhere or None,
        "publishers": sum(not one.is_slate for one in published.publications),
        "last_error": published.last_error,
        "ingest": f"/live/{channel.name}/ingest",
        "multitrack": f"/live/{channel.name}/ingest/multitrack" if rtmp_port and has_ladder else None,
        "rtmp_port": rtmp_port or None,
        "srt_port": srt_port or None,
        "forwards": [
            {
                "target": one.target,
                "state": one.state,
                "sent_bytes": one.sent,
                "failures": one.failures,
                "last_error": one.last_error,
            }
            for one in channel.forwarders
        ],
    }
    if live is None or live.is_slate:
        return told
    told |= {
        "protocol": live.publisher.protocol,
        "container": published.received_container,
        "since": live.began,
        "received_bytes": live.received,
        "bitrate": live.bitrate,
        "keyframe_interval": live.keyframe_interval,
        "pictures": 1 + len(live.further_video_tracks),
        "lost_packets": live.lost_packets,
        "link": live.link,
    }
    if source is not None and source.stream == published.stream:
        told |= {
            "video_codec": source.video_codec,
            "width": source.size[0],
            "height": source.size[1],
            "frame_rate": float(source.frame_rate) if source.has_video else None,
            "audio_codec": source.audio_codec,
            "is_encoded": source.copied is None,
        }
    return told


def describe_station(
    mount: Mount,
    stream: LiveStream | None = None,
    recordings: Sequence[dict[str, object]] = (),
    oldest: float | None = None,
    window_hours: float | None = None,
) -> dict[str, object]:
    """Describe a station and its titles with their media times.

    Args:
        stream: the stream of its live channel, if it has one.
        recordings: of that channel.
        oldest: date from which on the channel can be played, in seconds since the epoch.
        window_hours: longest span of it that a request may name.
    """
    titles = [now_playing.describe_title(title) for title in mount.now.titles]
    return {
        "name": mount.name,
        "station": mount.description.name,
        "genre": mount.description.genre,
        "url": f"/radio/{mount.name}",
        "protected": is_protected(mount),
        "hls": None if stream is None else f"/live/{mount.name}/master.m3u8",
        "available_from": oldest,
        "window_hours": window_hours,
        "target_duration": None if stream is None else stream.target_duration,
        "recordings": [] if stream is None else list(recordings),
        "events": f"/events/radio/{mount.name}",
        "media_type": mount.media_type,
        "bitrate": mount.bitrate,
        "title": titles[-1]["title"] if titles else "",
        "now": titles[-1] if titles else None,
        "history": titles[:-1],
        "media_time": now_playing.as_seconds(mount.media_time),
        "listeners": mount.listeners,
        "viewers": 0 if stream is None else stream.viewers,
        "peak": mount.peak,
        "state": mount.state,
        "waits_for": _awaited(mount),
    }


def _awaited(mount: Mount) -> str | None:
    """Return for whom an idle station waits: a listener, where it plays on demand, or a source."""
    if mount.state != "idle":
        return None
    return "listener" if mount.options.on_demand else "source"


def describe_closed_station(mount: Mount) -> dict[str, object]:
    """Describe a station to a client that may not listen to it: only that it exists."""
    told = {
        "name": mount.name,
        "station": mount.options.title or mount.name,
        "url": f"/radio/{mount.name}",
        "protected": True,
        "events": f"/events/radio/{mount.name}",
        "title": "",
        "history": [],
        "recordings": [],
    }
    return dict.fromkeys(describe_station(mount)) | told


def describe_relay(relay: TokenRelay) -> dict[str, object]:
    """Describe a relay of token streams to everybody: neither its upstream servers nor its keys."""
    return {
        "name": relay.name,
        "url": f"/relay/{relay.name}/v1",
        "kept": relay.keeps_answers,
        "events": f"/events/{relay.name}" if relay.publishes else None,
    }


def describe_event_channel(
    channel: EventChannel, *, is_protected: bool, is_readable: bool
) -> dict[str, object]:
    """Describe an event channel; to a client that may not read it, only that it exists."""
    told = channel.describe()
    return {
        "name": channel.name,
        "url": f"/events/{channel.name}",
        "protected": is_protected,
        **(told if is_readable else dict.fromkeys(told)),
    }
