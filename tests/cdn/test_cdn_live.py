"""Live channels behind caches: what a crowd waits for is asked for once, and nothing old is served."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cdn.caches import Cache, running
from tests.cdn.followers import (
    Connection,
    Crowd,
    Position,
    connected,
    follow,
    follow_directly,
    hinted,
    listed,
)
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.patience import patient_server
from tests.ports import kept_port
from tests.waiting import wait_for

LOG = """
[log]
requests = true
format = "json"
"""
KEPT_SECONDS = 0.5
"""For how long the caches keep a playlist that is asked for as it is."""

OLD_SECONDS = 2 * KEPT_SECONDS
"""How old it may never be: their clocks are of other steps than ours."""

PLAYERS = 200
SEGMENTS, PARTS = 1, 4
"""What a crowd sees to the end, and the parts of each."""

MOST_CROWDS = 5
"""How many are looked at until so much has been seen: of a machine that stands still, one sees less."""

RENDITIONS = PICTURE, SOUND = ("/live/crowd/source", "/live/crowd/audio")
QUICK = "/live/quick/audio"
LOOK_SECONDS = 0.1
"""Between two looks at whether a plain playlist is old."""


class Origin:
    """A server with live channels, which can be started again at its address.

    Its channels wait for an ffmpeg that is late, and requests wait for them: what is looked at is how often
    caches ask.
    """

    def __init__(self, folder: Path, port: int) -> None:
        # A player asks twice for each part: with shorter ones the crowd alone would keep a processor busy.
        crowd = copied_channel("crowd", "part_duration = 1.0", "segment_duration = 4.0")
        quick = copied_channel("quick", "part_duration = 0.5", "segment_duration = 2.0")
        (folder / "headwater.toml").write_text(crowd + quick + LOG)
        self._arguments = ("--config", str(folder / "headwater.toml"), "--library", str(folder))
        self._port = port
        self.address = ("127.0.0.1", port)
        self.server = self._start()

    def _start(self) -> ServerProcess:
        return start_server(*self._arguments, "--port", str(self._port), program=patient_server())

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
    with kept_port() as port:
        origin = Origin(tmp_path_factory.mktemp("live"), port)
        yield origin
        origin.server.stop()


@pytest.fixture(scope="module", params=["nginx", "varnish"])
def cache(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cache]:
    with running(request.param, origin.server.url, tmp_path_factory.mktemp("cache")) as cache:
        yield cache


Looks = Counter[str]
"""How often somebody asked the origin itself for a rendition's playlist."""


async def plain(address: tuple[str, int], rendition: str, looks: Looks | None = None) -> str:
    """The rendition's playlist as it is now."""
    looks = Looks() if looks is None else looks
    async with connected(address) as client:
        while True:
            looks[rendition] += 1
            answer = await client.get(f"{rendition}/media.m3u8")
            # 503: a channel that has just begun, on a slow machine.
            if answer.status != 503:
                assert answer.status == 200
                return answer.text
            await asyncio.sleep(LOOK_SECONDS)


async def watch(cache: Cache, origin: Origin, rendition: str, looks: Looks) -> None:
    """See that no plain playlist is old when it is asked for."""
    loop = asyncio.get_running_loop()
    known: list[tuple[float, Position]] = []
    async with connected(cache.address) as client, connected(origin.address) as direct:
        while True:
            looks[rendition] += 1
            position = hinted((await direct.get(f"{rendition}/media.m3u8")).text)
            # The origin had it then at the latest, however late the answer was.
            known.append((loop.time(), position))
            asked = loop.time()
            got = hinted((await client.get(f"{rendition}/media.m3u8")).text)
            owed = [last for moment, last in known if moment <= asked - OLD_SECONDS]
            assert not owed or got >= owed[-1]
            await asyncio.sleep(LOOK_SECONDS)


async def gather(crowd: Crowd, cache: Cache, origin: Origin, looks: Looks) -> float:
    """Let a crowd follow, each player picture and sound; gives how many seconds it took."""
    started = asyncio.get_running_loop().time()
    firsts = [hinted(await plain(origin.address, rendition, looks)) for rendition in RENDITIONS]
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
    return asyncio.get_running_loop().time() - started


def test_a_crowd_costs_the_origin_one_request_for_each_part_and_playlist(
    cache: Cache, origin: Origin
) -> None:
    """Blocking reloads are collapsed, whatever coding a player accepts; delta updates are others."""
    before, looks, crowd, seconds = origin.asked(), Looks(), Crowd(), list[float]()
    while len(seconds) < MOST_CROWDS and (
        len(crowd.parts) < len(RENDITIONS) * PARTS * SEGMENTS or len(crowd.outdated()) < PLAYERS
    ):
        seconds.append(asyncio.run(gather(crowd, cache, origin, looks)))
    parts = {f"{rendition}/{number}.{index}.m4s" for rendition, (number, index) in crowd.parts}
    playlists = Counter(rendition for rendition, _ in crowd.playlists)

    def told() -> Counter[str] | None:
        """What the origin was asked for, once its log is as far as that."""
        asked, least = origin.asked() - before, looks[SOUND] + playlists[SOUND]
        return asked if asked.keys() >= parts and asked[f"{SOUND}/media.m3u8"] >= least else None

    asked = wait_for(told, what="the origin's log")
    assert asked is not None
    assert len(parts) >= len(RENDITIONS) * PARTS * SEGMENTS
    assert all(list(digests.values()) == [PLAYERS] for digests in crowd.parts.values())
    assert {asked[part] for part in parts} == {1}
    assert asked[f"{SOUND}/media.m3u8"] == looks[SOUND] + playlists[SOUND]
    # Of those who ask for the playlist as it is, the origin sees two a second.
    by_cache = asked[f"{PICTURE}/media.m3u8"] - looks[PICTURE] - len(crowd.direct) - playlists[PICTURE]
    assert by_cache <= 2 * (sum(seconds) + len(seconds))
    outdated = crowd.outdated()
    assert len(outdated) >= PLAYERS
    assert sum(outdated) < len(outdated) / 2


def test_what_was_asked_for_too_early_is_there_in_time(cache: Cache, origin: Origin) -> None:
    """A refusal isn't kept until it is wrong: else anybody could keep players from their next part."""

    async def ask() -> None:
        async with connected(cache.address) as client:
            refused: list[int] = []
            # Another answer has who stood still until it was early no more.
            while refused != [400, 404]:
                number, _ = hinted(await plain(origin.address, QUICK))
                too_far, early = (
                    f"{QUICK}/media.m3u8?_HLS_msn={number + 3}&_HLS_part=0",
                    f"{QUICK}/{number + 1}.1.m4s",
                )
                refused = [(await client.get(target)).status for target in (too_far, early)]
                assert set(refused) <= {200, 400, 404}
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
        async with connected(cache.address) as client:
            status = 200
            # 200: what it waited for came before, while this machine stood still.
            while status == 200:
                old = hinted(await plain(origin.address, QUICK))
                target, status = await cut_off(client, origin, old)
            assert status >= 500
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
                cached, own = await client.get(f"{QUICK}/{uri}"), await direct.get(f"{QUICK}/{uri}")
                # Unless it has left the playlist meanwhile.
                assert cached == own or uri not in (await direct.get(f"{QUICK}/media.m3u8")).text

    asyncio.run(across())


async def cut_off(client: Connection, origin: Origin, old: Position) -> tuple[str, int]:
    """Start the origin again while a request waits there; gives its target, and the status that it got.

    Args:
        client: who asks.
        origin: where it waits, through a cache.
        old: the part that was hinted at.
    """
    # §6.2.5.2: two beyond the last may be asked for, which is the one before where nothing of this has come.
    number = old[0] + 1 + bool(old[1])
    target = f"{QUICK}/media.m3u8?_HLS_msn={number}"
    waiting = asyncio.create_task(client.get(target))
    await asyncio.to_thread(
        wait_for, lambda: waiting.done() or origin.blocks(), what="the request at the origin"
    )
    if not waiting.done():
        await asyncio.to_thread(origin.restart)
    answer = await waiting
    assert answer.status != 200 or hinted(answer.text)[0] > number
    return target, answer.status
