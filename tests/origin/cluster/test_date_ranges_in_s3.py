"""Date ranges of what has left a cluster's live playlist: all nodes say the same, over a takeover too."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import m3u8
import pytest

from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import get, nodes, owns, playlist, plays, post, segments, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

BEHIND = 6
"""How many segments behind the newest one a date range may begin."""

STORED_SECONDS = 3
"""How long a segment has left the list when it is taken for stored: a kill of its owner can't undo that."""

AD = {"id": "ad", "planned_duration": 90}
NODES = ("packager", "packager", "edge")


def test_every_node_tells_the_date_ranges_of_a_span_over_a_takeover(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/ranges")
    monkeypatch.setenv("HEADWATER_SERVER_ADMIN_TOKEN", ADMIN_TOKEN)
    channel = shared_channel('dvr = "1h"', 'playlist_window = "1s"')
    with nodes(tmp_path, redis_server, *NODES, channels=channel) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        began = _date(every[2]) + 0.5
        assert post(every[2], "metadata", ADMIN_TOKEN, {"id": "short", "duration": 1}).status_code == 201
        assert post(every[2], "metadata", ADMIN_TOKEN, AD).status_code == 201
        last = segments(playlist(every[2]))[-1]
        wait_for(lambda: all(_has_left(one, last) for one in every), "the ranges have left the list")
        span = f"/live/shared/source/media.m3u8?start={began:.3f}&end={_date(every[2]) - STORED_SECONDS:.3f}"
        before = wait_for(lambda: _same(every, span), "what all know")
        assert _told(before) == ["short", "ad"]

        owner = next(one for one in every if owns(one))
        left = [one for one in every if one is not owner]
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        wait_for(lambda: sum(map(owns, left)) == 1, "the standby's lease")
        assert _same(left, span) == before
        wait_for(lambda: all(map(plays, left)), "the channel again")
        began = _date(left[1]) + 0.5
        late = {"id": "late", "duration": 1}
        wait_for(lambda: post(left[1], "metadata", ADMIN_TOKEN, late).status_code == 201, "the owner")
        last = segments(playlist(left[1]))[-1]
        wait_for(lambda: all(_has_left(one, last) for one in left), "it has left the list")
        later = f"/live/shared/source/media.m3u8?start={began:.3f}&end={_date(left[1]) - 1:.3f}"
        again = wait_for(lambda: _same(left, later), "what all know")
        assert _told(again) == ["ad", "late"], "one goes on"
        assert _same(left, span) == before
        assert all("Traceback" not in one.text() for one in every)


def _same(every: list[ServerProcess], path: str) -> str:
    """Return what all nodes say of a span; nothing while one of them says another thing."""
    answers = [get(one, path) for one in every]
    texts = {(one.text, one.headers.get("etag")) for one in answers}
    return texts.pop()[0] if len(texts) == 1 else ""


def _told(text: str) -> list[str]:
    return re.findall(r'^#EXT-X-DATERANGE:ID="([a-z]+)"', text, re.MULTILINE)


def _date(one: ServerProcess) -> float:
    found = m3u8.loads(playlist(one)).segments[0].program_date_time
    assert found is not None
    return float(found.timestamp())


def _has_left(one: ServerProcess, name: str) -> bool:
    """Return whether a segment has left a node's playlist, and some behind it."""
    return int(segments(playlist(one))[0].partition(".")[0]) > int(name.partition(".")[0]) + BEHIND
