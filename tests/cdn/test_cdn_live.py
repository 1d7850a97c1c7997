"""Live channels behind caches: what a crowd waits for is asked for once, and nothing old is served."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cdn.caches import Cache, free_port, running
from tests.cdn.followers import Crowd, Position, connected, follow, follow_directly, hinted, listed
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

CONFIG = """
# A player asks twice for each part: with shorter ones the crowd alone would keep a processor busy.
[[live]]
name = "crowd"
ladder = ["240p"]
part_duration = 1.0
segment_duration = 2.0

[[live]]
name = "quick"
ladder = ["240p"]
part_duration = 0.25
segment_duration = 1.0

[log]
requests = true
format = "json"
"""
HALF_TARGET_DURATION = 1.0
"""Of the crowd's channel."""

KEPT_SECONDS = 0.5
"""For how long the caches keep a playlist that is asked for as it is."""

PLAYERS = 200
SEGMENTS, PARTS = 2, 2
"""What a crowd sees to the end, and the parts of each."""

RENDITIONS = PICTURE, SOUND = ("/live/crowd/240p", "/live/crowd/audio")
QUICK = "/live/quick/audio"
LOOK_SECONDS = 0.1
"""Between two looks at whether a plain playlist is old."""


class Origin:
    """A server with a live channel, which can be started again at its address."""

    def __init__(self, folder: Path) -> None:
        (folder / "headwater.toml").write_text(CONFIG)
        self._arguments = ("--config", str(folder / "headwater.toml"), "--library", str(folder))
        self._port = free_port()
        self.address = ("127.0.0.1", self._port)
        self.server = self._start()

    def _start(self) -> ServerProcess:
        return start_server(*self._arguments, "--port", str(self._port))

    def restart(self) -> None:
        self.server.stop()
        self.server = self._start()

    def blocks(self) -> bool:
        """Whether somebody waits there."""
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=60) as answer:
            return b'headwater_live_blocked_requests{channel="quick"} 0.0' not in answer.read()

    def asked(self) -> Counter[str]:
        """How often it was asked for each path."""
        lines = [json.loads(line) for line in self.server.output if line.startswith("{")]
        return Counter(line["path"] for line in lines if line["event"] == "request")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    origin = Origin(tmp_path_factory.mktemp("live"))
    yield origin
    origin.server.stop()


@pytest.fixture(scope="module", params=["nginx", "varnish"])
def cache(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cache]:
    with running(request.param, origin.server.url, tmp_path_factory.mktemp("cache")) as cache:
        yield cache


@dataclass
class Looks:
    """How often somebody who watches a rendition asked the origin itself."""

    direct: int = 0


async def plain(address: tuple[str, int], rendition: str) -> str:
    """The rendition's playlist as it is now."""
    async with connected(address) as client:
        # 503: a channel that has just begun, on a slow machine.
        while (answer := await client.get(f"{rendition}/media.m3u8")).status == 503:
            await asyncio.sleep(LOOK_SECONDS)
        assert answer.status == 200
        return answer.text


async def watch(cache: Cache, origin: Origin, rendition: str, looks: Looks) -> None:
    """See that no plain playlist is older than half a target duration when it is asked for."""
    loop = asyncio.get_running_loop()
    known: list[tuple[float, Position]] = []
    async with connected(cache.address) as client, connected(origin.address) as direct:
        while True:
            looks.direct += 1
            position = hinted((await direct.get(f"{rendition}/media.m3u8")).text)
            # The origin had it then at the latest, however late the answer was.
            known.append((loop.time(), position))
            asked = loop.time()
            got = hinted((await client.get(f"{rendition}/media.m3u8")).text)
            owed = [last for moment, last in known if moment <= asked - HALF_TARGET_DURATION]
            assert not owed or got >= owed[-1]
            await asyncio.sleep(LOOK_SECONDS)


async def crowd_of(cache: Cache, origin: Origin, looks: Looks) -> tuple[Crowd, float]:
    """Let a crowd follow, each player picture and sound; gives how many seconds it took, too."""
    crowd, started = Crowd(), asyncio.get_running_loop().time()
    firsts = [hinted(await plain(origin.address, rendition)) for rendition in RENDITIONS]
    end = firsts[0][0] + SEGMENTS
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(cache, origin, PICTURE, looks))
        players = [
            group.create_task(
                follow(cache.address, rendition, first, end, crowd, coded=number % 2 == 0, delta=index == 1)
            )
            for number in range(PLAYERS)
            for index, (rendition, first) in enumerate(zip(RENDITIONS, firsts, strict=True))
        ]
        await follow_directly(origin.address, PICTURE, firsts[0], end, crowd)
        await asyncio.wait(players)
        watching.cancel()
    return crowd, asyncio.get_running_loop().time() - started


def test_a_crowd_costs_the_origin_one_request_for_each_part_and_playlist(
    cache: Cache, origin: Origin
) -> None:
    """Blocking reloads are collapsed, whatever coding a player accepts; delta updates are others."""
    before, looks = origin.asked(), Looks()
    crowd, seconds = asyncio.run(crowd_of(cache, origin, looks))
    parts = {f"{rendition}/{number}.{index}.m4s" for rendition, (number, index) in crowd.parts}
    playlists = Counter(rendition for rendition, _ in crowd.playlists)

    def told() -> Counter[str] | None:
        """What the origin was asked for, once its log is as far as that."""
        asked = origin.asked() - before
        return asked if asked.keys() >= parts and asked[f"{SOUND}/media.m3u8"] > playlists[SOUND] else None

    asked = wait_for(told, what="the origin's log")
    assert asked is not None
    assert len(parts) >= len(RENDITIONS) * PARTS * SEGMENTS
    assert all(list(digests.values()) == [PLAYERS] for digests in crowd.parts.values())
    assert {asked[part] for part in parts} == {1}
    assert asked[f"{SOUND}/media.m3u8"] == 1 + playlists[SOUND]
    # Of those who ask for the playlist as it is, the origin sees two a second.
    by_cache = asked[f"{PICTURE}/media.m3u8"] - 1 - looks.direct - len(crowd.direct) - playlists[PICTURE]
    assert by_cache <= 2 * (seconds + 1)
    outdated = crowd.outdated()
    assert len(outdated) >= PLAYERS
    assert sum(outdated) < len(outdated) / 2


def test_what_was_asked_for_too_early_is_there_in_time(cache: Cache, origin: Origin) -> None:
    """A refusal isn't kept until it is wrong: else anybody could keep players from their next part."""

    async def ask() -> None:
        async with connected(cache.address) as client:
            number, _ = hinted(await plain(origin.address, QUICK))
            too_far, early = (
                f"{QUICK}/media.m3u8?_HLS_msn={number + 3}&_HLS_part=0",
                f"{QUICK}/{number + 1}.1.m4s",
            )
            assert (await client.get(too_far)).status == 400
            assert (await client.get(early)).status == 404
            async with connected(origin.address) as direct:
                awaited = f"{QUICK}/media.m3u8?_HLS_msn={number + 1}&_HLS_part=1"
                listing = (await direct.get(awaited)).text
            if (number + 1, 1) in listed(listing):
                assert (await client.get(early)).status == 200
            assert hinted((await client.get(too_far)).text) > (number + 3, 0)

    asyncio.run(ask())


def test_nothing_old_comes_back_after_a_restart(cache: Cache, origin: Origin) -> None:
    """Whoever waited is told to come again, and finds the new; what is listed is what the origin has."""

    async def across() -> None:
        assert hinted(await plain(cache.address, QUICK))
        # §6.2.5.2: two beyond the last may be asked for, which is the one that has begun.
        while not (old := hinted(await plain(origin.address, QUICK)))[1]:
            await asyncio.sleep(LOOK_SECONDS)
        target = f"{QUICK}/media.m3u8?_HLS_msn={old[0] + 2}"
        async with connected(cache.address) as client:
            waiting = asyncio.create_task(client.get(target))
            await asyncio.to_thread(wait_for, origin.blocks, what="the request at the origin")
            await asyncio.to_thread(origin.restart)
            assert (await waiting).status >= 500
        async with connected(cache.address) as client, connected(origin.address) as direct:
            fresh = listed(await plain(origin.address, QUICK))
            assert fresh[0] > old
            await asyncio.sleep(KEPT_SECONDS)
            text = (await client.get(f"{QUICK}/media.m3u8")).text
            assert listed(text)[0] >= fresh[0]
            assert listed((await client.get(target)).text)[0] >= fresh[0]
            uris = re.findall(r'#EXT-X-(?:MAP|PART):.*?URI="([^"]+)"', text)
            uris += re.findall(r"^[^#].*$", text, re.MULTILINE)
            for uri in uris:
                assert (await client.get(f"{QUICK}/{uri}")) == (await direct.get(f"{QUICK}/{uri}"))

    asyncio.run(across())
