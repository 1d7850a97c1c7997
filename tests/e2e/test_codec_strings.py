"""The codec strings of VOD are those that browsers take, and what they take by them they play."""

from __future__ import annotations

import asyncio
import base64

import m3u8
import pytest
from playwright.async_api import Browser

from packager.library.local_storage import Library
from packager.vod import Titles
from tests.e2e.conftest import new_page
from tests.e2e.media_types import SOUNDS, media_type
from tests.packager import films
from tests.packager.vod.opened_media import open_segment

APPEND = """async ([type, pieces]) => {
  const source = new MediaSource();
  const player = new Audio(URL.createObjectURL(source));
  await new Promise(opened => source.addEventListener('sourceopen', opened, {once: true}));
  const buffer = source.addSourceBuffer(type);
  for (const piece of pieces) {
    const data = Uint8Array.from(atob(piece), letter => letter.charCodeAt(0));
    const done = new Promise((ended, failed) => {
      buffer.addEventListener('updateend', ended, {once: true});
      player.addEventListener('error', () => failed(player.error.message), {once: true});
    });
    buffer.appendBuffer(data);
    await done;
  }
  return buffer.buffered.end(0);
}"""


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("name", "codec"), SOUNDS.items())
async def test_chromium_takes_the_string_and_the_media(browser: Browser, name: str, codec: str) -> None:
    path = films.film(name)
    titles = Titles(Library(path.parent))
    # What lies beside the film is looked for on disk: not in the browser's loop.
    playlist = m3u8.loads(await asyncio.to_thread(titles.multivariant_playlist, name))
    assert playlist.playlists[0].stream_info.codecs.split(",")[-1] == codec
    opened = open_segment(titles, name, "audio", 0)
    pieces = [titles.segments.track(name, "audio").init, opened.read(0, opened.size)]
    opened.close()
    page = await new_page(browser)
    await page.goto("data:text/html,")
    encoded = [base64.b64encode(piece).decode() for piece in pieces]
    assert await page.evaluate("type => MediaSource.isTypeSupported(type)", media_type(codec))
    assert await page.evaluate(APPEND, [media_type(codec), encoded]) > 5
    await page.close()
