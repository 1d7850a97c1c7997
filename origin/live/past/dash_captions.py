"""Captions as DASH has them: the WebVTT segments of HLS in movie fragments, made when they are asked for."""

from __future__ import annotations

from fractions import Fraction

from media.errors import MediaError
from origin.live.requests.addresses import RenditionFile, RenditionFileKind
from origin.live.requests.dvr_segments import StoredSegments, past_of
from packager.past.media_times import media_time
from packager.publish import dash_captions
from packager.publish.dash import TEXT_INIT_NUMBER
from packager.publish.live_stream import LiveStream
from packager.reader_guard import ReaderGuard
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
    named: RenditionFile,
    stream: LiveStream,
    rendition: Rendition,
    stored_segments: StoredSegments,
    network: str,
) -> bytes | None:
    """Return an init segment, or a segment of captions.

    Args:
        stored_segments: reads those that have left memory.
        network: the client's, which takes turns with others.

    Returns:
        Its bytes; None where there is none.
    """
    if named.kind is RenditionFileKind.INIT:
        return dash_captions.INIT
    window = rendition.window
    segment, begin = window.at(named.number), stream.presentation.media_time(named.number)
    if segment is None or begin is None:
        return await _earlier(named.number, stream, rendition, stored_segments, network)
    text = None if segment.gap else await _text(window, named.number, stored_segments, network)
    return None if text is None and not segment.gap else _packed(text, begin, segment.duration, named.number)


async def _earlier(
    number: int, stream: LiveStream, rendition: Rendition, stored_segments: StoredSegments, network: str
) -> bytes | None:
    """Return a segment of captions that has left the playlist; None where the DVR hasn't its time."""
    past = past_of(stream, stream.renditions, stored_segments)
    own = past.get(rendition.name)
    if own is None or number >= rendition.window.next_number:
        return None
    coded = [past[name] for name, one in stream.renditions.items() if one.language is None and name in past]
    # A rendition that was added since has nothing of that time.
    for one in coded:
        if (timed := await one.threads.of(network).run(media_time, one, number)) is not None:
            break
    else:
        return None
    found, text = await own.threads.of(network).run(own.find, number), None
    if found is not None and found.stored is not None:
        text = await stored_segments.read_whole((own.place_of(found), found.stored), network)
        if text is None:
            return None
    # Where there are no captions nothing was said.
    return _packed(text, timed.begin, timed.segment.duration, number)


def _packed(text: bytes | None, begin: Fraction, duration: Fraction, number: int) -> bytes | None:
    start, end = map(dash_captions.milliseconds, (begin, begin + duration))
    try:
        with ReaderGuard("captions"):
            return dash_captions.pack_segment(text, start, end, number)
    except MediaError:
        return None


async def _text(window: Window, number: int, stored_segments: StoredSegments, network: str) -> bytes | None:
    if (stored := window.stored(number)) is not None:
        return await stored_segments.read_whole(stored, network)
    data = window.segment(number)
    return None if data is None else bytes(data)
