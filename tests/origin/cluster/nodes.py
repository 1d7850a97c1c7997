"""Servers that share a live channel over Redis, and what they answer."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.redis_cluster import RedisServers
from tests.redis_server import RedisServer


def shared_channel(*lines: str) -> str:
    """Give the configuration of the nodes' channel; more of its options are lines."""
    return copied_channel("shared", "segment_duration = 1.0", "part_duration = 0.25", *lines)


@contextlib.contextmanager
def nodes(
    folder: Path,
    redis: RedisServer | RedisServers,
    *roles: str,
    channels: str | None = None,
    names: Sequence[str] = (),
) -> Iterator[list[ServerProcess]]:
    """Run a node for each role, all with the same configuration; None: that of the usual channel."""
    channels = shared_channel() if channels is None else channels
    redis.command("FLUSHALL")
    config = folder / "headwater.toml"
    config.write_text(f'[cluster]\nurl = "{redis.url}"\n{channels}')
    running: list[ServerProcess] = []
    try:
        for role, name in itertools.zip_longest(roles, names, fillvalue=""):
            env = {"HEADWATER_CLUSTER_ROLE": role, "HEADWATER_CLUSTER_NAME": name}
            running.append(start_server("--config", str(config), "--port", "0", cwd=folder, env=env))
        yield running
    finally:
        for one in running:
            one.process.send_signal(signal.SIGCONT)
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()


def get(one: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(f"{one.url}{path}", timeout=30)


def post(one: ServerProcess, path: str, key: str, body: object = None) -> httpx.Response:
    return httpx.post(f"{one.url}/live/shared/{path}?key={key}", json=body, timeout=30)


def plays(one: ServerProcess) -> bool:
    return get(one, "/live/shared/master.m3u8").status_code == 200


def owns(one: ServerProcess) -> bool:
    return 'headwater_cluster_owner{channel="shared"} 1.0' in get(one, "/metrics").text


def playlist(one: ServerProcess, query: str = "") -> str:
    answer = get(one, f"/live/shared/source/media.m3u8{query}")
    assert answer.status_code == 200
    return answer.text


def next_number(text: str) -> int:
    """Give the number of the segment that a playlist's last part belongs to, or the next one."""
    hint = next(line for line in text.splitlines() if line.startswith("#EXT-X-PRELOAD-HINT"))
    return int(hint.partition('URI="')[2].partition(".")[0])


def segments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(".m4s") and not line.startswith("#")]


def follow_round_robin(urls: Sequence[str], count: int) -> None:
    """Play as a player of LL-HLS behind a balancer does: each request goes to the next address."""
    asked = 0

    def ask(path: str) -> httpx.Response:
        nonlocal asked
        asked += 1
        answer = httpx.get(f"{urls[asked % len(urls)]}{path}", timeout=30)
        assert answer.status_code == 200, path
        return answer

    number = next_number(ask("/live/shared/source/media.m3u8").text)
    for later in range(count):
        text = ask(f"/live/shared/source/media.m3u8?_HLS_msn={number + later}&_HLS_part=0").text
        for line in text.splitlines():
            is_new = line.startswith("#EXT-X-PART:") and f'"{number + later}.' in line
            if is_new or line.startswith("#EXT-X-MAP"):
                ask("/live/shared/source/" + line.partition('URI="')[2].partition('"')[0])
