"""How long playlists of films are, and how loud their sound is in each second."""

from __future__ import annotations

import math
from pathlib import Path

import m3u8
import numpy as np

from tests.packager import films
from tests.packager.vod.vod_titles import titles_of

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


def spans(path: Path) -> dict[str, float]:
    """Return the seconds of each track's playlist of a film."""
    titles = titles_of(path)
    tracks = [track.name for track in titles.files.find(path.name).index.tracks]
    return {
        track: sum(one.duration for one in m3u8.loads(titles.media_playlist(path.name, track)).segments)
        for track in tracks
    }


def volumes(playlist: Path) -> list[float]:
    """Return the level of each whole second of sound, in dB of full scale, by ffmpeg."""
    decoded = playlist.with_name("decoded.pcm")
    films.run_ffmpeg("-xerror", "-i", playlist, "-f", "s16le", "-ac", "1", "-ar", "8000", decoded)
    samples = np.frombuffer(decoded.read_bytes(), "<i2").astype(float) / 32768
    seconds = samples[: len(samples) // 8000 * 8000].reshape(-1, 8000)
    return [20 * math.log10(float(np.sqrt((one**2).mean())) + 1e-6) for one in seconds]
