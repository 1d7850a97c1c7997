"""The rules by which a live channel's segments are cut."""

from __future__ import annotations

import itertools

import m3u8

from packager.live.channel import Channel
from packager.window.model import LiveSegment
from packager.window.window import Window


def made(window: Window) -> list[LiveSegment]:
    """The segments that are no gaps."""
    return [segment for segment in window.listed if not segment.gap]


def assert_cut_by_the_rules(channel: Channel) -> None:
    for rendition in channel.renditions.values():
        playlist = m3u8.loads(channel.presentation.media(rendition.name).decode())
        for segment in playlist.segments:
            # RFC 8216bis §4.4.3.1
            assert segment.duration is None or int(segment.duration + 0.5) <= playlist.target_duration
            for part, following in itertools.pairwise([*segment.parts, None]):
                # §4.4.4.9: every part fills its target to 85 %, but the last and independent ones
                assert part.duration <= float(channel.part_target)
                assert (
                    following is None
                    or part.independent
                    or part.duration >= 0.85 * float(channel.part_target)
                )
        for one in made(rendition.window):
            assert one.parts[0].independent
            assert sum(part.duration for part in one.parts) == one.duration
