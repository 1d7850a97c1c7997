"""Decoded samples of tracks, and recordings of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


def record(path: Path, seed: int, *arguments: str, seconds: float = 0.6, noise: float = 0.2) -> Path:
    """Make a track of tones and noise that no other is like."""
    left = f"0.4*sin(2*PI*(300+{seed}*37)*t)+{noise}*(random({seed})-0.5)"
    source = f"aevalsrc='{left}|0.3*sin(2*PI*{seed + 2}00*t)':d={seconds}:s=44100"
    words = ["-f", "lavfi", "-i", source, *(arguments or ("-q:a", "4")), str(path)]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words], check=True)
    return path
