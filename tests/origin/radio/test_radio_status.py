"""The status beside that of Icecast itself: whoever reads the one can read the other."""

import asyncio
import json
import subprocess
import urllib.request
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from origin.radio.mounts.mount import Mount
from origin.radio.status import status
from tests import icecast
from tests.radio_server import Feed, mount_options
from tests.waiting import until, wait_for


def ask(server: icecast.Icecast) -> dict[str, Any]:
    """Give its status; an empty one while it has no source, when what Icecast sends isn't JSON."""
    with urllib.request.urlopen(f"{server.url}/status-json.xsl", timeout=120) as answer:
        text = answer.read()
    try:
        found: dict[str, Any] = json.loads(text)["icestats"]
    except json.JSONDecodeError:
        return {}
    return found


def icecasts_status() -> dict[str, Any]:
    source = ["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-ac", "2", "-b:a", "128k"]
    words = ["ffmpeg", "-nostdin", "-v", "error", *source, "-content_type", "audio/mpeg", "-f", "mp3"]
    with icecast.running() as server, subprocess.Popen([*words, server.source_url("tone")]) as process:
        try:
            return wait_for(
                lambda: found if "source" in (found := ask(server)) else {}, what="Icecast's source"
            )
        finally:
            process.kill()


@pytest.mark.skipif(not icecast.is_installed(), reason="Icecast isn't installed (Debian: icecast2)")
async def test_the_status_has_all_that_icecasts_has() -> None:
    theirs = await asyncio.to_thread(icecasts_status)
    feed = Feed()
    mount = Mount("tone", feed, mount_options(title="T"))
    running = asyncio.create_task(mount.run())
    feed.push()
    await until(lambda: mount.state == "live")
    ours = json.loads(status({"/radio/tone": mount}, "http://radio.example:8000"))["icestats"]
    running.cancel()
    await asyncio.wait([running])
    (source,) = ours["source"]
    assert set(theirs) <= set(ours)
    assert set(theirs["source"]) <= set(source)
    assert source.keys() >= {"title", "bitrate", "audio_info"}
    for key, value in theirs["source"].items():
        assert isinstance(source[key], type(value)), key
    for key, facts in (("server_start", ours), ("stream_start", source)):
        moment = datetime.strptime(facts[f"{key}_iso8601"], "%Y-%m-%dT%H:%M:%S%z")
        assert parsedate_to_datetime(facts[key]) == moment
    assert ours["host"] == "radio.example"
