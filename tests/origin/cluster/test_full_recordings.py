"""Recordings of a station have a bound, on a disk and in S3: who asks for more is refused, and told why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ServerProcess, start_server
from tests.e2e.station_tones import tone
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.recorded_stations import (
    HERTZ,
    begin_of,
    get,
    keep,
    listed,
    recording_nodes,
    recordings,
    wait_for_recording,
)
from tests.redis_server import RedisServer
from tests.s3_server import S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

STATION = 'folder = "music"\ndvr = "1h"\nrecordings = "1s"\nrecordings_size = "20000"'
"""A station whose recordings may have three seconds."""


@pytest.fixture(params=["on a disk", "in S3"])
def nodes(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, s3_server: S3Server
) -> Iterator[list[ServerProcess]]:
    """Serve a station by itself, or by the nodes of a cluster, of which the last one keeps nothing."""
    if request.param == "in S3":
        with recording_nodes(tmp_path, redis_server, s3_server.environment(), STATION) as cluster:
            yield [cluster.start("one"), cluster.start("edge", "edge", data=False)]
        return
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "tone.mp3").write_bytes(tone(HERTZ, 60, title="A tone"))
    head = f'[server]\nport = 0\nadmin_token = "{ADMIN_TOKEN}"\ndata = "data"\n'
    station = f'[[radio]]\nname = "fm"\nbitrate = 64\nhls_bitrates = [48]\n{STATION}\n'
    (tmp_path / "headwater.toml").write_text(head + station)
    one = start_server(cwd=tmp_path)
    yield [one]
    assert one.stop() == 0
    assert "Traceback" not in one.text()


def test_pinned_recordings_of_a_station_have_a_bound_and_never_go_by_age(nodes: list[ServerProcess]) -> None:
    wait_for(lambda: all(len(listed(one)) > 3 for one in nodes), "the station")
    start = begin_of(listed(nodes[-1])[0]) + 0.5
    assert keep(nodes[-1], start, start + 5, "First").status_code in (201, 202)
    wait_for_recording(nodes, "First")
    refused = keep(nodes[-1], start, start + 5, "Second")
    assert (refused.status_code, "recordings_size" in refused.text) == (507, True), refused.text

    def trouble() -> str:
        return " ".join(get(nodes[0], "/health").json().get("troubles", {}).values())

    wait_for(lambda: "recordings_size" in trouble(), "the reason", 120)
    assert [*recordings(nodes[-1])] == ["First"], "it is older than they are kept"
