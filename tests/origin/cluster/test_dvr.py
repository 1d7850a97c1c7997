"""The DVR of a cluster's channel is in S3: every node serves it, and it outlives owners."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, segments, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for

LIVE_WINDOW = 10
"""Segments of a second in a playlist without a DVR."""


def test_every_node_serves_the_dvr_and_a_takeover_keeps_it(
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/cluster")
    with nodes(
        tmp_path, redis_server, "packager", "packager", "edge", channels=shared_channel('dvr = "1h"')
    ) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        first = segments(playlist(every[0]))[0]
        wait_for(lambda: len(segments(playlist(every[2]))) > LIVE_WINDOW + 2, "a DVR")
        wait_for(lambda: _is_read_from_s3(s3_proxy, every, first), "the first segment from S3")
        assert len({_media(one, first) for one in every}) == 1
        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        before = segments(playlist(every[2]))
        data = {name: _media(every[2], name) for name in before[:4]}
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(owns, left)) == 1, "the standby's lease")
        wait_for(lambda: _newest(left[1]) > int(before[-1][:-4]) + 8, "later segments")
        for one in left:
            listed = segments(playlist(one))
            assert listed[: len(before)] == before
            assert {name: _media(one, name) for name in data} == data
        # What the former owner hadn't stored, the next one stores.
        last = before[-1].partition(".")[0]
        wait_for(lambda: s3_server_has(s3_server, f"source/{last}-"), "the newest segment of before in S3")
        with s3_proxy.refusing():
            unread = before[5]
            refused = get(left[1], f"/live/shared/source/{unread}")
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            assert _media(left[1], before[0]) == data[before[0]]  # it was read before, and is in the cache
            newest = _newest(left[1])
            wait_for(lambda: _newest(left[1]) > newest, "live media")
        wait_for(lambda: get(left[1], f"/live/shared/source/{unread}").status_code == 200, "S3")
        # A packager that nobody has waited for finds in S3 what was there.
        left[0].process.kill()
        left[0].process.wait()
        newest = _newest(left[1])
        every.append(start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path))
        wait_for(lambda: owns(every[-1]), "the lease of a third one")
        wait_for(lambda: _newest(left[1]) > newest + 3, "what it makes")
        for one in (left[1], every[-1]):
            assert segments(playlist(one))[: len(before)] == before
            assert {name: _media(one, name) for name in data} == data
        assert all(SECRET not in one.text() for one in left)
        assert all("Traceback" not in one.text() for one in left)


def _newest(one: ServerProcess) -> int:
    return int(segments(playlist(one))[-1].partition(".")[0])


def _media(one: ServerProcess, name: str) -> bytes:
    answer = get(one, f"/live/shared/source/{name}")
    assert answer.status_code == 200
    return answer.content


def _is_read_from_s3(proxy: S3Proxy, every: list[ServerProcess], name: str) -> bool:
    for one in every:
        _media(one, name)
    return len(proxy.asked("GET", f"/source/{name.partition('.')[0]}-")) >= len(every)


def s3_server_has(server: S3Server, words: str) -> bool:
    return any(words in one["path"] for one in server.store("cluster").list().collect())
