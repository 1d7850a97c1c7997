"""Stations with a past, what they list, and what is heard of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import httpx
import m3u8
import numpy as np

from tests.conftest import ServerProcess, start_server
from tests.e2e.station_tones import tone
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

STATION = """
[[radio]]
name = "fm"
folder = "music"
bitrate = 64
dvr = "1h"
hls_bitrates = [64]
"""

PITCHES = (600, 1000)
"""Tones of the folder."""

SENT = 2200
"""The tone of the source client."""

SENT_SOUND = f"sine={SENT}"

TUNE_SECONDS = 6
"""How long each tone of the folder is."""

AWAY = 6
"""Segments that have left the list before it is looked at."""


def write_tunes(folder: Path, *pitches: int) -> None:
    """Fill a folder for stations with tones of six seconds."""
    (folder / "music").mkdir()
    for pitch in pitches or PITCHES:
        (folder / "music" / f"{pitch}.mp3").write_bytes(tone(pitch, TUNE_SECONDS, title=f"Tone {pitch}"))


def start_behind_its_list(
    folder: Path, env: dict[str, str] | None = None, *options: str
) -> tuple[ServerProcess, m3u8.Segment]:
    """Serve a station that lists little of its past; return also a segment that has left its list.

    Args:
        options: lines of its server's section.
    """
    write_tunes(folder)
    head = "\n".join(("[server]", "port = 0", 'data = "data"', *options))
    (folder / "headwater.toml").write_text(f'{head}{STATION}playlist_window = "1s"\n')
    server = start_server(cwd=folder, env=env, program=patient_server())
    first = wait_for(lambda: listed(server)[2:3], "some segments")[0]
    wait_for(lambda: number(listed(server)[0]) > number(first) + AWAY, "they have left the list")
    return server, first


def get(server: ServerProcess, path: str, **options: Any) -> httpx.Response:
    return httpx.get(server.url + path, timeout=CLIENT_SECONDS, **options)


def listed(server: ServerProcess, path: str = "/live/fm/64k/media.m3u8") -> list[m3u8.Segment]:
    answer = get(server, path)
    return [one for one in m3u8.loads(answer.text).segments if one.uri] if answer.status_code == 200 else []


def media(segments: list[m3u8.Segment]) -> list[m3u8.Segment]:
    return [one for one in segments if not one.gap_tag]


def number(segment: m3u8.Segment) -> int:
    return int(str(segment.uri).partition(".")[0])


def date(segment: m3u8.Segment) -> float:
    return float(segment.program_date_time.timestamp())


def pitches(file: Path) -> list[int]:
    """The pitch of each twentieth of a second, as ffmpeg decodes a file."""
    words = ["-v", "error", "-i", str(file), "-ac", "1", "-ar", "8000", "-f", "s16le", "-"]
    done = subprocess.run(["ffmpeg", "-nostdin", *words], check=True, capture_output=True, timeout=240)
    assert not done.stderr
    samples = np.frombuffer(done.stdout, "<i2").astype(float)
    steps = samples[: len(samples) // 400 * 400].reshape(-1, 400) * np.hanning(400)
    return [int(one) * 20 for one in np.abs(np.fft.rfft(steps)).argmax(axis=1)]
