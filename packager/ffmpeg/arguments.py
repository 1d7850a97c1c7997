"""What the command lines of all ffmpegs share, and the one of ffprobe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from packager.process import launcher

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")
"""Global options that every ffmpeg here gets."""

LOCAL_PROTOCOLS = "file,pipe"
"""What an ffmpeg that reads the library may open: never the network."""

MAX_PIXELS = 36_000_000
"""Pictures of files: 8K is 33 million pixels."""


def local_input(path: Path) -> str:
    """Name a file so that ffmpeg takes it as a file, whatever its name looks like (``-x``, ``concat:…``)."""
    return f"file:{path.absolute()}"


def pipe(index: int) -> str:
    """Name the output pipe number ``index`` (from 0) as ffmpeg's arguments want it."""
    return f"pipe:{launcher.FIRST_PIPE + index}"


def compile_arguments(words: Iterable[str]) -> list[str]:
    """Put the global options in front of arguments that ffmpeg-python compiled.

    Args:
        words: ``ffmpeg.get_args(stream)``.
    """
    return [*QUIET, *words]


def probe_arguments(address: str, options: Mapping[str, object], *questions: str) -> list[str]:
    """Write what ffprobe is asked; it answers in JSON on the first output pipe.

    ffmpeg-python has graphs for ffmpeg alone: ffprobe has one input, and no filter or output.

    Args:
        address: of the input, such as ``local_input`` gives.
        options: of the input.
        questions: options that say what is to be told.
    """
    given = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    return [*QUIET[1:], *given, *questions, "-of", "json", "-o", pipe(0), "-i", address]
