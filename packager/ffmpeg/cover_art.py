"""The command lines that draw the cover of a file of music, or a picture of a film, as a small JPEG."""

from __future__ import annotations

from collections.abc import Sequence

from media.mp4.codecs.colour import Colour
from packager.ffmpeg.arguments import LOCAL_PROTOCOLS, MAX_PIXELS, QUIET, pipe
from packager.ffmpeg.colours import filter_text, to_jpeg

SIDE_PIXELS = 600
"""Width and height that a cover has at most: enough for a phone's lock screen."""

POSTER_PIXELS = 320
"""Width and height that a picture of a film has at most: enough for the rows of a list."""

QUALITY = 4
"""mjpeg's quantizer: 2 is the best, 31 the worst."""


def cover_arguments(address: str, demuxer: str) -> list[str]:
    """Compile ffmpeg's arguments; it writes a JPEG to output pipe 0.

    Args:
        address: the address of the file, such as ``local_input`` returns.
        demuxer: the one demuxer that may open the file.
    """
    # Pictures that are no films: covers.
    return _drawing(address, demuxer, (), ("-map", "0:v", "-map", "-0:V"), SIDE_PIXELS)


def poster_arguments(address: str, demuxer: str, seconds: int, colour: Colour | None = None) -> list[str]:
    """Compile ffmpeg's arguments that draw the key frame of a film at a time; as ``cover_arguments``.

    Args:
        seconds: from the film's beginning; nothing is written where it doesn't last so long.
        colour: the film's, whose pictures aren't always tagged; None: as they are tagged.
    """
    seeking = ("-skip_frame", "nokey", "-noaccurate_seek", "-ss", str(seconds))
    return _drawing(address, demuxer, seeking, ("-map", "0:V:0"), POSTER_PIXELS, colour)


def _drawing(
    address: str,
    demuxer: str,
    seeking: Sequence[str],
    mapped: Sequence[str],
    side: int,
    colour: Colour | None = None,
) -> list[str]:
    """Compile the arguments that draw one picture with sides of so many pixels at most."""
    reading = ("-protocol_whitelist", LOCAL_PROTOCOLS, "-format_whitelist", demuxer)
    bounds = ("-max_pixels", str(MAX_PIXELS), "-threads", "1")
    # The picture as it is seen: pixels may be wider than high.
    shown = "max(sar,1/100)" if seeking else "1"
    size = f"min({side}/max(iw*{shown},ih),1)"
    scale = f"scale=w='ceil(iw*{shown}*{size})':h='ceil(ih*{size})',setsar=1,{filter_text(to_jpeg(colour))}"
    written = ("-c:v", "mjpeg", "-q:v", str(QUALITY), "-threads", "1", "-f", "image2pipe", pipe(0))
    one = ("-frames:v", "1")
    return [*QUIET, *reading, *seeking, *bounds, "-i", address, *mapped, *one, "-vf", scale, *written]
