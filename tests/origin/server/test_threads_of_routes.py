"""Routes have their threads in the turns of clients, and do nothing anew for a query that means nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from blockbuster import BlockBuster

from origin.http.client_limits import network_of
from origin.http.path_prefixes import AREAS
from packager import threads
from packager.process.ffmpeg_discovery import Tools
from tests.all_routes import CONFIGURATION, NOBODY_WAITS, targets
from tests.keys import ADMIN_TOKEN
from tests.origin.ingest.studio import encoder_arguments
from tests.own_server import OwnServer, own_server
from tests.packager import films
from tests.patience import CLIENT_SECONDS

pytestmark = pytest.mark.timeout(600)

CROWD = 24
"""Requests at once, each with a query of its own that means nothing."""

STRANGER, NEIGHBOUR = "192.0.2.7", "198.51.100.7"

FILMS = (
    "master.m3u8",
    "manifest.mpd",
    "video/media.m3u8",
    "video/iframes.m3u8",
    "video/iframes.mp4",
    "video/init.mp4",
    "video/0.m4s",
    "audio/media.m3u8",
    "subtitles/en/media.m3u8",
    "subtitles/en/0.vtt",
    "subtitles/en.vtt",
    "chapters.json",
    "cover.jpg",
    "poster.jpg",
    "thumbnails.vtt",
    "thumbnails.m3u8",
    "thumbnails/0.jpg",
    "video/media.m3u8?start=0.5&end=1.5",
    "manifest.mpd?start=0.5",
    "video-240p/media.m3u8",
    "video-240p/0.m4s",
)
"""What VOD has of a film: its routes are one pattern."""

ENDLESS = ("/events", "/radio")
"""Areas whose answers may have no end; of them the first line is read."""

SERVERS_OWN = {
    "certificates": "read once for all, by one call at a time",
    "FileListing._look": "the folder is walked through once for all",
    "FolderState.look": "whether the folder is there, once for all",
    "ListedFolder.readable_path": "a file is looked at once for the catalogue",
    "FilmPictures.open_storyboard": "a sprite is drawn once for all, in the queue's turn",
    "_require_decodable": "as above",
    "missing_bytes": "as above",
    "next": "as above",
    "HashedFileCache.keep": "as above",
    "SpanKeeper._lack_of_room": "the recordings' disk is looked at now and then",
    "malloc_trim": "memory is given back now and then",
}
"""Calls that the server makes by itself, a bounded number of them at once, and why."""

SERVERS_ROOMS = ("FilmFacts.", "DvrFolder.", "SequenceNumbers.", "Preparation.")
"""Further ones by their beginnings: the catalogue looks at each file once, a channel stores its segments, and
the administrator alone has films prepared.
"""

ON_AIR = """
[[live]]
name = "onair"
source = "publish"
ladder = ["source"]
dvr = "1h"
publish_key = "sesame"
"""

LIVE = (
    "master.m3u8",
    "manifest.mpd",
    "source/media.m3u8",
    "source/init-{number}.mp4",
    "source/{number}.m4s",
    "snapshot.jpg?at={date}",
    "thumbnails.vtt",
    "thumbnails.vtt?start={date}&end={end}",
    "clip.mp4?start={date}&end={end}",
    "source/media.m3u8?start={date}",
    "source/media.m3u8?start={date}&end={end}",
    "master.m3u8?start={date}&end={end}",
    "manifest.mpd?start={date}&end={end}",
    "source/media.m3u8?delay=2",
    "manifest.mpd?delay=2",
)
"""What there is of a channel on air, and of its past."""


@dataclass
class Calls:
    """The calls of all threads: whose they are, and what is called."""

    begun: Counter[tuple[str, str]] = field(default_factory=Counter)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        real = threads._Pool.call

        def call(
            pool: threads._Pool,
            client: str,
            key: Hashable | None,
            function: Callable[[], Any],
            unwanted: Callable[[Any], object] | None,
        ) -> asyncio.Future[Any]:
            name = _name_of(function)

            def counted() -> Any:
                self.begun[client, name] += 1
                return function()

            return real(pool, client, key, counted, unwanted)

        patch.setattr(threads._Pool, "call", call)

    def of(self, *hosts: str) -> int:
        networks = {network_of(host) for host in hosts}
        return sum(count for (client, _), count in self.begun.items() if client in networks)


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))


@pytest.fixture
async def server(tmp_path: Path, tools: Tools) -> AsyncIterator[OwnServer]:
    library = tmp_path / "library"
    (library / "private").mkdir(parents=True)
    for name in ("film.mp4", "private/film.mp4"):
        await asyncio.to_thread(shutil.copyfile, films.film("bframes.mp4"), library / name)
        os.utime(library / name, (10**9, 10**9))
    configuration = tmp_path / "headwater.toml"
    text = CONFIGURATION.format(token=ADMIN_TOKEN, folder=library)
    configuration.write_text(text.replace("[library]", f'data = "{tmp_path / "data"}"\n\n[library]') + ON_AIR)
    async with own_server(configuration, tools, NOBODY_WAITS) as running, published(running.port):
        yield running


async def on_air(port: int) -> dict[str, str]:
    """Wait until the channel has three segments; return the number and the dates of the second."""
    address = f"http://127.0.0.1:{port}/live/onair/source/media.m3u8"
    async with httpx.AsyncClient(timeout=CLIENT_SECONDS) as client, asyncio.timeout(CLIENT_SECONDS):
        while (text := (await client.get(address)).text).count("#EXTINF") < 3:
            await asyncio.sleep(0.1)
    numbers = re.findall(r"^(\d+)\.m4s", text, re.MULTILINE)
    dates = re.findall(r"#EXT-X-PROGRAM-DATE-TIME:(\S+)", text)
    return {"number": numbers[1], "date": quote(dates[0]), "end": quote(dates[-1])}


@contextlib.asynccontextmanager
async def published(port: int) -> AsyncIterator[None]:
    words = [*encoder_arguments().split(), "-method", "POST", "-headers", "Authorization: Bearer sesame\r\n"]
    encoder = await asyncio.create_subprocess_exec(
        *("ffmpeg", *words, f"http://127.0.0.1:{port}/live/onair/ingest"), stdin=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        encoder.kill()
        await encoder.wait()


async def inspected(port: int) -> None:
    """Wait until the catalogue, which the administrator sees whole, has looked at each film once."""
    address, headers = f"http://127.0.0.1:{port}/api/library", {"authorization": f"Bearer {ADMIN_TOKEN}"}
    listed: list[dict[str, Any]] = []
    async with httpx.AsyncClient(headers=headers, timeout=CLIENT_SECONDS) as client:
        async with asyncio.timeout(CLIENT_SECONDS):
            while len(listed) < 2 or any(one["duration"] is None for one in listed):
                listed = (await client.get(address)).json()


async def ask(port: int, host: str, method: str, target: str) -> int:
    """Send a request as a client with an address, and return the answer's status."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"X-Forwarded-For: {host}"]
    lines += ["Connection: close", f"Authorization: Bearer {ADMIN_TOKEN}", "", ""]
    async with asyncio.timeout(CLIENT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write("\r\n".join(lines).encode())
            line = await reader.readline()
            if not target.startswith(ENDLESS):
                await reader.read()
        finally:
            writer.transport.abort()
    return int(line[9:12] or 0)


async def ask_all(port: int, host: str, method: str, wanted: list[str]) -> Counter[int]:
    return Counter(await asyncio.gather(*(ask(port, host, method, target) for target in wanted)))


@dataclass(frozen=True)
class Walked:
    """How many calls requests for a target had begun: equal ones, and those with a query each.

    Attributes:
        alone: seconds for which a neighbour has waited for the same without them.
        in_crowd: likewise beside those with a query each.
    """

    method: str
    path: str
    equal: int
    varied: int
    statuses: tuple[Counter[int], Counter[int]]
    alone: float
    in_crowd: float

    @property
    def is_made_anew(self) -> bool:
        return self.varied > self.equal + CROWD / 2


async def walk(server: OwnServer, calls: Calls, method: str, path: str) -> Walked:
    await ask(server.port, NEIGHBOUR, method, path)  # what is made once
    statuses, counts, and_ = [], [], "&" if "?" in path else "?"
    for wanted in ([path] * CROWD, [f"{path}{and_}%61={number}&x={number}" for number in range(CROWD)]):
        before = calls.of(STRANGER)
        crowd = asyncio.create_task(ask_all(server.port, STRANGER, method, wanted))
        await asyncio.sleep(0)
        in_crowd = await seconds_of(ask(server.port, NEIGHBOUR, method, f"{path}{and_}%61=neighbour"))
        statuses.append(await crowd)
        counts.append(calls.of(STRANGER) - before)
    alone = await seconds_of(ask(server.port, NEIGHBOUR, method, f"{path}{and_}%61=alone"))
    (equal, varied), (of_equal, of_varied) = counts, statuses
    return Walked(method, path, equal, varied, (of_equal, of_varied), alone, in_crowd)


async def seconds_of(asked: Awaitable[int]) -> float:
    began = time.perf_counter()
    await asked
    return time.perf_counter() - began


def p95(seconds: Iterable[float]) -> float:
    ordered = sorted(seconds)
    return ordered[len(ordered) * 95 // 100]


def paths(server: OwnServer, live: dict[str, str]) -> list[tuple[str, str]]:
    """Return all that can be read: every route with GET, and each kind that VOD and a channel have.

    Args:
        live: the number and the dates of a segment of the channel on air.
    """
    found = [one.path for one in targets(server) if one.method == "GET"]
    found += [f"/vod/film.mp4/{name}" for name in FILMS]
    found += [f"/live/onair/{name.format_map(live)}" for name in LIVE]
    found += ["/media/film.mp4", "/media/private/film.mp4", "/embed/vod/film.mp4"]
    return [(method, path) for path in dict.fromkeys(found) for method in ("GET", "HEAD")]


async def test_every_route_has_its_threads_in_its_clients_turns_and_shares_what_means_the_same(
    server: OwnServer, nothing_blocks_the_event_loop: BlockBuster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Prometheus' client reads a file of the kernel at each request for metrics.
    nothing_blocks_the_event_loop.deactivate()
    try:
        found = paths(server, await on_air(server.port))
        assert {path.split("/")[1] for _, path in found} >= {*AREAS, "admin", ""}
        await inspected(server.port)
        calls = Calls()
        calls.watch(monkeypatch)
        walked = [await walk(server, calls, method, path) for method, path in found]
    finally:
        nothing_blocks_the_event_loop.activate()
    assert not [one for one in walked if 500 in one.statuses[0] | one.statuses[1]]
    # A query that means nothing has nothing done that its absence doesn't, but what happens to be due.
    anew = {f"{one.method} {one.path}": (one.equal, one.varied) for one in walked if one.is_made_anew}
    assert anew == {}, "how many calls equal requests have had, and those with a query each"
    alone, in_crowd = p95(one.alone for one in walked), p95(one.in_crowd for one in walked)
    # As long as the crowd takes with all of its own on a machine of any speed, and no longer.
    assert in_crowd < 2 * CROWD * max(alone, 0.01), (alone, in_crowd)
    others = {name for client, name in calls.begun if client == threads.SERVER}
    assert {name for name in others - SERVERS_OWN.keys() if not name.startswith(SERVERS_ROOMS)} == set()
