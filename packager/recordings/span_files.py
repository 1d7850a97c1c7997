"""The files of spans that are to be kept, until they are recordings. Blocks.

A channel's folder has the list of such spans, and a folder with their segments, linked or copied, so that
those which leave the DVR stay. A segment's line of the index is written before its file: what has a file has
a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from packager.dvr import index
from packager.dvr.index import INDEX, IndexLine
from packager.dvr.init_files import read_timelines
from packager.dvr.own_files import FOLDER_NAME, erase_in
from packager.dvr.restore_plan import StoredRendition
from packager.dvr.segment_sources import SegmentSource
from packager.past.programmes import LATEST, MOST_TITLE
from packager.recordings import metadata as metadata_files
from packager.recordings.metadata import EventEnd, RecordingMetadata
from packager.recordings.recording_writer import RecordingNames, listed, make_recording
from packager.safe_files import DataFolder, NotOursError, OpenFolder, write_all
from packager.window.model import LiveSegment
from packager.window.rendition import extension_of, segment_uri

SPANS = "spans"
"""File in the channel's folder with the spans that are to be kept."""

PENDING = "pending"
"""Folder in the channel's folder with the segments of those that have begun."""

ENDING = "ending"
"""File in that folder with what playlists of its segments need."""

MAX_STATE_BYTES = 8 << 20
"""Longest file of spans that is read."""

MAX_ENDING_BYTES = 4 << 20
"""Longest file with what playlists need that is read."""

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Milliseconds = Annotated[int, Meta(ge=0, le=LATEST)]


class KeptSpan(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A span of a channel's time that is to be a recording.

    Attributes:
        id: a name that no other span of the channel ever has.
        start_ms: milliseconds since the epoch.
        end_ms: milliseconds since the epoch; None while a publication goes on.
        title: text of one line for people, which may be empty.
        programme: the name of the programme that it is; empty for none.
        pinned: whether its recording is never removed by its age.
    """

    id: _Name
    start_ms: _Milliseconds
    end_ms: _Milliseconds | None = None
    title: Annotated[str, Meta(max_length=MOST_TITLE)] = ""
    programme: Annotated[str, Meta(max_length=200)] = ""
    pinned: bool = False

    @property
    def names(self) -> RecordingNames:
        """The names that its recording gets, and its bounds where these were asked for."""
        shown = (self.start_ms, self.end_ms) if self.pinned and self.end_ms is not None else None
        return RecordingNames(self.title, self.programme, self.id, self.pinned, shown)


class SpansState(Struct, frozen=True, forbid_unknown_fields=True):
    """The spans of a channel that are to be kept.

    Attributes:
        spans: asked for or begun, and no recordings yet.
        done: names of spans of programmes that were recorded, or of which nothing came.
    """

    spans: tuple[KeptSpan, ...] = ()
    done: tuple[str, ...] = ()


_STATE = msgspec.json.Decoder(SpansState)


def decode_state(data: bytes) -> SpansState | None:
    """Read spans; None where they aren't ours."""
    try:
        return _STATE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_state(place: DataFolder) -> tuple[SpansState, str]:
    """Read the spans of an earlier process, and where a damaged file was set aside.

    Raises:
        OSError: they can't be read.
    """
    with contextlib.suppress(FileNotFoundError), place.open() as folder:
        state = None
        with contextlib.suppress(NotOursError):
            state = decode_state(folder.read(SPANS, MAX_STATE_BYTES))
        return (SpansState(), folder.set_aside([SPANS])) if state is None else (state, "")
    return SpansState(), ""


def write_state(place: DataFolder, state: SpansState) -> None:
    """Write the spans.

    Raises:
        OSError: they can't be written.
    """
    with place.open(make=True) as folder:
        folder.write_whole(SPANS, msgspec.json.encode(state) + b"\n")


def collect(
    dvr: SegmentSource, place: DataFolder, found: Mapping[str, Sequence[LiveSegment]], ending: EventEnd | None
) -> None:
    """Put segments of the DVR into the folder of pending spans.

    Args:
        dvr: the place of the segments.
        place: the folder of the channel, with its DVR and its recordings.
        found: segments that are stored, and gaps, by rendition.
        ending: the facts that a recording's playlists need; None: they are on disk already.

    Raises:
        OSError: they can't be read or put there.
    """
    with place.open(make=True) as data, data.folder(PENDING, make=True) as pending:
        if ending is not None:
            pending.write_whole(ENDING, metadata_files.encode(ending))
        for name, segments in found.items():
            with pending.folder(name, make=True) as target:
                _collect(dvr, name, target, segments)


def _collect(dvr: SegmentSource, rendition: str, target: OpenFolder, segments: Sequence[LiveSegment]) -> None:
    extension = extension_of(rendition)
    new = [one for one in segments if one.gap or target.status(_name(one, extension)) is None]
    for first in range(0, len(new), dvr.at_once):
        some = new[first : first + dvr.at_once]
        with dvr.fetched(rendition, some) as put:
            _append(target, [index.archived_line_of(one) for one in some])
            for one in some:
                timeline = one.timeline
                if one.gap or timeline is None:
                    continue
                init = f"init-{timeline.number}.mp4"
                if target.status(init) is None:
                    target.write_whole(init, timeline.init)
                # A segment that has left the DVR meanwhile is missed.
                put(one, target)


def _name(segment: LiveSegment, extension: str) -> str:
    return segment_uri(segment.number, extension)


def _append(folder: OpenFolder, lines: Iterable[IndexLine]) -> None:
    descriptor = folder.open_to_append(INDEX)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        # The last line of a process that was killed may lack its end.
        before = b"\n" if file.seek(0, os.SEEK_END) else b""
        write_all(descriptor, before + b"".join(map(index.encode, lines)))


def oldest_pending(place: DataFolder) -> int | None:
    """Return the date of the oldest pending segment in milliseconds since the epoch; None without any.

    Raises:
        OSError: the folder can't be read.
    """
    found: list[Fraction] = []
    with contextlib.suppress(FileNotFoundError), place.open() as data, data.folder(PENDING) as pending:
        for name in _renditions(pending):
            with pending.folder(name) as folder:
                found += [Fraction(*one.date) for one in index.read(folder).lines.values() if one.parts][:1]
    return int(min(found) * 1000) if found else None


def read_ending(place: DataFolder) -> EventEnd | None:
    """Read what playlists of the pending segments need; None where that isn't known."""
    with contextlib.suppress(OSError), place.open() as data, data.folder(PENDING) as folder:
        return metadata_files.decode_ending(folder.read(ENDING, MAX_ENDING_BYTES))
    return None


def record_span(
    place: DataFolder,
    recordings: DataFolder,
    ending: EventEnd,
    span: KeptSpan,
    known: Iterable[RecordingMetadata],
) -> RecordingMetadata | None:
    """Make the recording of a span whose segments were collected.

    Args:
        place: the folder of the channel, with its DVR and its recordings.
        ending: the facts that playlists need, with the date ranges of the span.
        known: the metadata of the existing recordings.

    Returns:
        Its metadata; None where nothing of the span came.

    Raises:
        OSError: the recording can't be made.
    """
    found = _stored(place, span)
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
    lines = {name: one.lines for name, one in found.items()}
    return make_recording(place / PENDING, recordings, ending, segments, span.names, known, lines)


def _stored(place: DataFolder, span: KeptSpan) -> dict[str, StoredRendition]:
    """Return the segments of a span that are there, by rendition."""
    found: dict[str, StoredRendition] = {}
    start, end = Fraction(span.start_ms, 1000), Fraction(span.end_ms or LATEST, 1000)
    with contextlib.suppress(FileNotFoundError), place.open() as data, data.folder(PENDING) as pending:
        for name in _renditions(pending):
            with pending.folder(name) as folder:
                lines = {
                    number: line if _is_there(folder, line, extension_of(name)) else replace(line, parts=())
                    for number, line in index.read(folder).lines.items()
                    if Fraction(*line.date) < end and Fraction(*line.date) + Fraction(*line.duration) > start
                }
                if any(line.parts for line in lines.values()):
                    found[name] = StoredRendition(lines, read_timelines(folder))
    return found


def _renditions(pending: OpenFolder) -> list[str]:
    names = (one.name for one in pending.entries() if one.is_dir(follow_symlinks=False))
    return sorted(name for name in names if FOLDER_NAME.fullmatch(name) and not name.startswith("."))


def _is_there(folder: OpenFolder, line: IndexLine, extension: str) -> bool:
    status = folder.status(segment_uri(line.number, extension)) if line.parts else None
    return status is not None and status.st_size == line.size


def forget_before(place: DataFolder, start_ms: int | None) -> None:
    """Remove the pending segments that no span needs any more.

    Args:
        place: the folder of the channel, with its DVR and its recordings.
        start_ms: milliseconds since the epoch of the earliest beginning of a span; None: there is none.

    Raises:
        OSError: a file can't be removed.
    """
    with contextlib.suppress(FileNotFoundError), place.open() as data:
        if data.status(PENDING) is None:
            return
        if start_ms is None:
            with data.folder(PENDING) as pending:
                pending.remove(ENDING)
            erase_in(data, PENDING)
            return
        start = Fraction(start_ms, 1000)
        _keep_only(data, lambda line: _end_of(line) > start)


def forget_from(place: DataFolder, start: Fraction) -> None:
    """Remove the pending segments that end behind a date.

    Args:
        place: the folder of the channel, with its DVR and its recordings.
        start: seconds since the epoch.

    Raises:
        OSError: a file can't be removed.
    """
    with contextlib.suppress(FileNotFoundError), place.open() as data:
        _keep_only(data, lambda line: _end_of(line) <= start)


def _end_of(line: IndexLine) -> Fraction:
    return Fraction(*line.date) + Fraction(*line.duration)


def _keep_only(data: OpenFolder, is_kept: Callable[[IndexLine], bool]) -> None:
    with data.folder(PENDING) as pending:
        for name in _renditions(pending):
            with pending.folder(name) as folder:
                _keep_lines(folder, is_kept, extension_of(name))


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
