"""Positions in a stream that comes over UDP."""

from __future__ import annotations

from packager.window.model import LiveSegment
from packager.window.window import Window
from tests.packager.sources.picture_widths import width_of


def behind(window: Window, kept: Window) -> list[LiveSegment]:
    """The segments with media from where the source's own picture has become small."""
    first = next((one.number for one in kept.listed if one.data and width_of(one) == 160), None)
    return [one for one in window.listed if one.data and first is not None and one.number >= first]
