"""Reads the init segments in a rendition's folder. Blocks."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from media.errors import MediaError
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry
from media.mp4.fragments.fragments import FragmentReader, InitSegment
from media.subtitles import webvtt
from packager.dvr.own_files import INIT_NAME, MAX_INIT_BYTES, is_init
from packager.reader_guard import ReaderGuard
from packager.safe_files import NotOursError, OpenFolder
from packager.window.model import WEBVTT_ENTRY, Timeline

ENTRIES_KEPT = 64
"""Cached sample entries, by init segment."""

MAX_INIT_SEGMENTS = 4096
"""Most init segments that are read, the newest."""


def read_timelines(folder: OpenFolder, most: int = MAX_INIT_SEGMENTS) -> dict[int, Timeline]:
    """Read the init segments of a rendition's folder, by number; the newest ones where there are more.

    Raises:
        OSError: one of them can't be read.
    """
    timelines: dict[int, Timeline] = {}
    for name in _init_names(folder, most):
        try:
            data = folder.read(name, MAX_INIT_BYTES)
        except (NotOursError, FileNotFoundError):
            continue
        timeline = parse_init(int(name[len("init-") : -len(".mp4")]), data)
        if timeline is not None:
            timelines[timeline.number] = timeline
    return timelines


def _init_names(folder: OpenFolder, most: int) -> Iterator[str]:
    names = [entry.name for entry in folder.entries() if INIT_NAME.fullmatch(entry.name)]
    yield from sorted(names, key=lambda name: (len(name), name))[-most:]


def parse_init(number: int, data: bytes) -> Timeline | None:
    """Read an init segment, or the header that captions have instead; None where the data is neither."""
    entry = _sample_entry(data)
    return None if entry is None else Timeline(number, data, entry)


@functools.lru_cache(maxsize=ENTRIES_KEPT)
def _sample_entry(data: bytes) -> SampleEntry | None:
    """Read the sample entry of an init segment; most timelines have the same."""
    if data == webvtt.HEADER:
        return WEBVTT_ENTRY
    if not is_init(data):
        return None
    reader = FragmentReader()
    try:
        with ReaderGuard("an init segment"):
            reader.receive_data(data)
            for event in reader.events():
                if isinstance(event, InitSegment) and (entries := event.tracks[0].sample_entries):
                    return parse_sample_entry(entries[0])
    except MediaError:
        pass
    return None
