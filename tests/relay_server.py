"""A real server with one relay, and its upstream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette

from origin.events.admission import Admission
from origin.events.beats import ChannelBeats
from origin.events.channel import END, EventChannel, EventChannelOptions
from origin.events.channel_keys import ChannelKeys, ReadingPages
from origin.events.created.channels import CreatedChannels
from origin.events.created.journal import ChannelJournal
from origin.events.created.open_channels import ChannelMaker
from origin.events.created.records import ChannelSettings
from origin.events.created.routes import CreatedChannelsEndpoint
from origin.events.created.routes import routes as event_routes
from origin.events.created.store import ChannelStore
from origin.events.disk_history import EventHistory
from origin.events.limits import ChannelLimits, EventLimits
from origin.events.routes import EventAnswers, EventsEndpoint
from origin.server.endpoints.error_responses import ERROR_RESPONSES
from origin.token_relay.answer_channels import AnswerChannels, AnswerKeeping, last_events
from origin.token_relay.limits import TokenRelayLimits
from origin.token_relay.relay import TokenRelay, TokenRelayOptions, answer_options
from origin.token_relay.routes import routes
from origin.token_relay.upstream import Upstream, UpstreamOptions
from origin.token_relay.upstreams import Upstreams
from packager.safe_files import DataFolder
from tests.app_server import app_running
from tests.completion_server import KEY, CompletionServer, Script, completing
from tests.event_server import LIMIT, TOKEN, Got, Server, Way, reading
from tests.keys import ADMIN_TOKEN
from tests.permissions import event_authorization

if TYPE_CHECKING:
    import openai

QUESTION: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}]}

PATIENT_CREATION = EventLimits(created_restore_seconds=LIMIT)
PATIENT = TokenRelayLimits(head_seconds=LIMIT, first_reader_seconds=LIMIT, drain_seconds=LIMIT)
"""No answer is given up, and no stream begins before its upstream's, since this machine stood still."""

STREAMED = {**QUESTION, "stream": True}


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a server of a test keeps answers.

    Attributes:
        left: seconds for which an answer goes on without readers.
        folder: where what is kept survives a restart; None for nowhere.
        history: whether answers are kept there.
    """

    keep_for: float = 600.0
    left: float = LIMIT
    creation: EventLimits = PATIENT_CREATION
    folder: Path | None = None
    history: bool = True


class RelayServer(Server):
    """The way to a running server, its relay and its upstream."""

    def __init__(
        self, port: int, relay: TokenRelay, upstream: CompletionServer, created: CreatedChannels
    ) -> None:
        super().__init__(port, {relay.name: relay.channel})
        self.created = created
        self.relay = relay
        self.upstream = upstream
        self.base = f"http://127.0.0.1:{port}/relay/test/v1"

    async def ask(self, path: str = "/relay/test", **options: Any) -> httpx.Response:
        """Ask as a publisher."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return await self.request("POST", path, headers=headers, json={**QUESTION, **options})

    async def stream(self, question: dict[str, Any] = STREAMED) -> list[str]:
        """Ask as an existing client does; give the data of all events."""
        async with self.streaming(question) as lines:
            return [line async for line in lines]

    async def bare_stream(self, question: dict[str, Any] = STREAMED) -> asyncio.StreamReader:
        """Ask for a stream on a bare socket, which is closed with the server at the latest."""
        body = json.dumps(question)
        lines = ["POST /relay/test/v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {TOKEN}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}", "", body]
        reader, writer = await self.connect()
        writer.write("\r\n".join(lines).encode())
        return reader

    @contextlib.asynccontextmanager
    async def streaming(self, question: dict[str, Any] = STREAMED) -> AsyncIterator[AsyncIterator[str]]:
        """The same, as they come."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with (
            httpx.AsyncClient(timeout=LIMIT) as client,
            client.stream("POST", f"{self.base}/chat/completions", headers=headers, json=question) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()

            async def data() -> AsyncIterator[str]:
                # Not by httpx's lines, which end at U+2028, too.
                rest = b""
                async for part in answer.aiter_bytes():
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: "):
                            yield line.removeprefix(b"data: ").decode()

            yield data()


@contextlib.asynccontextmanager
async def relaying(
    script: Script,
    limits: TokenRelayLimits = PATIENT,
    *,
    share: bool = False,
    keep: bool = False,
    url: str = "",
    channel_limits: ChannelLimits | None = None,
    key_header: str = "authorization",
    most_readers: int | None = None,
    keeping: Keeping | None = None,
    read_key: str = "",
    publishes: bool = True,
    upstream: CompletionServer | None = None,
    others: Sequence[CompletionServer] = (),
    models: Mapping[str, str] | None = None,
    weights: Sequence[int] = (),
    passes_key: bool = False,
    **upstream_limits: Any,
) -> AsyncIterator[RelayServer]:
    """Run a relay behind a real server; its upstream answers as the script does."""
    limits = replace(limits, **upstream_limits)
    kept = channel_limits or ChannelLimits()
    kept = replace(
        kept,
        history=limits.kept_events,
        history_bytes=limits.kept_bytes,
        queue_bytes=limits.kept_bytes,
        close_seconds=LIMIT,
        drain_seconds=LIMIT,
    )
    channel = EventChannel("test", "e", EventChannelOptions(stays_open=True, limits=kept))
    keys = {"test": ChannelKeys(publish_token=TOKEN, read_key=read_key)}
    created = _created_of(keys, channel, limits, keeping or Keeping())
    bounds = EventLimits()

    def keys_of(name: str) -> ChannelKeys | None:
        return keys.get(name, created.keys_of(name))

    authorization, pages = event_authorization(keys_of, ADMIN_TOKEN), ReadingPages(keys_of)
    async with contextlib.AsyncExitStack() as stack:
        asked = upstream if upstream is not None else await stack.enter_async_context(completing(script))
        asking = Upstream(UpstreamOptions(url=url or asked.url, key=KEY, key_header=key_header), limits)
        several: Upstream | Upstreams = asking
        if others:
            where = [UpstreamOptions(url=one.url, key=f"{KEY}-{place}") for place, one in enumerate(others)]
            upstreams = [asking, *(Upstream(one, limits) for one in where)]
            several = Upstreams(upstreams, limits, weights=weights)
        options = TokenRelayOptions(
            share=share,
            keep=keep,
            keep_for=0.0 if keeping is None else keeping.left,
            publishes=publishes,
            models=models or {},
            passes_key=passes_key,
            limits=limits,
        )
        answers = None
        if keeping is not None:
            kept_for = AnswerKeeping(
                keep_for=keeping.keep_for,
                history=keeping.history and keeping.folder is not None,
                longest_answer=limits.answer_seconds,
            )
            answers = AnswerChannels(created, "test", kept_for)
        relay = TokenRelay(channel, several, options, answers=answers)
        admission = Admission((channel, relay, created.open), most_readers)
        of_channels = EventAnswers(authorization, pages, bounds, admission)
        endpoint = CreatedChannelsEndpoint(
            {"test": channel},
            created,
            EventsEndpoint({"test": channel}, of_channels, bounds),
            of_channels,
        )
        app = Starlette(
            routes=[*routes({"test": relay}, authorization, admission), *event_routes(endpoint)],
            exception_handlers=ERROR_RESPONSES,
        )
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
            way = RelayServer(listening.getsockname()[1], relay, asked, created)
            beats = ChannelBeats(lambda: (channel,), ChannelLimits().beat_seconds)
            async with app_running(app, listening, (relay, beats, created), lambda: way.writers):
                await created.wait_until_restored()
                yield way


def _created_of(
    keys: dict[str, ChannelKeys], channel: EventChannel, limits: TokenRelayLimits, keeping: Keeping
) -> CreatedChannels:
    """Make what makes the channels of answers."""
    options, folder = answer_options(channel.limits, limits), keeping.folder

    def history(made: EventChannel, settings: ChannelSettings) -> EventHistory:
        assert folder is not None
        bounds = EventLimits(
            history_seconds=settings.history, disk_bytes=2 * limits.kept_bytes, restore_seconds=LIMIT
        )
        return EventHistory(made, DataFolder(folder) / "history" / made.name, bounds)

    maker = ChannelMaker(
        lambda _: options,
        history=None if folder is None else history,
        keys=keys,
        last_events=last_events,
    )
    journal = None if folder is None else ChannelJournal(DataFolder(folder), keeping.creation.journal_bytes)
    store = None if journal is None else ChannelStore(journal, keeping.creation)
    return CreatedChannels(maker, keeping.creation, store)


def client_of(server: RelayServer, key: str = TOKEN, retries: int = 0) -> openai.AsyncOpenAI:
    import openai  # not by each process of the tests, as it takes a second

    return openai.AsyncOpenAI(base_url=server.base, api_key=key, max_retries=retries, timeout=LIMIT)


def is_over(got: list[Got]) -> bool:
    """Whether an answer was read to its end, behind which the channel stays open for the next."""
    return bool(got) and got[-1].name == END


def reading_answer(
    way: Way, server: Server, since: str = ""
) -> contextlib.AbstractAsyncContextManager[tuple[list[Got], asyncio.Task[None]]]:
    """Read while the block runs; the task ends with the answer."""
    return reading(way, server, since, is_over)


def has_answered(server: RelayServer) -> bool:
    """Whether the newest event of the channel is the end of an answer."""
    log = server.channel.log
    return [event.name for event in log.between(max(log.end - 1, log.first), log.end)] == [END]


def error_of(data: str) -> dict[str, Any]:
    """Read an error as clients of these servers do."""
    error: dict[str, Any] = json.loads(data)["error"]
    return error
