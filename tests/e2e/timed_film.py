"""A film whose pictures tell their time, and players on a page from which the time is read.

The film's left half is brighter from second to second, its right half within each.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.e2e.scripts import script
from tests.e2e.watching import Watching
from tests.packager.films import run_ffmpeg

SECONDS = 14
SHADES = 14
"""By how much the luma of the left half rises in a second."""

FINE_SHADES = 200
"""By how much the luma of the right half rises within a second."""

NEAR = 0.1
"""Seconds by which a picture's time may be off: it is that of its beginning, and lasts 0.04 s."""

PRECISE = 0.01
"""Seconds by which what is read off a picture may be off."""

PICTURE = 1 / 24 + PRECISE
"""Seconds of a picture: without an edit list, the first of a segment may give way to the next one."""

DRAWN_SECONDS = 120
"""In which a picture is drawn that was sought."""

MOST_FRUITLESS = 3
"""Seeks without a picture behind which a viewer of dash.js would load its page anew."""

AGAIN_SECONDS = 8
"""After which a viewer who doesn't see the picture seeks again."""

PAGE = """
async ([kind, url, config]) => {
  document.body.innerHTML = "<video muted width=160></video>";
  window.video = document.querySelector("video");
  Object.assign(window, { troubles: [], stalls: 0, latency: () => 0 });
  if (kind === "hls.js") {
    const { default: Hls } = await import("/player/vendor/hls.min.mjs");
    window.player = new Hls(config);
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

SOUGHT = f"""async ([at, expected, tolerance, seconds]) => {{
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", {{ willReadFrequently: true }});
  canvas.width = canvas.height = 8;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const end = performance.now() + 1000 * seconds;
  let shown = null;
  // A little elsewhere each time, as seeking to the same time would be nothing new to the player.
  const seek = () => {{ video.currentTime = at + 0.001 * Math.random(); }};
  for (seek(); performance.now() < end; ) {{
    if (Math.abs(video.currentTime - at) > {PRECISE}) seek();
    if (video.seeking || video.readyState < 2) {{
      await pause(50);
      continue;
    }}
    await drawn();
    context.drawImage(video, 0, 0, 8, 8);
    // From the middle of what is rounded down twice: to a shade of the film's, and to one of the screen's.
    const shades = [1, 6].map((x) => context.getImageData(x, 4, 1, 1).data[1]);
    const [left, right] = shades.map((shade) => (shade + 0.5) * 219 / 255 + 0.5);
    const fraction = right / {FINE_SHADES};
    shown = Math.round(left / {SHADES} - fraction) + fraction;
    if (Math.abs(shown - expected) <= tolerance) break;
  }}
  return shown;
}}"""
"""Seeks, and reads the film's time off the picture until it is the right one, or for so long."""

BUFFERED = (
    "Array.from({length: video.buffered.length}, (_, i) => [video.buffered.start(i), video.buffered.end(i)])"
)

PLAYED = """troubles.length || video.ended || video.currentTime >= video.duration
  || (video.paused && window.dashjs && video.currentTime > video.duration - 0.6)"""
"""Whether a film was played to its end, or troubles came.

dash.js does not close its source now and then after a seek. And when it jumps a gap at the moment of the end,
where one track is a hundredth of a second shorter, it looks for a segment there, and stays half a second
before.
"""

PLAYERS = ["hls.js", "dashjs", "shaka-player"]


def make_timed_film(path: Path, size: str, rate: int, *words: str) -> None:
    """Make the film with these options of ffmpeg."""
    luma = f"16+if(lt(X,W/2),{SHADES}*T,{FINE_SHADES}*mod(T,1))"
    # Drawn two pixels wide and enlarged: an expression for each pixel takes ffmpeg seven times as long.
    picture = (
        f"color=gray:s=2x2:r={rate}:d={SECONDS},format=yuv420p,geq=lum='{luma}':cb=128:cr=128,"
        f"scale={size.replace('x', ':')}:flags=neighbor,setsar=1"
    )
    sound = "sine=duration=14:sample_rate=" + ("44100" if rate == 25 else "48000")
    run_ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *words, path)


@contextlib.asynccontextmanager
async def opened(page: Page, kind: str, url: str, **config: float) -> Any:
    """Open the page at the address's site anew, with a player that has loaded it.

    Args:
        page: which one.
        kind: of the player.
        url: of the playlist or manifest.
        config: options of hls.js.
    """
    await page.goto(f"{url.rpartition('/')[0]}/nothing")
    if kind != "hls.js":
        await page.add_script_tag(path=script(kind))
    await page.evaluate(PAGE, [kind, url, config])
    watching = Watching(page)
    await watching.until("video.readyState >= 2 || troubles.length")
    yield watching
    await page.goto("about:blank")


async def assert_shows(page: Page, at: float, expected: float, tolerance: float) -> None:
    """Seek, and read the film's time off the picture until it is the right one; a seek's is drawn late.

    A viewer seeks again where nothing comes of it, and elsewhere before: when dash.js puts into its buffer
    what a former seek asked for, it goes to the beginning of that instead of where it was sought meanwhile,
    or asks for nothing more (as in its issues 3118 and 4162). Where that doesn't help either, it loads anew,
    and is left alone until it shows a picture: a seek before that is one of those that get lost.
    """
    end = time.monotonic() + DRAWN_SECONDS
    for fruitless in itertools.count(1):
        shown = await page.evaluate(SOUGHT, [at, expected, tolerance, AGAIN_SECONDS])
        if shown == pytest.approx(expected, abs=tolerance):
            return
        told = f"at {at} s there is the picture of {shown} s instead of {expected} s"
        assert time.monotonic() < end, told
        if fruitless % MOST_FRUITLESS == 0:
            await page.evaluate("() => void (window.dashjs && player.attachSource(player.getSource()))")
            settled = "video.readyState >= 2"
        else:
            elsewhere = "at <= video.duration / 2 ? video.duration - 1 : 0"
            await page.evaluate(f"at => void (video.currentTime = {elsewhere})", at)
            settled = "!video.seeking"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                while not await page.evaluate(settled):
                    await asyncio.sleep(0.05)


async def assert_plays(page: Page, kind: str, url: str, begin: float, end: float) -> None:
    """Play what is to be a film from one time to another: its pictures, its length, and its end."""
    async with opened(page, kind, url) as watching:
        lasts = float(await page.evaluate("video.duration"))
        assert lasts == pytest.approx(end - begin, abs=NEAR)
        for at in (0.04, 1.0, lasts / 2, lasts - 0.5):
            await assert_shows(page, at, begin + at, NEAR)
        await page.evaluate("void video.play()")
        await watching.until(PLAYED)
        assert (await watching.facts())["troubles"] == []


def address(kind: str) -> str:
    return "master.m3u8" if kind == "hls.js" else "manifest.mpd"
