"""Decides which requests for live channels a worker answers from the logs that it follows.

A worker may be some entries behind the control process and behind other workers. What it doesn't have and
needn't wait for is asked of the control process: a client may have heard of it from there.
"""

from __future__ import annotations

from collections.abc import Mapping

from origin.live.dash_captions import is_dash_captions
from origin.live.playlist_request import SEGMENTS_AHEAD
from origin.live.rendition_file_names import RenditionFile, RenditionFileKind, read_name
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition
from packager.window.window import Window

WHOLE_CHANNEL = ("master.m3u8", "manifest.mpd")
PLAYLIST = "media.m3u8"


def is_answered(method: str, path: str, streams: Mapping[str, LiveStream]) -> bool:
    """Return whether a worker answers a request below ``/live/``.

    Args:
        streams: the channels that it can serve.
    """
    channel, *names = path.removeprefix("/live/").split("/")
    stream = streams.get(channel)
    if method not in ("GET", "HEAD") or stream is None or not stream.ready:
        return False
    if len(names) == 1:
        return names[0] in WHOLE_CHANNEL
    rendition = stream.renditions.get(names[0]) if len(names) == 2 else None
    return rendition is not None and (names[1] == PLAYLIST or _has(rendition, read_name(names[1])))


def _has(rendition: Rendition, named: RenditionFile) -> bool:
    """Return whether a file is there, or comes next."""
    window = rendition.window
    if is_dash_captions(named, rendition):
        return named.kind is RenditionFileKind.INIT or _has_segment(window, named.number)
    named = named.of(window)
    if named.kind is RenditionFileKind.SEGMENT:
        return _has_segment(window, named.number)
    if named.kind is RenditionFileKind.PART:
        comes = not window.ended and window.next_part == (named.number, named.index)
        return comes or named.in_memory(window) is not None or window.stored(named.number) is not None
    return named.in_memory(window) is not None


def _has_segment(window: Window, number: int) -> bool:
    """Return whether a segment is there, or comes so soon that it is waited for."""
    comes = not window.ended and 0 <= number - window.next_number <= SEGMENTS_AHEAD
    return comes or window.at(number) is not None
