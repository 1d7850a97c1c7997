"""Subtitles of films in real players: each cue is shown with its picture, also after seeks.

The picture of these films is white exactly while a subtitle is to be seen, and black else.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page

from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import Tab, looked_for, open_tab
from tests.e2e.scripts import script
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PATIENCE_SECONDS = 240.0
AGAIN_SECONDS = 8.0
"""After which a viewer who doesn't see the picture seeks again."""

PRECISE = 0.005
FRAME = 0.04
CUES = ((2.0, 3.52), (7.2, 8.4), (13.0, 13.52), (25.0, 28.0))
"""When cues begin and end, whole frames; the second is shown over a cut."""

CLIP = (7.6, 26.0)
"""From when to when a clip of the film lasts."""

CLIPS = ((1.0, 8.0), (12.4, 15.0))
"""The same of clips in a playlist: the first one ends within the second cue."""

TRIMMED = 0.8
"""Seconds that are cut from the begin of a film without encoding, so that an edit list hides them."""

FILMS = ("film.mp4", "trimmed.mp4")
MATROSKA = ("hls.js", "dash.js")
"""Players that are shown the same film in Matroska, with its text as ASS."""

SHOWING = "[...video.textTracks].filter((track) => track.mode === 'showing' && track.cues?.length)"
STARTS = f"""{SHOWING}.flatMap((track) => [...track.cues])
  .map((cue) => [cue.startTime, cue.endTime, cue.text]).sort((a, b) => a[0] - b[0])"""
ACTIVE = f"{SHOWING}.flatMap((track) => [...track.activeCues]).map((cue) => cue.text)"
LOOKED_UP = f"""(() => {{
  const now = performance.now(), at = %s;
  if (window.soughtAt !== at) {{ window.soughtAt = at; window.pause = 500; window.sought = -Infinity; }}
  if (now - window.sought > window.pause) {{
    window.sought = now; window.pause *= 2; video.currentTime = at + 0.1 * Math.random();
  }}
  return {STARTS}.some(([, , text]) => text.includes("%s"));
}})()"""
"""Whether a cue is there; dash.js adds those that it has when the time changes.

Each pause is twice as long as the one before: what a player fetches for a place, it begins anew for the next.
"""

SEEN = f"""async ([at, bright, seconds]) => {{
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", {{ willReadFrequently: true }});
  canvas.width = canvas.height = 8;
  const end = performance.now() + 1000 * seconds;
  const seek = () => {{ video.pause(); video.currentTime = at + {PRECISE} / 2 * Math.random(); }};
  let found = null;
  for (seek(); performance.now() < end; await new Promise((done) => setTimeout(done, 50))) {{
    if (Math.abs(video.currentTime - at) > {PRECISE}) seek();
    if (video.seeking || video.readyState < 2) continue;
    context.drawImage(video, 0, 0, 8, 8);
    found = context.getImageData(4, 4, 1, 1).data[0];
    if ((found > 128) === bright) return true;
  }}
  return found;
}}"""
"""Seeks, and looks at the picture until it is white or black, or for so long."""

ELSEWHERE = """at => {
  video.currentTime = at > video.duration / 2 ? 0 : video.duration - 0.5;
  video.play().catch(() => {});
  return new Promise((done) => setTimeout(done, 1000));
}"""
"""Plays for a moment at the other end."""

HLSJS = """
const { default: Hls } = await import("ORIGIN/player/vendor/hls.min.mjs");
window.player = new Hls({ subtitlePreference: { lang: "de" } });
player.on(Hls.Events.ERROR, (_, data) => data.fatal && troubles.push(data.details));
player.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => {
  player.subtitleTrack = player.subtitleTracks.findIndex((track) => track.lang === "de");
});
player.loadSource("ORIGIN/vod/FILM/master.m3u8");
player.attachMedia(video);
"""
DASHJS = """
window.player = dashjs.MediaPlayer().create();
player.on("error", (event) => troubles.push(JSON.stringify(event.error)));
player.updateSettings({ streaming: { text: { defaultEnabled: true } } });
player.initialize(video, null, false);
player.setInitialMediaSettingsFor("text", { lang: "de" });
player.attachSource("ORIGIN/vod/FILM/manifest.mpd");
"""
SHAKA = """
window.player = new shaka.Player();
player.addEventListener("error", (event) => troubles.push(JSON.stringify(event.detail)));
await player.attach(video);
await player.load("ORIGIN/vod/FILM/MASTER");
const choose = () => player.selectTextTrack(player.getTextTracks().find((track) => track.language === "de"));
await choose();
// Cues come into a browser's tracks, whose late "change" Shaka takes for a viewer's switching them off, and
// which Chromium empties when it reads their elements' addresses. Who sees no text then chooses it again.
setInterval(() => {
  if ([...video.textTracks].some((track) => track.cues?.length)) return;
  player.selectTextTrack(null);
  choose();
}, 5000);
player.setTextTrackVisibility?.(true);
"""
PLAYERS = {
    "hls.js": (None, HLSJS),
    "dash.js": ("dashjs", DASHJS),
    "Shaka, DASH": ("shaka-player", SHAKA.replace("MASTER", "manifest.mpd")),
    "Shaka, HLS": ("shaka-player", SHAKA.replace("MASTER", "master.m3u8")),
}


def srt(text: str) -> str:
    def time_of(seconds: float) -> str:
        return f"00:00:{int(seconds):02d},{round(seconds % 1 * 1000):03d}"

    cues = enumerate(CUES, 1)
    return "".join(f"{n}\n{time_of(a)} --> {time_of(b)}\n{text} {n}\n\n" for n, (a, b) in cues)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A library with films that have German subtitles in them, and French ones beside them."""
    folder: Path = tmp_path_factory.mktemp("subtitled")
    library = folder / "library"
    library.mkdir()
    (folder / "de.srt").write_text(srt("Untertitel"))
    parts = ((0, 9, "One"), (9, 32, "Two"))
    chapters = [f"[CHAPTER]\nTIMEBASE=1/1\nSTART={a}\nEND={b}\ntitle={title}\n" for a, b, title in parts]
    (folder / "chapters.txt").write_text(";FFMETADATA1\n" + "".join(chapters))
    white = "+".join(f"between(t,{start - FRAME / 4},{end - FRAME / 4})" for start, end in CUES)
    picture = f"color=black:s=320x180:r=25:d=32,drawbox=color=white:t=fill:enable='{white}'"
    inputs = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=d=32", "-i", folder / "de.srt")
    words = "-map 0 -map 1 -map 2 -map_chapters 3 -c:a aac"
    words += " -c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 50"
    text = "-c:s mov_text -metadata:s:s:0 language=ger"
    ffmpeg(*inputs, "-i", folder / "chapters.txt", *words.split(), *text.split(), library / "film.mp4")
    cut = (
        "-ss",
        TRIMMED,
        "-i",
        library / "film.mp4",
        "-map",
        "0:v",
        "-map",
        "0:a",
        "-map",
        "0:s",
        "-c",
        "copy",
    )
    ffmpeg(*cut, library / "trimmed.mp4")
    maps = ("-map", "0:v", "-map", "0:a", "-map", "0:s")
    ffmpeg("-i", library / "film.mp4", *maps, "-c", "copy", "-c:s", "ass", library / "film.mkv")
    (library / "film.fr.srt").write_text(srt("Sous-titre"))
    clips = [{"path": "film.mp4", "start": start, "end": end} for start, end in CLIPS]
    (library / "two.playlist.json").write_text(json.dumps({"clips": clips}))
    with start_server("--library", str(library), "--port", "0") as server:
        yield server


def ffmpeg(*words: object) -> None:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *map(str, words)]
    subprocess.run(command, check=True, timeout=300)


async def until(page: Page, expression: str) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := await looked_for(page, expression)):
        if time.monotonic() > end:
            state = await page.evaluate(f"[video.currentTime, video.readyState, window.troubles, {STARTS}]")
            pytest.fail(f"{expression} not in {PATIENCE_SECONDS:.0f} s; {state}")
    return value


async def sees(page: Page, at: float, bright: bool) -> None:
    """Seek until the picture of a time is to be seen, white or black.

    A viewer seeks again where the player has gone elsewhere, as dash.js does to the beginning of what comes
    late into its buffer, or where it shows nothing new; and from elsewhere, where it shows nothing at all.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while (found := await page.evaluate(SEEN, [at, bright, AGAIN_SECONDS])) is not True:
        told = f"the picture at {at} isn't {'white' if bright else 'black'} but {found}"
        assert time.monotonic() < end, told
        if found is None:
            await page.evaluate(ELSEWHERE, at)


async def shows(page: Page, at: float, bright: bool, expression: str) -> None:
    """Seek until the picture of a time is seen and something is true; dash.js may need a second seek."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        await sees(page, at, bright)
        again = time.monotonic() + AGAIN_SECONDS
        while time.monotonic() < again:
            if await looked_for(page, expression):
                return
        state = await page.evaluate(f"[video.currentTime, video.readyState, window.troubles, {STARTS}]")
        assert again < end, f"{expression} not in {PATIENCE_SECONDS:.0f} s; {state}"


async def is_with_its_picture(page: Page, number: int, start: float, end: float) -> None:
    """Look at the pictures half a frame before and after a cue's begin and end, and whether it is shown."""
    for at, shown in (
        *((start - FRAME / 2, False), (start + FRAME / 2, True)),
        *((end - FRAME / 2, True), (end + FRAME / 2, False)),
    ):
        wanted = f"Untertitel {number}"
        told = f"{ACTIVE}.some((text) => text.includes('{wanted}')) === {json.dumps(shown)}"
        await shows(page, at, shown, told)


async def opened(page: Page, server: ServerProcess, player: str, film: str, query: str = "") -> None:
    """Open the page anew with a player that has loaded a film."""
    package, start = PLAYERS[player]
    await page.goto(f"{server.url}/api/library")  # for a page of the same origin, whose modules may be used
    await page.set_content("<video muted width=160></video>")
    await page.evaluate("() => { window.video = document.querySelector('video'); window.troubles = []; }")
    if package is not None:
        await page.add_script_tag(path=script(package))
    for name in ("master.m3u8", "manifest.mpd"):
        start = start.replace(name, f"{name}{query}")
    start = start.replace("ORIGIN", server.url).replace("FILM", film)
    await page.evaluate(f"async () => {{ {start} }}")
    await until(page, "video.readyState >= 2")


@pytest.mark.parametrize(
    ("player", "film"),
    [
        *((player, film) for player in PLAYERS for film in FILMS),
        *((player, "film.mkv") for player in MATROSKA),
    ],
)
async def test_each_cue_is_shown_with_its_picture(
    page: Page, server: ServerProcess, player: str, film: str
) -> None:
    await opened(page, server, player, film)
    # In Matroska no sound is before 0, so that everything is later by the sound's priming.
    early = FRAME if film == "film.mkv" else 0
    # In another order than that of their times: text is asked for where somebody seeks.
    # ffmpeg lengthens the last cue of a film that it cuts: that one can't be asked for.
    for number in (1, 3, 2) if film == "trimmed.mp4" else (4, 1, 3, 2):
        wanted = f"Untertitel {number}"
        about = CUES[number - 1][0]
        await until(page, LOOKED_UP % (about, wanted))
        cues = await page.evaluate(f"{STARTS}.filter(([, , text]) => text.includes('{wanted}'))")
        first, last = min(cue[0] for cue in cues), max(cue[1] for cue in cues)
        assert last - first == pytest.approx(CUES[number - 1][1] - CUES[number - 1][0], abs=FRAME / 2)
        # A film that was cut begins at the cut, and not at the key frame before.
        begins = about - TRIMMED if film == "trimmed.mp4" else about
        assert first == pytest.approx(begins, abs=early + FRAME / 2)
        await is_with_its_picture(page, number, first, last)
    assert await page.evaluate("troubles") == []
    await page.goto("about:blank")


@pytest.mark.parametrize("player", PLAYERS)
async def test_a_clip_shows_each_cue_once_and_with_its_picture(
    page: Page, server: ServerProcess, player: str
) -> None:
    """The clip begins within the second cue, which goes on behind a cut, and ends within the fourth one."""
    await opened(page, server, player, "film.mp4", f"?start={CLIP[0]}&end={CLIP[1]}")
    lasts = float(await page.evaluate("video.duration"))
    assert lasts == pytest.approx(CLIP[1] - CLIP[0], abs=2 * FRAME)
    for number in (3, 2, 4):
        begin, end = (time - CLIP[0] for time in CUES[number - 1])
        wanted = f"Untertitel {number}"
        await until(page, LOOKED_UP % (max(begin, 0) + 0.2, wanted))
        cues = await page.evaluate(f"{STARTS}.filter(([, , text]) => text.includes('{wanted}'))")
        assert min(cue[0] for cue in cues) == pytest.approx(max(begin, 0), abs=FRAME / 2)
        assert max(cue[1] for cue in cues) >= min(end, lasts) - FRAME / 2
        for at, shown in ((begin - FRAME / 2, False), (begin + 0.5, True), (end + FRAME / 2, False)):
            if 0 <= at < lasts - FRAME:
                told = f"{ACTIVE}.filter((text) => text.includes('{wanted}')).length === {int(shown)}"
                await shows(page, at, shown, told)
    assert await page.evaluate("troubles") == []
    await page.goto("about:blank")


@pytest.mark.parametrize("player", PLAYERS)
async def test_clips_behind_each_other_show_each_its_own_cues(
    page: Page, server: ServerProcess, player: str
) -> None:
    await opened(page, server, player, "two.playlist.json")
    placed = {
        number: (CUES[number - 1][0] - CLIPS[0][0], CUES[number - 1][1] - CLIPS[0][0]) for number in (1, 2)
    }
    ends = CLIPS[0][1] - CLIPS[0][0]
    placed[2] = placed[2][0], ends
    placed[3] = CUES[2][0] - CLIPS[1][0] + ends, CUES[2][1] - CLIPS[1][0] + ends
    for number in (3, 1, 2):
        begin, end = placed[number]
        wanted = f"Untertitel {number}"
        await until(page, LOOKED_UP % (begin + 0.2, wanted))
        cues = await page.evaluate(f"{STARTS}.filter(([, , text]) => text.includes('{wanted}'))")
        assert min(cue[0] for cue in cues) == pytest.approx(begin, abs=FRAME)
        assert max(cue[1] for cue in cues) == pytest.approx(end, abs=FRAME)
        for at, shown in ((begin - FRAME, False), (begin + 0.3, True), (end + FRAME, False)):
            told = f"{ACTIVE}.filter((text) => text.includes('{wanted}')).length === {int(shown)}"
            await shows(page, at, shown, told)
    assert await page.evaluate("troubles") == []
    await page.goto("about:blank")


SHOWN = "[...headwater.video.textTracks].some((track) => track.activeCues?.[0]?.text === '%s')"


@pytest.mark.parametrize(
    ("film", "mode", "language", "text"),
    [
        ("film.mp4", "hls", "Français", "Sous-titre 1"),
        ("film.mp4", "file", "Français", "Sous-titre 1"),
        ("film.mkv", "hls", "Deutsch", "Untertitel 1"),
    ],
)
async def test_the_page_offers_subtitles_and_marks_chapters(
    browser: Browser, server: ServerProcess, film: str, mode: str, language: str, text: str
) -> None:
    tab: Tab = await open_tab(browser, server.url)
    await tab.open(f"library/{film}?mode={mode}")
    await tab.playing()
    await (await tab.setting("Captions")).select_option(language)
    await tab.value("void (headwater.video.pause(), headwater.video.currentTime = 2.5)")
    await tab.until(SHOWN % text)
    chapters = tab.page.get_by_role("list", name="Chapters")
    assert await chapters.get_by_role("button").all_text_contents() == ["One", "Two"]
    await tab.screenshot(f"subtitles-{film}-{mode}")
    await chapters.get_by_role("button", name="Two").click()
    await tab.until("Math.abs(headwater.video.currentTime - 9) < 0.1")
    current = "document.querySelector('#chapters [aria-current]')?.textContent"
    await tab.until(f"{current} === 'Two'")
    await (await tab.setting("Captions")).select_option("Off")
    await tab.until("[...headwater.video.textTracks].every((track) => track.mode !== 'showing')")
    assert tab.troubles == []
    await tab.page.context.close()


async def test_the_list_of_the_library_says_what_text_films_have(server: ServerProcess) -> None:
    def item() -> dict[str, Any]:
        items = httpx.get(f"{server.url}/api/library", timeout=PATIENCE_SECONDS).json()
        return next(one for one in items if one["path"] == "film.mp4")

    def has(names: list[str]) -> bool:
        return [one["name"] for one in item()["subtitles"]] == names

    await asyncio.to_thread(wait_for, lambda: has(["Deutsch", "Français"]), what="two tracks in the list")
    german, french = (await asyncio.to_thread(item))["subtitles"]
    assert (german["language"], german["default"], german["file"]) == ("de", True, None)
    assert (french["language"], french["default"], french["file"]) == ("fr", False, "film.fr.srt")
    assert (await asyncio.to_thread(item))["chapters"] == "/vod/film.mp4/chapters.json"
    text = await asyncio.to_thread(httpx.get, f"{server.url}{french['webvtt']}", timeout=PATIENCE_SECONDS)
    assert (text.headers["content-type"], text.text.count("Sous-titre")) == ("text/vtt", len(CUES))
