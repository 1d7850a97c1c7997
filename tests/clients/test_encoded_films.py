"""Players that read a film while it is encoded for them, from its beginning, and VLC behind a seek."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import run
from tests.clients.vlc import Vlc
from tests.conftest import start_server
from tests.packager.films import run_ffmpeg
from tests.programs import program
from tests.waiting import wait_for

ENCODED_SECONDS = 20


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a film that is encoded while it is played; give the address of its HLS."""
    folder = tmp_path_factory.mktemp("encoded")
    picture = f"-f lavfi -i testsrc2=size=64x48:rate=25:duration={ENCODED_SECONDS}"
    words = f"{picture} -f lavfi -i sine=d={ENCODED_SECONDS} -c:v mpeg4 -vtag XVID -g 50 -c:a libmp3lame"
    run_ffmpeg(*words.split(), folder / "tape.avi")
    environment = {"HEADWATER_LIBRARY_ENCODE": "auto"}
    with start_server("--library", str(folder), "--port", "0", env=environment) as server:
        yield f"{server.url}/vod/tape.avi/master.m3u8"


def test_mpv_plays_what_is_encoded_meanwhile(encoded: str) -> None:
    """From the beginning: it doesn't begin elsewhere in any HLS of fragmented MP4, however that is made."""
    outputs = ("--no-config", "--vo=null", "--ao=null", "--ytdl=no", "--msg-level=all=error,term-msg=info")
    message = "--term-playing-msg=at ${=time-pos} of ${=duration}"
    result = run(program("mpv", "mpv"), *outputs, message, "--frames=5", encoded)
    assert result.status == 0, result.text + result.errors
    found = re.search(r"at ([\d.]+) of ([\d.]+)", result.text)
    assert found is not None, result.text
    assert float(found[1]) == pytest.approx(0, abs=0.1)
    assert float(found[2]) == pytest.approx(ENCODED_SECONDS, abs=0.2)


def test_vlc_plays_what_is_encoded_meanwhile_and_seeks(encoded: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        vlc = Vlc(encoded, folder)
        try:
            wait_for(
                lambda: vlc.number("get_length") in (ENCODED_SECONDS, ENCODED_SECONDS + 1), what="its length"
            )
            vlc.tell("seek 12")
            wait_for(lambda: vlc.number("get_time") >= 12, what="the place")
        finally:
            vlc.stop()


def test_gstreamer_plays_what_is_encoded_meanwhile(encoded: str) -> None:
    sinks = ("video-sink=fakesink", "audio-sink=fakesink")
    result = run(program("gst-launch-1.0", "gstreamer1.0-tools"), "-q", "playbin", f"uri={encoded}", *sinks)
    assert result.status == 0, result.text + result.errors
