"""Films with several sound tracks: one is chosen, heard, and chosen again for the next film."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import ENCODES, Tab, open_tab, quiet_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SOURCES = "-f lavfi -i testsrc2=size=160x90:rate=10 -f lavfi -i sine=440 -f lavfi -i sine=880 -t 30"
CODECS = "-map 0:v -map 1:a -map 2:a -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 20 -c:a aac"
NAMES = (
    "-metadata:s:a:0 language=eng -metadata:s:a:0 title=Original"
    " -metadata:s:a:1 language=deu -metadata:s:a:1 title=Synchron"
)
ORIGINAL, DUBBED = "English: Original", "Deutsch: Synchron"
SUBTITLES = "1\n00:00:00,000 --> 00:00:30,000\nHallo\n"

PITCH = """(() => {
  if (!window.heard) {
    const context = new AudioContext();
    window.heard = new AnalyserNode(context, { fftSize: 8192 });
    context.createMediaElementSource(headwater.video).connect(heard).connect(context.destination);
  }
  const levels = new Float32Array(heard.frequencyBinCount);
  heard.getFloatFrequencyData(levels);
  return levels.indexOf(Math.max(...levels)) * heard.context.sampleRate / heard.fftSize;
})()"""
"""The loudest frequency of what is heard, in Hz."""

CHOSEN = "document.getElementById('audio').selectedOptions[0]?.label"
CUT_OFF = """[document.getElementById("settings"), ...document.querySelectorAll("#settings label *")]
  .filter((element) => element.offsetWidth > 0).map((element) => element.getBoundingClientRect())
  .filter(({ left, right, top, bottom }) => left < 0 || right > innerWidth || top < 0
    || bottom > innerHeight).length"""
"""How many boxes of the open settings aren't wholly on the screen."""


@pytest.fixture(scope="module")
def films(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("sounds")
    first = folder / "first.mkv"
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error"]
    subprocess.run([*command, *SOURCES.split(), *CODECS.split(), *NAMES.split(), str(first)], check=True)
    words = ["-i", str(first), "-map", "0", "-c", "copy", str(folder / "second.mp4")]
    subprocess.run([*command, *words], check=True)
    (folder / "first.de.srt").write_text(SUBTITLES)
    with start_server("--library", str(folder), "--port", "0") as server:
        yield server


@pytest.fixture(scope="module")
def undecoded(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Films whose first sound, the film's default, isn't decoded by Chromium."""
    folder: Path = tmp_path_factory.mktemp("undecoded")
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error"]
    flags = "-disposition:a:0 default -disposition:a:1 0"
    for name, codec in {"ac3.mkv": "ac3", "dts.mkv": "dca -strict -2", "ac3.mp4": "ac3"}.items():
        words = f"{SOURCES} {CODECS} -c:a:0 {codec} {NAMES} {flags}".split()
        subprocess.run([*command, *words, str(folder / name)], check=True)
    with start_server("--library", str(folder), "--port", "0", env=ENCODES) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, films: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, films.url) as tab:
        yield tab


async def is_heard(tab: Tab, pitch: int) -> None:
    await tab.until(f"Math.abs({PITCH} - {pitch}) < 15")


@pytest.mark.parametrize("mode", ["hls", "dash"])
async def test_a_sound_track_is_chosen_and_so_is_its_language_in_the_next_film(tab: Tab, mode: str) -> None:
    # Without a choice of the way it is segments: of the file as it is Chromium plays the first sound alone.
    await tab.open("library/first.mkv" + ("?mode=dash" if mode == "dash" else ""))
    await tab.playing()
    assert (await tab.stats())["mode"] == mode
    await is_heard(tab, 440)
    choice = await tab.setting("Audio")
    assert await choice.locator("option").all_inner_texts() == [ORIGINAL, DUBBED]
    await choice.select_option(DUBBED)
    await is_heard(tab, 880)
    await tab.open(f"library/second.mp4?mode={mode}")
    await tab.playing()
    await is_heard(tab, 880)
    assert await tab.value(CHOSEN) == DUBBED


@pytest.mark.parametrize("name", ["ac3.mkv", "dts.mkv", "ac3.mp4"])
async def test_a_films_default_is_heard_where_the_browser_decodes_another_sound_alone(
    browser: Browser, undecoded: ServerProcess, name: str
) -> None:
    async with quiet_tab(browser, undecoded.url) as tab:
        await tab.open("radio")
        await tab.until(
            "fetch('/api/library').then((a) => a.json()).then((a) => a.every((one) => one.codecs))"
        )
        await tab.open(f"library/{name}")
        await tab.playing()
        assert (await tab.stats())["mode"] == "hls"
        await is_heard(tab, 440)
        choice = await tab.setting("Audio")
        assert await choice.locator("option").all_inner_texts() == [ORIGINAL, DUBBED]
        await choice.select_option(DUBBED)
        await is_heard(tab, 880)
        await tab.screenshot(f"undecoded-{name}")


async def test_a_sound_track_is_chosen_by_keys_alone(tab: Tab) -> None:
    await tab.open("library/second.mp4?mode=hls")
    await tab.playing()
    await tab.until(f"{CHOSEN} === '{ORIGINAL}'")
    await tab.page.locator("#settings-button").focus()
    await tab.page.keyboard.press("Enter")
    await tab.until("document.activeElement.id === 'audio'")
    await tab.page.keyboard.press("ArrowDown")
    await is_heard(tab, 880)
    assert await tab.value(CHOSEN) == DUBBED
    await tab.page.keyboard.press("Escape")
    await tab.until("document.activeElement.id === 'settings-button'")


@pytest.mark.parametrize(("width", "height"), [(360, 640), (640, 360)])
async def test_all_settings_stay_on_the_smallest_phones_screen(
    browser: Browser, films: ServerProcess, width: int, height: int
) -> None:
    tab = await open_tab(browser, films.url, viewport={"width": width, "height": height}, has_touch=True)
    await tab.open("library/first.mkv?mode=hls")
    await tab.playing()
    await tab.until("!document.getElementById('captions-box').hidden")
    for place in ("start", "end"):
        # As high and as low as the button can be on the screen.
        await tab.value(
            f"void document.getElementById('settings-button').scrollIntoView({{ block: '{place}' }})"
        )
        await tab.setting("Audio")
        await tab.until(f"{CUT_OFF} === 0", 20)
        await tab.page.keyboard.press("Escape")
    choice = await tab.setting("Audio")
    await choice.tap()
    await choice.select_option(DUBBED)
    await is_heard(tab, 880)
    await tab.setting("Audio")
    await tab.screenshot(f"sounds-{width}x{height}")
    assert await tab.value("document.documentElement.scrollWidth") <= width
    await tab.page.context.close()
    assert tab.troubles == []
