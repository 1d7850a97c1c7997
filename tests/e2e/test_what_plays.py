"""How the page plays an item: its decision by the facts, and that it calls nothing unplayable that plays."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.e2e.conftest import ENCODES, Tab, quiet_tab

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8"
FILES = {
    **{f"wave {codec}.wav": f"-vn -c:a pcm_{codec}"
       for codec in ("u8", "s16le", "s24le", "s32le", "f32le", "alaw", "mulaw")},
    **{f"flac.{ending}": "-vn -c:a flac -strict -2" for ending in ("flac", "mp4", "ogg", "oga", "mka")},
    **{f"opus.{ending}": "-vn -c:a libopus" for ending in ("opus", "ogg", "mp4", "webm", "mka")},
    **{f"h264 aac.{ending}": f"{H264} -c:a aac" for ending in ("m4v", "mov", "mkv", "3gp")},
    **{f"h264 {codec}.mkv": f"{H264} -c:a {name}"
       for codec, name in (("mp3", "libmp3lame"), ("flac", "flac"), ("ac3", "ac3"), ("pcm", "pcm_s16le"))},
    "flash.f4v": f"{H264} -c:a aac",
    "quick.qt": f"{H264} -c:a aac -f mov",
    "camera.mov": f"{H264} -c:a pcm_s16le",
    "older camera.mov": f"{H264} -c:a pcm_s16be",
    "sound.mp3": "-vn -c:a libmp3lame",
    "sound.m4a": "-vn -c:a aac",
    "sound.aac": "-vn -c:a aac",
    "vorbis.ogg": "-vn -c:a libvorbis",
    "vp8.webm": f"{VP8} -c:a libvorbis",
    "vp8.ogv": f"{VP8} -c:a libvorbis",
    "theora.ogv": "-c:v libtheora -c:a libvorbis",
    "divx.avi": "-c:v mpeg4 -c:a libmp3lame",
}  # fmt: skip
"""ffmpeg's options of files of a second, each of which is played to its end."""

LONGER = {"h264 aac.mp4": f"{H264} -c:a aac", "apple.mp4": f"{H264} -c:a alac"}
"""Those of longer ones, which a page shows."""

SECONDS, LONGER_SECONDS = 1.0, 3.0

LISTED = "fetch('/api/library').then((answer) => answer.json())"
JUDGED_AND_TRIED = """async (item) => {
  const { judge } = await import("/player/engines/capabilities.js");
  await (await import("/player/engines/pcmtrial.js")).tried;
  const video = document.createElement("video");
  video.src = item.media;
  await video.play().catch(() => {});
  await new Promise((done) => {
    const look = () => (video.error || video.ended ? done() : setTimeout(look, 50));
    look();
  });
  const pictures = video.getVideoPlaybackQuality().totalVideoFrames;
  const plays = !video.error && (pictures > 0 || !item.width) && video.webkitAudioDecodedByteCount > 0;
  video.removeAttribute("src");
  video.load();
  return { said: judge(item).file, plays };
}"""
"""What the page says of a file as it is, and whether picture and sound of it are decoded in truth."""

DECIDED = """async ([item, plays]) => {
  const { decide } = await import("/player/engines/decision.js");
  const all = (codecs) => codecs.every((codec) => plays.codecs.includes(codec));
  const { way, hls } = decide({ kind: "file", playable: true, hls: "/vod/a/master.m3u8", ...item }, {
    file: (container, codecs) => plays.containers.includes(container) && all(codecs),
    segments: (kind, codecs) => all(codecs),
    refused: (container, codec) => !all([codec]),
    choosesSounds: plays.choosesSounds ?? false,
  });
  return [way, hls];
}"""
FILM, MATROSKA = 'video/mp4; codecs="avc1.64001f, mp4a.40.2"', 'video/matroska; codecs="avc1.64001f, ac-3"'
TWO = 'video/mp4; codecs="avc1.64001f, mp4a.40.2, {}"'
SECOND_PLAYS = 'video/mp4; codecs="avc1.64001f, dts, mp4a.40.2"'
BROWSER = {"containers": ["video/mp4"], "codecs": ["avc1.64001f", "mp4a.40.2"]}


@pytest.fixture(scope="module")
def files(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("plays")
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error"]
    command += ["-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10", "-f", "lavfi", "-i", "sine=440"]
    # By one process: to start it takes longer than to encode a file.
    for name, words in {**FILES, **LONGER}.items():
        seconds = LONGER_SECONDS if name in LONGER else SECONDS
        command += [*words.split(), "-t", str(seconds), f"file:{folder / name}"]
    subprocess.run(command, check=True, timeout=300)
    with start_server("--library", str(folder), "--port", "0", env=ENCODES) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, files: ServerProcess) -> AsyncIterator[Tab]:
    async with quiet_tab(browser, files.url) as tab:
        yield tab


async def test_the_page_says_of_each_file_what_is_true_of_it(tab: Tab) -> None:
    await tab.open("radio")
    known = f"(all => all.length === {len(FILES) + len(LONGER)} && all.every(one => one.playable !== null))"
    await tab.until(f"{LISTED}.then({known})")
    said, plays = set(), set()
    for item in await tab.value(LISTED):
        found = await tab.page.evaluate(JUDGED_AND_TRIED, item)
        said |= {item["path"]} if found["said"] else set()
        plays |= {item["path"]} if found["plays"] else set()
    assert said == plays
    assert plays == {*FILES, *LONGER} - {"h264 ac3.mkv", "apple.mp4", "theora.ogv", "divx.avi"}


@pytest.mark.parametrize(
    ("item", "plays", "way"),
    [
        ({"content_type": FILM, "width": 16}, {}, ["file", "segments"]),
        # Neither a server without ffprobe nor one that hasn't looked into a file yet knows what is in it.
        ({"content_type": None, "playable": True}, {}, ["file", "segments"]),
        ({"content_type": None, "playable": None, "hls": None}, {}, ["file", None]),
        # The container isn't played, its codecs are: in segments.
        ({"content_type": FILM, "width": 16}, {"containers": []}, ["segments", "segments"]),
        ({"content_type": FILM, "width": 16, "hls": None}, {"containers": []}, [None, None]),
        # A codec isn't played: encoded, where the server does that.
        ({"content_type": MATROSKA, "width": 16}, {}, [None, None]),
        ({"content_type": MATROSKA, "width": 16, "encoded": True}, {}, ["encoded", "encoded"]),
        ({"content_type": MATROSKA, "width": 16, "encoded": True, "hls": None}, {}, [None, None]),
        ({"content_type": FILM, "width": 16, "encoded": True}, {}, ["file", "segments"]),
        ({"content_type": None, "playable": False, "encoded": True}, {}, ["encoded", "encoded"]),
        # Titles adapt.
        ({"content_type": FILM, "width": 16, "kind": "title"}, {}, ["segments", "segments"]),
        ({"content_type": FILM, "width": 16, "kind": "title", "hls": None}, {}, ["file", None]),
        # Of several sounds the element offers the first alone, but for Safari's.
        ({"content_type": TWO.format("mp4a.40.2"), "width": 16}, {}, ["segments", "segments"]),
        (
            {"content_type": TWO.format("mp4a.40.2"), "width": 16},
            {"choosesSounds": True},
            ["file", "segments"],
        ),
        ({"content_type": TWO.format("ac-3"), "width": 16}, {}, ["file", "segments"]),
        # Encoded, the second sound is there, too; and so is a first one that the browser doesn't decode.
        ({"content_type": TWO.format("ac-3"), "width": 16, "encoded": True}, {}, ["segments", "segments"]),
        ({"content_type": SECOND_PLAYS, "width": 16, "encoded": True}, {}, ["segments", "segments"]),
        (
            {"content_type": SECOND_PLAYS, "width": 16, "encoded": True},
            {"choosesSounds": True},
            ["segments", "segments"],
        ),
        ({"content_type": SECOND_PLAYS, "width": 16}, {}, ["file", "segments"]),
    ],
)
async def test_the_way_is_the_file_then_its_segments_then_encoded_ones(
    page: Page, files: ServerProcess, item: dict[str, Any], plays: dict[str, Any], way: list[str | None]
) -> None:
    if page.url == "about:blank":
        await page.goto(f"{files.url}/player/player.css")
    assert await page.evaluate(DECIDED, [item, {**BROWSER, **plays}]) == way


async def test_the_page_says_in_a_word_how_it_plays_an_item(tab: Tab) -> None:
    for address, word in {
        "h264 aac.mp4": "file",
        "h264 aac.mp4?mode=hls": "segments",
        # Chromium has no decoder of Apple Lossless.
        "apple.mp4": "encoded",
    }.items():
        await tab.open(f"library/{address}")
        await tab.playing()
        assert await tab.page.locator("#way").inner_text() == word
    await tab.open("library/no such film.mp4")
    await tab.until("document.getElementById('facts').textContent.includes('isn\\'t in the library')")
    assert not await tab.page.locator("#way").is_visible()
