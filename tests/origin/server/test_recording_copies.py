"""A server copies the recordings of its events to the bucket that its configuration names."""

from __future__ import annotations

from pathlib import Path

import httpx
import obstore

from tests.conftest import start_server
from tests.packager import films
from tests.s3_server import BUCKET, SECRET, S3Server
from tests.waiting import wait_for


def test_an_event_that_is_over_is_in_the_bucket(s3_server: S3Server, tmp_path: Path) -> None:
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
        assert httpx.get(f"{server.url}/health", timeout=60).json().get("troubles", {}) == {}
    finally:
        server.stop()
    assert "Traceback" not in server.text()
    assert SECRET not in server.text()
