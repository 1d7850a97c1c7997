"""The command line that copies the cover out of a file of music, as a small JPEG."""

from __future__ import annotations

from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, QUIET, pipe

SIDE_PIXELS = 600
"""Width and height that a cover has at most: enough for a phone's lock screen."""

QUALITY = 4
"""mjpeg's quantizer: 2 is the best, 31 the worst."""


def cover_arguments(address: str, demuxer: str) -> list[str]:
    """Compile ffmpeg's arguments; it writes a JPEG to output pipe 0.

    Args:
        address: the address of the file, such as ``local_input`` returns.
        demuxer: the one demuxer that may open the file.
    """
    reading = ("-protocol_whitelist", LOCAL_PROTOCOLS, "-format_whitelist", demuxer)
    bounds = ("-max_pixels", str(MAX_PIXELS), "-threads", "1")
    # Pictures that are no films: covers.
    pictures = ("-map", "0:v", "-map", "-0:V", "-frames:v", "1")
    size = f"min({SIDE_PIXELS}/max(iw,ih),1)"
    scale = ("-vf", f"scale=w='ceil(iw*{size})':h='ceil(ih*{size})',format=yuvj420p")
    written = ("-c:v", "mjpeg", "-q:v", str(QUALITY), "-threads", "1", "-f", "image2pipe", pipe(0))
    return [*QUIET, *reading, *bounds, "-i", address, *pictures, *scale, *written]
