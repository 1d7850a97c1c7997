"""The past of a channel in Chromium: spans as one file show their very pictures wherever a viewer seeks."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import m3u8
import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, start_server
from tests.e2e.timed_film import NEAR, assert_shows, make_timed_film
from tests.e2e.watching import Watching
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ENCODED = "-c:v libx264 -preset ultrafast -g 24 -bf 2 -pix_fmt yuv420p -c:a aac"
FROM, TO = 2.4, 9.1
SHOW = """url => {
  document.body.innerHTML = `<video muted src="${url}"></video>`;
  Object.assign(window, {video: document.querySelector("video"), troubles: [], stalls: 0, latency: () => 0});
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve an event that shows a film whose pictures tell its time."""
    folder = tmp_path_factory.mktemp("past")
    make_timed_film(folder / "film.mp4", "160x96", 24, *ENCODED.split())
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "data"\n[[live]]\nname = "film"\nsource = "{folder / "film.mp4"}"\n'
        'ladder = ["source"]\nevent = true\ndvr = "1h"\nsegment_duration = 2.0\npart_duration = 0.5\n'
    )
    with start_server(cwd=folder) as running:
        wait_for(lambda: playlist(running).is_endlist, "the end of the film")
        yield running


def playlist(server: ServerProcess) -> m3u8.M3U8:
    answer = httpx.get(f"{server.url}/live/film/source/media.m3u8", timeout=CLIENT_SECONDS)
    return m3u8.loads(answer.text if answer.status_code == 200 else "#EXTM3U\n")


async def test_chromium_seeks_in_a_clip_to_the_pictures_of_its_times(
    server: ServerProcess, browser: Browser
) -> None:
    page = await (await browser.new_context()).new_page()
    began = playlist(server).segments[0].program_date_time.timestamp()
    url = f"{server.url}/live/film/clip.mp4?start={began + FROM:.3f}&end={began + TO:.3f}"
    await page.goto(f"{server.url}/nothing")
    await page.evaluate(SHOW, url)
    await Watching(page).until("video.readyState >= 2")
    assert float(await page.evaluate("video.duration")) == pytest.approx(TO - FROM, abs=1 / 24)
    for at in (0.0, 5.5, 1.2, 3.3):
        await assert_shows(page, at, FROM + at, NEAR)
    await page.context.close()
