"""The command line that makes a JPEG of one picture."""

from __future__ import annotations

import ffmpeg

from media.mp4.codecs.colour import Colour
from packager.ffmpeg.arguments import MAX_PIXELS, compile_arguments, pipe
from packager.ffmpeg.colours import filtered, to_jpeg

QUALITY = 3
"""mjpeg's quantizer: 2 is the best, 31 the worst."""


def snapshot_arguments(size: tuple[int, int] | None = None, colour: Colour | None = None) -> list[str]:
    """Compile ffmpeg's arguments; it reads MP4 from standard input, and writes a JPEG to output pipe 0.

    Args:
        size: width and height of the picture in pixels; None: its own.
        colour: that of the picture, which isn't always tagged itself; None: as it is tagged.
    """
    source = {"format": "mov", "threads": 1, "max_pixels": MAX_PIXELS, "an": None}
    # Pixels that aren't square become so: a JPEG's own note of their form is mostly ignored.
    square = (
        ffmpeg.input("pipe:0", **source)
        .filter("scale", *(size or ("trunc(iw*sar/2)*2", "ih")))
        .filter("setsar", 1)
    )
    picture = filtered(square, to_jpeg(colour))
    options = {"c:v": "mjpeg", "q:v": QUALITY, "frames:v": 1, "threads": 1}
    return compile_arguments(ffmpeg.get_args(ffmpeg.output(picture, pipe(0), format="image2pipe", **options)))
