"""Signed addresses of playlists: a token is valid for all that a playlist leads to, and for nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

import httpx
import pytest

from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import ADMIN, put
from tests.waiting import wait_for

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
CLIPS = {
    "clips": [
        {"path": "titel.720p.mp4", "start": 0.5, "end": 3},
        {"path": "more films/other.mp4", "end": 2},
    ]
}
SUBTITLES = "1\n00:00:00,000 --> 00:00:06,000\nHallo\n"
VOD = {
    "a film": "film.mp4",
    "a title": "titel",
    "a playlist of clips": "two.playlist.json",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    private = folder / "library" / "private"
    (private / "more films").mkdir(parents=True)
    copy = ["ffmpeg", "-v", "error", "-i", str(film()), "-t", "8", "-c", "copy", str(private / "film.mp4")]
    subprocess.run(copy, check=True, timeout=CLIENT_SECONDS)
    for name in ("titel.720p.mp4", "titel.240p.mp4", "other.mp4", "more films/other.mp4"):
        shutil.copy(private / "film.mp4", private / name)
    (private / "titel.de.srt").write_text(SUBTITLES)
    (private / "two.playlist.json").write_text(json.dumps(CLIPS))
    opened = {"clips": [{"path": "private/film.mp4", "end": 2}]}
    (folder / "library" / "open.playlist.json").write_text(json.dumps(opened))
    (folder / "headwater.toml").write_text(
        '[server]\nport = 0\ndata = "data"\n[library]\npath = "library"\nfolders = { "private" = "signed" }\n'
        + copied_channel("a", 'dvr = "10m"', 'access = "signed"', "segment_duration = 1.0")
        + copied_channel("kept", 'dvr = "10m"', 'recordings_access = "signed"', "segment_duration = 1.0")
        + copied_channel("shown", 'dvr = "10m"', 'access = "signed"', 'recordings_access = "open"')
    )
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with start_server(cwd=folder) as running:
        yield running


def signed(server: ServerProcess, path: str, *, clips: bool = False) -> str:
    """Return the address with a token that the administrator gets of the server."""
    body = {"path": path, "for": "1h", "clips": clips}
    answer = httpx.post(f"{server.url}/api/sign", json=body, headers=ADMIN, timeout=CLIENT_SECONDS)
    return str(answer.raise_for_status().json()["url"])


def references(url: str, text: str) -> set[str]:
    """Return the addresses that a playlist or a manifest names."""
    if not text.startswith("<"):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {urljoin(url, one) for one in (*lines, *re.findall(r'URI="([^"]+)"', text))}
    found = set[str]()
    for representation in ElementTree.fromstring(text).iter(f"{MPD}Representation"):
        base = urljoin(url, representation.findtext(f"{MPD}BaseURL", ""))
        for one in representation.iter():
            names = (one.get("media"), one.get("sourceURL"), one.get("initialization"))
            number = one.get("startNumber", "1")
            found |= {urljoin(base, name.replace("$Number$", number)) for name in names if name}
    return {one for one in found if "$" not in one}


def walk(client: httpx.Client, url: str, prefix: str) -> int:
    """Fetch an address and all that it leads to, which lies beneath a prefix; return how many there are."""
    waiting, seen = {url}, set[str]()
    while waiting:
        seen.add(one := waiting.pop())
        answer = client.get(one, follow_redirects=True)
        assert answer.status_code == 200, (one, answer.text)
        assert str(answer.url).startswith(prefix), "no address leads out of the token's path"
        if answer.text[:7] == "#EXTM3U" or str(answer.url).endswith(".mpd"):
            waiting |= references(str(answer.url), answer.text) - seen
    return len(seen)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=CLIENT_SECONDS, default_encoding="latin-1") as client:
        yield client


@pytest.mark.promise("POST /api/sign")
@pytest.mark.parametrize("name", VOD.values(), ids=VOD)
@pytest.mark.parametrize("list_name", ["master.m3u8", "manifest.mpd"])
def test_a_token_of_a_playlist_is_valid_for_all_that_it_leads_to(
    server: ServerProcess, client: httpx.Client, name: str, list_name: str
) -> None:
    path = f"/vod/private/{name}/{list_name}"
    url = signed(server, path)
    token = url.removesuffix(path)
    assert walk(client, url, f"{token}/vod/private/") > 4
    for other in ("film.mp4", "titel", "two.playlist.json", "other.mp4"):
        status = client.get(f"{token}/vod/private/{other}/master.m3u8").status_code
        assert status == (200 if other == name else 403), other
    assert client.get(f"{token}/media/private/titel.720p.mp4").status_code == 403


def test_a_playlist_of_clips_gives_away_the_clips_and_not_their_films(
    server: ServerProcess, client: httpx.Client
) -> None:
    path = "/vod/private/two.playlist.json/master.m3u8"
    url = signed(server, path)
    for track in ("video", "audio"):
        playlist = url.replace("master", f"{track}/media")
        named = references(playlist, client.get(playlist).text)
        first = min(one for one in named if "/0/" in one and not one.endswith("init.mp4"))
        assert client.get(first).status_code == 200
        for other in (
            first.replace("/0/", "/1/"),
            re.sub(r"/[^/]+\.m4s$", "/3.m4s", first),
            first.replace(f"/0/{track}/", "/0/none/"),
        ):
            assert client.get(other).status_code == 404, "the rest of a film isn't in a clip"
    assert client.get(url.replace("master.m3u8", "0/master.m3u8")).status_code == 404
    assert client.get(url.replace("master.m3u8", "9/video/init.mp4")).status_code == 404


def test_a_playlist_of_clips_for_everybody_has_none_of_a_film_that_needs_a_token(
    server: ServerProcess, client: httpx.Client
) -> None:
    playlist = f"{server.url}/vod/open.playlist.json/video/media.m3u8"
    named = references(playlist, client.get(playlist).text)
    assert {client.get(one).status_code for one in named} == {403}


def record(server: ServerProcess, channel: str) -> str:
    """Have the past of a channel kept, once there is some; return the recording's identifier."""
    address = f"{server.url}/live/{channel}/recordings"

    def kept() -> str:
        span = {"start": "now-3s", "end": "now-1s", "title": "Kept"}
        answer = httpx.post(address, json=span, headers=ADMIN, timeout=CLIENT_SECONDS)
        return str(answer.json()["recording"]["id"]) if answer.status_code == 201 else ""

    return wait_for(kept, "a recording")


def test_a_token_of_a_channels_recording_programme_or_span_is_valid_for_what_it_leads_to(
    server: ServerProcess, client: httpx.Client
) -> None:
    recording = record(server, "a")
    now = time.time()
    assert put(server, [{"id": "on", "start": now - 2, "end": now + 900}]).status_code == 200
    for path, query in (
        (f"/live/a/recordings/{recording}", ""),
        ("/live/a", "?programme=on"),
        ("/live/a", f"?start={now - 2:.0f}&end={now:.0f}"),
        ("/live/a", "?start=-10"),
    ):
        for name in ("master.m3u8", "manifest.mpd"):
            url = signed(server, f"{path}/{name}{query}")
            token = url.partition("/live/")[0]
            # A live manifest names its segments by templates alone.
            assert walk(client, url, f"{token}{path}/") > 2 * (name == "master.m3u8"), url
    token = signed(server, f"/live/a/recordings/{recording}/master.m3u8").partition("/live/")[0]
    assert client.get(f"{token}/live/a/master.m3u8").status_code == 403
    # The page finds the recording by its token, and nothing else of the channel.
    (item,) = client.get(f"{token}/api/item/live/a/{recording}").json()
    assert (item["hls"], [one["id"] for one in item["recordings"]]) == (None, [recording])
    assert client.get(f"{token}/api/item/live/a").status_code == 401
    assert client.get(f"{server.url}/api/item/live/a/{recording}").status_code == 401


@pytest.mark.promise("live.recordings_access")
def test_a_channels_recordings_have_an_access_of_their_own(
    server: ServerProcess, client: httpx.Client
) -> None:
    kept, shown = record(server, "kept"), record(server, "shown")
    for channel, recording, status in (("kept", kept, 200), ("shown", shown, 403)):
        live, own = f"/live/{channel}/master.m3u8", f"/live/{channel}/recordings/{recording}/master.m3u8"
        assert client.get(server.url + live).status_code == status
        assert client.get(server.url + own).status_code == (403 if status == 200 else 200)
        url = signed(server, own)
        assert walk(client, url, url.removesuffix("master.m3u8")) > 2
    (listed,) = client.get(f"{server.url}/api/item/live/kept").json()
    assert (listed["hls"], listed["recordings"]) == ("/live/kept/master.m3u8", [])
    assert client.get(f"{server.url}/api/live/kept/recordings").status_code == 401
    (item,) = client.get(f"{server.url}/api/item/live/shown/{shown}").json()
    assert (item["hls"], [one["id"] for one in item["recordings"]]) == (None, [shown])
    assert [one["id"] for one in client.get(f"{server.url}/api/live/shown/recordings").json()] == [shown]
