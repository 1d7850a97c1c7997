"""Captions as DASH has them: the WebVTT segments of HLS in movie fragments, made when they are asked for."""

from __future__ import annotations

from media.errors import MediaError
from origin.live.addresses import RenditionFile, RenditionFileKind
from origin.live.dvr_segments import StoredSegments
from packager.publish import dash_captions
from packager.publish.dash import TEXT_INIT_NUMBER
from packager.publish.live_stream import LiveStream
from packager.window.model import MEDIA_EXTENSION
from packager.window.rendition import Rendition
from packager.window.window import Window


def is_dash_captions(named: RenditionFile, rendition: Rendition) -> bool:
    """Return whether a name is one that captions have in DASH alone."""
    if rendition.language is None:
        return False
    if named.kind is RenditionFileKind.INIT:
        return named.number == TEXT_INIT_NUMBER
    return named.kind is RenditionFileKind.SEGMENT and named.extension == MEDIA_EXTENSION


async def render_dash_captions(
    named: RenditionFile, stream: LiveStream, rendition: Rendition, stored_segments: StoredSegments
) -> bytes | None:
    """Return an init segment, or a segment of captions.

    Args:
        stored_segments: reads those that have left memory.

    Returns:
        Its bytes; None where there is none.
    """
    if named.kind is RenditionFileKind.INIT:
        return dash_captions.INIT
    window = rendition.window
    segment, begin = window.at(named.number), stream.presentation.media_time(named.number)
    if segment is None or begin is None:
        return None
    text = None if segment.gap else await _text(window, named.number, stored_segments)
    if text is None and not segment.gap:
        return None
    start, end = map(dash_captions.milliseconds, (begin, begin + segment.duration))
    try:
        return dash_captions.pack_segment(text, start, end, named.number)
    except MediaError:
        return None


async def _text(window: Window, number: int, stored_segments: StoredSegments) -> bytes | None:
    if (stored := window.stored(number)) is not None:
        return await stored_segments.read_whole(stored)
    data = window.segment(number)
    return None if data is None else bytes(data)
