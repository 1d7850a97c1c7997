"""Options of relays and of their limits, each with another value than its default, at a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.completion_server import Asked, CompletionServer, chunk, completing, tokens
from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS

TOKEN, READ_KEY, KEY = "a-callers-token-0", "a-read-key-000000", "sk-of-the-upstream-0"
OWN = "sk-of-one-caller-0123456789abcdef"
QUESTION = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}

CONFIG = """
[server]
port = 0
data = "data"

[[relay]]
name = "named"
upstreams = ["{first}"]
relay_keys = ["{key}"]
relay_key_header = "api-key"
token = "{token}"
read_key = "{read_key}"
history = true
models = {{ "small" = "upstream-model-7" }}

[[relay]]
name = "own"
upstreams = ["{first}"]
token = "{token}"
relay_pass_key = true

[[relay]]
name = "weighed"
upstreams = ["{first}", "{second}"]
weights = [1, 1000]
token = "{token}"

[[relay]]
name = "shared"
upstreams = ["{first}"]
token = "{token}"
relay_share = true

[[relay]]
name = "kept"
upstreams = ["{first}"]
token = "{token}"
relay_keep = true
relay_keep_for = "0"
keep_for = "1s"

[[relay]]
name = "left"
upstreams = ["{first}"]
token = "{token}"
relay_keep_for = "0"

[[events]]
name = "channel"
publish_token = "{token}"
relay = "{first}/chat/completions"
relay_key = "{key}"
relay_key_header = "x-api-key"
relay_share = true
relay_keep = true
relay_keep_for = "0"

[[events]]
name = "leaving"
publish_token = "{token}"
relay = "{first}/chat/completions"
relay_keep_for = "0"

[limits]
relay_requests = 2
relay_request_bytes = 2000
relay_answer_bytes = 65536
relay_silent_seconds = 2
relay_answer_seconds = 4
"""


class Upstreams:
    """Two servers: what they answer is what the question says."""

    def __init__(self, first: CompletionServer, second: CompletionServer) -> None:
        self.first, self.second = first, second
        self.goes_on = asyncio.Event()


async def answer(asked: Asked, goes_on: asyncio.Event) -> None:
    """Answer at once, with very much, never, slowly for ever, or when the test says so."""
    wish = asked.options["messages"][0]["content"]
    await asked.head()
    if wish == "much":
        for _ in range(80):
            await asked.event(chunk({"content": "x" * 1000}))
    elif wish == "silence":
        await asyncio.Event().wait()
    elif wish == "without end":
        while not asked.closed.is_set():
            await asked.event(chunk({"content": "x"}))
            await asyncio.sleep(0.5)
        return
    elif wish == "later":
        await asked.event(chunk({"content": "x"}))
        await goes_on.wait()
    for data in tokens("Hel", "lo"):
        await asked.event(data)
    await asked.end()


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    goes_on = asyncio.Event()

    async def script(asked: Asked) -> None:
        await answer(asked, goes_on)

    async with completing(script) as first, completing(script) as second:
        found = Upstreams(first, second)
        found.goes_on = goes_on
        yield found


@pytest.fixture
async def server(upstreams: Upstreams, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    first, second = (one.url.removesuffix("/chat/completions") for one in (upstreams.first, upstreams.second))
    text = CONFIG.format(first=first, second=second, token=TOKEN, read_key=READ_KEY, key=KEY)
    (tmp_path / "headwater.toml").write_text(text)
    server = await asyncio.to_thread(start_server, cwd=tmp_path)
    yield server
    upstreams.goes_on.set()
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=CLIENT_SECONDS) as client:
        yield client


async def ask(client: httpx.AsyncClient, relay: str, wish: str = "", **options: Any) -> httpx.Response:
    question = QUESTION | {"messages": [{"role": "user", "content": wish}], **options.pop("more", {})}
    return await client.post(f"/relay/{relay}/v1/chat/completions", json=question, **options)


@contextlib.asynccontextmanager
async def asking(client: httpx.AsyncClient, relay: str, wish: str) -> AsyncIterator[httpx.Response]:
    question = QUESTION | {"messages": [{"role": "user", "content": wish}]}
    async with client.stream("POST", f"/relay/{relay}/v1/chat/completions", json=question) as response:
        yield response


@pytest.mark.promise("relay.models", "relay.relay_key_header", "events.relay_key_header")
async def test_upstream_servers_get_their_own_names_of_models_and_keys_where_they_want_them(
    client: httpx.AsyncClient, upstreams: Upstreams
) -> None:
    assert (await ask(client, "named")).status_code == 200
    assert upstreams.first.asked[-1].options["model"] == "upstream-model-7"
    assert upstreams.first.asked[-1].fields["api-key"] == KEY
    assert (await ask(client, "channel")).status_code == 200
    assert upstreams.first.asked[-1].fields["x-api-key"] == KEY
    assert "authorization" not in upstreams.first.asked[-1].fields


@pytest.mark.promise("relay.read_key", "relay.history")
async def test_an_answer_is_read_with_the_relays_key_after_a_restart(
    server: ServerProcess, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    place = (await ask(client, "named")).headers["location"]
    await asyncio.to_thread(server.stop)
    again = await asyncio.to_thread(start_server, cwd=tmp_path)
    try:
        async with httpx.AsyncClient(base_url=again.url, timeout=CLIENT_SECONDS) as reader:
            key = {"authorization": f"Bearer {READ_KEY}"}
            assert (await reader.get(f"{place}?since=")).status_code == 401
            events = (await reader.get(f"{place}?since=", headers=key)).json()
        assert "lo" in json.dumps(events)
    finally:
        await asyncio.to_thread(again.stop)
    # The fixture ends one that runs.
    server.process = again.process


@pytest.mark.promise("relay.relay_pass_key")
async def test_a_callers_own_key_goes_to_the_upstream_server(
    client: httpx.AsyncClient, upstreams: Upstreams
) -> None:
    fields = {"authorization": f"Bearer {OWN}"}
    assert (await ask(client, "own", params={"key": TOKEN}, headers=fields)).status_code == 200
    assert upstreams.first.asked[-1].fields["authorization"] == f"Bearer {OWN}"


@pytest.mark.promise("relay.weights")
async def test_the_server_of_most_weight_is_asked_most(
    client: httpx.AsyncClient, upstreams: Upstreams
) -> None:
    for _ in range(6):
        assert (await ask(client, "weighed")).status_code == 200
    assert len(upstreams.second.asked) > len(upstreams.first.asked)


@pytest.mark.promise("relay.relay_share", "events.relay_share")
@pytest.mark.parametrize("relay", ["shared", "channel"])
async def test_equal_requests_at_the_same_time_are_one(
    client: httpx.AsyncClient, upstreams: Upstreams, relay: str
) -> None:
    async with asking(client, relay, "later") as first, asking(client, relay, "later") as second:
        assert (first.status_code, second.status_code) == (200, 200)
        assert len(upstreams.first.asked) == 1


@pytest.mark.promise("relay.relay_keep", "events.relay_keep")
@pytest.mark.parametrize("relay", ["kept", "channel"])
async def test_an_answer_goes_on_without_readers_where_that_is_configured(
    client: httpx.AsyncClient, upstreams: Upstreams, relay: str
) -> None:
    async with asking(client, relay, "later") as response:
        assert response.status_code == 200
    # Longer than an answer without readers has otherwise, whose relay_keep_for is over.
    async with asking(client, "left", "later"):
        pass
    (kept, left) = upstreams.first.asked
    await asyncio.wait_for(left.closed.wait(), CLIENT_SECONDS)
    assert not kept.closed.is_set()


@pytest.mark.promise("relay.relay_keep_for", "events.relay_keep_for")
@pytest.mark.parametrize("relay", ["left", "leaving"])
async def test_an_answer_whose_readers_have_left_is_cancelled_after_the_configured_time(
    client: httpx.AsyncClient, upstreams: Upstreams, relay: str
) -> None:
    async with asking(client, relay, "later") as response:
        assert response.status_code == 200
    began = time.monotonic()
    await asyncio.wait_for(upstreams.first.asked[0].closed.wait(), CLIENT_SECONDS)
    # By default the time is half a minute.
    assert time.monotonic() - began < 20


@pytest.mark.promise("relay.keep_for")
async def test_an_answer_is_gone_after_the_configured_time(client: httpx.AsyncClient) -> None:
    response = await ask(client, "kept")
    place = response.headers["location"]

    async def status() -> int:
        return (await client.get(f"{place}?since=")).status_code

    async with asyncio.timeout(60):
        while await status() not in (404, 410):
            await asyncio.sleep(0.1)


@pytest.mark.promise("limits.relay_requests", "limits.relay_request_bytes")
async def test_more_and_larger_requests_than_configured_are_refused(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "kept", "x" * 2000)).status_code == 413
    async with asking(client, "kept", "later") as first, asking(client, "kept", "later") as second:
        assert (first.status_code, second.status_code) == (200, 200)
        refused = await ask(client, "kept", "later")
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)


@pytest.mark.promise(
    "limits.relay_answer_bytes", "limits.relay_silent_seconds", "limits.relay_answer_seconds"
)
@pytest.mark.parametrize(("wish", "reason"), [("much", "65536"), ("silence", "2"), ("without end", "4")])
async def test_an_answer_that_is_long_silent_or_endless_ends_with_an_error(
    client: httpx.AsyncClient, wish: str, reason: str
) -> None:
    response = await ask(client, "kept", wish)
    told = response.text.rpartition('"error"')[2]
    assert told
    assert reason in told
