"""Event channels of a whole server, as configured: lists, metrics, tokens, and states of stations."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from origin.config.load import load
from origin.config.options import ConfigError
from origin.events.channel import EventChannel
from origin.events.limits import ChannelLimits
from origin.radio.mounts.mount import Mount
from origin.server.services.status_events import StatusEvents, StatusSources
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN
from tests.radio_server import Feed, mount_options
from tests.waiting import wait_for

TOKEN = "chat-token-000001"
CONFIG = f"""
[server]
port = 0
[[events]]
name = "chat"
publish_token = "{TOKEN}"
presence = true
[[events]]
name = "closed"
read_key = "closed-key-000001"
[limits]
event_bytes = 1000
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("events")
    (folder / "headwater.toml").write_text(f'{CONFIG}[library]\npath = "{folder}"\n')
    (folder / "headwater.toml").chmod(0o600)
    with start_server("--config", str(folder / "headwater.toml"), "--port", "0") as running:
        yield running


def asked(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def posted(server: ServerProcess, channel: str, text: str, token: str) -> int:
    fields = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    return asked(f"{server.url}/events/{channel}", text.encode(), **fields)[0]


def listed(server: ServerProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(asked(f"{server.url}/api/events")[1])
    return found


@pytest.mark.promise("events.publish_token", "limits.event_bytes")
def test_configured_channels_are_listed_published_to_and_counted(server: ServerProcess) -> None:
    assert posted(server, "chat", "hello", "wrong") == 401
    assert posted(server, "chat", "hello", TOKEN) == 200
    assert posted(server, "chat", "x" * 1001, TOKEN) == 413
    (event,) = json.loads(asked(f"{server.url}/events/chat?since=")[1])
    assert event["data"] == "hello"
    chat, closed = listed(server)
    assert (chat["name"], chat["url"], chat["protected"]) == ("chat", "/events/chat", False)
    assert (chat["last_id"], chat["events"], chat["published"]) == (event["id"], 1, 1)
    assert (closed["protected"], closed["last_id"]) == (True, None)
    _, metrics = asked(f"{server.url}/metrics")
    assert 'headwater_events_published_total{channel="chat"} 1.0' in metrics
    for name in ("lag", "resumed_total", "reset_total"):
        assert f'headwater_events_{name}{{channel="chat"' in metrics
    between = 'headwater_events_gap_seconds_bucket{channel="chat"'
    assert between not in metrics, "one event has no gap"
    assert posted(server, "chat", "hello again", TOKEN) == 200
    assert between in asked(f"{server.url}/metrics")[1]
    assert json.loads(asked(f"{server.url}/health")[1])["services"]["events/chat"] == "live"


def test_a_token_that_isnt_configured_is_made_and_shown(server: ServerProcess) -> None:
    found = re.search(r"Publish to \S*/events/closed with the token (\S+) ", server.text())
    assert found is not None
    assert posted(server, "closed", "x", found[1]) == 200
    assert asked(f"{server.url}/events/closed?since=")[0] == 401
    assert asked(f"{server.url}/events/closed?since=&key=closed-key-000001")[0] == 200


def test_a_made_token_is_kept_in_the_data_folder(tmp_path: Path) -> None:
    config = f'[server]\nport = 0\ndata = "{tmp_path}/data"\n[[events]]\nname = "a.b"\n'
    (tmp_path / "headwater.toml").write_text(config)
    tokens = []
    for _ in range(2):
        server = start_server(cwd=tmp_path)
        kept = (tmp_path / "data" / ".secrets.toml").read_text()
        found = re.search(r'"events\.a\.b\.publish_token" = "(.+)"', kept)
        assert found is not None
        tokens.append(found[1])
        assert posted(server, "a.b", "x", found[1]) == 200
        server.stop()
    assert tokens[0] == tokens[1]


@pytest.mark.promise("limits.event_channels")
def test_more_channels_than_may_be_are_an_error(tmp_path: Path) -> None:
    tables = "".join(f'[[events]]\nname = "c{number}"\n' for number in range(3))
    (tmp_path / "headwater.toml").write_text(f"{tables}[limits]\nevent_channels = 2\n")
    with pytest.raises(ConfigError, match=r"limits\.event_channels"):
        load(tmp_path / "headwater.toml", {}, {})


async def test_the_state_of_a_station_is_published_when_it_changes() -> None:
    mount = Mount("test", Feed(), mount_options())
    channel = EventChannel("mixed", "e", ChannelLimits())
    included = {"mixed": ("radio/test", "radio/none", "live/none")}
    status = StatusEvents(included, {"mixed": channel}, StatusSources({"test": mount}, {}), 1.0)

    def published() -> list[tuple[str, Any]]:
        events = channel.log.between(channel.log.first, channel.log.end)
        return [(event.name, json.loads(event.data)) for event in events]

    status.look()
    status.look()
    assert published() == [
        ("state", {"source": "radio/test", "state": "starting"}),
        ("listeners", {"source": "radio/test", "listeners": 0}),
    ]
    mount.now.change("One", mount.media_time)
    status.look()
    status.look()
    (*_, (name, told)) = published()
    assert (name, told["source"], told["title"]["title"]) == ("title", "radio/test", "One")
    assert channel.published == 3


@pytest.mark.promise("/events/NAME", "events.name")
async def test_a_websocket_goes_through_the_whole_server(server: ServerProcess) -> None:
    address = server.url.replace("http:", "ws:")
    async with connect(f"{address}/events/chat?key={TOKEN}", proxy=None) as publisher:
        await publisher.send('{"data": "by WebSocket", "event": "chat"}')
        got = [json.loads(await asyncio.wait_for(publisher.recv(), 120))]
        while "ids" not in got[-1]:
            got.append(json.loads(await asyncio.wait_for(publisher.recv(), 120)))
    answer = await asyncio.to_thread(asked, f"{server.url}/events/chat?since=")
    assert got[-1]["ids"][0] in [event["id"] for event in json.loads(answer[1]) if event["event"] == "chat"]
    metrics = await asyncio.to_thread(asked, f"{server.url}/metrics")
    assert 'headwater_requests_total{area="events",status="101"}' in metrics[1]


INCLUDING = """
[server]
port = 0
data = "{folder}/data"
[[live]]
name = "talk"
source = "testsrc"
ladder = ["240p"]
captions = ["en"]
[[events]]
name = "mixed"
include = ["live/talk"]
"""


@pytest.mark.promise("POST /live/CHANNEL/captions/LANGUAGE", "events.include", "live.captions", "live.name")
def test_a_live_channels_states_and_captions_are_published_where_they_are_included(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(INCLUDING.format(folder=tmp_path))
    (tmp_path / "headwater.toml").chmod(0o600)
    server = start_server("--config", str(tmp_path / "headwater.toml"))

    def published(kind: str) -> list[dict[str, Any]]:
        status, body = asked(f"{server.url}/events/mixed?since=")
        events = json.loads(body) if status == 200 else []
        return [json.loads(event["data"]) for event in events if event["event"] == kind]

    try:
        wait_for(lambda: {"source": "live/talk", "state": "live"} in published("state"), "the channel")
        vtt = b"WEBVTT\n\n00:00.000 --> 00:02.500\nHello\nworld\n"
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "text/vtt"}
        status, told = asked(f"{server.url}/live/talk/captions/en?offset=2", vtt, **fields)
        assert status == 201, told
        ((source, caption),) = [(one["source"], one["caption"]) for one in published("caption")]
        assert (source, caption["language"], caption["text"]) == ("live/talk", "en", "Hello\nworld")
        start = datetime.fromisoformat(json.loads(told)["start"]).timestamp()
        assert caption["start"] == pytest.approx(start, abs=0.01)
        assert caption["end"] - caption["start"] == pytest.approx(2.5, abs=0.01)
    finally:
        server.stop()
