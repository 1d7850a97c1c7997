"""The admin token that all nodes of a cluster share, and how `doctor` looks at it and at Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server
from tests.fork_server import run_headwater
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer, redis_running

CONFIG = """
[server]
port = 0
data = "data"

[cluster]
url = "{url}"

[[live]]
name = "studio"
source = "publish"
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis_running(tmp_path / "redis") as server:
        yield server


def node(folder: Path, url: str) -> Path:
    folder.mkdir()
    (folder / "headwater.toml").write_text(CONFIG.format(url=url))
    return folder


def doctor(folder: Path) -> str:
    return run_headwater("doctor", cwd=folder).stdout


def test_nodes_without_an_admin_token_share_the_first_that_a_node_makes(
    redis: RedisServer, tmp_path: Path
) -> None:
    folders = [node(tmp_path / name, redis.url) for name in ("one", "two")]
    assert "the first node that starts makes one for all" in doctor(folders[0])
    kept, servers = [], []
    for folder in folders:
        servers.append(start_server(cwd=folder, admin_token=None))
        lines = next((folder / "data").glob("*secrets*")).read_text().splitlines()
        kept.append(next(line for line in lines if "admin_token" in line))
    assert kept[0] == kept[1]
    token = kept[0].rpartition("=")[2].strip(' "') if "=" in kept[0] else kept[0].split()[-1].strip('"')
    for server in servers:
        answer = httpx.post(
            f"{server.url}/api/reload", headers={"authorization": f"Bearer {token}"}, timeout=CLIENT_SECONDS
        )
        assert answer.status_code == 200
        for page in ("/admin/", "/admin/stats", "/admin/listmounts"):
            answer = httpx.get(f"{server.url}{page}", auth=("admin", token), timeout=CLIENT_SECONDS)
            assert answer.status_code == 200, page
    # Commands on a node's machine use it, too.
    assert run_headwater("reload", "--to", servers[1].url, cwd=folders[1]).returncode == 0
    assert "nodes share a made one" in doctor(folders[1])
    for server in servers:
        assert server.stop() == 0


def test_doctor_finds_a_redis_that_is_away_and_a_token_that_others_dont_have(
    redis: RedisServer, tmp_path: Path
) -> None:
    redis.command("SET", "headwater:secret:server.admin_token", "the-token-of-the-others-0")
    folder = node(tmp_path / "one", redis.url)
    config = folder / "headwater.toml"
    config.write_text(
        config.read_text().replace("port = 0", 'port = 0\nadmin_token = "one-of-its-own-12345"')
    )
    said = doctor(folder)
    assert "Redis answers" in said
    assert "nodes that configure none have another one" in said
    config.write_text(config.read_text().replace("one-of-its-own-12345", "the-token-of-the-others-0"))
    assert "nodes that configure none have another one" not in doctor(folder)
    redis.kill()
    done = run_headwater("doctor", cwd=folder)
    assert "Redis can't be used" in done.stdout
    assert done.returncode == 1
