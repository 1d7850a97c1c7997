"""What the arguments of all ffmpegs share; the rest is built with the ``ffmpeg`` package (ffmpeg-python)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from packager.process import launcher

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")
"""Global options that every ffmpeg here gets."""

LOCAL_PROTOCOLS = "file,pipe"
"""What an ffmpeg that reads the library may open: never the network."""

MAX_PIXELS = 36_000_000
"""Pictures of files: 8K is 33 million pixels."""

UNTRUSTED = ("-max_pixels", str(MAX_PIXELS))
"""Options in front of an input that anybody may have made."""


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
