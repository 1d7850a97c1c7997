"""Arguments that all ffmpeg command lines share, and the command line of ffprobe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from packager.process import launcher

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")
"""Global options of every ffmpeg."""

LOCAL_PROTOCOLS = "file,pipe"
"""Protocols of an ffmpeg that reads local files, without network access."""

MAX_PIXELS = 36_000_000
"""Largest picture that is decoded; 8K has 33 million pixels."""

SUBTITLE_DECODERS = (
    "ass,cc_dec,dvbsub,dvdsub,libaribb24,libaribcaption,libzvbi_teletextdec,mov_text,pgssub,srt,ssa,subrip,text,"
    "webvtt,xsub"
)
"""Decoders of subtitles and teletext, without which ffprobe ends, although it decodes nothing with them."""


def local_input(path: Path) -> str:
    """Return ffmpeg's URL of a file, which is safe for names such as ``-x`` or ``concat:…``."""
    return f"file:{path.absolute()}"


def pipe(index: int) -> str:
    """Return ffmpeg's URL of the output pipe ``index``, counted from 0."""
    return f"pipe:{launcher.FIRST_PIPE + index}"


def compile_arguments(words: Iterable[str]) -> list[str]:
    """Put the global options in front of arguments that ffmpeg-python compiled.

    Args:
        words: ``ffmpeg.get_args(stream)``.
    """
    return [*QUIET, *words]


def probe_arguments(address: str, options: Mapping[str, object], *questions: str) -> list[str]:
    """Compile ffprobe's arguments; it writes JSON to the first output pipe.

    ffmpeg-python has graphs for ffmpeg alone: ffprobe has one input, and no filter or output.

    Args:
        address: the address of the input, such as ``local_input`` returns.
        questions: options that select the output.
    """
    if "codec_whitelist" in options:
        # For ffprobe's own decoders alone; the decoders that examine a stream keep the shorter list.
        options = {**options, "codec_whitelist:s": SUBTITLE_DECODERS}
    given = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    return [*QUIET[1:], *given, *questions, "-of", "json", "-o", pipe(0), "-i", address]
