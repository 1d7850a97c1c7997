"""One rendition of a live channel, and the names of what it publishes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from packager.window import Timeline, Window


@dataclass(frozen=True, slots=True)
class Rendition:
    """One rendition of a channel.

    Attributes:
        name: its folder in URIs.
        window: its segments.
        video: whether it is a variant's picture, or else sound.
        bitrate: nominal bits per second, said until the first segment has been measured.
    """

    name: str
    window: Window
    video: bool
    bitrate: int


def leading(renditions: Iterable[Rendition]) -> list[Rendition]:
    """Give those that are variants: the pictures, or of a channel without any the sound."""
    found = list(renditions)
    return [rendition for rendition in found if rendition.video] or found


def segment_uri(number: int) -> str:
    """Name a segment, relative to its playlist."""
    return f"{number}.m4s"


def part_uri(number: int, index: int) -> str:
    """Name a part; the preload hint uses the name that the part then has."""
    return f"{number}.{index}.m4s"


def init_uri(timeline: Timeline) -> str:
    """Name an init segment."""
    return f"init-{timeline.number}.mp4"
