"""Films for clients to seek in: of any size within seconds, by repeating a short one."""

from __future__ import annotations

import subprocess
from pathlib import Path

BASE_SECONDS = 10
KEY_FRAME_SECONDS = 1
FRAME_RATE = 25
TIMEOUT_SECONDS = 600.0
"""A gigabyte is written twice, on a disk that others use."""


def make_film(path: Path, size: int, *, moov_first: bool) -> None:
    """Make a film of at least that many bytes, with a key frame and its sound in each second.

    Args:
        path: Where it shall lie; its folder gets a short film more, which is removed again.
        size: Bytes.
        moov_first: Whether its index stands before the media or behind.
    """
    base = path.with_name(f".{path.name}")
    # Noise can't be compressed: it makes the bytes, of which small pictures of much noise have enough.
    picture = f"testsrc2=size=320x180:rate={FRAME_RATE}:duration={BASE_SECONDS},noise=alls=30:allf=t"
    video = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "28", "-pix_fmt", "yuv420p")
    keys = ("-g", str(KEY_FRAME_SECONDS * FRAME_RATE), "-keyint_min", str(KEY_FRAME_SECONDS * FRAME_RATE))
    sound = ("-f", "lavfi", "-i", f"sine=frequency=440:duration={BASE_SECONDS}")
    _ffmpeg("-f", "lavfi", "-i", picture, *sound, *video, *keys, "-c:a", "aac", "-f", "mp4", str(base))
    repeats = -(-size // base.stat().st_size) - 1
    flags = ("-movflags", "+faststart") if moov_first else ()
    _ffmpeg("-stream_loop", str(repeats), "-i", f"file:{base}", "-c", "copy", *flags, f"file:{path}")
    base.unlink()


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(
        ("ffmpeg", "-nostdin", "-loglevel", "error", *arguments), check=True, timeout=TIMEOUT_SECONDS
    )
