"""Decides which requests for live channels a worker answers from the logs that it follows.

A worker may be some entries behind the control process and behind other workers. Requests for files that it
doesn't have, and doesn't expect next, go to the control process, from which the client may know them.
"""

from __future__ import annotations

from collections.abc import Mapping

from origin.live.past.dash_captions import is_dash_captions
from origin.live.requests.addresses import (
    PLAYLIST,
    SNAPSHOT,
    LiveAddress,
    RenditionFile,
    RenditionFileKind,
    read_address,
)
from origin.live.requests.availability import SEGMENTS_AHEAD
from packager.publish.live_stream import LiveStream
from packager.window.rendition import Rendition
from packager.window.window import Window


def is_answered(method: str, target: bytes, streams: Mapping[str, LiveStream]) -> bool:
    """Return whether a worker answers a request below ``/live/``.

    Args:
        streams: the channels that it can serve.
    """
    address = read_address(target) if method in ("GET", "HEAD") else None
    stream = None if address is None else streams.get(address.channel)
    return address is not None and stream is not None and not is_left_to_control(stream, address)


def is_left_to_control(stream: LiveStream, address: LiveAddress) -> bool:
    """Return whether the control process answers a request for a channel that a worker serves."""
    if not stream.ready or address.name == SNAPSHOT or address.programme:
        return True
    if not address.rendition:
        return False
    rendition = stream.renditions.get(address.rendition)
    return rendition is None or not (address.name == PLAYLIST or _has(rendition, address.file))


def _has(rendition: Rendition, named: RenditionFile) -> bool:
    """Return whether a file exists, or comes next."""
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
    """Return whether a segment exists, or comes so soon that a request waits for it."""
    comes = not window.ended and 0 <= number - window.next_number <= SEGMENTS_AHEAD
    return comes or window.at(number) is not None
