"""Ogg as ffmpeg makes it, and as ogginfo and ffprobe judge it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from tests.programs import program

ENCODERS = {"vorbis": ("libvorbis", 44100), "opus": ("libopus", 48000), "flac": ("flac", 32000)}
"""ffmpeg's encoder and a sample rate, by codec."""

SECONDS = 3
"""Length of what is made, if nothing else is said."""


def encoded(
    codec: str, title: str, *more: str, seconds: float = SECONDS, source: str = "sine=frequency=330"
) -> bytes:
    """Make a file of a tone."""
    encoder, rate = ENCODERS[codec]
    words = ["-f", "lavfi", "-i", f"{source}:sample_rate={rate}:duration={seconds}", "-ac", "2"]
    words += ["-c:a", encoder, "-metadata", f"title={title}", "-metadata", "artist=Maker", *more]
    command = ["ffmpeg", "-nostdin", "-v", "error", *words, "-f", "ogg", "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def packets(data: bytes) -> list[str]:
    """Give the sums of the packets that ffprobe finds; not of a chain of Opus, which it doesn't follow."""
    words = ["-show_entries", "packet=data_hash", "-show_data_hash", "md5", "-of", "csv=p=0"]
    command = ["ffprobe", "-v", "error", *words, "-i", "pipe:0"]
    answer = subprocess.run(command, check=True, capture_output=True, input=data)
    return [line.strip(",") for line in answer.stdout.decode().split()]


@dataclass(frozen=True, slots=True)
class Report:
    """What ogginfo says.

    Attributes:
        types: of the logical streams, in order.
        titles: of them.
        serials: of them.
        warnings: whatever it doesn't like.
    """

    types: list[str]
    titles: list[str]
    serials: list[str]
    warnings: list[str]


def judged(data: bytes) -> Report:
    """Ask ogginfo, or skip the test where it isn't."""
    command = [program("ogginfo", "vorbis-tools"), "/dev/stdin"]
    answer = subprocess.run(command, capture_output=True, input=data, env={"LC_ALL": "C.UTF-8"})
    text = answer.stdout.decode("utf-8", "replace")
    return Report(
        [kind.lower() for kind in re.findall(r"type (\w+)$", text, re.MULTILINE)],
        re.findall(r"^\tTITLE=(.*)$", text, re.MULTILINE | re.IGNORECASE),
        re.findall(r"serial: (\w+)", text),
        # ffmpeg ends each FLAC stream with an empty packet, which has nothing to do with us.
        [line for line in re.findall(r"WARNING: (.*)", text) if "zero size packet" not in line],
    )
