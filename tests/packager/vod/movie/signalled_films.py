"""Films with codec parameters of their own, and their playlists and manifests."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import m3u8

from tests.packager.films import PICTURE, TONE, run_ffmpeg
from tests.packager.vod.vod_titles import titles_of

MPD = "{urn:mpeg:dash:schema:mpd:2011}"

SECONDS = 3


def make(path: Path, *words: str) -> Path:
    """Make a short film; the words come behind its inputs, a picture and a tone."""
    values = {"rate": 25, "seconds": SECONDS, "hertz": 48000}
    inputs = [word.format(**values) for word in (*PICTURE, *TONE)]
    run_ffmpeg(*inputs, *words, path)
    return path


def hevc(path: Path, *words: str) -> Path:
    coded = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-pix_fmt")
    return make(path, *coded, "yuv420p10le", "-tag:v", "hvc1", "-c:a", "aac", *words)


def master(path: Path) -> m3u8.M3U8:
    return m3u8.loads(titles_of(path).multivariant_playlist(path.name))


def manifest(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(titles_of(path).manifest(path.name))
