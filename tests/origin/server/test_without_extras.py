"""A server that uses neither Redis, S3 nor gRPC imports nothing of their extras, and needs none of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel
from tests.origin.workers.asking import CLIENT_SECONDS, health, ready, spare_of
from tests.packager import films
from tests.waiting import wait_for

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
EXTRAS = ("s3", "cluster", "grpc")

# Found in the place of a module of theirs.
HIDING = """
with open({told!r}, "a") as file:
    print(__name__, file=file)
raise ModuleNotFoundError("hidden: " + __name__, name=__name__)
"""
CONFIG = """
[server]
workers = 2
data = "{folder}/data"

[[live]]
name = "published"
source = "publish"

[[radio]]
name = "one.mp3"
source = "folder"
folder = "{folder}/music"

[[events]]
name = "news"
publish_token = "token"
history = "1h"
include = ["radio/one.mp3", "live/test"]
"""


def needed(requirements: Iterable[str]) -> set[str]:
    """Name what is installed for some requirements, with what those need in turn."""
    found: set[str] = set()
    open_ones = [Requirement(one) for one in requirements]
    while open_ones:
        one = open_ones.pop()
        name = canonicalize_name(one.name)
        is_meant = one.marker is None or any(
            one.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)
        )
        if name not in found and is_meant:
            found.add(name)
            open_ones += map(Requirement, metadata.requires(name) or ())
    return found


def hidden_modules() -> list[str]:
    """Name the modules that are installed for the extras alone."""
    extras = [one for extra in EXTRAS for one in PROJECT["optional-dependencies"][extra]]
    alone = needed(extras) - needed(PROJECT["dependencies"])
    modules = metadata.packages_distributions()
    return sorted(
        one for one, owners in modules.items() if {canonicalize_name(name) for name in owners} <= alone
    )


def read(server: ServerProcess, path: str, most: int = -1) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=CLIENT_SECONDS) as answer:
        data: bytes = answer.read(most) if most >= 0 else answer.read()
        return data


def publish(server: ServerProcess, text: str) -> None:
    fields = {"Authorization": "Bearer token", "Content-Type": "text/plain"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{server.url}/events/news", text.encode(), fields), timeout=CLIENT_SECONDS
    ):
        pass


def test_all_that_one_machine_serves_is_served_without_them(tmp_path: Path) -> None:
    hidden, told = hidden_modules(), tmp_path / "told"
    assert {"redis", "saq", "obstore", "grpc", "grpc_health", "google"} <= {*hidden}
    (tmp_path / "hiding").mkdir()
    for module in hidden:
        (tmp_path / "hiding" / f"{module}.py").write_text(HIDING.format(told=str(told)))
    environment = {"PYTHONPATH": str(tmp_path / "hiding")}
    for module in ("redis.asyncio", "saq", "obstore"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"import {module}"], env=environment, capture_output=True, text=True
        )
        assert f"hidden: {module.partition('.')[0]}" in done.stderr
    assert told.read_text().split() == ["redis", "saq", "obstore"]
    told.unlink()

    for name in ("music", "library"):
        (tmp_path / name).mkdir()
    (tmp_path / "library" / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=30", str(tmp_path / "music" / "tone.mp3")]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *tone], check=True, timeout=300)
    config = tmp_path / "headwater.toml"
    channel = copied_channel("test", "segment_duration = 1.0", 'dvr = "1h"')
    config.write_text(CONFIG.format(folder=tmp_path) + channel)
    options = ("--config", str(config), "--library", str(tmp_path / "library"), "--port", "0")
    server = start_server(*options, env=environment)
    ready(server, 2)
    spare_of(server)
    wait_for(lambda: health(server)["services"].get("live/test") == "live", "the channel")
    wait_for(lambda: health(server)["services"].get("radio/one.mp3") == "live", "the station")
    publish(server, "hello")
    for path in (
        "/",
        "/metrics",
        "/api/library",
        "/api/live",
        "/api/radio",
        "/api/events",
        "/media/film.mp4",
    ):
        assert read(server, path)
    master = read(server, "/vod/film.mp4/master.m3u8").decode()
    assert read(server, "/vod/film.mp4/manifest.mpd")
    for uri in re.findall(r"^[^#\n]+\.m3u8$", master, re.MULTILINE):
        assert b"#EXTINF" in read(server, f"/vod/film.mp4/{uri}")
    assert read(server, "/vod/film.mp4/thumbnails.vtt")
    assert b"#EXTINF" in read(server, "/live/test/source/media.m3u8")
    assert len(read(server, "/radio/one.mp3", 10_000)) == 10_000
    assert b"hello" in read(server, "/events/news?wait=0&since=0")
    assert server.stop() == 0
    assert not told.exists(), f"imported: {told.read_text()}"
