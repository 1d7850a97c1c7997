"""Segments and I-frames of films, opened by their names."""

from __future__ import annotations

from collections.abc import Callable

from packager.library.storage_interface import LibraryFile
from packager.vod import OpenMedia, Titles


def open_segment(
    titles: Titles, name: str, track: str, number: int, bounds: tuple[int, int] | None = None
) -> OpenMedia:
    """Open a film for a segment."""
    return _opened(titles, name, lambda file: titles.segments.of(file, track, number, bounds))


def open_i_frames(titles: Titles, name: str, track: str, bounds: tuple[int, int] | None = None) -> OpenMedia:
    """Open a film for its I-frames."""
    return _opened(titles, name, lambda file: titles.pictures.i_frames(file, track, bounds))


def _opened(titles: Titles, name: str, find: Callable[[LibraryFile], OpenMedia]) -> OpenMedia:
    file = titles.files.open(name)
    try:
        return find(file)
    except BaseException:
        file.close()
        raise
