"""Event channels as clients of others read them, alone and behind an nginx that buffers: event by event.

Each event is published only when the one before has arrived: what is held back anywhere never comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.cdn.caches import running
from tests.clients.conftest import TIMEOUT_SECONDS
from tests.clients.programs import environment
from tests.completion_server import Asked, chunk
from tests.conftest import ServerProcess, start_server
from tests.event_server import TOKEN as RELAY_TOKEN
from tests.processes import end
from tests.programs import program
from tests.relay_server import STREAMED, relaying
from tests.waiting import until, wait_for

TOKEN = "chat-token-000001"
EVENTS = 10
TEXT = "number {} Grüße 東京"
ARRIVED = re.compile(r"number (\d+) Grüße 東京")

HTTPX_SSE = """
import sys, httpx
from httpx_sse import connect_sse
with httpx.Client(timeout=None) as client, connect_sse(client, "GET", sys.argv[1]) as source:
    for event in source.iter_sse():
        print(event.data, event.id, flush=True)
"""
HTTPX_LINES = """
import sys, httpx
with httpx.stream("GET", sys.argv[1], headers={"accept": "application/x-ndjson"}, timeout=None) as answer:
    for line in answer.iter_lines():
        print(line, flush=True)
"""
WEBSOCKETS = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1].replace("http:", "ws:"), proxy=None) as socket:
    for message in socket:
        print(message, flush=True)
"""
NODE_FETCH = """
fetch(process.argv[1], { headers: { accept: "application/x-ndjson" } }).then(async ({ body }) => {
  for await (const text of body.pipeThrough(new TextDecoderStream())) process.stdout.write(text);
});
"""
NODE_EVENT_SOURCE = """
const source = new EventSource(process.argv[1]);
source.onmessage = ({ data, lastEventId }) => console.log(data, lastEventId);
"""
NODE_WEB_SOCKET = """
new WebSocket(process.argv[1].replace("http:", "ws:")).onmessage = ({ data }) => console.log(data);
"""


@dataclass(frozen=True)
class Reader:
    """How a client is called.

    Attributes:
        command: without the channel's address, which comes last.
        package: of Debian, which has it.
        is_socket: whether it reads by WebSocket.
    """

    command: tuple[str, ...]
    package: str = ""
    is_socket: bool = False


READERS = {
    "curl": Reader(("curl", "-N", "-s", "-S"), "curl"),
    "curl-lines": Reader(("curl", "-N", "-s", "-S", "-H", "Accept: application/x-ndjson"), "curl"),
    "httpx-sse": Reader((sys.executable, "-c", HTTPX_SSE)),
    "httpx-lines": Reader((sys.executable, "-c", HTTPX_LINES)),
    "websockets": Reader((sys.executable, "-c", WEBSOCKETS), is_socket=True),
    "node-fetch": Reader(("node", "-e", NODE_FETCH), "nodejs"),
    "node-EventSource": Reader(("node", "--experimental-eventsource", "-e", NODE_EVENT_SOURCE), "nodejs"),
    "node-WebSocket": Reader(("node", "--experimental-websocket", "-e", NODE_WEB_SOCKET), "nodejs", True),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("events")
    channels = "".join(
        f'[[events]]\nname = "{name}{kind}"\npublish_token = "{TOKEN}"\n'
        for name in READERS
        for kind in ("", "-nginx")
    )
    (folder / "headwater.toml").write_text(f'[server]\nport = 0\n[library]\npath = "{folder}"\n{channels}')
    (folder / "headwater.toml").chmod(0o600)
    with start_server("--config", str(folder / "headwater.toml")) as server:
        yield server


@pytest.fixture(scope="module", params=["", "-nginx"], ids=["alone", "behind nginx"])
def front(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[bool, str]]]:
    """Give what the channels' names end with, and the addresses for plain requests and for WebSocket."""
    if not request.param:
        yield "", {False: server.url, True: server.url}
        return
    with contextlib.ExitStack() as stack:
        addresses = {}
        for is_socket, kind in ((False, "plain"), (True, "websocket")):
            cache = stack.enter_context(running(kind, server.url, tmp_path_factory.mktemp(kind)))
            addresses[is_socket] = f"http://{cache.address[0]}:{cache.address[1]}"
        yield request.param, addresses


def published(server: ServerProcess, channel: str, text: str, kind: str = "message") -> str:
    """Publish at the origin itself; give the id."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "text/plain"}
    address = f"{server.url}/events/{channel}?event={kind}"
    answer = httpx.post(address, content=text, headers=headers, trust_env=False, timeout=TIMEOUT_SECONDS)
    assert answer.status_code == 200, answer.text
    (identity,) = answer.json()["ids"]
    return str(identity)


def command_of(reader: Reader) -> list[str]:
    """Give a client's command; the test is skipped where it isn't there, or is too old."""
    name, *arguments = reader.command
    path = program(name, reader.package) if reader.package else name
    if name == "node" and subprocess.run([path, *arguments[:-2], "-e", "0"], capture_output=True).returncode:
        pytest.skip(f"this node has no {arguments[0]}")
    return [path, *arguments]


def test_a_front_for_websockets_passes_everything_else_on(front: tuple[str, dict[bool, str]]) -> None:
    suffix, addresses = front
    channel = next(iter(READERS)) + suffix
    for path in ("/", "/api/events", f"/events/{channel}?since=", f"/events?channel={channel}&since="):
        answer = httpx.get(f"{addresses[True]}{path}", trust_env=False, timeout=TIMEOUT_SECONDS)
        assert answer.is_success, (path, answer.status_code)
    with connect(f"{addresses[True].replace('http:', 'ws:')}/events", proxy=None) as several:
        several.send(json.dumps({"subscribe": channel}))
        assert json.loads(several.recv(TIMEOUT_SECONDS))["subscribed"] == channel


@pytest.mark.parametrize("name", READERS)
def test_each_event_arrives_before_the_next_is_published(
    server: ServerProcess, front: tuple[str, dict[bool, str]], tmp_path: Path, name: str
) -> None:
    suffix, addresses = front
    reader, channel, output = READERS[name], name + suffix, tmp_path / "output"
    command = [*command_of(reader), f"{addresses[reader.is_socket]}/events/{channel}"]

    def arrived() -> list[str]:
        return ARRIVED.findall(output.read_text("utf-8", "replace"))

    ids = [published(server, channel, TEXT.format(0))]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment()
        )
    try:
        for number in range(1, EVENTS):
            wait_for(lambda: len(arrived()) >= len(ids), f"{ids[-1]} at {name}")
            ids.append(published(server, channel, TEXT.format(number)))
        wait_for(lambda: len(arrived()) >= len(ids), f"{ids[-1]} at {name}")
        published(server, channel, "{}", "end")
        # Behind the end each of them goes, and isn't called back: EventSource asks once more, for the 204.
        assert process.wait(TIMEOUT_SECONDS) == 0, output.read_text("utf-8", "replace")
    finally:
        end(process)
    told = output.read_text("utf-8")
    assert arrived() == [str(number) for number in range(EVENTS)]
    # Streams of server-sent events begin with the position before the first.
    assert re.findall(r"\b[0-9a-f]{8,}-[1-9]\d*\b", told)[:EVENTS] == ids


def test_a_poll_passes_nginx_too(server: ServerProcess, front: tuple[str, dict[bool, str]]) -> None:
    suffix, addresses = front
    channel = f"curl{suffix}"
    identity = published(server, channel, "polled")
    epoch, _, offset = identity.rpartition("-")
    answer = httpx.get(
        f"{addresses[False]}/events/{channel}",
        params={"since": f"{epoch}-{int(offset) - 1}", "wait": "30"},
        trust_env=False,
        timeout=TIMEOUT_SECONDS,
    )
    assert json.loads(answer.text) == [{"id": identity, "event": "message", "data": "polled"}]


@pytest.mark.parametrize("is_caller", [True, False], ids=["who asks", "who reads the channel"])
async def test_each_token_of_a_relay_passes_nginx_before_the_next_is_there(
    tmp_path: Path, is_caller: bool
) -> None:
    """The upstream server sends a token only when the one before has come through an nginx that buffers."""
    arrived: list[str] = []

    async def script(asked: Asked) -> None:
        await asked.head()
        for number in range(EVENTS):
            await until(lambda number=number: len(arrived) == number, "a token")  # type: ignore[misc]
            await asked.event(chunk({"content": f"token {number} "}))
        await asked.event("[DONE]")
        await asked.end()

    async with relaying(script) as server, contextlib.AsyncExitStack() as stack:
        made = running("plain", f"http://127.0.0.1:{server.port}", tmp_path)
        cache = await asyncio.to_thread(made.__enter__)
        stack.push_async_callback(asyncio.to_thread, made.__exit__, None, None, None)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False))
        address = f"http://{cache.address[0]}:{cache.address[1]}"
        if is_caller:
            headers = {"authorization": f"Bearer {RELAY_TOKEN}"}
            reading = client.stream(
                "POST", f"{address}/relay/test/v1/chat/completions", headers=headers, json=STREAMED
            )
        else:
            reading = client.stream("GET", f"{address}/events/test")
        async with reading as answer:
            if not is_caller:
                await until(lambda: server.channel.readers == 1)
                await server.ask()
            rest = ""
            async for text in answer.aiter_text():
                rest += text
                arrived[:] = re.findall(r"token (\d+) ", rest)
                if "event: end" in rest:
                    # The channel stays open for the next answer; who asked gets only this one.
                    break
    assert arrived == [str(number) for number in range(EVENTS)]
    assert "data: [DONE]" in rest
