"""Players that seek in a film whose index stands behind its media: few bytes, and the right frame."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools
from tests.clients.conftest import FILM_SIZE, run
from tests.clients.films import FRAME_RATE, KEY_FRAME_SECONDS
from tests.clients.vlc import Vlc
from tests.conftest import ServerProcess
from tests.programs import program
from tests.waiting import wait_for

SMALL_PART = FILM_SIZE // 4
"""Bytes that a seek may cost, of 100 MiB: the index, what a player reads ahead, and what it reads in vain."""


@pytest.fixture(scope="module")
def seconds(tools: Tools, library: Path) -> float:
    """How long the film is, by its file."""
    entries = ("-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0")
    return float(run(str(tools.ffprobe), *entries, f"file:{library / 'tail.mp4'}").text)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_ffmpeg_finds_the_same_frame_as_in_the_file(
    tools: Tools, origin: ServerProcess, library: Path, seconds: float, share: float
) -> None:
    def frames(address: str) -> tuple[str, str]:
        options = ("-nostdin", "-loglevel", "verbose", "-ss", f"{seconds * share:.2f}", "-i", address)
        result = run(str(tools.ffmpeg), *options, "-frames:v", "3", "-an", "-f", "framemd5", "pipe:1")
        assert result.status == 0, result.errors
        return result.text, result.errors

    remote, log = frames(f"{origin.url}/media/tail.mp4")
    assert remote == frames(f"file:{library / 'tail.mp4'}")[0]
    assert remote.count("\n0,") == 3
    read = sum(int(count) for count in re.findall(r"Statistics: (\d+) bytes read", log))
    assert 0 < read < SMALL_PART


def test_ffprobe_reads_a_packet_near_the_end(
    tools: Tools, origin: ServerProcess, library: Path, seconds: float
) -> None:
    def packets(address: str) -> str:
        entries = (
            "-show_entries",
            "packet=pts,pos,size,data_hash",
            "-show_data_hash",
            "md5",
            "-of",
            "csv=p=0",
        )
        place = ("-read_intervals", f"{seconds - 5:.2f}%+#5", "-select_streams", "v")
        result = run(str(tools.ffprobe), "-v", "error", *place, *entries, address)
        assert result.status == 0, result.errors
        return result.text

    remote = packets(f"{origin.url}/media/tail.mp4")
    assert remote == packets(f"file:{library / 'tail.mp4'}")
    assert len(remote.splitlines()) == 5


@pytest.mark.parametrize("share", [0.95, 0.7, 0.45, 0.2])
def test_mpv_starts_where_it_is_told(origin: ServerProcess, seconds: float, share: float) -> None:
    start = round(seconds * share, 2)
    outputs = ("--no-config", "--vo=null", "--ao=null", "--ytdl=no", "--msg-level=all=error,term-msg=info")
    message = "--term-playing-msg=at ${=time-pos} of ${=duration}"
    place = (f"--start={start}", "--frames=5")
    result = run(program("mpv", "mpv"), *outputs, message, *place, f"{origin.url}/media/tail.mp4")
    assert result.status == 0, result.text + result.errors
    found = re.search(r"at ([\d.]+) of ([\d.]+)", result.text)
    assert found is not None, result.text
    assert float(found[1]) == pytest.approx(start, abs=KEY_FRAME_SECONDS + 1 / FRAME_RATE)
    assert float(found[2]) == pytest.approx(seconds, abs=0.1)


def is_near(vlc: Vlc, place: int) -> bool:
    return vlc.number("get_time") in range(place - KEY_FRAME_SECONDS, place + 60)


def test_vlc_plays_on_from_where_it_is_sent(origin: ServerProcess, seconds: float) -> None:
    """Forth and back, further than it could have played in the time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        vlc = Vlc(f"{origin.url}/media/tail.mp4", folder)
        try:
            wait_for(lambda: vlc.number("get_length") == int(seconds), what="the film's length")
            for share in (0.9, 0.2, 0.6):
                place = int(seconds * share)
                vlc.tell(f"seek {place}")
                wait_for(functools.partial(is_near, vlc, place), what=f"second {place}")
        finally:
            vlc.stop()
