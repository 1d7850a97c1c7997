"""Signed addresses of a film and a live channel, played through an nginx that checks their tokens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx
import m3u8
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route

from origin.access.address_tokens import SigningKeys
from tests.cdn.caches import Cache, running
from tests.cdn.conftest import OLD
from tests.clients.vlc import Vlc
from tests.conftest import ServerProcess, start_server
from tests.copied_channel import copied_channel, film
from tests.e2e.conftest import new_page
from tests.e2e.watching import Watching
from tests.fork_server import run_headwater
from tests.keys import ADMIN_TOKEN
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e
in_session = pytest.mark.asyncio(loop_scope="session")

KEY = "2026-11:a-secret-of-the-tests"
FILM, LIVE = "/vod/private/film.mp4", "/live/demo"
RECEIVED = "/vod/private/received.mp4/master.m3u8"
"""A copy of the film, for which nobody else asks."""

FILM_SECONDS = 24
EXPIRED = "the token has expired"

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"

VIDEO = """
Object.assign(window, { troubles: [], stalls: 0, latency: () => 0 });
video.onerror = () => troubles.push(video.error.message);
video.src = MANIFEST;
"""
HLSJS = """
Object.assign(window, { troubles: [], stalls: 0, latency: () => 0 });
const { default: Hls } = await import("https://player.example/hls.mjs");
window.player = new Hls();
player.on(Hls.Events.ERROR, (_, data) => {
  if (!data.fatal) return;
  if (data.response?.code === 403) troubles.push(`403 ${data.networkDetails.responseText}`);
  // A busy machine has a live playlist late.
  else setTimeout(() => player.loadSource(MANIFEST), 1000);
});
player.loadSource(MANIFEST);
player.attachMedia(video);
"""
SHAKA = """
Object.assign(window, { troubles: [], stalls: 0, latency: () => 0 });
window.player = new shaka.Player();
const note = ({ data = [] }) => troubles.push(`${data[1]} ${data[2]}`);
player.addEventListener("error", ({ detail }) => note(detail));
player.attach(video).then(() => player.load(MANIFEST)).catch(note);
"""


PLAYED = "video.played.length > 0 && video.played.end(video.played.length - 1) - video.played.start(0) > 1"


class Playing(NamedTuple):
    """A player in a browser, and what it plays.

    Attributes:
        signed: path for which its token is signed.
        quotes: whether it passes on the text of a refusal.
    """

    package: str | None
    start: str
    path: str
    signed: str
    quotes: bool = True


MEDIA = "/media/private/film.mp4"
PLAYERS = {
    "a plain video": Playing(None, VIDEO, MEDIA, MEDIA, quotes=False),
    "hls.js": Playing(None, HLSJS, f"{FILM}/master.m3u8", FILM),
    "hls.js, live": Playing(None, HLSJS, f"{LIVE}/master.m3u8", LIVE),
    "Shaka": Playing("shaka-player", SHAKA, f"{FILM}/manifest.mpd", FILM),
}


@dataclass(frozen=True)
class Front:
    """A server behind its nginx."""

    server: ServerProcess
    cache: Cache
    config: Path

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.cache.address)

    def signed(self, path: str, name: str) -> str:
        """Return an address that a viewer of this name is given, as the site's backend gets it."""
        answer = httpx.post(
            f"{self.server.url}/api/sign",
            json={"path": path, "for": "1h", "name": name},
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            timeout=CLIENT_SECONDS,
        )
        return f"{self.url}{urlsplit(answer.raise_for_status().json()['url']).path}"

    def expired(self, path: str, signed: str) -> str:
        """Return the address of somebody whose token has expired."""
        token = SigningKeys([KEY]).sign(signed, int(time.time()) - 60, "carla")
        return f"{self.url}/t/{token}{path}"

    def asked(self, since: int = 0) -> list[tuple[str, int]]:
        """Return the paths, without their tokens, and the statuses of all requests to nginx that are over."""
        log = (self.cache.log.parent / "access.log").read_text("utf-8")
        found = re.findall(r'"GET ([^" ]+)" (\d+) ', log)
        return [(path, int(status)) for path, status in found[since:]]

    def fetched(self) -> Counter[str]:
        """Return how often nginx got each path from the server."""
        lines = (json.loads(line) for line in self.server.output if line.startswith("{"))
        requests = (line for line in lines if line["event"] == "request")
        return Counter(line["path"] for line in requests if line["status"] == 200)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("signed")
    private = folder / "library" / "private"
    private.mkdir(parents=True)
    words = ["-i", str(film()), "-t", str(FILM_SECONDS), "-c", "copy", "-movflags", "+faststart"]
    subprocess.run(
        ["ffmpeg", "-v", "error", *words, str(private / "film.mp4")], check=True, timeout=CLIENT_SECONDS
    )
    os.utime(private / "film.mp4", (OLD, OLD))
    (private / "received.mp4").hardlink_to(private / "film.mp4")
    config = folder / "headwater.toml"
    config.write_text(
        f'[access]\nkeys = ["{KEY}"]\ncache = "front"\n[library]\npath = "library"\naccess = "signed"\n'
        '[log]\nrequests = true\nformat = "json"\n[server]\ntrusted_proxies = ["127.0.0.1"]\n'
        + copied_channel("demo", 'access = "signed"')
    )
    server = start_server("--config", str(config), "--port", "0")
    try:
        with running("signed", server.url, tmp_path_factory.mktemp("nginx")) as cache:
            front = Front(server, cache, config)
            playlist = front.signed(f"{LIVE}/source/media.m3u8", "anna")
            wait_for(lambda: httpx.get(playlist, timeout=CLIENT_SECONDS).is_success, "the live channel")
            yield front
    finally:
        assert server.stop() == 0


@pytest_asyncio.fixture(loop_scope="session")
async def watching(browser: Browser) -> AsyncIterator[Watching]:
    page = await new_page(browser)

    async def send_hls_js(route: Route) -> None:
        fields = {"access-control-allow-origin": "*"}
        await route.fulfill(path=HLS_JS, content_type="text/javascript", headers=fields)

    await page.route("https://player.example/hls.mjs", send_hls_js)
    yield Watching(page)
    await page.close()


@in_session
@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_player_in_a_browser_plays_and_seeks_until_its_token_expires(
    watching: Watching, front: Front, kind: str
) -> None:
    package, start, path, signed, quotes = PLAYERS[kind]
    await watching.play(package, start, front.signed(path, "anna"))
    await watching.until(PLAYED)
    if signed != LIVE:
        await watching.page.evaluate("void (video.currentTime = video.duration - 2)")
        await watching.until("video.ended")
        await watching.page.evaluate("void (video.currentTime = 4, video.play())")
        await watching.until("!video.ended && video.currentTime > 4.5")
    refusal = f"403 {EXPIRED}" if quotes else ""
    refusals = f"troubles.filter((one) => one.startsWith('{refusal}')).length"
    assert await watching.page.evaluate(refusals) == 0
    await watching.load(package, start, front.expired(path, signed))
    await watching.until(refusals)
    facts = await watching.facts()
    assert (facts["time"], facts["frames"]) == (0, 0)


def test_vlc_plays_until_its_token_expires(front: Front) -> None:
    master = f"{FILM}/master.m3u8"
    printed = run_headwater("sign", master, "--for", "1h", "--config", front.config).stdout
    with playing_vlc(front.url + urlsplit(printed.strip()).path) as vlc:
        wait_for(lambda: vlc.number("get_time") > 1, "VLC's second second")
    before = len(front.asked())
    with playing_vlc(front.expired(master, FILM)) as vlc:
        wait_for(lambda: (master, 403) in front.asked(before), "VLC's request")
        assert vlc.number("get_time") == 0


@contextlib.contextmanager
def playing_vlc(address: str) -> Iterator[Vlc]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        vlc = Vlc(address, Path(name))
        try:
            yield vlc
        finally:
            vlc.stop()


def received(address: str) -> tuple[int, str, str]:
    """Have ffmpeg play: like a television it sends no cookie, no Referer and no Origin.

    Returns:
        Its exit status, the hashes of all pictures and of all sounds, and what it complains about.
    """
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", address, "-f", "streamhash", "-"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CLIENT_SECONDS)
    return done.returncode, done.stdout, done.stderr


def named(address: str) -> set[str]:
    """Return the path of a master playlist and the paths of all that it names, without their token."""
    found, left = set[str](), [address]
    while left:
        url = left.pop()
        found.add(re.sub("^/t/[^/]+", "", urlsplit(url).path))
        if url.endswith(".m3u8"):
            text = httpx.get(url, timeout=CLIENT_SECONDS).raise_for_status().text
            playlist = m3u8.loads(text)
            parts = [*playlist.playlists, *playlist.media, *playlist.segments, *playlist.segment_map]
            left += [urljoin(url, part.uri) for part in parts]
    return found


def test_receivers_with_different_tokens_get_one_copy_of_what_the_master_names(front: Front) -> None:
    anna, bertha = (received(front.signed(RECEIVED, name)) for name in ("anna", "bertha"))
    assert (anna[0], anna[2]) == (0, "")
    assert anna == bertha

    def asked() -> Counter[str]:
        folder = RECEIVED.rpartition("/")[0]
        return Counter(path for path, status in front.asked() if path.startswith(folder) and status < 300)

    addresses = named(front.signed(RECEIVED, "carla"))
    segments = {path for path in addresses if path.endswith(".m4s")}
    wait_for(lambda: {asked()[path] for path in segments} == {2}, "nginx's log")
    assert asked().keys() <= addresses
    wait_for(lambda: front.fetched().keys() >= segments, "the server's log")
    assert {front.fetched()[path] for path in segments} == {1}
    status, _, complaint = received(front.expired(RECEIVED, RECEIVED.rpartition("/")[0]))
    assert status != 0
    assert "403 Forbidden" in complaint


def test_viewers_of_the_channel_with_different_tokens_get_one_copy_of_a_segment(front: Front) -> None:
    anna, bertha = (front.signed(f"{LIVE}/source/media.m3u8", name) for name in ("anna", "bertha"))

    def listed() -> list[str]:
        playlist = m3u8.loads(httpx.get(anna, timeout=CLIENT_SECONDS).text)
        return [segment.uri for segment in playlist.segments if segment.uri and not segment.gap_tag]

    name = wait_for(listed, "a segment")[-1]
    first, second = (httpx.get(urljoin(url, name), timeout=CLIENT_SECONDS) for url in (anna, bertha))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert second.headers["x-cache"] == "HIT"
    path = f"{LIVE}/source/{name}"
    wait_for(lambda: front.fetched()[path], "the server's log")
    assert front.fetched()[path] == 1


@pytest.mark.parametrize("kind", PLAYERS)
def test_an_address_whose_token_has_expired_is_refused_with_the_reason(front: Front, kind: str) -> None:
    answer = httpx.get(front.expired(PLAYERS[kind].path, PLAYERS[kind].signed), timeout=CLIENT_SECONDS)
    assert (answer.status_code, answer.text) == (403, f"{EXPIRED}\n")
