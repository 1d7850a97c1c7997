"""S3 and Redis are gone together: owners stay live, caches serve, the rest is 503, and all comes back."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest

from tests.conftest import ServerProcess
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, segments, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

LIVE_WINDOW = 10
"""Segments of a second in a playlist without a DVR."""

AWAY = {"cluster", "library", "DVR"}
"""What an edge tells is troubled while both are gone."""


def test_without_s3_and_redis_owners_stay_live_and_what_is_cached_is_served(
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("cached", "uncached"):
        obstore.put(s3_server.store("library"), f"{name}.bin", name.encode())
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_LIBRARY_PATH", f"s3://{BUCKET}/library")
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/both")
    channels = shared_channel('dvr = "1h"')
    with nodes(tmp_path, redis_server, "packager", "edge", channels=channels) as (packager, edge):
        wait_for(lambda: plays(edge) and owns(packager), "the channel")
        wait_for(lambda: len(segments(playlist(edge))) > LIVE_WINDOW + 2, "a DVR")
        first, second = (_address(name) for name in segments(playlist(edge))[:2])
        wait_for(lambda: _is_read_from_s3(s3_proxy, edge, first), "the first segment from S3")
        cached = {path: get(edge, path).content for path in ("/media/cached.bin", first)}
        uncached = "/media/uncached.bin", second
        with s3_proxy.refusing():
            redis_server.kill()
            try:
                before, newest = segments(playlist(edge)), _newest(packager)
                wait_for(lambda: _newest(packager) > newest + 2, "live media at the owner")
                _assert_only_cached(edge, cached, uncached)
                wait_for(lambda: _knows(edge, uncached), "the edge to know that both are away")
                assert "cluster" in _troubles(packager)
                # What was listed there when Redis went stays.
                listed = segments(playlist(edge))
                assert listed[: len(before)] == before
                assert get(edge, _address(listed[-1])).status_code == 200
            finally:
                redis_server.start()
            wait_for(lambda: _newest(edge) > newest + 2, "what Redis missed, and live media")
            _assert_only_cached(edge, cached, uncached)
        wait_for(lambda: all(get(edge, path).status_code == 200 for path in uncached), "S3")
        wait_for(lambda: not any(map(_troubles, (packager, edge))), "all to be well")
        assert get(edge, uncached[0]).content == b"uncached"
        # What couldn't be stored meanwhile is stored now.
        made = segments(playlist(packager))
        missed = made[made.index(before[-1]) + 1].partition(".")[0]
        wait_for(lambda: _is_stored(s3_server, f"source/{missed}-"), "a segment of then in S3")
        assert all("Traceback" not in one.text() for one in (packager, edge))


def _assert_only_cached(edge: ServerProcess, cached: dict[str, bytes], uncached: tuple[str, ...]) -> None:
    assert {path: get(edge, path).content for path in cached} == cached
    for path in uncached:
        answer = get(edge, path)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


def _knows(edge: ServerProcess, uncached: tuple[str, ...]) -> bool:
    """Ask for what isn't there, and tell whether it is known then why."""
    return all(get(edge, path).status_code == 503 for path in uncached) and set(_troubles(edge)) >= AWAY


def _address(name: str) -> str:
    return f"/live/shared/source/{name}"


def _newest(one: ServerProcess) -> int:
    return int(segments(playlist(one))[-1].partition(".")[0])


def _troubles(one: ServerProcess) -> dict[str, str]:
    found: dict[str, str] = get(one, "/health").json().get("troubles", {})
    return found


def _is_read_from_s3(proxy: S3Proxy, one: ServerProcess, path: str) -> bool:
    assert get(one, path).status_code == 200
    return bool(proxy.asked("GET", f"{path.removeprefix('/live/shared').partition('.')[0]}-"))


def _is_stored(server: S3Server, words: str) -> bool:
    return any(words in one["path"] for one in server.store("both").list().collect())
