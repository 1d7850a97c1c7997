"""Draws the JPEG of a channel's key frame by an ffmpeg, which gets the picture alone and opens nothing."""

from __future__ import annotations

from media.errors import UnsupportedError
from media.mp4.codecs.sample_entry import parse_sample_entry
from packager.ffmpeg.colours import known_colour
from packager.ffmpeg.snapshot import snapshot_arguments
from packager.past.segment_samples import TrackInit
from packager.process.ffmpeg_discovery import BusyError, Tools, ToolsError
from packager.process.process import Process, run
from packager.process.sandbox import Sandbox
from packager.transient_errors import NotReadyError

SNAPSHOT_SECONDS = 20.0
"""Longest time in which a picture is drawn."""

MAX_SNAPSHOT_BYTES = 16 << 20
"""Size of the largest JPEG."""

FFMPEG_MEMORY_BYTES = 3 << 29
"""Most memory of an ffmpeg that draws."""

JPEG_BEGIN = b"\xff\xd8\xff"


async def draw_snapshot(tools: Tools, movie: bytes, size: tuple[int, int] | None = None) -> bytes:
    """Draw a JPEG.

    Args:
        movie: an MP4 of one picture.
        size: width and height in pixels; None: its own.

    Raises:
        MediaError: the picture can't be decoded.
        NotReadyError: no program can be started now.
    """

    async def feed(process: Process) -> None:
        try:
            await process.write(movie)
        except BrokenPipeError:  # ffmpeg ended before, and says why
            pass
        finally:
            process.close_stdin()

    colour = parse_sample_entry(TrackInit.read(movie).track.sample_entry).taken_colour
    try:
        data = await run(
            [tools.ffmpeg, *snapshot_arguments(size, known_colour(colour, tools))],
            limit=SNAPSHOT_SECONDS,
            max_bytes=MAX_SNAPSHOT_BYTES,
            sandbox=Sandbox(memory=FFMPEG_MEMORY_BYTES, niceness=19),
            feed=feed,
        )
    except BusyError as error:
        raise NotReadyError from error
    except ToolsError as error:
        raise UnsupportedError(f"the picture can't be decoded: {error}") from error
    if not data.startswith(JPEG_BEGIN):
        raise UnsupportedError("the picture can't be decoded")
    return data
