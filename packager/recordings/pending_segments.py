"""The segments of spans that are to be kept, until these are recordings. Blocks.

They are linked or copied into a folder of the channel's own, so that those which leave the DVR stay. A
segment's line of the index is written before its file: what has a file has a line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from msgspec.structs import replace

from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine
from packager.dvr.init_files import read_timelines
from packager.dvr.own_files import FOLDER_NAME, erase_in
from packager.dvr.restore_plan import StoredRendition
from packager.dvr.segment_sources import SegmentSource
from packager.recordings import metadata as metadata_files
from packager.recordings.kept_spans import KeptSpan
from packager.recordings.metadata import EventEnd, RecordingMetadata
from packager.recordings.recording_writer import listed, make_recording
from packager.safe_files import DataFolder, OpenFolder
from packager.window.model import LiveSegment
from packager.window.rendition import extension_of, segment_uri

PENDING = "pending"
"""Folder in the channel's folder with the segments of those that have begun."""

ENDING = "ending"
"""File in that folder with what playlists of its segments need."""

MAX_ENDING_BYTES = 4 << 20
"""Longest file with what playlists need that is read."""


class PendingSegments:
    """The collected segments of a channel's spans. Blocks.

    Args:
        place: the folder of the channel, with its DVR and its recordings.
    """

    def __init__(self, place: DataFolder) -> None:
        self._channel = place
        self._place = place / PENDING

    def collect(
        self, dvr: SegmentSource, found: Mapping[str, Sequence[LiveSegment]], ending: EventEnd | None
    ) -> None:
        """Put segments of the DVR there.

        Args:
            dvr: the place of the segments.
            found: segments that are stored, and gaps, by rendition.
            ending: the facts that a recording's playlists need; None: they are on disk already.

        Raises:
            OSError: they can't be read or put there.
        """
        with self._place.open(make=True) as pending:
            if ending is not None:
                pending.write_whole(ENDING, metadata_files.encode(ending))
            for name, segments in found.items():
                with pending.folder(name, make=True) as target:
                    _collect(dvr, name, target, segments)

    def oldest(self) -> int | None:
        """Return the date of the oldest segment in milliseconds since the epoch; None without any.

        Raises:
            OSError: the folder can't be read.
        """
        found: list[Fraction] = []
        with contextlib.suppress(FileNotFoundError), self._place.open() as pending:
            for name in _renditions(pending):
                with pending.folder(name) as folder:
                    lines = index.read(folder).lines.values()
                    found += [Fraction(*one.date) for one in lines if one.parts][:1]
        return int(min(found) * 1000) if found else None

    def ending(self) -> EventEnd | None:
        """Read what playlists of the segments need; None where that isn't known."""
        with contextlib.suppress(OSError), self._place.open() as pending:
            return metadata_files.decode_ending(pending.read(ENDING, MAX_ENDING_BYTES))
        return None

    def record(
        self, recordings: DataFolder, ending: EventEnd, span: KeptSpan, known: Iterable[RecordingMetadata]
    ) -> RecordingMetadata | None:
        """Make the recording of a span whose segments were collected.

        Args:
            ending: the facts that playlists need, with the date ranges of the span.
            known: the metadata of the existing recordings.

        Returns:
            Its metadata; None where nothing of the span came.

        Raises:
            OSError: the recording can't be made.
        """
        found = self._stored(span)
        if not found:
            return None
        whole = max(round(Fraction(*line.duration)) for one in found.values() for line in one.lines.values())
        ending = replace(ending, target_duration=max(whole, ending.target_duration))
        segments = listed(found, Fraction(*ending.segment_duration))
        rows = next(iter(segments.values()), [])
        for one in known if rows and not span.pinned else ():
            # The recording of an event has the whole publication already.
            if not one.span and one.first <= rows[0].number <= rows[-1].number <= one.last:
                return one
        return make_recording(self._place, recordings, ending, segments, span.names, known)

    def _stored(self, span: KeptSpan) -> dict[str, StoredRendition]:
        """Return the segments of a span that are there, by rendition."""
        found: dict[str, StoredRendition] = {}
        start, end = span.bounds
        with contextlib.suppress(FileNotFoundError), self._place.open() as pending:
            for name in _renditions(pending):
                with pending.folder(name) as folder:
                    lines = {
                        number: line
                        if _is_there(folder, line, extension_of(name))
                        else replace(line, parts=())
                        for number, line in index.read(folder).lines.items()
                        if Fraction(*line.date) < end and _end_of(line) > start
                    }
                    if any(line.parts for line in lines.values()):
                        found[name] = StoredRendition(lines, read_timelines(folder))
        return found

    def forget_before(self, start_ms: int | None) -> None:
        """Remove the segments that no span needs any more.

        Args:
            start_ms: milliseconds since the epoch of the earliest beginning of a span; None: there is none.

        Raises:
            OSError: a file can't be removed.
        """
        if start_ms is not None:
            start = Fraction(start_ms, 1000)
            self._keep_only(lambda line: _end_of(line) > start)
            return
        with contextlib.suppress(FileNotFoundError), self._channel.open() as data:
            with data.folder(PENDING) as pending:
                pending.remove(ENDING)
            erase_in(data, PENDING)

    def forget_from(self, start: Fraction) -> None:
        """Remove the segments that end behind a date.

        Args:
            start: seconds since the epoch.

        Raises:
            OSError: a file can't be removed.
        """
        self._keep_only(lambda line: _end_of(line) <= start)

    def _keep_only(self, is_kept: Callable[[IndexLine], bool]) -> None:
        with contextlib.suppress(FileNotFoundError), self._place.open() as pending:
            for name in _renditions(pending):
                with pending.folder(name) as folder:
                    _keep_lines(folder, is_kept, extension_of(name))


def _collect(dvr: SegmentSource, rendition: str, target: OpenFolder, segments: Sequence[LiveSegment]) -> None:
    extension = extension_of(rendition)
    new = [one for one in segments if one.gap or target.status(segment_uri(one.number, extension)) is None]
    for first in range(0, len(new), dvr.at_once):
        some = new[first : first + dvr.at_once]
        with dvr.fetched(rendition, some) as put:
            lines = map(index.archived_line_of, some)
            target.append_lines(INDEX, b"".join(map(index.encode, lines)))
            for one in some:
                timeline = one.timeline
                if one.gap or timeline is None:
                    continue
                init = f"init-{timeline.number}.mp4"
                if target.status(init) is None:
                    target.write_whole(init, timeline.init)
                # A segment that has left the DVR meanwhile is missed.
                put(one, target)


def _renditions(pending: OpenFolder) -> list[str]:
    names = (one.name for one in pending.entries() if one.is_dir(follow_symlinks=False))
    return sorted(name for name in names if FOLDER_NAME.fullmatch(name) and not name.startswith("."))


def _is_there(folder: OpenFolder, line: IndexLine, extension: str) -> bool:
    status = folder.status(segment_uri(line.number, extension)) if line.parts else None
    return status is not None and status.st_size == line.size


def _end_of(line: IndexLine) -> Fraction:
    return Fraction(*line.date) + Fraction(*line.duration)


def _keep_lines(folder: OpenFolder, is_kept: Callable[[IndexLine], bool], extension: str) -> None:
    lines = index.read(folder).lines
    kept = [line for line in lines.values() if is_kept(line)]
    if len(kept) == len(lines):
        return
    stays = {line.number for line in kept}
    for line in lines.values():
        if line.number not in stays and line.parts:
            folder.remove(segment_uri(line.number, extension), line.size)
    folder.write_whole(INDEX, map(index.encode, kept))
