"""What scripts and the page ask in JSON: lists of everything there is, health, and the metrics."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.house import House
from origin.live.recordings import describe
from origin.mediatypes import media_type
from origin.radio import nowplaying
from origin.radio.mount import Mount
from packager.catalogue import Entry, Facts, Title, titles
from packager.radio.simulcast import Simulcast

UNCACHED = {"cache-control": "no-store"}


def routes(house: House) -> list[BaseRoute]:
    """Give the routes of ``/api/…``, ``/health`` and ``/metrics``."""
    answers = Api(house)
    return [
        Route("/api/library", answers.library),
        Route("/api/live", answers.live),
        Route("/api/radio", answers.radio),
        Route("/api/events", answers.events),
        Route("/health", answers.health),
        Route("/metrics", answers.metrics),
    ]


class Api:
    """The answers; each list is an array of objects."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def library(self, _: Request) -> Response:
        """List the adaptive titles, then the files; what they carry is null while nobody has looked."""
        entries = await self._house.catalogue.entries()
        listed = [
            *(describe_title(title) for title in titles(entries)),
            *(describe_file(entry) for entry in entries),
        ]
        return as_json(listed)

    async def live(self, _: Request) -> Response:
        """List the live channels."""
        return as_json(
            [
                {
                    "name": channel.name,
                    "state": channel.state,
                    "hls": f"/live/{channel.name}/master.m3u8",
                    "renditions": [name for name, one in channel.renditions.items() if one.language is None],
                    "captions": list(channel.captions.tracks),
                    "part_target": float(channel.part_target),
                    "target_duration": channel.target_duration,
                    "viewers": channel.viewers,
                    "restarts": channel.restarts,
                    "recordings": [describe(channel.name, one) for one in channel.finale.recordings or ()],
                }
                for channel in self._house.channels.values()
            ]
        )

    async def radio(self, _: Request) -> Response:
        """List the stations."""
        channels = self._house.simulcasts
        return as_json(
            [describe_station(mount, channels.get(mount.name)) for mount in self._house.mounts.values()]
        )

    async def events(self, _: Request) -> Response:
        """List the event channels."""
        return as_json([])

    async def health(self, _: Request) -> Response:
        """Answer 200 while requests are taken, 503 on the way out; the body says how the services are."""
        report = self._house.health()
        return as_json(report, 200 if report["ready"] else 503)

    async def metrics(self, _: Request) -> Response:
        """Write all metrics as Prometheus text."""
        text = generate_latest(self._house.registry)
        return Response(text, headers={**UNCACHED, "content-type": CONTENT_TYPE_LATEST})


def describe_file(entry: Entry) -> dict[str, object]:
    """Describe one file, with the addresses that it plays at."""
    facts, path = entry.facts or Facts(), quote(entry.path)
    known = entry.facts is not None
    return {
        "kind": "file",
        "path": entry.path,
        "name": entry.path.rpartition("/")[2],
        "size": entry.size,
        "media_type": media_type(entry.path),
        "duration": facts.duration,
        "width": facts.width,
        "height": facts.height,
        "codecs": ", ".join(facts.codecs),
        "playable": facts.reason is None if known else None,
        "reason": facts.reason,
        "media": f"/media/{path}",
        "hls": None if facts.obstacle or not known else f"/vod/{path}/master.m3u8",
    }


def describe_title(title: Title) -> dict[str, object]:
    """Describe an adaptive title; its progressive address is the tallest rendition's that plays."""
    playable = [entry for entry in title.renditions if entry.facts and entry.facts.reason is None]
    unknown = [entry for entry in title.renditions if entry.facts is None]
    best = (playable or unknown or title.renditions)[-1]
    packaged = any(entry.facts and entry.facts.obstacle is None for entry in title.renditions)
    return {
        **describe_file(best),
        "kind": "title",
        "path": title.path,
        "name": title.path.rpartition("/")[2],
        "size": sum(entry.size for entry in title.renditions),
        "renditions": [entry.path for entry in title.renditions],
        "hls": f"/vod/{quote(title.path)}/master.m3u8" if packaged else None,
    }


def describe_station(mount: Mount, simulcast: Simulcast | None = None) -> dict[str, object]:
    """Describe a station, with its titles and what media time they have; the live edge's is beside them.

    Args:
        mount: it.
        simulcast: its channel, where it has one.
    """
    titles = [nowplaying.describe_title(title) for title in mount.now.titles]
    return {
        "name": mount.name,
        "station": mount.shown.name,
        "genre": mount.shown.genre,
        "url": f"/radio/{mount.name}",
        "hls": None if simulcast is None else f"/live/{mount.name}/master.m3u8",
        "events": f"/events/radio/{mount.name}",
        "media_type": mount.media_type,
        "bitrate": mount.bitrate,
        "title": titles[-1]["title"] if titles else "",
        "now": titles[-1] if titles else None,
        "history": titles[:-1],
        "media_time": nowplaying.as_seconds(mount.media_time),
        "listeners": mount.listeners,
        "viewers": 0 if simulcast is None else simulcast.channel.viewers,
        "peak": mount.peak,
        "state": mount.state,
    }


def as_json(value: object, status: int = 200) -> Response:
    """Answer with JSON that nobody keeps."""
    return Response(msgspec.json.encode(value), status, media_type="application/json", headers=UNCACHED)
