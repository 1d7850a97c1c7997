"""Players behind nginx miss nothing while an edge stands still, one comes, and all nodes are restarted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.benchmarks.fleet import CHANNEL, fleet_running
from tests.copied_channel import film
from tests.origin.cluster.nodes import next_number

FOLDER = f"/live/{CHANNEL}/source"
EDGES = (1, 1, 1)
"""The workers of each; the last one comes later."""


class Player:
    """Follows the channel by blocking reload, each request on a connection of its own.

    Args:
        url: of nginx.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.parts = 0

    def follow(self, done: threading.Event) -> None:
        """Take one part after the other, until told to end."""
        number, index = next_number(self._ask("media.m3u8")), 0
        while not done.is_set():
            answer = self._answer(f"media.m3u8?_HLS_msn={number}&_HLS_part={index}")
            # §6.2.5.2: on a busy machine a part may come later than three target durations.
            if answer.status_code == 503:
                continue
            assert answer.status_code == 200, answer.url
            names = [one.partition('URI="')[2] for one in answer.text.splitlines() if "EXT-X-PART:" in one]
            for name in names:
                at = tuple(map(int, name.split(".")[:2]))
                if at >= (number, index):
                    self._ask(name.partition('"')[0])
                    number, index = at[0], at[1] + 1
                    self.parts += 1

    def _ask(self, name: str) -> str:
        answer = self._answer(name)
        assert answer.status_code == 200, answer.url
        return answer.text

    def _answer(self, name: str) -> httpx.Response:
        return httpx.get(f"{self._url}{FOLDER}/{name}", timeout=60)


def test_no_request_fails_while_an_edge_stands_still_one_comes_and_all_are_restarted(tmp_path: Path) -> None:
    done = threading.Event()
    with (
        fleet_running(tmp_path, EDGES, drain_seconds=0.5, film=film()) as fleet,
        ThreadPoolExecutor(2) as pool,
    ):
        players = [Player(fleet.url) for _ in range(2)]
        following = [pool.submit(one.follow, done) for one in players]
        try:
            with fleet.edges[0].stopped():
                fleet.late.start()
            for one in fleet.in_order_of_upgrades():
                one.restart()
        finally:
            done.set()
        for player in following:
            player.result()
        assert all(one.parts for one in players)
