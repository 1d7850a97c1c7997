"""A channel's programme is at one address at all nodes: while it runs, in the DVR, and as a recording."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from tests.conftest import ServerProcess, start_server
from tests.keys import ADMIN_TOKEN, BEARER
from tests.origin.cluster.nodes import plays, shared_channel
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

ADDRESS = "/live/shared/%s?programme=show"
NAMES = ("master.m3u8", "source/media.m3u8", "audio/media.m3u8", "manifest.mpd", "clip.mp4")
SECONDS = 10


def get(one: ServerProcess, name: str) -> httpx.Response:
    return httpx.get(one.url + ADDRESS % name, timeout=CLIENT_SECONDS, follow_redirects=True)


def is_recording(one: ServerProcess) -> bool:
    return all("/recordings/" in get(one, name).url.path for name in NAMES)


def test_a_programme_is_at_its_address_at_all_nodes_once_it_is_a_recording(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    place = f"s3://{BUCKET}/{tmp_path.name}"
    options = ('dvr = "20s"', 'record = "programmes"', f'recordings_copy = "{place}/copies"')
    redis_server.command("FLUSHALL")
    (tmp_path / "headwater.toml").write_text(
        f'[server]\nport = 0\nadmin_token = "{ADMIN_TOKEN}"\ndvr_path = "{place}"\n'
        f'[cluster]\nurl = "{redis_server.url}"\n{shared_channel(*options)}'
    )

    def start(role: str, **variables: str) -> ServerProcess:
        env = {**s3_server.environment(), "HEADWATER_CLUSTER_ROLE": role, **variables}
        return start_server("--config", str(tmp_path / "headwater.toml"), cwd=tmp_path, env=env)

    maker, edge = start("packager", HEADWATER_SERVER_DATA=str(tmp_path / "data")), start("edge")
    every = [maker, edge]
    wait_for(lambda: all(map(plays, every)), "the channel")
    now = time.time()
    programme = {"id": "show", "start": now - 1, "end": now + SECONDS, "title": "Show"}
    url = f"{edge.url}/live/shared/programmes"
    assert httpx.put(url, json=[programme], headers=BEARER, timeout=CLIENT_SECONDS).status_code == 200
    for one in every:
        wait_for(lambda one=one: "EVENT" in get(one, "source/media.m3u8").text, "the programme")  # type: ignore[misc]
    wait_for(lambda: all(map(is_recording, every)), "its recording, once the DVR has nothing of it", 300)
    # A node that never had its segments says the same.
    assert edge.stop() == 0
    every = [maker, start("edge")]
    wait_for(lambda: all(map(plays, every)) and is_recording(every[1]), "a node that comes later")
    for name in NAMES:
        made, other = (get(one, name) for one in every)
        assert (made.status_code, other.status_code) == (200, 200), name
        assert made.url.path == other.url.path
        assert (made.content, made.headers["etag"]) == (other.content, other.headers["etag"]), name
    (tmp_path / "clip.mp4").write_bytes(get(every[1], "clip.mp4").content)
    shown = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", "clip.mp4"]
    done = subprocess.run(
        ["ffprobe", *shown], cwd=tmp_path, check=True, capture_output=True, timeout=CLIENT_SECONDS
    )
    assert float(done.stdout) == pytest.approx(SECONDS + 1, abs=0.2)
    assert not done.stderr
    assert [one.stop() for one in every] == [0, 0]
    assert all("Traceback" not in one.text() for one in [*every, edge])


def test_where_other_nodes_lack_recordings_that_is_said_at_the_start() -> None:
    channel = {"name": "one", "source": "publish", "record": "programmes"}
    sections = {
        "server": {"data": "data", "dvr_path": "s3://bucket/dvr"},
        "cluster": {"url": "redis://127.0.0.1"},
    }
    said = list(unserved(validate({"live": [channel], **sections}, "a test")))
    reason = "without recordings_copy only the node that made a recording serves it"
    assert said == [f"live 'one': record: {reason}"]
    copied = {**channel, "recordings_copy": "s3://bucket/copies"}
    assert not list(unserved(validate({"live": [copied], **sections}, "a test")))
    assert not list(unserved(validate({"live": [channel], "server": {"data": "data"}}, "a test")))
