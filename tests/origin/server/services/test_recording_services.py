"""Recordings are copied to the bucket that the configuration names, and any server serves them from there."""

from __future__ import annotations

from pathlib import Path

import httpx
import obstore
import pytest

from tests.conftest import start_server
from tests.packager import films
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, SECRET, S3Proxy, S3Server
from tests.waiting import wait_for


@pytest.mark.promise("live.recordings_copy")
def test_an_event_that_is_over_is_in_the_bucket_and_served_from_there(
    s3_server: S3Server, s3_proxy: S3Proxy, redis_server: RedisServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(films.film("bframes.mp4").read_bytes())
    config = tmp_path / "headwater.toml"
    config.write_text(
        f'[server]\nport = 0\ndata = "{tmp_path}/data"\n[[live]]\nname = "one"\nsource = "{film}"\n'
        f'ladder = ["240p"]\nevent = true\ndvr = "1h"\nrecordings_copy = "s3://{BUCKET}/events"\n'
    )
    server = start_server("--config", str(config), env=s3_server.environment())
    store = s3_server.store("events/one")

    def notes() -> list[str]:
        return [one["path"] for one in store.list().collect() if one["path"].endswith("/recording")]

    try:
        (note,) = wait_for(notes, "the copy's note")
        name = note.partition("/")[0]
        served = httpx.get(f"{server.url}/live/one/recordings/{name}/master.m3u8", timeout=60)
        assert bytes(obstore.get(store, f"{name}/master.m3u8").bytes()) == served.content
        movie = httpx.get(f"{server.url}/live/one/recordings/{name}/event.mp4", timeout=60)
        assert movie.status_code == 200
        assert httpx.get(f"{server.url}/health", timeout=60).json().get("troubles", {}) == {}
    finally:
        server.stop()
    # Without its data folder a server has the recording from the bucket, beside which there are foreign keys.
    for key in ("20260101T000000Z/recording", "20260101T000001Z/x", "recording", "%2e%2e/recording"):
        obstore.put(store, key, b"foreign")
    config.write_text(config.read_text().replace(f'data = "{tmp_path}/data"\n', ""))
    server = start_server("--config", str(config), env=s3_server.environment(s3_proxy.url))
    address = f"{server.url}/live/one/recordings/{name}"
    try:
        wait_for(lambda: httpx.get(f"{address}/master.m3u8", timeout=60).status_code == 200, "the recording")
        (listed,) = httpx.get(f"{server.url}/api/live", timeout=60).json()
        assert [one["id"] for one in listed["recordings"]] == [name]
        assert s3_proxy.asked(f"/events/one/{name}/recording")
        assert not s3_proxy.asked("event.head"), "its metadata are enough"
        assert listed["recordings"][0]["mp4"] == f"/live/one/recordings/{name}/event.mp4"
        copied = httpx.get(f"{address}/event.mp4", timeout=60)
        assert (copied.status_code, copied.content) == (200, movie.content)
        part = httpx.get(f"{address}/event.mp4", headers={"range": "bytes=1000-200999"}, timeout=60)
        assert (part.status_code, part.content) == (206, movie.content[1000:201_000])
        media = httpx.get(f"{address}/240p/media.m3u8", timeout=60).text
        segment = next(line for line in media.splitlines() if line.endswith(".m4s"))
        stored = bytes(obstore.get(store, f"{name}/240p/{segment}").bytes())
        assert httpx.get(f"{address}/240p/{segment}", timeout=60).content == stored
        part = httpx.get(f"{address}/240p/{segment}", headers={"range": "bytes=5-9"}, timeout=60)
        assert (part.status_code, part.content) == (206, stored[5:10])
    finally:
        server.stop()
    # So does a node that makes no channel.
    cluster = {"HEADWATER_CLUSTER_URL": redis_server.url, "HEADWATER_CLUSTER_ROLE": "edge"}
    server = start_server("--config", str(config), env={**s3_server.environment(), **cluster})
    try:
        address = f"{server.url}/live/one/recordings/{name}/240p"
        wait_for(lambda: httpx.get(f"{address}/{segment}", timeout=60).content == stored, "the recording")
    finally:
        server.stop()
    assert "Traceback" not in server.text()
    assert SECRET not in server.text()
