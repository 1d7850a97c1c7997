"""Many who wait for one part: rendered once, released at once, and nothing stays of who leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import resource
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from media.hls.media_playlist import MediaPlaylist
from media.hls.precompressed_text import Pieces
from origin.answers import representation_replies
from origin.system import rlimits
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from packager.window.limits import PublishLimits
from tests.conformance.handfed import NUMBER, OPTIONS, PARTS, PATH, HandFed, Track, on_air
from tests.conformance.raw import Client
from tests.waiting import wait_for

CROWD = 200
HERD = 2000
DESCRIPTORS = 3 * HERD + 200
FEW = ChannelOptions(
    OPTIONS.name,
    ladder=OPTIONS.ladder,
    part_duration=OPTIONS.part_duration,
    segment_duration=OPTIONS.segment_duration,
    limits=replace(OPTIONS.limits, publish=PublishLimits().with_waiters(3)),
)


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS)
        yield fed


@contextlib.contextmanager
def asking(fed: HandFed, count: int, target: str, *fields: str) -> Iterator[list[Client]]:
    """Let so many clients ask, each on its connection; at once, since none may be silent for long."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(Client(fed.address)))
            clients[-1].send("\r\n".join([f"GET {target} HTTP/1.1", "Host: origin", *fields, "", ""]))
        yield clients


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """Let this process have both ends of a herd's connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if rlimits.raise_limit() < DESCRIPTORS:
        pytest.skip(f"{DESCRIPTORS} descriptors aren't allowed here")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def tasks(fed: HandFed) -> int:
    """How many tasks the server's loop has."""
    found: list[int] = []
    fed.in_loop(lambda: found.append(len(asyncio.all_tasks())))
    return found[0]


@pytest.mark.clause("A herd that waits for one part costs one rendering")
def test_a_herd_is_released_by_one_part_and_one_rendering(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One playlist is built and compressed once, however many wait; none of them is a task."""
    rendered: list[bytes] = []
    coded: list[bytes] = []
    render, compress = MediaPlaylist.pieces, zlib.compressobj

    def rendering(playlist: MediaPlaylist) -> Pieces:
        rendered.append(b"")
        return render(playlist)

    def compressing(*details: Any) -> Any:
        coded.append(b"")
        return compress(*details)

    monkeypatch.setattr(MediaPlaylist, "pieces", rendering)
    monkeypatch.setattr(zlib, "compressobj", compressing)
    target = f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0"
    alone = tasks(fed)
    with (
        many_descriptors(),
        asking(fed, HERD // 2, target) as plain,
        asking(fed, HERD // 2, target, "Accept-Encoding: gzip") as packed,
    ):
        wait_for(lambda: fed.channel.stream.blocked == HERD, "the herd")
        assert tasks(fed) == alone
        made = representation_replies._head.cache_info().misses
        fed.publish(1, "240p")
        answers = {client.answer().body for client in plain}
        (packed_answer,) = {client.answer().body for client in packed}
    assert answers == {gzip.decompress(packed_answer)}
    assert len(rendered) == len(coded) == 1
    # One head for each coding.
    assert representation_replies._head.cache_info().misses - made < HERD // 20
    assert fed.channel.stream.blocked == 0


def test_a_crowd_for_a_hinted_part_gets_the_same_bytes(fed: HandFed) -> None:
    with asking(fed, CROWD, f"/live/test/240p/{NUMBER + 8}.0.m4s") as clients:
        wait_for(lambda: fed.channel.stream.blocked == CROWD, "the crowd")
        fed.publish(1, "240p")
        assert len({client.answer().body for client in clients}) == 1


def test_nothing_stays_of_clients_that_leave(fed: HandFed) -> None:
    """No waiter is left when its time is over or its part has come."""
    with asking(fed, CROWD, f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0"):
        wait_for(lambda: fed.channel.stream.blocked == CROWD, "the crowd")
    fed.publish(1, "240p")
    wait_for(lambda: fed.channel.stream.blocked == 0, "the waiters' end")
    with Client(fed.address) as client:
        assert client.ask(PATH).status == 200


def test_one_too_many_is_told_to_come_back(material: dict[str, Track], tools: Tools, tmp_path: Path) -> None:
    with on_air(material, tools, tmp_path, FEW) as fed:
        fed.publish(8 * PARTS)
        target = f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0"
        with asking(fed, 3, target), Client(fed.address) as late:
            wait_for(lambda: fed.channel.stream.blocked == 3, "three waiters")
            answer = late.ask(target)
            assert answer.status == 503
            assert re.fullmatch(r"\d+", answer["retry-after"])
