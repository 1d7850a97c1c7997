"""TLS and HTTP/2 by an nginx in front: a viewer plays, hears and reads over one connection."""

from __future__ import annotations

import asyncio
import os
import ssl
import statistics
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.cdn.caches import running
from tests.cdn.conftest import OLD, noise
from tests.cdn.followers import beyond, hinted, listed
from tests.certificates import CHAIN
from tests.conftest import ServerProcess, start_server
from tests.e2e.clockface import Clockface
from tests.e2e.conftest import LOOK_SECONDS, keep, looks, open_tab
from tests.e2e.studio import PASSWORD, STATION, Studio, Titles, listen
from tests.run_journal import Figures
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PATIENCE = 180.0
SEGMENTS = 2
"""Which a viewer follows to the end, of each rendition."""

LEAST_PARTS = 2 * SEGMENTS
PAUSE_SECONDS = 1.0
"""Parts don't come so far apart, unless the server stands still."""

HELD_SECONDS = 3.0
"""Three target durations: who has waited for so long gets 503, and for a part 404 (RFC 8216bis §6.2.5.2)."""

RENDITIONS = PICTURE, SOUND = ("/live/clock/240p", "/live/clock/audio")
TITLES = [f"Title {number}" for number in range(3)]
MOST_DELAY_SECONDS = 5.0
"""By how much a title may come later than without the proxy. One that is held back waits up to 15 s."""

FILE = noise("film", 1 << 20)
RANGES = {"bytes=100000-299999": slice(100_000, 300_000), "bytes=-500": slice(-500, None)}

SIZE = 426, 240
MOST_LATENCY_SECONDS = 3.0
"""Who has whole segments alone is three of them behind, and what they take to come."""

SAMPLES = 8


def config(folder: Path) -> str:
    # The studio's source client asks under this name.
    return f"""
        [library]
        path = "{folder}"
        [server]
        names = ["radio.example"]
        trusted_proxies = ["127.0.0.1"]
        [[live]]
        name = "clock"
        source = "testsrc"
        ladder = ["240p"]
        part_duration = 0.25
        segment_duration = 1.0
        [[radio]]
        name = "{STATION}"
        source = "publish"
        source_password = "{PASSWORD}"
        hls = false
        """


@dataclass(frozen=True)
class Front:
    """A server behind its nginx; ``url`` is the nginx's, without a slash at its end."""

    server: ServerProcess
    url: str
    folder: Path

    def logged(self) -> list[list[str]]:
        """Of each request that is over: its connection, protocol, status and target."""
        return [line.split(" ", 3) for line in (self.folder / "access.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("http2")
    (folder / "film.bin").write_bytes(FILE)
    os.utime(folder / "film.bin", (OLD, OLD))
    (folder / "headwater.toml").write_text(config(folder))
    server = start_server("--config", str(folder / "headwater.toml"), "--port", "0")
    with running("http2", server.url, tmp_path_factory.mktemp("nginx")) as proxy:
        yield Front(server, f"https://127.0.0.1:{proxy.address[1]}", proxy.log.parent)
    server.stop()


@asynccontextmanager
async def viewer(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has one connection, and HTTP/2 alone."""
    trust = ssl.create_default_context(cafile=front.folder / CHAIN)
    one = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=front.url, http1=False, http2=True, verify=trust, limits=one, timeout=PATIENCE
    ) as client:
        await until_ready(client)
        yield client


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait for the channel's first segments."""
    async with asyncio.timeout(PATIENCE):
        while (await client.get(f"{PICTURE}/media.m3u8")).status_code != 200:
            await asyncio.sleep(0.1)


async def playlist(client: httpx.AsyncClient, rendition: str, **directives: int) -> str:
    asked = {f"_HLS_{name}": str(value) for name, value in directives.items()}
    async with asyncio.timeout(PATIENCE):
        while True:
            answer, waited = await held(client, f"{rendition}/media.m3u8", asked)
            # A server that stood still for so long may say so first.
            if answer.status_code != 503 or waited < HELD_SECONDS:
                break
    assert answer.status_code == 200
    return answer.text


async def held(
    client: httpx.AsyncClient, target: str, asked: dict[str, str] | None = None
) -> tuple[httpx.Response, float]:
    """Ask for what may be waited for: the answer, and the seconds until it came."""
    begun = asyncio.get_running_loop().time()
    answer = await client.get(target, params=asked)
    return answer, asyncio.get_running_loop().time() - begun


async def follow(client: httpx.AsyncClient, direct: httpx.AsyncClient, rendition: str) -> int:
    """Follow a rendition, each part and its playlist asked for before they are there; how many came."""
    position = hinted(await playlist(client, rendition))
    end, parts = position[0] + SEGMENTS, 0
    # A viewer that stood still goes on with what is listed then.
    while position[0] <= end or parts < LEAST_PARTS:
        number, index = position
        target = f"{rendition}/{number}.{index}.m4s"
        text, (part, waited) = await asyncio.gather(
            playlist(client, rendition, msn=number, part=index), held(client, target)
        )
        if part.status_code == 404 and waited >= HELD_SECONDS:
            part = await client.get(target)
        # §6.2.5.2: where a segment ended early, since its source was late, the next one has begun.
        if position in listed(text):
            assert (part.http_version, part.status_code) == ("HTTP/2", 200)
            assert part.content == (await direct.get(target)).content
            parts += 1
        position = beyond(text, position)
    return parts


async def fetch_ranges(client: httpx.AsyncClient) -> None:
    for asked, place in RANGES.items():
        answer = await client.get("/media/film.bin", headers={"Range": asked})
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 206)
        first, last, _ = place.indices(len(FILE))
        assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(FILE)}"
        assert answer.content == FILE[place]


@pytest.mark.clause("RFC 9113 §5")
async def test_all_that_a_viewer_plays_hears_and_reads_goes_over_one_connection(front: Front) -> None:
    """Picture and sound by blocking reload, a file's ranges, a station and its titles, at the same time."""
    before = len(front.logged())
    studio, on_air = Studio(int(front.server.url.rpartition(":")[2])), asyncio.Event()
    proxied, straight = Titles(), Titles()
    async with (
        viewer(front) as client,
        httpx.AsyncClient(base_url=front.server.url, timeout=PATIENCE) as direct,
        asyncio.TaskGroup() as group,
    ):
        endless = [group.create_task(studio.broadcast(on_air))]
        await on_air.wait()
        endless += [group.create_task(proxied.read(client)), group.create_task(straight.read(direct))]
        following = [
            group.create_task(asyncio.wait_for(follow(client, direct, rendition), LOOK_SECONDS))
            for rendition in RENDITIONS
        ]
        listening = group.create_task(listen(client, studio))
        await fetch_ranges(client)
        for title in TITLES:
            # Each one is there before the next one could push it through a buffer.
            await studio.announce(title)
            await proxied.has(title)
            await straight.has(title)
        await asyncio.wait([*following, listening])
        for task in endless:
            task.cancel()
    delays = [proxied.came[title] - straight.came[title] for title in TITLES]
    parts, heard = [task.result() for task in following], listening.result()
    assert min(parts) >= LEAST_PARTS
    assert heard == list(range(heard[0], heard[0] + len(heard)))
    assert statistics.median(delays) < MOST_DELAY_SECONDS
    wait_for(lambda: "/events/" in str(front.logged()[before:]), "the log")
    requests = front.logged()[before:]
    assert {protocol for _, protocol, _, _ in requests} == {"HTTP/2.0"}
    assert len({connection for connection, _, _, _ in requests}) == 1
    keep("http2-viewer", {"requests": len(requests), "parts": parts, "title_delays": delays})


@pytest.mark.clause("RFC 9113 §5")
async def test_an_awaited_playlist_holds_nothing_up_on_its_connection(front: Front) -> None:
    async with viewer(front) as client:
        for _ in looks():
            text = await playlist(client, PICTURE)
            number, index = hinted(text)
            awaited = asyncio.create_task(playlist(client, PICTURE, msn=number + 1))
            parts = [
                await client.get(f"{PICTURE}/{each}.{part}.m4s")
                for each, part in [*listed(text), (number, index)]
            ]
            assert [part.http_version for part in parts] == ["HTTP/2"] * len(parts)
            still_awaited = not awaited.done()
            assert f"\n{number + 1}.m4s\n" in await awaited
            if still_awaited and {part.status_code for part in parts} == {200}:
                return
    pytest.fail("the parts came with the playlist only")


async def arrivals(client: httpx.AsyncClient, target: str) -> list[tuple[bytes, float]]:
    """Fetch something: its pieces, and when each came; none where it was cut off behind a long pause."""
    loop = asyncio.get_running_loop()
    found, last = list[tuple[bytes, float]](), loop.time()
    try:
        async with client.stream("GET", target) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                last = loop.time()
                found.append((piece, last))
    except httpx.RemoteProtocolError:
        # Of a segment in which the server stood still for three target durations the rest doesn't come.
        if loop.time() - last < PAUSE_SECONDS:
            raise
        return []
    return found


@pytest.mark.clause("RFC 9113 §5")
async def test_a_growing_dash_segment_comes_part_by_part(front: Front) -> None:
    """Most of it is there before whoever asks the origin itself gets its end."""
    async with (
        viewer(front) as client,
        httpx.AsyncClient(base_url=front.server.url, timeout=PATIENCE) as direct,
    ):
        for _ in looks():
            number = hinted(await playlist(direct, PICTURE))[0] + 1
            target = f"{PICTURE}/{number}.m4s"
            got, parts = await asyncio.gather(arrivals(client, target), arrivals(direct, target))
            if not got or not parts:
                continue
            whole = b"".join(part for part, _ in parts)
            assert b"".join(piece for piece, _ in got) == whole
            if sum(len(piece) for piece, came in got if came < parts[-1][1]) > len(whole) / 2:
                return
    pytest.fail("the parts came at the end")


async def test_addresses_are_those_that_the_client_knows_and_nothing_but_reading_goes_through(
    front: Front,
) -> None:
    async with viewer(front) as client:
        assert f"\n{front.url}/radio/{STATION}" in (await client.get(f"/radio/{STATION}.m3u")).text
        for method, target in (("POST", "/live/clock/metadata"), ("PUT", f"/radio/{STATION}")):
            assert (await client.request(method, target)).status_code == 403


@pytest.mark.realtime
@pytest.mark.clause("RFC 9113 §5")
async def test_hls_js_plays_with_low_latency_over_one_connection(
    browser: Browser, front: Front, tools: Tools, figures: Figures
) -> None:
    if "drawtext" not in tools.filters:
        pytest.skip("this ffmpeg can't write a clock into the picture")
    clock = Clockface.drawn(tools, *SIZE)
    for _ in looks():
        # Who stalled once stays further behind: each look is a new viewer's, with a connection of its own.
        earlier = max((int(connection) for connection, *_ in front.logged()), default=0)
        tab = await open_tab(browser, front.url, ignore_https_errors=True)
        await tab.open("live/clock")
        await tab.playing()
        seconds = []
        for _ in range(SAMPLES):
            await tab.pace("video", 0.2)
            seconds.append(await clock.latency(tab))
        # What the player gave up before it was answered has no protocol.
        answered = "performance.getEntriesByType('resource').filter(each => each.responseStatus)"
        asked = f"{answered}.map(each => each.nextHopProtocol)"
        protocols, stats = set(await tab.value(asked)), await tab.stats()
        keep("http2-latency", {"by_picture": seconds, "stats": stats})
        await tab.page.context.close()
        assert tab.troubles == []
        if statistics.median(seconds) <= MOST_LATENCY_SECONDS:
            break
    latency = statistics.median(seconds)
    figures.judge(latency <= MOST_LATENCY_SECONDS, f"{latency:.1f} s behind, {MOST_LATENCY_SECONDS} at most")
    assert protocols == {"h2"}
    media = {
        int(connection)
        for connection, _, _, target in front.logged()
        if "/live/clock/" in target and int(connection) > earlier
    }
    assert len(media) == 1
