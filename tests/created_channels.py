"""A real server that makes event channels at run time, as its users have it."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from origin.access.authentication import Authenticator
from origin.access.token_keys import TokenKeys
from origin.access.web_tokens import WebTokenKey
from origin.events.admission import Admission
from origin.events.beats import ChannelBeats
from origin.events.channel import EventChannel, EventChannelOptions
from origin.events.channel_keys import ChannelKeys, ReadingPages
from origin.events.created.channels import CreatedChannels
from origin.events.created.journal import ChannelJournal
from origin.events.created.open_channels import ChannelMaker, Template
from origin.events.created.records import ChannelSettings
from origin.events.created.routes import CreatedChannelsEndpoint, routes
from origin.events.created.store import ChannelStore
from origin.events.disk_history import EventHistory
from origin.events.limits import ChannelLimits, EventLimits
from origin.events.multiplexing.merged_reader import ChannelDirectory
from origin.events.multiplexing.reading import MultiplexedReading
from origin.events.multiplexing.routes import MultiplexingEndpoint
from origin.events.multiplexing.routes import routes as multiplexing_routes
from origin.events.routes import EventAnswers, EventsEndpoint
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from packager.safe_files import DataFolder
from tests.app_server import app_running
from tests.event_server import LIMIT, OPEN, a_channel
from tests.keys import ADMIN_TOKEN
from tests.permissions import event_authorization

JWT_SECRET = "a-secret-that-only-the-backend-knows"
ROOM_TOKEN = "a-publish-token-of-rooms"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}

ROOMS: Mapping[str, Template] = {
    "room/*": Template(ChannelSettings("room/*", keep=3), on_publish=True),
    "asked/*": Template(ChannelSettings("asked/*", keep=5, keep_for=60.0), seconds=3600.0),
}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Setting:
    """What a server of a test is made of, beside its limits.

    Attributes:
        folder: where it keeps its channels; None for nowhere.
    """

    folder: Path | None = None
    templates: Mapping[str, Template] = field(default_factory=lambda: ROOMS)
    multiplexing: EventLimits = field(default_factory=lambda: EventLimits(channels_per_reader=4))
    authenticator: Authenticator = field(default_factory=Authenticator)


class Server:
    """The way to a running server."""

    def __init__(self, port: int, created: CreatedChannels, configured: Mapping[str, EventChannel]) -> None:
        self.port = port
        self.created = created
        self.configured = configured
        self.url = f"http://127.0.0.1:{port}"

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] = ADMIN, **options: Any
    ) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=LIMIT) as client:
            return await client.request(method, path, headers=headers, **options)

    async def create(self, headers: Mapping[str, str] = ADMIN, **wanted: Any) -> httpx.Response:
        return await self.request("POST", "/events", headers, json=wanted)

    async def made(self, **wanted: Any) -> dict[str, str]:
        answer = await self.create(**wanted)
        assert answer.status_code == 201, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def publish(self, name: str, token: str, text: str = "hello") -> httpx.Response:
        fields = {**bearer(token), "content-type": "text/plain"}
        return await self.request("POST", f"/events/{name}", fields, content=text.encode())

    async def texts(self, name: str, token: str, since: str = "") -> list[str]:
        answer = await self.request("GET", f"/events/{name}", bearer(token), params={"since": since})
        assert answer.status_code in (200, 204), answer.text
        return [one["data"] for one in (answer.json() if answer.content else [])]


@dataclass(frozen=True)
class _Histories:
    folder: Path
    limits: EventLimits

    def __call__(self, channel: EventChannel, settings: ChannelSettings) -> EventHistory:
        place = DataFolder(self.folder) / "history" / channel.name.replace("/", "-")
        return EventHistory(channel, place, replace(self.limits, history_seconds=settings.history))


def make_created(limits: EventLimits, setting: Setting) -> CreatedChannels:
    def options(settings: ChannelSettings) -> EventChannelOptions:
        limits = ChannelLimits(history=settings.keep, history_seconds=settings.keep_for, drain_seconds=LIMIT)
        return EventChannelOptions(limits=limits)

    folder = setting.folder
    journal = None if folder is None else ChannelJournal(DataFolder(folder), limits.journal_bytes)
    maker = ChannelMaker(
        options,
        history=None if folder is None else _Histories(folder, EventLimits(history_look_seconds=0.05)),
        templates=setting.templates,
        keys={"room/*": ChannelKeys(publish_token=ROOM_TOKEN, read_key="")},
    )
    return CreatedChannels(maker, limits, None if journal is None else ChannelStore(journal, limits))


@contextlib.asynccontextmanager
async def serving(limits: EventLimits | None = None, setting: Setting | None = None) -> AsyncIterator[Server]:
    """Run a server with a configured channel ``test``, and those that are made."""
    limits, setting = limits or EventLimits(created_idle_seconds=math.inf), setting or Setting()
    configured = {"test": a_channel()}
    created = make_created(limits, setting)
    tokens = TokenKeys(web=[WebTokenKey("HS256", JWT_SECRET.encode())])
    bounds = EventLimits()

    def keys_of(name: str) -> ChannelKeys | None:
        return OPEN if name == "test" else created.keys_of(name)

    authorization = event_authorization(keys_of, ADMIN_TOKEN, setting.authenticator, tokens)
    pages = ReadingPages(keys_of)
    admission = Admission((*configured.values(), created.open))
    answers = EventAnswers(authorization, pages, bounds, admission)
    endpoint = CreatedChannelsEndpoint(
        configured,
        created,
        EventsEndpoint(configured, answers, bounds),
        answers,
    )
    reading = MultiplexedReading(
        ChannelDirectory(configured, created), authorization, admission, setting.multiplexing
    )
    sockets = multiplexing_routes(MultiplexingEndpoint(reading, pages, bounds.sockets))
    app = Starlette(routes=[*routes(endpoint), *sockets], exception_handlers=ERROR_RESPONSES)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        beats = ChannelBeats(configured.values, ChannelLimits().beat_seconds)
        async with app_running(app, listening, (beats, created), tuple):
            await created.wait_until_restored()
            yield Server(listening.getsockname()[1], created, configured)
