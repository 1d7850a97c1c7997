"""Many who wait for one part: rendered once, released at once, and nothing stays of who leaves."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from media.m3u8 import MediaPlaylist
from packager import presentation
from packager.live import ChannelOptions
from packager.tools import Tools
from tests.conformance.handfed import NUMBER, OPTIONS, PARTS, HandFed, Track, make_material, on_air
from tests.conformance.raw import Client, wait_for

PATH = "/live/test/240p/media.m3u8"
CROWD = 200
FEW = ChannelOptions(
    OPTIONS.name,
    ladder=OPTIONS.ladder,
    part_duration=OPTIONS.part_duration,
    segment_duration=OPTIONS.segment_duration,
    max_waiters=3,
)


@pytest.fixture(scope="module")
def material(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Track]:
    return make_material(tools, tmp_path_factory.mktemp("material"))


@pytest.fixture
def fed(material: dict[str, Track], tools: Tools, tmp_path: Path) -> Iterator[HandFed]:
    with on_air(material, tools, tmp_path) as fed:
        fed.publish(8 * PARTS)
        yield fed


@contextlib.contextmanager
def asking(fed: HandFed, count: int, target: str) -> Iterator[list[Client]]:
    """Let so many clients ask, each on its connection."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(fed.address)) for _ in range(count)]
        for client in clients:
            client.send(f"GET {target} HTTP/1.1\r\nHost: origin\r\n\r\n")
        yield clients


def test_a_crowd_is_released_by_one_part_and_one_rendering(
    fed: HandFed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row L7: one playlist is built, however many wait."""
    rendered = []
    whole = presentation.media_playlist

    def counting(*args: Any, **rest: Any) -> MediaPlaylist:
        rendered.append(1)
        return whole(*args, **rest)

    monkeypatch.setattr(presentation, "media_playlist", counting)
    with asking(fed, CROWD, f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0") as clients:
        wait_for(lambda: fed.channel.blocked == CROWD, "the crowd")
        fed.publish(1, "240p")
        answers = {client.answer().body for client in clients}
    assert len(answers) == 1
    assert len(rendered) == 1
    assert fed.channel.blocked == 0


def test_a_crowd_for_a_hinted_part_gets_the_same_bytes(fed: HandFed) -> None:
    with asking(fed, CROWD, f"/live/test/240p/{NUMBER + 8}.0.m4s") as clients:
        wait_for(lambda: fed.channel.blocked == CROWD, "the crowd")
        fed.publish(1, "240p")
        assert len({client.answer().body for client in clients}) == 1


def test_nothing_stays_of_clients_that_leave(fed: HandFed) -> None:
    """Row D8: no waiter is left when its time is over or its part has come."""
    with asking(fed, CROWD, f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0"):
        wait_for(lambda: fed.channel.blocked == CROWD, "the crowd")
    fed.publish(1, "240p")
    wait_for(lambda: fed.channel.blocked == 0, "the waiters' end")
    with Client(fed.address) as client:
        assert client.ask(PATH).status == 200


def test_one_too_many_is_told_to_come_back(material: dict[str, Track], tools: Tools, tmp_path: Path) -> None:
    with on_air(material, tools, tmp_path, FEW) as fed:
        fed.publish(8 * PARTS)
        target = f"{PATH}?_HLS_msn={NUMBER + 8}&_HLS_part=0"
        with asking(fed, 3, target), Client(fed.address) as late:
            wait_for(lambda: fed.channel.blocked == 3, "three waiters")
            answer = late.ask(target)
            assert answer.status == 503
            assert re.fullmatch(r"\d+", answer["retry-after"])
