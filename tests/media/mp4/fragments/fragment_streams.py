"""Streams of movie fragments, written by ffmpeg."""

from __future__ import annotations

import functools
import shutil
import subprocess

FFMPEG = shutil.which("ffmpeg") or "ffmpeg"


@functools.cache
def stream() -> bytes:
    """Two seconds of H.264 with B-frames, a fragment per frame, without the index at the end."""
    command = (
        f"{FFMPEG} -nostdin -loglevel error -f lavfi -i testsrc2=size=64x64:rate=30 -t 2 -c:v libx264"
        " -bf 2 -g 30 -pix_fmt yuv420p -f mp4 -movflags +frag_every_frame+empty_moov+default_base_moof+cmaf"
        " -output_ts_offset 1000000 pipe:1"
    )
    data = subprocess.run(command.split(), check=True, capture_output=True).stdout
    return data[: data.rindex(b"mfra") - 4]
