"""Channels of other servers' streams, watched by ffmpeg over HTTP: VLC's RTSP, MPEG-TS in UDP, Icecast."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from packager.live.channel import Channel
from packager.live.options import ChannelOptions
from packager.process.ffmpeg_discovery import Tools
from tests import icecast
from tests.live_server import broadcasting
from tests.packager.sources.protocol_servers import child, free_port
from tests.patience import LIVE
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)
"""All that a test waits for together."""

SECONDS, RATE = 3, 25
PICTURE = f"-re -f lavfi -i testsrc2=size=320x240:rate={RATE}"
SOUND = "-re -f lavfi -i sine=frequency=440:sample_rate=48000"
H264 = "-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -pix_fmt yuv420p -c:a aac -ac 2"
GONE_SECONDS = float(os.environ.get("GONE_SECONDS", "5"))
"""How long a source is gone; for ten minutes: ``GONE_SECONDS=600 pytest --timeout=900 -k watches``."""


def sender(url: str) -> list[str]:
    words = f"-nostdin -v quiet {PICTURE} {SOUND} {H264} -f mpegts {url}?pkt_size=1316"
    return ["ffmpeg", *words.split()]


@contextlib.contextmanager
def radio_by_icecast() -> Iterator[str]:
    if not icecast.is_installed():
        pytest.skip("Icecast isn't installed")
    with icecast.running() as server:
        words = f"-nostdin -v quiet {SOUND} -c:a libmp3lame -content_type audio/mpeg -f mp3"
        with child(["ffmpeg", *words.split(), server.source_url("live.mp3")]):
            yield f"{server.url}/live.mp3"


def test_a_pulled_station_is_watched_with_its_sound_and_a_picture_that_is_made(
    tools: Tools,
) -> None:
    with radio_by_icecast() as url:
        options = ChannelOptions(
            "pulled", url, ladder=("240p",), part_duration=0.25, segment_duration=1.0, limits=LIVE
        )
        with broadcasting(Channel(options, tools)) as server:
            wait_for(lambda: server.channel.ready, what="the channel")
            words = f"-v error -i {server.url}/master.m3u8 -map 0:v:0 -map 0:a:0 -t {SECONDS} -f framemd5 -"
            watched = subprocess.run(
                ["ffmpeg", *words.split()], check=True, capture_output=True, text=True, timeout=300
            )
    rows = [line.split(",") for line in watched.stdout.splitlines() if not line.startswith("#")]
    shown, heard = ([row for row in rows if row[0] == index] for index in "01")
    assert watched.stderr == ""
    assert len(shown) >= SECONDS * server.channel.cadence.frame_rate - 1
    assert len(heard) >= SECONDS * 48000 / 1024 - 2
    silence = 1  # packets of silence all have the same hash
    assert len({row[5] for row in heard}) > silence


def frames(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_who_watches_plays_on_when_the_source_was_gone_for_long(tools: Tools, tmp_path: Path) -> None:
    url, seen = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", tmp_path / "seen"
    options = ChannelOptions("pulled", url, ladder=("240p",), part_duration=0.25, segment_duration=1.0)
    with broadcasting(Channel(options, tools)) as server:
        channel = server.channel
        with child(sender(url)):
            wait_for(lambda: channel.ready, what="the channel")
            # By itself ffmpeg gives up after a hundred looks without media.
            words = f"-nostdin -v quiet -max_reload 100000 -i {server.url}/master.m3u8 -map 0:v:0"
            watching = subprocess.Popen(
                ["ffmpeg", *words.split(), "-flush_packets", "1", "-f", "framecrc", str(seen)]
            )
            wait_for(lambda: frames(seen) > RATE, what="a second to be watched")
        try:
            gone = time.monotonic()
            wait_for(lambda: channel.state == "down", what="the gap")
            wait_for(lambda: time.monotonic() > gone + GONE_SECONDS, "the time", GONE_SECONDS + 30)
            window = channel.renditions["240p"].window
            # EXT-X-GAP comes as segments would (RFC 8216bis §6.2.1)
            wait_for(lambda: all(segment.gap for segment in tuple(window.listed)[-3:]), what="three gaps")
            before = frames(seen)
            with child(sender(url)):
                wait_for(lambda: channel.state == "live", what="the source's return")
                wait_for(lambda: frames(seen) > before + 2 * RATE, what="two more seconds to be watched")
            assert watching.poll() is None
        finally:
            watching.kill()
            watching.wait()
