"""The command line that makes one large picture of many small ones."""

from __future__ import annotations

import ffmpeg

from media.mp4.codecs.colour import Colour
from packager.ffmpeg.arguments import MAX_PIXELS, compile_arguments, pipe
from packager.ffmpeg.colours import filtered, to_jpeg, to_sdr

QUALITY = 5
"""mjpeg's quantizer: 2 is the best, 31 the worst; small pictures are looked at for a moment."""


def sprite_arguments(
    size: tuple[int, int], layout: tuple[int, int], colour: Colour | None = None
) -> list[str]:
    """Compile ffmpeg's arguments; it reads MP4 from its standard input, and writes a JPEG to output pipe 0.

    The MP4 has a picture at each second from the first on.

    Args:
        size: width and height of each small picture in pixels.
        layout: how many there are side by side, and how many one above the other.
        colour: the pictures', which aren't always tagged themselves; None: as they are tagged.
    """
    source = {"format": "mov", "threads": 1, "max_pixels": MAX_PIXELS, "an": None}
    # A picture that can't be decoded is the one before it, so that those behind it keep their places.
    pictures = ffmpeg.input("pipe:0", **source).filter("fps", fps=1, start_time=1)
    pictures = pictures.filter("scale", *size).filter("setsar", 1)
    tiled = filtered(pictures, to_sdr(colour)).filter("tile", "x".join(map(str, layout)))
    tiled = filtered(tiled, to_jpeg(None))
    options = {"c:v": "mjpeg", "q:v": QUALITY, "frames:v": 1, "threads": 1, "copyts": None}
    return compile_arguments(ffmpeg.get_args(ffmpeg.output(tiled, pipe(0), format="image2pipe", **options)))
