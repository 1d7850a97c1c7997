"""Captions as DASH has them: the WebVTT segments of HLS in movie fragments, made when they are asked for."""

from __future__ import annotations

from media.errors import MediaError
from media.mp4 import wvtt
from origin.live.dvr_segments import StoredSegments
from origin.live.part_waits import wait_until_complete
from origin.live.rendition_file_names import RenditionFile, RenditionFileKind
from packager.publish.dash import TEXT_INIT_NUMBER
from packager.publish.live_stream import LiveStream
from packager.window.model import MEDIA_EXTENSION
from packager.window.rendition import Rendition
from packager.window.window import Window

MILLISECONDS = 1000


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
    """Return an init segment, or a segment of captions; wait for a segment that is due.

    Args:
        stored_segments: reads those that have left memory.

    Returns:
        Its bytes; None where there is none.

    Raises:
        TooManyWaitersError: as many as may wait already.
    """
    if named.kind is RenditionFileKind.INIT:
        return wvtt.INIT
    window = rendition.window
    # It isn't known before its end which words are in it; and players ask for it as early as for the picture.
    await wait_until_complete(stream, window, named.number)
    segment, begin = window.at(named.number), stream.presentation.media_time(named.number)
    if segment is None or begin is None:
        return None
    start, end = round(begin * MILLISECONDS), round((begin + segment.duration) * MILLISECONDS)
    if segment.gap:
        # Nothing was said in a time that never came.
        return wvtt.fragment((), start, end, named.number)
    text = await _text(window, named.number, stored_segments)
    if text is None:
        return None
    try:
        cues = wvtt.read_segment(text, start)
    except MediaError:
        return None
    return wvtt.fragment(cues, start, end, named.number)


async def _text(window: Window, number: int, stored_segments: StoredSegments) -> bytes | None:
    if (stored := window.stored(number)) is not None:
        return await stored_segments.read_whole(stored)
    data = window.segment(number)
    return None if data is None else bytes(data)
