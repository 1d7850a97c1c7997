"""Films with subtitles of PGS or VobSub: a rectangle that is shown from one time to another."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.packager.films import FFMPEG, run_ffmpeg

CANVAS = 320, 180
PLACE = 80, 120, 160, 30
"""Left, top, width and height of the rectangle."""

WHITE = bytes((235, 128, 128, 255))
"""Y, Cr, Cb and opacity."""


VOB = ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-c:a", "pcm_dvd", "-f", "vob")
"""Arguments for what a DVD has."""


def segment(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BH", kind, len(payload)) + payload


def display_set(
    *,
    shown: bool,
    canvas: tuple[int, int] = CANVAS,
    pixels: tuple[int, int] = PLACE[2:],
    colours: Sequence[bytes] = (WHITE,),
) -> bytes:
    """Write a display set that begins an epoch and shows a rectangle, or that clears the picture.

    Args:
        colours: of the rectangle's stripes from left to right.
    """
    left, top, width, height = PLACE
    head = struct.pack(">HHBHBBBB", *canvas, 0x10, 0, 0x80 if shown else 0, 0, 0, int(shown))
    window = segment(0x17, struct.pack(">BBHHHH", 1, 0, left, top, width, height))
    if not shown:
        return segment(0x16, head) + window + segment(0x80, b"")
    composition = segment(0x16, head + struct.pack(">HBBHH", 0, 0, 0, left, top))
    entries = (bytes((number, *colour)) for number, colour in enumerate(colours, 1))
    palette = segment(0x14, bytes(2) + b"".join(entries))
    # A run of each colour, and the end of the row
    stripe = 0xC000 | width // len(colours)
    row = b"".join(struct.pack(">BHB", 0, stripe, number + 1) for number in range(len(colours))) + b"\0\0"
    data = struct.pack(">HH", *pixels) + row * height
    picture = segment(0x15, struct.pack(">HBB", 0, 0, 0xC0) + len(data).to_bytes(3, "big") + data)
    return composition + window + palette + picture + segment(0x80, b"")


def sup(sets: Sequence[tuple[float, bytes]]) -> bytes:
    """Write display sets as a ``.sup`` file, each at its second."""
    written = b""
    for seconds, data in sets:
        at = 0
        while at < len(data):
            end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
            written += b"PG" + struct.pack(">II", round(seconds * 90_000), 0) + data[at:end]
            at = end
    return written


def film_with_subtitles(
    path: Path, sets: Sequence[tuple[float, bytes]], *words: str, codec: str = "copy"
) -> None:
    """Make a black film of 12 seconds with a key frame every two, and with subtitles of PGS or a codec."""
    subtitles = path.with_suffix(".sup")
    # ffmpeg counts the times of a file from its first one.
    subtitles.write_bytes(sup([(0, display_set(shown=False)), *sets]))
    picture = ("-f", "lavfi", "-i", "color=black:size=320x180:rate=25:duration=12")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=12")
    run_ffmpeg(
        *picture, *tone, "-fix_sub_duration", "-i", str(subtitles), "-map", "0", "-map", "1", "-map", "2",
        "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "50", "-c:a", "aac", "-c:s", codec,
        "-metadata:s:s:0", "language=deu", *words, path,
    )  # fmt: skip
    subtitles.unlink()


def colours(path: Path | str, *words: str, options: Sequence[str] = ()) -> NDArray[np.int16]:
    """Return the pictures of a file or an address in RGB.

    Args:
        options: of the decoders.
    """
    words = (*words, "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    command = [FFMPEG, "-v", "error", *options, "-i", str(path), *words]
    answer = subprocess.run(command, check=True, capture_output=True)
    return np.frombuffer(answer.stdout, np.uint8).reshape(-1, 180, 320, 3).astype(np.int16)
