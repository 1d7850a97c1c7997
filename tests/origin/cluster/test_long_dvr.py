"""A cluster's DVR that is longer than the live playlist: all nodes say the same of its past."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, segments, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

RENDITION = "/live/shared/source"


def test_every_node_says_the_same_of_the_past_over_takeovers_and_restarts(
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/long")
    channel = shared_channel('dvr = "1h"', 'playlist_window = "1s"')
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", channels=channel) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        first = segments(playlist(every[2]))[0]
        began = _date(every[2]) + 0.5
        wait_for(lambda: all(_has_left(one, first, 6) for one in every), "what leaves the playlist")
        span = f"{RENDITION}/media.m3u8?start={began:.3f}&end={began + 4:.3f}"
        wait_for(lambda: all(_is_for_ever(one, span) for one in every), "what doesn't change any more")
        before = _same(every, span)
        assert first in before.text
        media = _same(every, f"{RENDITION}/{first}")
        manifest = _same(every, f"/live/shared/manifest.mpd?start={began:.3f}&end={began + 4:.3f}")
        for name in ("master.m3u8", "clip.mp4", "clip.m4a", "thumbnails.vtt", "source/iframes.m3u8"):
            _same(every, f"/live/shared/{name}?start={began:.3f}&end={began + 4:.3f}")
        _same(every, f"/live/shared/snapshot.jpg?at={began:.3f}")
        for later in (f"start={began:.3f}", f"delay={time.time() - began:.0f}"):
            for name in ("source/media.m3u8", "audio/media.m3u8"):
                wait_for(lambda: _are_same(every, f"/live/shared/{name}?{later}"), name)  # noqa: B023
        _same(every, f"{RENDITION}/{_init_of(before.text)}")

        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(owns, left)) == 1, "the standby's lease")
        killed = segments(playlist(left[1]))[-1]
        wait_for(lambda: all(_has_left(one, killed, 3) for one in left), "what came before the kill")
        for path, answer in ((span, before), (f"{RENDITION}/{first}", media)):
            again = _same(left, path)
            assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])
        until = _date(left[1])
        over = f"{RENDITION}/media.m3u8?start={began:.3f}&end={until:.3f}"
        wait_for(lambda: all(_is_for_ever(one, over) for one in left), "what doesn't change any more")
        whole = _same(left, over)
        listed = [int(one.partition(".")[0]) for one in segments(whole.text)]
        missing = set(range(listed[0], listed[-1] + 1)).difference(listed)
        assert len(missing) <= 12, "what nobody made before the takeover"

        # Once all packagers are gone, another one finds in S3 what was there.
        left[0].process.kill()
        left[0].process.wait()
        every.append(start_server("--config", str(tmp_path / "headwater.toml"), "--port", "0", cwd=tmp_path))
        wait_for(lambda: owns(every[-1]), "the lease of a third one")
        newest = _newest(left[1])
        wait_for(lambda: _newest(every[-1]) > newest, "what it makes")
        both = [left[1], every[-1]]
        for path, answer in ((span, before), (over, whole)):
            again = _same(both, path)
            assert (again.content, again.headers["etag"]) == (answer.content, answer.headers["etag"])
        assert _same(both, manifest.url.raw_path.decode()).content == manifest.content

        with s3_proxy.refusing():
            again = get(left[1], span)
            assert (again.status_code, again.content) == (200, before.content), "it is in memory"
            refused = get(every[-1], f"{RENDITION}/{segments(whole.text)[5]}")
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert all(SECRET not in one.text() for one in every)
        assert all("Traceback" not in one.text() for one in every)


def _same(every: list[ServerProcess], path: str) -> httpx.Response:
    """Ask all nodes; return their answer, which is one."""
    answers = [get(one, path) for one in every]
    assert {one.status_code for one in answers} == {200}, path
    assert len({(one.content, one.headers["etag"]) for one in answers}) == 1, path
    return answers[0]


def _are_same(every: list[ServerProcess], path: str) -> bool:
    """Return whether all nodes have a playlist that goes on in the same state."""
    answers = [get(one, path) for one in every]
    return {one.status_code for one in answers} == {200} and len({one.content for one in answers}) == 1


def _is_for_ever(one: ServerProcess, path: str) -> bool:
    return "immutable" in get(one, path).headers["cache-control"]


def _newest(one: ServerProcess) -> str:
    return max(segments(get(one, f"{RENDITION}/media.m3u8").text), default="")


def _date(one: ServerProcess) -> float:
    found = m3u8.loads(playlist(one)).segments[0].program_date_time
    assert found is not None
    return float(found.timestamp())


def _has_left(one: ServerProcess, name: str, most: int) -> bool:
    """Return whether a segment has left a node's playlist, and so many behind it."""
    return int(segments(playlist(one))[0].partition(".")[0]) > int(name.partition(".")[0]) + most


def _init_of(text: str) -> str:
    found = re.search(r'EXT-X-MAP:URI="([^"?]+)', text)
    assert found is not None
    return found[1]
