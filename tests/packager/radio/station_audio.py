"""Tracks of a station, and the audio that it plays."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from media.mp3.reader import Frame, MpegAudioReader
from packager.process.ffmpeg_discovery import Tools
from packager.radio.audio_blocks import AudioBlock
from packager.radio.folder_station import Station, StationOptions
from packager.radio.limits import StationLimits
from tests.fork_server import is_fork_server
from tests.patience import STATION
from tests.reading import events_of

FITTING = ("-ac", "2", "-ar", "44100", "-b:a", "128k")

PLAY_SECONDS = 200.0
"""Longest that anything here may take: the machine may be slow."""


def tone(path: Path, *arguments: str, seconds: float = 3.0, title: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    source = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    words = [*(arguments or FITTING), "-metadata", f"title={title}", "-metadata", "artist=Maker"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *words, str(path)], check=True)
    return path


def packets(path: Path) -> list[tuple[int, str]]:
    """Size and hash of each packet, as ffprobe sees them."""
    words = ["-show_packets", "-show_data_hash", "md5", "-of", "json"]
    answer = subprocess.run(["ffprobe", "-v", "error", *words, str(path)], check=True, capture_output=True)
    return [(int(row["size"]), row["data_hash"]) for row in json.loads(answer.stdout)["packets"]]


def station(
    folder: Path,
    tools: Tools,
    *,
    loop: bool = False,
    prefill: float = 3600.0,
    limits: StationLimits = STATION,
) -> Station:
    return Station(StationOptions("test", folder, loop=loop, prefill=prefill, limits=limits), tools)


async def play(stream: AsyncGenerator[AudioBlock], blocks: int = 1000) -> list[AudioBlock]:
    played: list[AudioBlock] = []
    async with asyncio.timeout(PLAY_SECONDS), aclosing(stream) as open_stream:
        async for block in open_stream:
            played.append(block)
            if len(played) == blocks:
                break
    return played


def frames(data: bytes) -> list[Frame]:
    return [event for event in events_of(MpegAudioReader(), data) if isinstance(event, Frame)]


def audio(blocks: list[AudioBlock]) -> bytes:
    return b"".join(block.data for block in blocks)


def encoders() -> list[int]:
    """Process ids of the ffmpegs that were started here and run; each is a Python program at first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name stands in brackets, and may itself hold blanks and brackets.
            pid, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        name, _, fields = rest.rpartition(") ")
        state, parent, *_ = fields.split()
        if int(parent) == os.getpid() and state != "Z" and name.startswith(("ffmpeg", "python")):
            found.append(int(pid))
    return [pid for pid in found if not is_fork_server(pid)]


def block(rate: int, seconds: int, size: int = 16_000) -> AudioBlock:
    return AudioBlock(bytes(size), seconds * rate, rate, "", (0,))
