"""Pictures that a publisher sends itself are levels in hls.js, which follows the connection among them."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.conftest import start_server
from tests.copied_channel import RATE
from tests.e2e.conftest import PATIENCE_SECONDS, SMALL, open_tab
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.ports import kept_port

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.realtime]

KEY = "of-the-studio-0c2e"
CONFIG = """
[server]
port = {port}
rtmp_port = {rtmp}

[[live]]
name = "test"
source = "publish"
publish_key = "{key}"
ladder = ["source", "240p"]
part_duration = 0.333
segment_duration = 1.0
"""
PICTURES = {"480x270": "2500k", "426x240": "200k"}
"""The size of each picture, the main one first, and its bitrate."""

THROTTLE_BYTES_PER_SECOND = 112_500
"""900 kbit/s: too little for the main picture."""


def record(path: Path) -> None:
    """Record both pictures and the sound, in key frames of a second, which a loop keeps together."""
    first, second = PICTURES.items()
    noise = f"testsrc2=size={first[0]}:rate={RATE},noise=alls=40:allf=t"
    words = f"-nostdin -v error -f lavfi -i {noise} -f lavfi -i sine=440:sample_rate=48000 -t 8"
    words += f" -map 0:v -map 0:v -map 1:a -s:v:1 {second[0]} -c:a aac -c:v libx264 -preset ultrafast"
    words += f" -tune zerolatency -g {RATE} -sc_threshold 0 -pix_fmt yuv420p"
    for index, (_, rate) in enumerate((first, second)):
        words += f" -b:v:{index} {rate} -maxrate:v:{index} {rate} -bufsize:v:{index} {rate}"
    subprocess.run(["ffmpeg", *words.split(), str(path)], check=True)


@pytest.mark.clause("Viewers switch among a publisher's own pictures as their connection allows")
async def test_hls_js_follows_the_connection_among_a_publishers_own_pictures(
    browser: Browser, tmp_path: Path
) -> None:
    program = newer_ffmpeg()
    film = tmp_path / "film.mkv"
    await asyncio.to_thread(record, film)
    words = f"-nostdin -v error -re -stream_loop -1 -i {film} -map 0 -c copy -f flv"
    with kept_port() as port, kept_port() as rtmp:
        (tmp_path / "library").mkdir()
        (tmp_path / "headwater.toml").write_text(CONFIG.format(port=port, rtmp=rtmp, key=KEY))
        server = await asyncio.to_thread(start_server, "--config", "headwater.toml", cwd=tmp_path)
        address = f"rtmp://127.0.0.1:{rtmp}/live/test?key={KEY}"
        encoder = await asyncio.create_subprocess_exec(program, *words.split(), address)
        try:
            tab = await open_tab(browser, server.url, viewport=SMALL)
            await tab.open("live/test")
            await tab.value("void (window.sameDocument = true)")
            devtools = await tab.page.context.new_cdp_session(tab.page)
            limits = {"offline": False, "latency": 20, "uploadThroughput": -1}
            rates = (-1, THROTTLE_BYTES_PER_SECOND, -1)
            for rate, (level, height) in zip(rates, ((1, 270), (0, 240), (1, 270)), strict=True):
                await devtools.send(
                    "Network.emulateNetworkConditions", {**limits, "downloadThroughput": rate}
                )
                if rate < 0:
                    # hls.js takes minutes to believe in a link that got better: it is put right by hand.
                    await tab.until("headwater.hls")
                    await tab.value("void (headwater.hls.bandwidthEstimate = 20e6)")
                shown = f"headwater.stats().level === {level} && headwater.video.videoHeight === {height}"
                await tab.until(shown, PATIENCE_SECONDS)
                await tab.playing()
            assert await tab.value("headwater.stats().levels === 2 && headwater.stats().automatic")
            assert await tab.value("window.sameDocument && headwater.video.error === null")
            await tab.page.context.close()
        finally:
            encoder.kill()
            await encoder.wait()
            await asyncio.to_thread(server.stop)
        assert "further video tracks aren't used" not in server.text()
        assert "Traceback" not in server.text()
