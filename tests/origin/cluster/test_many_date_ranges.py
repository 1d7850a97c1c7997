"""More date ranges than a long playlist has room for: a cluster's channel goes on without the last."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from packager.publish.date_ranges import MAX_DATE_RANGES
from tests.conftest import ServerProcess
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.nodes import nodes, owns, playlist, plays, segments, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

AT_ONCE = MAX_DATE_RANGES * 3 // 5
"""How many are published before the packager's own, short playlist has forgotten them."""


def test_a_channel_goes_on_where_its_dvr_has_no_room_for_a_date_range(
    tmp_path: Path, redis_server: RedisServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/ranges")
    channel = f'[server]\nadmin_token = "{ADMIN_TOKEN}"\n' + shared_channel('dvr = "1h"')
    with nodes(tmp_path, redis_server, "packager", "edge", channels=channel) as every:
        owner = every[0]
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: owns(owner), "an owner")
        _publish(owner)
        last = segments(playlist(owner))[-1]
        wait_for(lambda: _count_behind(owner, last) > 16, "the end of the live window")
        _publish(owner)
        wait_for(lambda: len(_ranges(every[1])) == MAX_DATE_RANGES, "as many as there is room for")
        last = segments(playlist(owner))[-1]
        wait_for(lambda: all(_count_behind(one, last) > 2 for one in every), "what comes next")
        for one in every:
            text = playlist(one)
            assert "#EXT-X-DISCONTINUITY\n" not in text
            numbers = [int(name.partition(".")[0]) for name in segments(text)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert len(_ranges(one)) == MAX_DATE_RANGES
            assert "Traceback" not in one.text()


def _publish(owner: ServerProcess) -> None:
    with httpx.Client(timeout=30) as client:
        for _ in range(AT_ONCE):
            answer = client.post(f"{owner.url}/live/shared/metadata?key={ADMIN_TOKEN}", json={})
            assert answer.status_code == 201, answer.text


def _ranges(one: ServerProcess) -> set[str]:
    return set(re.findall(r'#EXT-X-DATERANGE:ID="([^"]+)"', playlist(one)))


def _count_behind(one: ServerProcess, name: str) -> int:
    """Count the segments that a node lists behind one."""
    listed = segments(playlist(one))
    return len(listed) - 1 - listed.index(name)
