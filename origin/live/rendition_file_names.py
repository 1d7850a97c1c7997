"""The files of a rendition's folder, by their names: what is meant, its media type and Cache-Control."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import Enum

from media.subtitles import webvtt
from packager.window.rendition import Rendition
from packager.window.window import Window

NAMES_KEPT = 1024
"""Most parsed names that are cached."""

_NUMBER = r"(0|[1-9][0-9]{0,14})"
_INIT = re.compile(rf"init-{_NUMBER}\.mp4")
_SEGMENT = re.compile(rf"{_NUMBER}(?:\.{_NUMBER})?\.(m4s|vtt)")


class RenditionFileKind(Enum):
    """The kinds of files in a rendition's folder."""

    INIT = "init"
    SEGMENT = "segment"
    PART = "part"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class RenditionFile:
    """A file in a rendition's folder, as its name says it.

    Attributes:
        number: media sequence number.
        index: of a part, else 0.
        extension: how names of such a rendition's media end.
    """

    kind: RenditionFileKind
    number: int = -1
    index: int = 0
    extension: str = "m4s"

    def of(self, window: Window) -> RenditionFile:
        """Return the file, or ``NOTHING`` where the rendition's media have another extension."""
        return self if self.extension == window.extension else NOTHING

    def in_memory(self, window: Window) -> bytes | memoryview | None:
        """Return the bytes of the file; None where it isn't in memory."""
        if self.kind is RenditionFileKind.PART:
            return window.part(self.number, self.index)
        if self.kind is RenditionFileKind.SEGMENT:
            return window.segment(self.number)
        return window.init(self.number) if self.kind is RenditionFileKind.INIT else None


NOTHING = RenditionFile(RenditionFileKind.NOTHING)


@functools.lru_cache(maxsize=NAMES_KEPT)
def read_name(name: str) -> RenditionFile:
    """Read a name; those of many players are the same."""
    if found := _SEGMENT.fullmatch(name):
        if found[2] is None:
            return RenditionFile(RenditionFileKind.SEGMENT, int(found[1]), extension=found[3])
        return RenditionFile(RenditionFileKind.PART, int(found[1]), int(found[2]), found[3])
    if found := _INIT.fullmatch(name):
        return RenditionFile(RenditionFileKind.INIT, int(found[1]))
    return NOTHING


def media_type(rendition: Rendition) -> str:
    """Return the Content-Type of a rendition's media."""
    if rendition.language is not None:
        return webvtt.MEDIA_TYPE
    return "video/mp4" if rendition.video else "audio/mp4"


def cache_control(window: Window) -> str:
    """Return how long caches may keep a rendition's media."""
    return f"public, max-age={int(window.retention)}, immutable"
