"""Servers that are nodes of a cluster: the same answers from each, and a standby that takes over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from origin.config.load import load
from origin.config.options import ConfigError
from origin.config.warnings import unserved
from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import (
    follow_round_robin,
    get,
    next_number,
    nodes,
    owns,
    playlist,
    plays,
    post,
    segments,
    shared_channel,
)
from tests.redis_server import RedisServer
from tests.waiting import wait_for

EVENTS = """
[[events]]
name = "chat"
history = "1h"
"""


def is_live(one: ServerProcess) -> bool:
    return bool(get(one, "/health").json()["services"]["live/shared"] == "live")


def patient_playlist(one: ServerProcess, number: int) -> str:
    """Wait for a segment as players do, who ask again where it takes longer than three target durations."""
    answer = get(one, f"/live/shared/source/media.m3u8?_HLS_msn={number}")
    assert answer.status_code in (200, 503)
    return answer.text if answer.status_code == 200 else ""


def newest_number(text: str) -> int:
    """Give the number of the segment that a playlist's last part belongs to."""
    newest = [line for line in text.splitlines() if line.startswith("#EXT-X-PART:")][-1]
    return int(newest.partition('URI="')[2].partition(".")[0])


def settled(one: ServerProcess, token: str, metadata: dict[str, str]) -> int:
    """Publish metadata, again where the owner doesn't answer in time; return the status of the answer."""

    def status() -> int:
        found = post(one, "metadata", token, metadata).status_code
        return 0 if found == 503 else found

    return wait_for(status, "an answer of the owner")


def test_nodes_serve_the_same_and_a_standby_takes_over(tmp_path: Path, redis_server: RedisServer) -> None:
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", "edge") as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        packagers, edges = every[:2], every[2:]
        (told,) = get(edges[0], "/api/live").json()
        assert (told["name"], told["state"]) == ("shared", "live")
        # Who isn't the owner serves the channel before its own source has given anything.
        wait_for(lambda: all(map(is_live, every)), "every source")
        wait_for(lambda: sum(map(owns, packagers)) == 1, "an owner")
        # A finished segment, its parts and what leads to it are the same everywhere.
        listed = segments(playlist(edges[0]))[-1]
        number = listed.partition(".")[0]
        for path in ("master.m3u8", f"source/{listed}", f"audio/{listed}", f"source/{number}.0.m4s"):
            wait_for(lambda: _same(every, f"/live/shared/{path}"), path)  # noqa: B023
        wait_for(lambda: _same(every, f"/live/shared/source/media.m3u8?_HLS_msn={number}"), "a playlist")
        follow_round_robin([one.url for one in every], 4)
        owner = next(one for one in packagers if owns(one))
        standby = next(one for one in packagers if one is not owner)
        for name, one in (("by-standby", standby), ("by-edge", edges[0]), ("by-other-edge", edges[1])):
            assert settled(one, "wrong", {"id": "refused"}) == 401
            assert settled(one, ADMIN_TOKEN, {"id": name}) == 201
            assert f'ID="{name}"' in playlist(owner)
        assert "refused" not in playlist(owner)
        # The wrong key was answered there, too.
        assert 'headwater_cluster_commands_total{outcome="answered"} 2.0' in get(edges[0], "/metrics").text
        assert post(edges[0], "metadata", ADMIN_TOKEN, {"id": "9" * (70 << 10)}).status_code == 413
        assert post(edges[0], "captions/de", ADMIN_TOKEN, {}).status_code == 415
        # §6.2.5.2: what is two segments beyond the newest part may be waited for, and no more.
        before = newest_number(playlist(edges[0]))
        owner.process.kill()
        # Who waits at an edge gets what the standby goes on with.
        wait_for(
            lambda: "#EXT-X-DISCONTINUITY" in patient_playlist(edges[0], before + 2),
            "the segment behind the takeover",
        )
        wait_for(lambda: owns(standby), "the standby's lease")
        left = [standby, *edges]
        wait_for(lambda: _same(left, f"/live/shared/source/{before + 2}.m4s"), "the next segment")
        follow_round_robin([one.url for one in left], 3)
        assert post(edges[0], "end", "wrong").status_code == 401
        assert "#EXT-X-ENDLIST" not in playlist(standby)
        ended = post(edges[0], "end", ADMIN_TOKEN)
        assert ended.status_code in (200, 202)
        assert ended.json()["state"] == "ended"
        wait_for(lambda: "#EXT-X-ENDLIST" in playlist(standby), "the end")
        # No key of a request is written down, wherever it came by.
        assert all(ADMIN_TOKEN not in "".join(one.output) for one in left)


def _same(every: list[ServerProcess], path: str) -> bool:
    answers = [get(one, path) for one in every]
    assert all(one.status_code == 200 for one in answers), [one.status_code for one in answers]
    return len({(one.content, one.headers.get("etag")) for one in answers}) == 1


def test_a_frozen_owner_is_fenced_and_nodes_outlive_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    with nodes(tmp_path, redis_server, "all", "all") as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        owner, other = sorted(every, key=owns, reverse=True)
        owner.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: owns(other), "the other's lease")
        owner.process.send_signal(signal.SIGCONT)
        wait_for(lambda: not owns(owner), "the fence")
        wait_for(lambda: _level(every), "the other's log on both")
        redis_server.kill()
        try:
            wait_for(lambda: all("cluster" in _troubles(one) for one in every), "the trouble")
            assert all(map(plays, every))
            refused = post(owner, "metadata", ADMIN_TOKEN, {})
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            playlist(other, f"?_HLS_msn={next_number(playlist(other)) + 1}")  # its owner stays live
        finally:
            redis_server.start()
        wait_for(lambda: not any("cluster" in _troubles(one) for one in every), "Redis")
        wait_for(lambda: _level(every), "what Redis missed")


def _troubles(one: ServerProcess) -> dict[str, str]:
    found: dict[str, str] = get(one, "/health").json().get("troubles", {})
    return found


def _level(every: list[ServerProcess]) -> bool:
    """Tell whether all nodes have the newest whole segment of the first one, and the same."""
    listed = segments(playlist(every[0]))[-1]
    answers = [get(one, f"/live/shared/source/{listed}") for one in every]
    return {one.status_code for one in answers} == {200} and len({one.content for one in answers}) == 1


@pytest.mark.parametrize(
    ("key", "value"), [("url", "http://127.0.0.1"), ("role", "leader"), ("roles", "edge")]
)
def test_a_wrong_option_is_told(tmp_path: Path, key: str, value: str) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text(f"[cluster]\n{key} = {json.dumps(value)}\n")
    with pytest.raises(ConfigError, match=rf"cluster\.{key}"):
        load(config, {}, {})


def test_what_no_other_node_could_serve_is_told(tmp_path: Path) -> None:
    config, channel = tmp_path / "headwater.toml", shared_channel('dvr = "2h"')
    config.write_text(f'[cluster]\nurl = "redis://127.0.0.1"\n{channel}{EVENTS}')
    told = [*unserved(load(config, {}, {}))]
    assert told == [
        "live 'shared': dvr: nodes of a cluster serve a DVR in server.dvr_path alone",
        "events 'chat': history: what the nodes of a cluster share is kept in Redis",
    ]


def test_without_the_extra_a_cluster_is_refused_in_a_line(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['redis'] = None\n"
        "sys.argv = ['headwater', 'serve', '--port', '0']\n"
        "from origin.cli.main import main\nmain()"
    )
    env = {"HEADWATER_CLUSTER_URL": "redis://127.0.0.1:1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "install headwater[cluster]" in done.stdout + done.stderr
