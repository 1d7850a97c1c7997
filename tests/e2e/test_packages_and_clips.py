"""Clips, and films that were packaged ahead of time and lie on a plain nginx, in hls.js, dash.js and Shaka.

The film is brighter from second to second, so that a picture tells its time.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route

from tests.cdn.caches import program
from tests.conftest import HEADWATER, start_server
from tests.e2e.conftest import new_page
from tests.e2e.scripts import script
from tests.e2e.test_players import Watching
from tests.packager.films import run_ffmpeg
from tests.ports import kept_port
from tests.processes import end as end_process
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

HLS_JS = Path(__file__).parents[2] / "player" / "vendor" / "hls.min.mjs"
SECONDS = 14
SHADES = 14
"""By how much the luma rises in a second."""

CLIP = (5.5, 9.0)
SEQUENCE = (("film.mp4", 9.5, 12.0), ("small.mp4", 2.3, 5.3), ("film.mp4", 5.0, 8.0))
"""Clips that follow each other, the second one of another size."""

NEAR = 0.1
"""Seconds by which what is read off a picture may be off: a shade lasts 0.07 s, a picture 0.04 s."""

PAGE = """
async ([kind, url]) => {
  document.body.innerHTML = "<video muted width=320></video>";
  window.video = document.querySelector("video");
  Object.assign(window, { troubles: [], stalls: 0, latency: () => 0 });
  if (kind === "hls.js") {
    const { default: Hls } = await import("/hls.mjs");
    window.player = new Hls();
    player.on(Hls.Events.ERROR, (_, data) => data.fatal && troubles.push(data.details));
    player.loadSource(url);
    player.attachMedia(video);
  } else if (kind === "dashjs") {
    window.player = dashjs.MediaPlayer().create();
    player.on("error", event => troubles.push(JSON.stringify(event.error)));
    player.initialize(video, url, false);
  } else {
    window.player = new shaka.Player();
    player.addEventListener("error", event => troubles.push(JSON.stringify(event.detail)));
    await player.attach(video);
    await player.load(url).catch(error => troubles.push(String(error.code)));
  }
}
"""

SHADE = """() => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  canvas.width = canvas.height = 8;
  context.drawImage(video, 0, 0, 8, 8);
  return context.getImageData(4, 4, 1, 1).data[1];
}"""

PLAYERS = ["hls.js", "dashjs", "shaka-player"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "film.mp4"
    picture = f"color=gray:s=160x90:r=25:d={SECONDS},format=yuv420p,geq=lum='16+{SHADES}*T':cb=128:cr=128"
    words = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", f"sine=duration={SECONDS}")
    codec = ("-c:v", "libx264", "-crf", "8", "-bf", "2", "-g", "100", "-c:a", "aac", "-shortest")
    run_ffmpeg(*words, *codec, path)
    run_ffmpeg("-i", path, "-vf", "scale=240:136", "-g", "50", "-c:a", "copy", path.with_name("small.mp4"))
    clips = [{"path": name, "start": begin, "end": end} for name, begin, end in SEQUENCE]
    path.with_name("best.playlist.json").write_text(json.dumps({"clips": clips}))
    return path


@pytest.fixture(scope="module")
def origin(film: Path) -> Iterator[str]:
    server = start_server("--library", str(film.parent), "--port", "0", cwd=film.parent)
    yield f"{server.url}/vod"
    server.stop()


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 mp4 m4s; text/vtt vtt; }}
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@pytest.fixture(scope="module")
def nginx(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A plain nginx with the film in both layouts: ``/segments`` and ``/single-file``."""
    folder = tmp_path_factory.mktemp("nginx")
    root = folder / "www"
    for layout in ("segments", "single-file"):
        argv = [str(HEADWATER), "package", str(film), "--out", str(root / layout)]
        argv += ["--single-file"] * (layout == "single-file")
        subprocess.run(argv, check=True, timeout=120, capture_output=True)
    with kept_port() as port:
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, root=root))
        running = subprocess.Popen([program("nginx", "nginx"), "-c", str(config), "-p", str(folder)])
        try:
            wait_for(lambda: listens(port), what="nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            end_process(running)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.asynccontextmanager
async def opened(browser: Browser, kind: str, url: str) -> Any:
    """Open a page at the address's site with a player that has loaded it."""

    async def give(route: Route) -> None:
        await route.fulfill(path=HLS_JS, content_type="text/javascript")

    page = await new_page(browser)
    await page.route("**/hls.mjs", give)
    await page.goto(f"{url.rpartition('/')[0]}/nothing")
    if kind != "hls.js":
        await page.add_script_tag(path=script(kind))
    await page.evaluate(PAGE, [kind, url])
    watching = Watching(page)
    await watching.until("video.readyState >= 2 || troubles.length")
    yield watching
    await page.close()


async def time_shown(page: Page, at: float) -> float:
    """Seek, and read the film's time off the picture."""
    await page.evaluate("at => void (video.currentTime = at)", at)
    await Watching(page).until("!video.seeking && video.readyState >= 2")
    await page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    # From the middle of what is rounded down twice: to a shade of the film's, and to one of the screen's.
    return float(((await page.evaluate(SHADE) + 0.5) * 219 / 255 + 0.5) / SHADES)


async def assert_plays(browser: Browser, kind: str, url: str, begin: float, end: float) -> None:
    """Play what is to be a film from one time to another: its pictures, its length, and its end."""
    async with opened(browser, kind, url) as watching:
        page = watching.page
        lasts = float(await page.evaluate("video.duration"))
        assert lasts == pytest.approx(end - begin, abs=NEAR)
        for at in (0.04, 1.0, lasts / 2, lasts - 0.5):
            assert await time_shown(page, at) == pytest.approx(begin + at, abs=NEAR)
        await page.evaluate("void video.play()")
        await watching.until("video.ended || troubles.length")
        assert (await watching.facts())["troubles"] == []


def address(kind: str) -> str:
    return "master.m3u8" if kind == "hls.js" else "manifest.mpd"


@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_clip_begins_and_ends_where_it_was_asked_for(
    browser: Browser, origin: str, kind: str
) -> None:
    begin, end = CLIP
    await assert_plays(
        browser, kind, f"{origin}/film.mp4/{address(kind)}?start={begin}&end={end}", begin, end
    )


async def test_shaka_plays_a_clip_in_hls(browser: Browser, origin: str) -> None:
    url = f"{origin}/film.mp4/master.m3u8?start=00:00:06.2"
    await assert_plays(browser, "shaka-player", url, 6.2, SECONDS)


# Not hls.js, whose times are off by two or three pictures behind each discontinuity.
@pytest.mark.parametrize("kind", ["dashjs", "shaka-player"])
async def test_clips_of_several_films_follow_each_other(browser: Browser, origin: str, kind: str) -> None:
    async with opened(browser, kind, f"{origin}/best.playlist.json/{address(kind)}") as watching:
        page = watching.page
        assert float(await page.evaluate("video.duration")) == pytest.approx(8.5, abs=2 * NEAR)
        for at, expected in ((7.5, 7.0), (1.0, 10.5), (4.0, 3.8)):
            assert await time_shown(page, at) == pytest.approx(expected, abs=2 * NEAR)
        await page.evaluate("void (video.currentTime = 1.5)")
        await page.evaluate("void video.play()")
        await watching.until("video.ended || troubles.length")
        assert (await watching.facts())["troubles"] == []


@pytest.mark.parametrize("layout", ["segments", "single-file"])
@pytest.mark.parametrize("kind", PLAYERS)
async def test_a_packaged_film_plays_from_nginx(browser: Browser, nginx: str, kind: str, layout: str) -> None:
    await assert_plays(browser, kind, f"{nginx}/{layout}/film.mp4/{address(kind)}", 0, SECONDS)


async def test_a_single_file_plays_by_itself(browser: Browser, nginx: str) -> None:
    page = await new_page(browser)
    await page.goto(f"{nginx}/nothing")
    url = f"{nginx}/single-file/film.mp4/video/media.mp4"
    await page.evaluate(
        "url => { document.body.innerHTML = `<video muted src=${url}></video>`;"
        " Object.assign(window, {video: document.querySelector('video'), troubles: [], stalls: 0,"
        " latency: () => 0}); }",
        url,
    )
    await Watching(page).until("video.readyState >= 2")
    assert float(await page.evaluate("video.duration")) == pytest.approx(SECONDS, abs=NEAR)
    for at in (12.0, 3.0):
        assert await time_shown(page, at) == pytest.approx(at, abs=NEAR)
    await page.close()
