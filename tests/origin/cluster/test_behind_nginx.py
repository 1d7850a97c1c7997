"""Two edges of a cluster behind a real nginx, one of them with workers: players miss nothing if one ends."""

from __future__ import annotations

import contextlib
import http.client
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.cdn.caches import running
from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.nodes import follow_round_robin, get, nodes, playlist, plays, segments
from tests.origin.workers.asking import address_of, metric, ready
from tests.ports import kept_port
from tests.redis_server import RedisServer
from tests.waiting import wait_for

WORKERS = 2
CLIENTS = 6
SECONDS = 60


def test_players_miss_nothing_where_one_edge_ends_and_one_with_workers_goes_on(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with contextlib.ExitStack() as stack:
        packager, edge = stack.enter_context(nodes(tmp_path, redis_server, "packager", "edge"))
        environment = {"HEADWATER_CLUSTER_ROLE": "edge", "HEADWATER_SERVER_WORKERS": str(WORKERS)}
        config = str(tmp_path / "headwater.toml")
        other = start_server("--config", config, "--port", "0", cwd=tmp_path, env=environment)
        stack.callback(other.process.wait)
        stack.callback(other.process.kill)
        ready(other, WORKERS)
        wait_for(lambda: all(map(plays, (packager, edge, other))), "the channel everywhere")
        wait_for(lambda: do_workers_serve(other), "all in workers")
        addresses = ",".join(one.url.removeprefix("http://") for one in (edge, other))
        folder = tmp_path / "nginx"
        folder.mkdir()
        proxy = stack.enter_context(running("fleet", f"http://{addresses}", folder))
        url = "http://{}:{}".format(*proxy.address)
        with ThreadPoolExecutor(2) as pool:
            players = [pool.submit(follow_round_robin, [url], 4) for _ in range(2)]
            edge.process.send_signal(signal.SIGTERM)
            assert edge.process.wait(SECONDS) == 0
            for player in players:
                player.result()
        listed = segments(playlist(other))[-1]
        path = f"/live/shared/source/{listed}"
        assert get(other, path).content == get(packager, path).content


def do_workers_serve(server: ServerProcess) -> bool:
    """Tell whether workers answer; where one doesn't follow the channel yet it hands the connections over."""
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client = http.client.HTTPConnection(*address_of(server), timeout=SECONDS)
            stack.enter_context(contextlib.closing(client))
            client.request("GET", "/live/shared/source/media.m3u8")
            answer = client.getresponse()
            assert answer.status == 200
            assert b"#EXT-X-PART:" in answer.read()
        names = [f'headwater_worker_connections{{worker="{number + 1}"}}' for number in range(WORKERS)]
        return sum(metric(server, name) for name in names) >= CLIENTS


def test_where_no_node_runs_nginx_tells_clients_to_come_again(tmp_path: Path) -> None:
    with kept_port() as port, running("fleet", f"http://127.0.0.1:{port}", tmp_path) as proxy:
        for path in ("/media/film.mp4", "/live/shared/240p/media.m3u8"):
            answer = httpx.get("http://{}:{}{}".format(*proxy.address, path))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
