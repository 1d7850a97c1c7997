"""Makes a recording of a channel's DVR: links its files into a new folder, and adds playlists. Blocks.

Segments are hard-linked, since the channel still serves them. The folder is built under a temporary name and
renamed at the end; after an interruption it is built anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from fractions import Fraction

from msgspec.structs import replace

from media.hls.date_range import read_date_range
from packager.dvr.disk_archive import FORMER
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX, MAX_SEGMENT_BYTES, archived_line_of, encode
from packager.dvr.own_files import FOLDER_NAME, erase_in
from packager.dvr.restore_plan import StoredRendition, align_renditions, last_number
from packager.past import dash_captions
from packager.past.i_frames import PLAYLIST_NAME, i_frame_playlist, i_frame_variants
from packager.past.manifest import manifest
from packager.past.outlined_span import OutlinedSpan
from packager.past.periods import recorded_periods
from packager.past.playlists import media_playlist, without_common_gaps
from packager.past.span_playlists import span_totals
from packager.publish.dash_captions import INIT
from packager.publish.date_ranges import merged
from packager.publish.hls_multivariant import multivariant_playlist
from packager.recordings import metadata as metadata_files
from packager.recordings.metadata import EventEnd, RecordingMetadata
from packager.safe_files import ASIDE, DataFolder, OpenFolder
from packager.window.log import RenditionFormat
from packager.window.model import MEDIA_EXTENSION, TEXT_EXTENSION, LiveSegment
from packager.window.rendition import CAPTIONS_PREFIX, extension_of, segment_uri

METADATA = "recording"
MASTER = "master.m3u8"
MEDIA = "media.m3u8"
I_FRAMES = PLAYLIST_NAME
MANIFEST = "manifest.mpd"
"""Files of a recording besides its segments and heads: its metadata, playlists and manifest."""

DRAFT = re.compile(rf"\.{metadata_files.ID.pattern}(?:-[0-9]{{1,2}})?")
"""Temporary names of folders that are being built or removed."""

MOST_OF_A_NAME = 100
"""Most recordings that begin in the same second."""

_RENDITION = re.compile(rf"({metadata_files.RENDITION.pattern})/{re.escape(MEDIA)}")


def head_name(stretch: int = 0) -> str:
    """Name the head of the MP4 of a stretch, or of the whole recording (0)."""
    return f"event-{stretch}.head" if stretch else "event.head"


def seal(
    dvr: DataFolder, recordings: DataFolder, ending: EventEnd, known: Iterable[RecordingMetadata]
) -> RecordingMetadata | None:
    """Make a recording, or find that which an earlier process made and couldn't note.

    Args:
        dvr: the channel's DVR, which is no longer written to.
        recordings: the folder of the channel's recordings; created if missing.
        ending: the facts that were noted at the end of the event.
        known: the metadata of the existing recordings.

    Returns:
        Its metadata; None if there are no segments.

    Raises:
        OSError: the recording can't be made, for instance as the file system has no hard links.
    """
    found = _load(dvr, ending)
    segments = listed(found, Fraction(*ending.segment_duration))
    return make_recording(dvr, recordings, ending, segments, RecordingNames(), known)


@dataclass(frozen=True, slots=True)
class RecordingNames:
    """The names of a recording, whether it is pinned, and its bounds; see ``RecordingMetadata``."""

    title: str = ""
    programme: str = ""
    span: str = ""
    pinned: bool = False
    shown: tuple[int, int] | None = None

    def start_behind(self, date: Fraction) -> Fraction | None:
        """Return how many seconds behind a date playback begins; None: at its beginning."""
        start = 0 if self.shown is None else self.shown[0]
        behind = Fraction(start, 1000) - date
        return behind if behind > 0 else None


def make_recording(
    source_place: DataFolder,
    recordings: DataFolder,
    ending: EventEnd,
    segments: dict[str, list[LiveSegment]],
    names: RecordingNames,
    known: Iterable[RecordingMetadata],
) -> RecordingMetadata | None:
    """Make a recording of segments in a folder, by links; see ``seal``.

    Args:
        source_place: the folder with a folder of segments for each rendition.
    """
    playable = [one for one in next(iter(segments.values()), ()) if not one.gap]
    if not playable:
        return None
    columns = OutlinedSpan.of(segments)
    formats = _recorded(ending, columns)
    known, ending = list(known), _with_movie(ending, formats)
    with recordings.open(make=True) as folder:
        taken = {one.id for one in known}
        name = _free_name(folder, taken, metadata_files.name_of(playable[0].program_date_time))
        found = replace(_metadata(name, segments, ending), **asdict(names))
        for one in known:
            if replace(one, id=name, dash=False) == found or _is_same_publication(one, found):
                return one
        erase_in(folder, f".{name}")
        draft_name = folder.free_name(f".{name}", MOST_OF_A_NAME)
        with folder.folder(draft_name, make=True) as draft, source_place.open() as source:
            for rendition, kept in segments.items():
                extension = extension_of(rendition)
                playlist = replaced(
                    media_playlist(kept, ending.target_duration, ending.date_ranges, extension),
                    start=names.start_behind(kept[0].program_date_time),
                )
                with source.folder(rendition) as own, draft.folder(rendition, make=True) as target:
                    _link(own, target, kept, extension)
                    target.write_whole(INDEX, map(encode, map(archived_line_of, kept)))
                    target.write_whole(MEDIA, playlist.render().encode())
                    if (shown := i_frame_playlist(columns, rendition)) is not None:
                        target.write_whole(I_FRAMES, shown.render().encode())
            totals, pictures = span_totals(columns, ending.target_duration), i_frame_variants(columns)
            rate = Fraction(*ending.frame_rate)
            master = multivariant_playlist(formats, rate, totals, pictures=pictures)
            draft.write_whole(MASTER, master.render().encode())
            made = replace(found, dash=_write_manifest(draft, segments, ending))
            draft.write_whole(METADATA, metadata_files.encode(made))
        folder.move(draft_name, folder, name)
    return made


def _is_same_publication(one: RecordingMetadata, other: RecordingMetadata) -> bool:
    """Return whether an event and a publication, or two of either, are the same media from end to end."""
    if any(each.pinned or each.programme or each.title for each in (one, other)):
        return False
    bare = (replace(each, id="", dash=False, span="", shown=None) for each in (one, other))
    return next(bare) == next(bare) and one.shown_duration == other.shown_duration


def _recorded(ending: EventEnd, columns: OutlinedSpan) -> list[RenditionFormat]:
    """Return the renditions of the channel that a recording has media of, in the channel's order."""
    formats = list[RenditionFormat]()
    for name in dict.fromkeys(_RENDITION.findall(ending.master)):
        if name in columns.tracks and columns.has_media(name):
            language = name.removeprefix(CAPTIONS_PREFIX) if name.startswith(CAPTIONS_PREFIX) else None
            formats.append(RenditionFormat(name, columns.tracks[name].has_pictures, 0, language))
    return formats


def _with_movie(ending: EventEnd, formats: Sequence[RenditionFormat]) -> EventEnd:
    """Return the facts for a recording that has media of these renditions alone; others were added since."""
    names, pictures = [one.name for one in formats], [one.name for one in formats if one.video]
    return replace(
        ending,
        video=ending.video if ending.video is None or ending.video in names else next(iter(pictures), None),
        audio=ending.audio if ending.audio in names else None,
    )


def _load(dvr: DataFolder, ending: EventEnd) -> dict[str, StoredRendition]:
    """Read the DVR's renditions, those with an index or in the master playlist."""
    named = set(_RENDITION.findall(ending.master))
    try:
        folder = dvr.open()
    except FileNotFoundError:
        return {}
    with folder:
        there = {one.name for one in folder.entries() if one.is_dir(follow_symlinks=False)}
        names = [name for name in sorted(there - {FORMER, ASIDE}) if FOLDER_NAME.fullmatch(name)]
        names = [name for name in names if name in named or _has_index(folder, name)]
    found = {name: DvrFolder(dvr / name).load(ending.target_duration) for name in names}
    return {name: one for name, one in found.items() if one.lines}


def _has_index(dvr: OpenFolder, name: str) -> bool:
    with dvr.folder(name) as folder:
        return folder.status(INDEX) is not None


def listed(found: dict[str, StoredRendition], segment_duration: Fraction) -> dict[str, list[LiveSegment]]:
    """Align a recording's renditions, without the channel's slate and the gaps that all share."""
    shown = {name: one.without(_slate(found)) for name, one in found.items()}
    if not any(one.lines for one in shown.values()):
        return {}
    segments, _ = align_renditions(shown, last_number(shown) + 1, segment_duration, whole=False)
    return without_common_gaps(segments)


def _slate(found: Mapping[str, StoredRendition]) -> Collection[int]:
    """Return the numbers of the segments in which any rendition has the channel's slate."""
    numbers = set[int]()
    for rendition in found.values():
        timelines = {number for number, one in rendition.timelines.items() if one.is_slate}
        if timelines:
            numbers.update(line.number for line in rendition.lines.values() if line.init in timelines)
    return numbers


def _write_manifest(draft: OpenFolder, segments: dict[str, list[LiveSegment]], ending: EventEnd) -> bool:
    """Write the DASH manifest; return False if no number has segments of all renditions."""
    media = {name: kept for name, kept in segments.items() if extension_of(name) == MEDIA_EXTENSION}
    languages = {
        name: name.removeprefix(CAPTIONS_PREFIX) for name in segments if name.startswith(CAPTIONS_PREFIX)
    }
    periods = recorded_periods(OutlinedSpan.of(media), media)
    for name in languages:
        there = {one.number for one in segments[name] if not one.gap}
        with draft.folder(name) as folder:
            folder.write_whole(dash_captions.INIT_NAME, INIT)
            for chunk in (one for period in periods for one in dash_captions.chunks(period)):
                names = (segment_uri(one, TEXT_EXTENSION) for one in chunk.segments if one in there)
                texts = (folder.read(file, MAX_SEGMENT_BYTES) for file in names)
                folder.write_whole(chunk.name, chunk.pack(texts))
    ranges = merged(map(read_date_range, ending.date_ranges))
    offered = manifest(periods, Fraction(*ending.frame_rate), languages, ranges)
    if offered is not None:
        draft.write_whole(MANIFEST, offered.render())
    return offered is not None


def _free_name(recordings: OpenFolder, taken: Collection[str], name: str) -> str:
    names = [name, *(f"{name}-{number}" for number in range(1, MOST_OF_A_NAME))]
    return next((one for one in names if one not in taken and recordings.status(one) is None), names[-1])


def _link(source: OpenFolder, target: OpenFolder, segments: list[LiveSegment], extension: str) -> None:
    timelines = {one.timeline.number for one in segments if one.timeline is not None}
    names = [f"init-{number}.mp4" for number in sorted(timelines)]
    names += [segment_uri(one.number, extension) for one in segments if not one.gap]
    for name in names:
        source.link(name, target, name)


def _metadata(name: str, segments: dict[str, list[LiveSegment]], ending: EventEnd) -> RecordingMetadata:
    rows = next(iter(segments.values()))
    first, last = rows[0], rows[-1]
    return RecordingMetadata(
        id=name,
        start=float(first.program_date_time),
        end=float(last.program_date_time + last.duration),
        duration=float(sum(one.duration for one in rows)),
        size=sum(one.size for kept in segments.values() for one in kept),
        first=first.number,
        last=last.number,
        renditions=tuple(segments),
        video=ending.video,
        audio=ending.audio,
    )
