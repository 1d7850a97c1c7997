"""Proxies and caches with TLS, as `deploy/` configures them: what viewers reach through each of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import statistics
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser
from websockets.asyncio.client import connect

from tests.cdn.caches import running
from tests.cdn.conftest import OLD
from tests.certificates import CHAIN
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import PATIENCE_SECONDS, SMALL, browser_of_http3, keep, looks, open_tab
from tests.keys import ADMIN_TOKEN
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PROXY, CLIENT, FORGED = "127.0.0.1", "127.0.0.2", "203.0.113.7"
"""Addresses: of the front, of those who come through it, and the one that a client claims to have."""

PART_SECONDS, SEGMENT_SECONDS = 0.5, 2.0
MOST_LATENCY_SECONDS = 4.0
"""Who has whole segments alone is three of them behind."""

LEAST_HELD_SECONDS = PART_SECONDS / 5
"""A blocked reload takes as long as a part on average; one that isn't blocked, no time at all."""

SAMPLES = 5
LEAST_REQUESTS = 4
"""Which must have come, of parts and of blocked reloads."""

STATION = "talk.mp3"

H2C = ("haproxy", "caddy")
"""Fronts that speak HTTP/2 to the server, in cleartext."""

NOTICING = ("nginx", "haproxy", "caddy", "trafficserver")
"""Fronts that notice at once that a reader has left; each has an event channel without events."""

READERS = 12
QUIET_SECONDS = 10.0
"""Shorter than what is between two signs of life of a channel without events."""


REQUESTS = """performance.getEntriesByType("resource").filter(({ name, responseStatus }) =>
  responseStatus === 200 && name.startsWith(location.origin)).map(({ name, nextHopProtocol, duration }) =>
  ({ name, protocol: nextHopProtocol, seconds: duration / 1000 }))"""
"""What the browser has fetched from the front: the columns of its network panel."""

CHANGES = (
    ("PUT", "/live/studio/ingest"),
    ("POST", "/live/live/end"),
    ("POST", "/events/news"),
    ("DELETE", "/events/news"),
    ("POST", "/api/sign"),
    ("GET", f"/admin/metadata?mode=updinfo&mount=/radio/{STATION}&song=x"),
    ("GET", f"/%61dmin/metadata?mode=updinfo&mount=/radio/{STATION}&song=x"),
)


def config(folder: Path) -> str:
    options = (f"part_duration = {PART_SECONDS}", f"segment_duration = {SEGMENT_SECONDS}")
    quiet = "\n".join(f'[[events]]\nname = "{kind}"\npublish_token = "{ADMIN_TOKEN}"' for kind in NOTICING)
    return f"""
        {copied_channel("live", *options)}
        [[live]]
        name = "studio"
        source = "publish"
        [[events]]
        name = "news"
        publish_token = "{ADMIN_TOKEN}"
        {quiet}
        [[radio]]
        name = "{STATION}"
        source = "publish"
        source_password = "{ADMIN_TOKEN}"
        hls = false
        [library]
        path = "{folder}"
        [log]
        requests = true
        format = "json"
        [server]
        trusted_proxies = ["{PROXY}"]
        """


@dataclass(frozen=True)
class Front:
    """A server behind a front with TLS; ``url`` is the front's, without a slash at its end."""

    kind: str
    server: ServerProcess
    url: str
    chain: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.chain)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client on another address than the front, by HTTP/2."""
        way = httpx.AsyncHTTPTransport(verify=self.trust, http1=False, http2=True, local_address=CLIENT)
        async with httpx.AsyncClient(base_url=self.url, transport=way, timeout=PATIENCE_SECONDS) as client:
            yield client

    async def publish(self, text: str) -> None:
        """Publish an event at the server itself."""
        fields = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "text/plain"}
        async with httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE_SECONDS) as client:
            assert (await client.post("/events/news", content=text, headers=fields)).status_code == 200

    def logged(self) -> list[dict[str, Any]]:
        """Return the server's log of requests that are over."""
        lines = (json.loads(line) for line in self.server.output if line.startswith("{"))
        return [line for line in lines if line["event"] == "request"]

    async def connections(self) -> float:
        """Return how many connections the server has."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE_SECONDS) as client:
            text = (await client.get("/metrics")).text
        (count,) = re.findall(r"^headwater_connections (\S+)$", text, re.MULTILINE)
        return float(count)

    async def latest(self, path: str, count: int = 1) -> dict[str, Any]:
        """Wait until so many requests for a path are over; return the log of the last one."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.logged() if line["path"] == path]

        await until(lambda: len(found()) >= count, "the log")
        return found()[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(film(), folder / "film.mp4")
    os.utime(folder / "film.mp4", (OLD, OLD))
    (folder / "headwater.toml").write_text(config(folder))
    with start_server("--config", str(folder / "headwater.toml"), "--port", "0") as server:
        yield server


@pytest.fixture(scope="module", params=["nginx", "haproxy", "caddy", "varnish", "trafficserver"])
def front(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    kinds = {"nginx": "http2", "caddy": "caddy-tls", "trafficserver": "trafficserver-tls"}
    origin = server.url.replace("http:", "h2c:") if request.param in H2C else server.url
    with ExitStack() as stack:
        if request.param == "varnish":
            cache = stack.enter_context(running("varnish", origin, tmp_path_factory.mktemp("varnish")))
            origin = "http://{}:{}".format(*cache.address)
        folder = tmp_path_factory.mktemp(request.param)
        proxy = stack.enter_context(running(kinds.get(request.param, "haproxy-tls"), origin, folder))
        yield Front(request.param, server, f"https://127.0.0.1:{proxy.address[1]}", folder / CHAIN)


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(browser: Browser, front: Front) -> AsyncIterator[Browser]:
    """A browser that speaks HTTP/3 with a front that has it."""
    if front.kind != "caddy":
        yield browser
        return
    async with browser_of_http3(front.url, front.chain) as own:
        yield own


async def test_hls_js_plays_with_low_latency(viewer: Browser, front: Front) -> None:
    for _ in looks():
        tab = await open_tab(viewer, front.url, ignore_https_errors=True, viewport=SMALL)
        await tab.open("live/live")
        await tab.playing()
        seconds = []
        for _ in range(SAMPLES):
            await tab.pace("video", 0.4)
            seconds.append((await tab.stats())["wallLatency"] or 0.0)
        requests = await tab.value(REQUESTS)
        await tab.page.context.close()
        assert tab.troubles == []
        reloads = [each["seconds"] for each in requests if "_HLS_part=" in each["name"]]
        parts = [each["name"] for each in requests if re.search(r"/\d+\.\d+\.m4s$", each["name"])]
        facts = {"latency": statistics.median(seconds), "reloads": reloads, "parts": len(parts)}
        keep(f"fronts-{front.kind}", facts)
        is_near = 0 < statistics.median(seconds) <= MOST_LATENCY_SECONDS
        follows = min(len(reloads), len(parts)) >= LEAST_REQUESTS
        if is_near and follows and statistics.mean(reloads) > LEAST_HELD_SECONDS:
            break
    else:
        pytest.fail(f"{facts}")
    assert {each["protocol"] for each in requests} == {"h3" if front.kind == "caddy" else "h2"}


async def test_a_range_of_a_film_has_its_bytes(front: Front) -> None:
    whole = film().read_bytes()
    async with front.client() as client:
        answer = await client.get("/media/film.mp4", headers={"Range": "bytes=100000-299999"})
    assert (answer.http_version, answer.status_code) == ("HTTP/2", 206)
    assert answer.headers["content-range"] == f"bytes 100000-299999/{len(whole)}"
    assert answer.content == whole[100_000:300_000]


async def test_an_event_is_there_before_the_next_one_is_published(front: Front) -> None:
    async with front.client() as client, client.stream("GET", "/events/news") as answer:
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        lines = answer.aiter_lines()
        for number in range(3):
            text = f"{front.kind} {number}"
            await front.publish(text)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await anext(lines) != f"data: {text}":
                    pass


@pytest.mark.parametrize("front", NOTICING, indirect=True)
async def test_the_server_learns_that_a_reader_has_left_before_it_sends_more(front: Front) -> None:
    """Varnish notices that a reader has left when it can't pass on what comes next."""
    path = f"/events/{front.kind}"
    for number in looks():
        async with front.client() as client, client.stream("GET", path) as answer:
            assert answer.status_code == 200
        if (await front.latest(path, number + 1))["seconds"] < QUIET_SECONDS:
            return
    pytest.fail("the server learnt it late")


@pytest.mark.parametrize("front", H2C, indirect=True)
async def test_requests_share_few_connections_where_http2_is_spoken_to_the_server(front: Front) -> None:
    async with front.client() as client, AsyncExitStack() as stack:
        before = await front.connections()
        for _ in range(READERS):
            answer = await stack.enter_async_context(client.stream("GET", "/events/news"))
            assert answer.status_code == 200
        assert await front.connections() - before < READERS / 2


async def test_a_websocket_goes_through(front: Front) -> None:
    address = front.url.replace("https:", "wss:") + "/events/news"
    async with asyncio.timeout(PATIENCE_SECONDS), connect(address, ssl=front.trust) as socket:
        await front.publish(f"{front.kind} by WebSocket")
        while json.loads(await socket.recv())["data"] != f"{front.kind} by WebSocket":
            pass


async def test_the_server_believes_the_front_about_its_client_and_no_client(front: Front) -> None:
    path = f"/nothing-of-{front.kind}"
    forged = {"X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}"}
    async with front.client() as client:
        assert (await client.get(path, headers=forged)).status_code == 404
    assert (await front.latest(path))["client"] == CLIENT


async def test_addresses_are_those_that_the_client_knows(front: Front) -> None:
    async with front.client() as client:
        assert f"\n{front.url}/radio/{STATION}" in (await client.get(f"/radio/{STATION}.m3u")).text


async def test_nothing_but_reading_goes_through(front: Front) -> None:
    last = f"/nothing-behind-{front.kind}"
    async with front.client() as client:
        for method, target in CHANGES:
            answer = await client.request(method, target, auth=("source", ADMIN_TOKEN))
            assert answer.status_code in (403, 405), (method, target)
        await client.get(last)
    await front.latest(last)
    through = [line for line in front.logged() if line["client"] == CLIENT]
    assert {line["method"] for line in through} == {"GET"}
    assert not [line for line in through if "dmin/" in line["path"]]
