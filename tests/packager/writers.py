"""Writers of renditions whose log nobody follows but their own window."""

from __future__ import annotations

from collections.abc import Callable

from packager.window.log import CadenceEntry, DateRangeEntry, Entry, Log
from packager.window.model import LiveSegment
from packager.window.rendition_log_writer import RenditionWriter
from packager.window.snapshot import SegmentMediaEntry, SnapshotEntry
from packager.window.window import Window


def writer_of(
    window: Window, name: str = "240p", compose: Callable[[LiveSegment], bytes] | None = None
) -> RenditionWriter:
    """Give what publishes in a window."""

    def fold(entry: Entry) -> None:
        assert not isinstance(entry, CadenceEntry | DateRangeEntry | SnapshotEntry | SegmentMediaEntry)
        window.fold(entry)

    return RenditionWriter(Log(fold), name, window, compose)
