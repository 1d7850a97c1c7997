"""Programmes in a cluster: changed at any node, the same at all, also where Redis loses them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from origin.programmes.shared_programmes import SharedProgrammes
from packager.concurrency import background_task
from packager.past.programmes import Programme, Schedule
from packager.programmes.store import PROGRAMMES, ProgrammeStore
from packager.safe_files import DataFolder
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, shared_channel
from tests.packager.cluster.live_nodes import clear, node, playing
from tests.redis_server import RedisServer
from tests.waiting import until, wait_for

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
KEY = "headwater:programmes:shared"


def channel() -> str:
    return f'[server]\nadmin_token = "{ADMIN_TOKEN}"\n{shared_channel()}'


def put(node: ServerProcess, programmes: list[dict[str, Any]]) -> httpx.Response:
    return httpx.put(f"{node.url}/live/shared/programmes", json=programmes, headers=ADMIN, timeout=60)


def listed(node: ServerProcess) -> list[tuple[str, float, float, str]] | None:
    """Return the programmes that a node lists; None while it has read none yet."""
    answer = get(node, "/api/live/shared/programmes")
    if answer.status_code == 503:
        return None
    assert answer.status_code == 200, answer.text
    return [(one["id"], one["start"], one["end"], one["title"]) for one in answer.json()]


def running(node: ServerProcess) -> str:
    """Return the playlist of the programme that runs; what has left the window is led to the rest of it."""
    url = f"{node.url}/live/shared/source/media.m3u8?programme=on"
    return httpx.get(url, timeout=30, follow_redirects=True).text


def programme(name: str, start: float, end: float, title: str = "") -> dict[str, Any]:
    return {"id": name, "start": start, "end": end, "title": title}


def as_listed(programmes: list[dict[str, Any]]) -> list[tuple[str, float, float, str]]:
    return [(one["id"], one["start"], one["end"], one["title"]) for one in programmes]


def wait_until_all_have(every: list[ServerProcess], programmes: list[dict[str, Any]]) -> None:
    expected = as_listed(programmes)
    wait_for(lambda: all(listed(one) == expected for one in every), "the same programmes at all nodes")


def test_programmes_are_the_same_at_all_nodes_whichever_is_asked(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    roles = ("packager", "packager", "edge")
    with nodes(tmp_path, redis_server, *roles, channels=channel()) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_until_all_have(every, [])
        for number, node in enumerate(every):
            now = float(int(time.time()))
            wanted = [
                programme("on", now - 1, now + 3600, f"what is on {number}"),
                programme("next", now + 3600, now + 7200, "ü"),
            ]
            assert put(node, wanted).json() == {"programmes": 2, "unchanged": []}
            assert listed(node) == as_listed(wanted)
            wait_until_all_have(every, wanted)
        # The programme that runs is an address everywhere, and all players are told of it.
        wait_for(lambda: all("EXT-X-PLAYLIST-TYPE:EVENT" in running(one) for one in every), "the programme")
        for one in every:
            assert get(one, "/live/shared/master.m3u8?programme=next").status_code == 404
            assert get(one, "/live/other/master.m3u8?programme=on").status_code == 404
            assert get(one, "/api/live/other/programmes").status_code == 404
            wait_for(lambda: 'X-PROGRAMME="on"' in playlist(one), "the date range")  # noqa: B023
        # The next owner has them as well.
        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: any(map(owns, left)), "another owner")
        assert all(listed(one) == as_listed(wanted) for one in left)
        wait_for(lambda: all('X-PROGRAMME="on"' in playlist(one) for one in left), "the date range of both")
        assert all("Traceback" not in one.text() for one in left)


def test_a_lost_redis_gets_them_from_a_node_and_what_is_no_programme_there_changes_nothing(
    tmp_path: Path, redis: RedisServer
) -> None:
    with nodes(tmp_path, redis, "packager", "edge", channels=channel()) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        now = float(int(time.time()))
        wanted = [programme("on", now - 1, now + 3600)]
        assert put(every[0], wanted).status_code == 200
        wait_until_all_have(every, wanted)
        redis.kill()
        wait_for(lambda: put(every[1], []).status_code == 503, "a refused change")
        refused = put(every[1], [])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert all(listed(one) == as_listed(wanted) for one in every)
        redis.start()
        wait_for(lambda: redis.command("EXISTS", KEY) == b":1\r\n", "the programmes in the new Redis")
        # A node that has none of them reads them there.
        every.append(
            start_server(
                "--config",
                str(tmp_path / "headwater.toml"),
                "--port",
                "0",
                cwd=tmp_path,
                env={"HEADWATER_CLUSTER_ROLE": "edge"},
            )
        )
        wait_for(lambda: plays(every[2]), "the channel at the new node")
        wait_until_all_have(every, wanted)
        for number, rubbish in enumerate(("rubbish", "9" * 20, "9" * 20 + "rubbish")):
            redis.command("SET", KEY, rubbish)
            later = [programme("later", now + number, now + 3600)]
            assert put(every[1], later).status_code == 200
            wait_until_all_have(every, later)
        redis.command("DEL", KEY)
        redis.command("RPUSH", KEY, "no programmes")
        wait_for(lambda: put(every[0], wanted).status_code == 200, "a key of another kind gone")
        wait_until_all_have(every, wanted)
        assert all("Traceback" not in one.text() for one in every)


@contextlib.asynccontextmanager
async def sharing(server: RedisServer, folder: Path) -> AsyncIterator[ProgrammeStore]:
    """Run a node that shares a channel's programmes, which it keeps in a folder."""
    async with node(server, playing()) as one:
        store = ProgrammeStore("test", DataFolder(folder))
        await store.load()
        shared = SharedProgrammes(one.node, {"test": store}, lambda _: ())
        async with background_task(shared.run()):
            await until(lambda: "test" in shared._versions, "the programmes of Redis")
            yield store


async def no_news() -> Schedule | None:
    return None


async def test_a_node_that_comes_back_writes_programmes_to_disk_only_if_they_are_others(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    clear(redis_server)
    programmes = [Programme("on", 1_000, 2_000, "ü"), Programme("next", 2_000, 3_000)]
    async with sharing(redis_server, tmp_path / "one") as store:
        await store.replace(programmes)
    written = (tmp_path / "one" / PROGRAMMES).stat()
    async with sharing(redis_server, tmp_path / "one") as store:
        await store.follow(no_news)  # behind what was read before
        kept = (tmp_path / "one" / PROGRAMMES).stat()
        assert (kept.st_ino, kept.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
        assert list(store.schedule) == programmes
        # What another node has changed meanwhile is written.
        async with sharing(redis_server, tmp_path / "two") as other:
            await other.replace(programmes[1:])
        await until(lambda: list(store.schedule) == programmes[1:], "the change")
        await store.follow(no_news)
    assert (tmp_path / "one" / PROGRAMMES).stat().st_ino != written.st_ino
    stored = ProgrammeStore("test", DataFolder(tmp_path / "one"))
    await stored.load()
    assert list(stored.schedule) == programmes[1:]
