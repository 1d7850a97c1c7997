"""WebVTT in MP4 (ISO/IEC 14496-30 §7): fragments for captions of DASH players, and samples of files.

A sample has all cues of its time, or none; so samples begin and end with cues.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable

from media.errors import MalformedError
from media.mp4.boxes import box, walk
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.fragments.moof import Sample
from media.mp4.movie.track_box import TrackFacts
from media.subtitles.webvtt import TICKS, WRAP, Cue, CueReader, valid_settings, without_empty_lines

TIMESCALE = 1000
CODECS = "wvtt"
MEDIA_TYPE = "application/mp4"

_ENTRY = box(b"wvtt", bytes(6), struct.pack(">H", 1), box(b"vttC", b"WEBVTT"))
_EMPTY = box(b"vtte")
_MAPPED = re.compile(rb"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00\.000,MPEGTS:([0-9]{1,10})\n")

CUE_BYTES = 24
"""Bytes of a cue in a sample beside its text and its settings: the headers of three boxes."""

INIT = write_init_segment(TrackFacts(1, b"text", TIMESCALE, _ENTRY))
"""The init segment, the same for all."""


def read_segment(data: bytes, media_time: int) -> list[Cue]:
    """Read a segment of HLS that :func:`media.subtitles.webvtt.segment` has written.

    Args:
        media_time: start of the segment in milliseconds, as MPEG-2 timestamps wrap after a day.

    Returns:
        The cues, with media times.

    Raises:
        MalformedError: the data is no such segment.
    """
    mapped = _MAPPED.match(data)
    if mapped is None:
        raise MalformedError("no segment of captions")
    ticks = media_time * TICKS // TIMESCALE
    # The origin is less than a wrap before the segment.
    origin = (ticks - (ticks - int(mapped[1])) % WRAP) * TIMESCALE // TICKS
    reader = CueReader()
    reader.receive_data(b"WEBVTT\n" + data[mapped.end() :])
    reader.receive_eof()
    return [Cue(origin + one.start, origin + one.end, one.text, one.settings) for one in reader.cues()]


def fragment(cues: Iterable[Cue], start: int, end: int, number: int) -> bytes:
    """Write a segment.

    Args:
        cues: with media times; their parts outside of the segment are left out.
        start: media time in milliseconds.
        end: media time in milliseconds.

    Returns:
        ``moof`` and ``mdat``.
    """
    shown = [cue for cue in cues if cue.start < end and cue.end > start]
    times = {start, end, *(max(cue.start, start) for cue in shown), *(min(cue.end, end) for cue in shown)}
    edges = sorted(times)
    written = [(cue.start, cue.end, _cue(cue)) for cue in shown]
    samples, data = list[Sample](), list[bytes]()
    for begin, stop in itertools.pairwise(edges):
        now = [data for first, last, data in written if first <= begin < last]
        data.append(b"".join(now) or _EMPTY)
        samples.append(Sample(stop - begin, len(data[-1])))
    return write_fragment(
        sequence_number=number,
        track_id=1,
        base_media_decode_time=start,
        samples=samples,
        data=b"".join(data),
    )


def read_sample(data: bytes) -> list[tuple[str, str]]:
    """Read the text and the settings of a sample's cues.

    Raises:
        MalformedError: it isn't made of boxes.
    """
    found: list[tuple[str, str]] = []
    for one in walk(data):
        if one.kind == b"vttc":
            parts = {part.kind: data[part.payload : part.end] for part in walk(data, one.payload, one.end)}
            text, settings = (parts.get(kind, b"").decode("utf-8", "replace") for kind in (b"payl", b"sttg"))
            found.append((without_empty_lines(text), valid_settings(settings)))
    return [(text, settings) for text, settings in found if text]


def _cue(cue: Cue) -> bytes:
    settings = box(b"sttg", cue.settings.encode()) if cue.settings else b""
    return box(b"vttc", settings, box(b"payl", cue.text.encode()))
