"""A rendition of a live channel, and the names of its files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from packager.window.model import MEDIA_EXTENSION, TEXT_EXTENSION, Timeline
from packager.window.window import Window

CAPTIONS_PREFIX = "captions-"
"""Name of a language's captions, before the language."""

MAP_EXTENSION = ".mp4"
"""How the names of init segments end."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """A rendition of a channel: its name, codecs, bit rate and window.

    Attributes:
        video: whether it is a variant's picture, or else sound or text.
        bitrate: nominal bits per second, said until the first segment has been measured.
        language: BCP 47 tag of captions; None of picture and sound.
    """

    name: str
    window: Window
    video: bool
    bitrate: int
    language: str | None = None


class RenditionFacts(Protocol):
    """The facts by which a multivariant playlist lists a rendition; see ``Rendition``."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def video(self) -> bool: ...  # noqa: D102

    @property
    def bitrate(self) -> int: ...  # noqa: D102

    @property
    def language(self) -> str | None: ...  # noqa: D102


_Rendition = TypeVar("_Rendition", bound=RenditionFacts)


def variant_renditions(renditions: Iterable[_Rendition]) -> list[_Rendition]:
    """Return the variants: the video renditions, or the audio renditions of a channel without video."""
    found = [rendition for rendition in renditions if rendition.language is None]
    return [rendition for rendition in found if rendition.video] or found


def extension_of(rendition: str) -> str:
    """Return the ending of the names of a rendition's segments, from the rendition's name."""
    return TEXT_EXTENSION if rendition.startswith(CAPTIONS_PREFIX) else MEDIA_EXTENSION


def segment_uri(number: int, extension: str = MEDIA_EXTENSION) -> str:
    """Name a segment, relative to its playlist."""
    return f"{number}.{extension}"


def stored_name(number: int, stored_by: int, extension: str = MEDIA_EXTENSION) -> str:
    """Name a segment where it is stored.

    Args:
        number: media sequence number.
        stored_by: the number of who stored it, where others may store one of the same number; else 0.
        extension: how the names of the rendition's media end.
    """
    return f"{number}-{stored_by}.{extension}" if stored_by else segment_uri(number, extension)


def part_uri(number: int, index: int, extension: str = MEDIA_EXTENSION) -> str:
    """Name a part; the preload hint uses the name that the part then has."""
    return f"{number}.{index}.{extension}"


def init_uri(timeline: Timeline | None) -> str | None:
    """Name an init segment; None where there is none to be named."""
    return init_name(timeline.number) if timeline is not None and timeline.has_map else None


def init_name(number: int) -> str:
    """Name an init segment by the number of its timeline."""
    return f"init-{number}{MAP_EXTENSION}"
