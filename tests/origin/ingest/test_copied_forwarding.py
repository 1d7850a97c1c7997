"""What goes out without an encoder is pushed on packet by packet, and no receiver disturbs it.

The receivers are others' programs: nginx's rtmp module, and ffmpeg listening for SRT and for RTMP.
"""

from __future__ import annotations

import contextlib
import getpass
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.media.muxers.muxed_streams import packets
from tests.media.rtmp.newer_ffmpeg import newer_ffmpeg
from tests.origin.ingest.studio import KEY, Studio, encoding, is_media_listed_last, studio, timelines
from tests.ports import kept_port
from tests.srt import udp_port
from tests.waiting import wait_for

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MODULE.exists(), reason="Debian's libnginx-mod-rtmp isn't installed"),
]

NGINX = """
load_module {module}; user {user};
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port};
  application live {{ live on; record all; record_path {folder}; record_suffix -%s.flv; }}
}} }}
"""

NOISE = (
    "-f lavfi -i testsrc2=size=320x240:rate=25,noise=alls=100:allf=t -f lavfi -i sine=440:sample_rate=48000"
    " -t 3 -c:v libx264 -preset ultrafast -qp 4 -g 25 -pix_fmt yuv420p -c:a aac -f flv"
)
"""So much that a receiver that stands still is noticed in seconds, since what is on its way is full then."""

HEVC = (
    "-f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=440:sample_rate=48000 -t 3"
    " -c:v libx265 -preset ultrafast -x265-params keyint=25:log-level=none -c:a aac -f mpegts"
)
LOOPED = "-nostdin -v error -re -stream_loop -1 -i {} -c copy -f {}"


@contextlib.contextmanager
def nginx(folder: Path, port: int) -> Iterator[Path]:
    """Run an nginx that records what is published to it; give the folder of its recordings."""
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(module=MODULE, user=getpass.getuser(), folder=folder, port=port))
    process = subprocess.Popen(["/usr/sbin/nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"])
    try:
        yield folder
    finally:
        process.terminate()
        process.wait()


def recordings(folder: Path) -> list[Path]:
    """Give what nginx has recorded, the oldest first."""
    return sorted(one for one in folder.glob("*.flv") if one.stat().st_size > 1 << 16)


def made(folder: Path, name: str, words: str) -> Path:
    path = folder / name
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *words.split(), str(path)], check=True)
    return path


def forwards(near: Studio) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = near.channel()["publisher"]["forwards"]
    return told


def assert_same(sent: Path, received: Path) -> None:
    """Check that what was received are packets of the recording in a loop, and that none is missing."""
    hashes = [one[3] for one in packets(sent, "v")]
    found = [one[3] for one in packets(received, "v")]
    assert len(found) > 20
    first = hashes.index(found[0])
    assert found == [hashes[(first + index) % len(hashes)] for index in range(len(found))]


@pytest.mark.clause("What isn't encoded is pushed on packet by packet, and receivers disturb nothing")
def test_a_copied_stream_is_pushed_on_and_a_receiver_that_stalls_disturbs_nobody(tmp_path: Path) -> None:
    noise, hevc = made(tmp_path, "noise.flv", NOISE), made(tmp_path, "hevc.ts", HEVC)
    over_srt = tmp_path / "srt.ts"
    with kept_port() as rtmp, kept_port() as stalling, kept_port() as own, contextlib.ExitStack() as stack:
        srt = udp_port()
        folder = stack.enter_context(nginx(tmp_path / "nginx", rtmp))
        # On a busy machine SRT's receiver would drop what is 120 ms late, and the picture lack it.
        options = "mode=listener&tlpktdrop=0"
        listening = f"-nostdin -v error -i srt://127.0.0.1:{srt}?{options} -c copy {over_srt}"
        stack.enter_context(encoding(*listening.split()))
        stands_still = f"-nostdin -v error -listen 1 -i rtmp://127.0.0.1:{stalling}/live/x -f null -"
        still = stack.enter_context(encoding(*stands_still.split()))
        targets = [
            f"rtmp://127.0.0.1:{rtmp}/live/far",
            f"srt://127.0.0.1:{srt}",
            f"rtmp://127.0.0.1:{stalling}/live/x",
        ]
        near = stack.enter_context(
            studio(
                tmp_path,
                f'ladder = ["source"]\nforward = {targets}\n',
                # Numbers that are kept may be ahead of the clock's, as a publisher is that catches up.
                f'[server]\nrtmp_port = {own}\ndata = "{tmp_path / "data"}"\n',
                ladder=False,
            )
        )
        address = f"rtmp://127.0.0.1:{own}/live/studio?key={KEY}"
        with encoding(*LOOPED.format(noise, "flv").split(), address):
            first = near.wait_for_timeline(rendition="source")
            wait_for(lambda: all(one["state"] == "sending" for one in forwards(near)), "all receivers")
            # On a busy machine a receiver may not have listened yet when it was called first.
            before = [one["failures"] for one in forwards(near)[:2]]
            still.send_signal(signal.SIGSTOP)
            wait_for(lambda: forwards(near)[2]["failures"] > 0, "the end of the one that stands still")
            last_error = forwards(near)[2]["last_error"]
            assert "read nothing for" in last_error or "too slowly" in last_error
            assert [one["failures"] for one in forwards(near)[:2]] == before
            assert not near.channel()["publisher"]["is_encoded"]
            playlist = near.media_playlist(rendition="source")
            assert "#EXT-X-GAP" not in playlist
            told = "".join(near.server.output)
            assert timelines(playlist) == timelines(first), f"viewers saw nothing of it: {told}"
        # Another publisher, of a codec that RTMP doesn't carry: only that receiver lacks it.
        wait_for(lambda: forwards(near)[0]["state"] == "idle", "the end of the first stream")
        assert_same(noise, recordings(folder)[0])
        with encoding(*LOOPED.format(hevc, "mpegts").split(), "-method", "PUT", f"{near.address}?key={KEY}"):
            wait_for(lambda: forwards(near)[0]["failures"] > 0, "what RTMP doesn't carry")
            assert "hevc" in forwards(near)[0]["last_error"], "".join(near.server.output)

            def plays_on() -> bool:
                text = near.media_playlist(rendition="source")
                return timelines(text) > timelines(first) and is_media_listed_last(text)

            wait_for(plays_on, "the other codec")
            assert not near.channel()["publisher"]["is_encoded"]
        still.send_signal(signal.SIGCONT)
    # libavformat closes SRT without waiting for what is on its way: the last picture may be cut off.
    count, whole = len(packets(over_srt, "v")) - 1, tmp_path / "whole.ts"
    assert count > 50
    copied = f"-v error -i {over_srt} -map 0:v -c copy -frames:v {count} {whole}"
    subprocess.run(["ffmpeg", "-nostdin", *copied.split()], check=True)
    shown = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(whole), "-map", "0:v", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "error" not in shown.stderr


def test_of_several_renditions_the_main_picture_is_pushed_on(tmp_path: Path) -> None:
    """Multitrack video: all pictures are renditions here, and a server that takes one gets the largest."""
    sizes = ("480x270", "426x240")
    # Without sound, which is a little longer than the picture: their loops would drift apart.
    made_of = "-f lavfi -i testsrc2=size={}:rate=25 -t 3 -g 25"
    coding = "-c:v libx264 -preset ultrafast -sc_threshold 0 -pix_fmt yuv420p -f flv"
    large, small = (made(tmp_path, f"{size}.flv", f"{made_of.format(size)} {coding}") for size in sizes)
    with kept_port() as rtmp, kept_port() as own, nginx(tmp_path / "nginx", rtmp) as folder:
        more = f'ladder = ["source", "240p"]\nforward = ["rtmp://127.0.0.1:{rtmp}/live/far"]\n'
        with studio(tmp_path, more, f"[server]\nrtmp_port = {own}\n", ladder=False) as near:
            inputs = f"-re -stream_loop -1 -i {large} -re -stream_loop -1 -i {small}"
            inputs += " -re -f lavfi -i sine=440:sample_rate=48000"
            words = f"-nostdin -v error {inputs} -map 0:v -map 1:v -map 2:a -c:v copy -c:a aac -f flv"
            address = f"rtmp://127.0.0.1:{own}/live/studio?key={KEY}"
            with encoding(*words.split(), address, program=newer_ffmpeg()):
                near.wait_for_timeline(rendition="240p")
                told = near.channel()["publisher"]
                assert (told["pictures"], told["is_encoded"]) == (2, False)
                wait_for(lambda: recordings(folder), "what is pushed on")
            wait_for(lambda: forwards(near)[0]["state"] == "idle", "the end of the stream")
            assert forwards(near)[0]["failures"] == 0
        assert_same(large, recordings(folder)[0])
