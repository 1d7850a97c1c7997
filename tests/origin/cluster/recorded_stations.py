"""Nodes that share a station with recordings, requests to them, and what is judged of the recordings."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import m3u8
import numpy as np

from tests.conftest import ServerProcess, start_server
from tests.e2e.station_tones import tone
from tests.fork_server import HEADWATER
from tests.keys import ADMIN_TOKEN, BEARER
from tests.patience import CLIENT_SECONDS
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, SECRET
from tests.waiting import wait_for

HERTZ = 1000
"""The tone that the station plays."""

TAKEOVER_SECONDS = 10
"""How much of a recording may be silence, or missing, for each owner that was killed."""

FOLDER = 'folder = "music"\ndvr = "1h"\nrecord = "programmes"'
"""A station that plays a folder."""

CONFIG = f"""
[server]
admin_token = "{ADMIN_TOKEN}"
dvr_path = "s3://{BUCKET}/%(place)s"
[cluster]
url = "%(redis)s"
[[radio]]
name = "fm"
bitrate = 64
hls_bitrates = [48]
%(station)s
"""


class Nodes:
    """The nodes of a cluster, each with a data folder of its own.

    Attributes:
        environment: variables by which they find S3.
        program: what they are started as, as ``start_server`` takes it.
        running: those that run, by name.
    """

    def __init__(self, folder: Path, environment: dict[str, str], program: Sequence[str]) -> None:
        self.folder = folder
        self.environment = environment
        self.program = program
        self.running: dict[str, ServerProcess] = {}

    @property
    def every(self) -> list[ServerProcess]:
        return [*self.running.values()]

    def start(
        self, name: str, role: str = "packager", *, data: bool = True, redis: str = ""
    ) -> ServerProcess:
        env = {"HEADWATER_CLUSTER_ROLE": role, "HEADWATER_CLUSTER_NAME": name, **self.environment}
        if redis:
            env["HEADWATER_CLUSTER_URL"] = redis
        if data:
            env["HEADWATER_SERVER_DATA"] = str(self.folder / f"data-{name}")
        config = str(self.folder / "headwater.toml")
        words = "--config", config, "--port", "0"
        one = start_server(*words, cwd=self.folder, env=env, program=self.program)
        self.running[name] = one
        return one

    def owner(self) -> str:
        """Wait until one of them owns the station's log, and return its name."""

        def found() -> str:
            owners = [name for name, one in self.running.items() if owns(one)]
            return owners[0] if len(owners) == 1 else ""

        return wait_for(found, "an owner")

    def kill(self, name: str) -> None:
        one = self.running.pop(name)
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()

    def stop(self) -> None:
        for one in self.every:
            one.process.send_signal(signal.SIGCONT)
            one.process.kill()
            one.process.wait()


@contextlib.contextmanager
def recording_nodes(
    folder: Path,
    redis: RedisServer,
    environment: dict[str, str],
    station: str = FOLDER,
    program: Sequence[str] = (str(HEADWATER),),
) -> Iterator[Nodes]:
    """Make a cluster whose nodes are started in the context, and store below the folder's name in S3.

    Args:
        environment: variables by which they find S3.
        station: more options of the station.
        program: what the nodes are started as, as ``start_server`` takes it.
    """
    (folder / "music").mkdir()
    (folder / "music" / "tone.mp3").write_bytes(tone(HERTZ, 60, title="A tone"))
    redis.command("FLUSHALL")
    told = {"place": folder.name, "redis": redis.url, "station": station}
    (folder / "headwater.toml").write_text(CONFIG % told)
    nodes = Nodes(folder, environment, program)
    try:
        yield nodes
        for one in nodes.every:
            assert "Traceback" not in one.text()
            assert SECRET not in one.text()
    finally:
        nodes.stop()


def get(one: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(f"{one.url}{path}", timeout=CLIENT_SECONDS, follow_redirects=True)


def owns(one: ServerProcess, station: str = "fm") -> bool:
    return f'headwater_cluster_owner{{channel="{station}"}} 1.0' in get(one, "/metrics").text


def playlist(one: ServerProcess, station: str = "fm") -> str:
    answer = get(one, f"/live/{station}/48k/media.m3u8")
    return answer.text if answer.status_code == 200 else "#EXTM3U\n"


def listed(one: ServerProcess, station: str = "fm") -> list[m3u8.Segment]:
    return [one for one in m3u8.loads(playlist(one, station)).segments if one.uri and not one.gap_tag]


def newest(one: ServerProcess) -> str:
    return str(listed(one)[-1].uri)


def begin_of(segment: m3u8.Segment) -> float:
    assert segment.program_date_time is not None
    return float(segment.program_date_time.timestamp())


def keep(one: ServerProcess, start: float, end: float, title: str) -> httpx.Response:
    body = {"start": start, "end": end, "title": title}
    url = f"{one.url}/live/fm/recordings"
    return httpx.post(url, json=body, headers=BEARER, timeout=CLIENT_SECONDS)


def remove(one: ServerProcess, name: str) -> int:
    url = f"{one.url}/live/fm/recordings/{name}"
    return httpx.delete(url, headers=BEARER, timeout=CLIENT_SECONDS).status_code


def put_programmes(one: ServerProcess, *programmes: dict[str, Any], station: str = "fm") -> None:
    url = f"{one.url}/live/{station}/programmes"
    answer = httpx.put(url, json=[*programmes], headers=BEARER, timeout=CLIENT_SECONDS)
    assert answer.status_code == 200, answer.text


def recordings(one: ServerProcess, station: str = "fm") -> dict[str, dict[str, Any]]:
    found = [each for each in get(one, "/api/radio").json() if each["name"] == station]
    return {each["title"]: each for each in found[0]["recordings"]}


def wait_for_recording(every: Sequence[ServerProcess], title: str, station: str = "fm") -> dict[str, Any]:
    """Wait until all nodes list a recording, and return what they say of it, which is the same."""
    wait_for(lambda: all(title in recordings(one, station) for one in every), f"the recording {title!r}", 180)
    found = [recordings(one, station)[title] for one in every]
    assert all(one == found[0] for one in found)
    return found[0]


def same(every: Sequence[ServerProcess], path: str) -> bytes:
    """Ask all nodes for a file, which is the same at all."""
    answers = [get(one, path) for one in every]
    assert {one.status_code for one in answers} == {200}, path
    assert len({one.content for one in answers}) == 1
    return answers[0].content


def judge(
    every: Sequence[ServerProcess],
    made: dict[str, Any],
    seconds: float,
    folder: Path,
    takeovers: int = 0,
    spare: float = 0.0,
) -> str:
    """Check a recording's file and playlist at all nodes; return the playlist.

    Args:
        seconds: that were to be recorded.
        takeovers: how often the station had another owner meanwhile.
        spare: seconds within which the recording may have begun, of which it may have all or nothing.
    """
    missing = takeovers * TAKEOVER_SECONDS
    file = folder / f"{made['id']}.mp4"
    file.write_bytes(same(every, made["mp4"]))
    duration = _duration_of(file)
    assert seconds - missing - 1 < duration < seconds + spare + 1, f"{duration} s of {seconds}"
    assert _seconds_of_tone(file) > seconds - missing - 1
    text = same(every, made["hls"].replace("master", "48k/media")).decode()
    found = m3u8.loads(text)
    assert found.is_endlist
    numbers = [int(str(one.uri).partition(".")[0]) for one in found.segments if one.uri and not one.gap_tag]
    assert all(before < after for before, after in itertools.pairwise(numbers))
    assert numbers[-1] - numbers[0] + 1 - len(numbers) <= (missing + 3) // 4
    return text


def _seconds_of_tone(file: Path) -> float:
    """How long the station's tone is in a file, as ffmpeg decodes it."""
    words = ["-v", "error", "-i", str(file), "-ac", "1", "-ar", "8000", "-f", "s16le", "-"]
    done = subprocess.run(["ffmpeg", "-nostdin", *words], check=True, capture_output=True, timeout=240)
    assert done.stderr == b""
    samples = np.frombuffer(done.stdout, "<i2").astype(float)
    steps = samples[: len(samples) // 400 * 400].reshape(-1, 400) * np.hanning(400)
    spectra = np.abs(np.fft.rfft(steps))
    heard = (spectra.argmax(axis=1) == HERTZ // 20) & (spectra.max(axis=1) > 1000)
    return float(heard.sum()) / 20


def _duration_of(file: Path) -> float:
    words = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(file)]
    done = subprocess.run(["ffprobe", *words], check=True, capture_output=True, text=True, timeout=60)
    return float(done.stdout)
