"""Files that a browser can't play, or plays without picture or sound, and what the page says of them."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import ENCODE, PHONE, Tab, open_tab, quiet_tab
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

HEVC = "-c:v libx265 -tag:v hvc1 -pix_fmt yuv420p -x265-params log-level=none"
SOURCES = "-f lavfi -i testsrc2=size=160x90:rate=10:duration=6 -f lavfi -i sine=440:duration=6"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
FILMS = {
    "box.mkv": f"{H264} -c:a libmp3lame",
    "box.ts": f"{H264} -c:a aac",
    "camera.mov": f"{H264} -c:a pcm_s16le",
    "disc.vob": "-c:v mpeg2video -r 25 -c:a ac3",
    "tape.mxf": "-c:v mpeg2video -r 25 -c:a pcm_s16le -ar 48000",
    "old.avi": "-c:v mpeg4 -vtag DIVX -c:a libmp3lame",
    "phone.mp4": f"{HEVC} -c:a aac",
    "plain.mp4": f"{H264} -c:a aac",
    "sound.aac": "-vn -c:a aac",
    "sound.flac": "-vn -c:a flac",
    "studio.wav": "-vn -c:a pcm_s24le",
    "television.mp4": f"{H264} -c:a ac3",
    "two sounds.mkv": f"-map 0:v -map 1:a -map 1:a {H264} -c:a:0 ac3 -c:a:1 aac",
    "web.webm": "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus",
}  # fmt: skip
PLAYABLE = {
    *("box.mkv", "box.ts", "plain.mp4", "sound.aac", "sound.flac"),
    *("studio.wav", "web.webm"),
}
PLAYABLE_HERE = {*PLAYABLE, "camera.mov", "two sounds.mkv"}
"""Chromium plays PCM in QuickTime files, which most browsers don't, and the second sound of a film alone."""

SAID = "document.getElementById('status').textContent"
ON = "[...document.querySelectorAll('a.row:not(.off)')].map((row) => row.dataset.path)"
IS_ON_SCREEN = """(({ left, right, top, bottom }) => left >= 0 && right <= innerWidth && top >= 0
  && bottom <= innerHeight)(document.getElementById("settings").getBoundingClientRect())"""
JUDGED = f"""fetch("/api/library").then((answer) => answer.json()).then((all) => all.length === {len(FILMS)}
  && all.every(({{ playable }}) => playable !== null)
  && all.filter(({{ playable }}) => playable).map(({{ path }}) => path))"""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("unplayable")
    # By one process: to start it takes longer than to encode a film.
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", *SOURCES.split()]
    for name, words in FILMS.items():
        command += [*words.split(), f"file:{folder / name}"]
    subprocess.run(command, check=True, timeout=300)
    (folder / "notes.nfo").write_text("no film")
    # Of what is left without: encoded, most of it would play.
    with start_server("--library", str(folder), "--port", "0", env={ENCODE: "off"}) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films.url) as tab:
        yield tab


async def test_the_page_and_the_list_agree_on_what_plays_and_that_plays_without_a_word(tab: Tab) -> None:
    """The console stays empty, which the end of the fixture checks."""
    # So high that the list has all rows.
    await tab.page.set_viewport_size({"width": 1280, "height": 1600})
    await tab.open("library")
    assert set(await tab.until(JUDGED)) == PLAYABLE
    await tab.until(f"document.querySelectorAll('a.row').length === {len(FILMS)}")
    await tab.until(f"(found => found.length === {len(PLAYABLE_HERE)} && found)({ON})")
    assert set(await tab.value(ON)) == PLAYABLE_HERE
    for name in ("box.mkv", "sound.flac", "two sounds.mkv"):
        await tab.open(f"library/{name}")
        await tab.until("headwater.video.played.length > 0 && headwater.video.played.end(0) > 3.6")
        assert await tab.value(SAID) == ""
    assert "without its sound in AC-3" in await tab.value("document.getElementById('facts').textContent")


async def test_the_shown_line_makes_a_film_that_plays(
    tab: Tab, films: ServerProcess, tools: Tools, tmp_path: Path
) -> None:
    await tab.open("library")
    await tab.until(JUDGED)
    convertible = ("disc.vob", "old.avi", "phone.mp4", "tape.mxf", "television.mp4")
    for name in convertible:
        await tab.open(f"library/{name}")
        await tab.until(f"{SAID}.includes('ffmpeg ')")
        (line,) = re.findall(r"This line makes a file that plays: (ffmpeg .+)", await tab.value(SAID))
        source = httpx.get(f"{films.url}/media/{name}", timeout=60).content
        (tmp_path / name).write_bytes(source)
        program = f"{shlex.quote(str(tools.ffmpeg))} -nostdin -v error {line.removeprefix('ffmpeg ')}"
        await asyncio.to_thread(
            subprocess.run, ["bash", "-c", program], cwd=tmp_path, check=True, timeout=120
        )
    server = await asyncio.to_thread(
        start_server, "--library", str(tmp_path), "--port", "0", env={ENCODE: "off"}
    )
    try:
        made = {f"{name.partition('.')[0]}.h264.mp4" for name in convertible}

        def playable() -> set[str]:
            listed = httpx.get(f"{server.url}/api/library", timeout=60).json()
            return {one["path"] for one in listed if one["playable"] and one["convert"] is None}

        await asyncio.to_thread(wait_for, lambda: made <= playable(), "the converted films")
    finally:
        await asyncio.to_thread(server.stop)


async def test_who_clicks_what_cant_be_played_sees_its_title_the_reason_and_what_to_do(tab: Tab) -> None:
    await tab.open("library")
    await tab.until(JUDGED)
    for name, reason in {
        "old.avi": "this browser says that it doesn't play MPEG-4 Part 2.",
        "disc.vob": "this browser says that it doesn't play MPEG-2 and AC-3.",
        "tape.mxf": "the server doesn't read MXF files.",
    }.items():
        await tab.page.locator("a.row.off", has_text=name).click()
        await tab.until(f"document.getElementById('title').textContent === '{name}'")
        sentence = f"{name} can't be played here: {reason}"
        assert await tab.page.locator("#idle").inner_text() == sentence
        said = await tab.value(SAID)
        assert said.startswith(f"{sentence} ")
        assert "ownload the file" in said
        assert "Nothing chosen" not in await tab.page.locator("body").inner_text()
        assert await tab.page.get_by_role("link", name="Download").get_attribute("href") == f"/media/{name}"
        await tab.screenshot(f"unplayable-{name.rpartition('.')[2]}")
    # The film has no segments, so that none are recommended.
    await tab.page.locator("a.row.off", has_text="old.avi").click()
    await tab.page.get_by_role("link", name="Play anyway").click()
    await tab.until(f"{SAID}.includes('can\\'t play this file')")
    assert "Adaptive" not in await tab.value(SAID)
    # What is left shows nothing of it.
    await tab.page.locator("a.row", has_text="plain.mp4").click()
    await tab.playing()
    assert await tab.value(SAID) == ""
    assert not await tab.page.locator("#idle").is_visible()


async def test_a_picture_that_stays_black_and_a_sound_that_isnt_heard_are_said(tab: Tab) -> None:
    for name, words in {
        "phone.mp4": ("without picture", "HEVC"),
        "television.mp4": ("without sound", "AC-3"),
    }.items():
        await tab.open(f"library/{name}?anyway=1&mode=file")
        await tab.until(f"{SAID}.includes('{words[0]}: this browser decodes none of its {words[1]}')")
        assert "Adaptive" not in await tab.value(SAID)
    # Neither are its segments played again and again.
    await tab.open("library/television.mp4?anyway=1&mode=hls")
    await tab.until(f"{SAID}.includes('can\\'t play this film in segments')")


@pytest.mark.parametrize("turned", [False, True])
async def test_the_settings_stay_on_a_phones_screen(
    browser: Browser, films: ServerProcess, turned: bool
) -> None:
    width, height = (PHONE["height"], PHONE["width"]) if turned else (PHONE["width"], PHONE["height"])
    tab = await open_tab(browser, films.url, viewport={"width": width, "height": height}, has_touch=True)
    await tab.open("library/plain.mp4?mode=hls")
    await tab.playing()
    await tab.setting("Player")
    await tab.until(IS_ON_SCREEN, 20)
    await tab.screenshot(f"settings-phone-{'turned' if turned else 'upright'}")
    await tab.page.context.close()
    assert tab.troubles == []
