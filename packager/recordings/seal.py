"""Making a recording of a channel's DVR: the same files in another folder, playlists, a note. It blocks.

The segments are linked, not copied and not moved, for the channel still serves them. A recording appears
with one renaming; what was interrupted is begun anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from media import wvtt
from packager.dvr.files import clear, read_whole, write_whole
from packager.dvr.folder import INDEX, Folder, read_timelines
from packager.dvr.index import decode
from packager.dvr.restore import Found, last_number, line_up
from packager.live.livesegment import MEDIA_EXTENSION, TEXT_EXTENSION, LiveSegment
from packager.live.rendition import CAPTIONS_PREFIX, extension_of, segment_uri
from packager.recordings import captions
from packager.recordings import note as notes
from packager.recordings.manifest import manifest
from packager.recordings.note import Ending, Note
from packager.recordings.periods import spans
from packager.recordings.playlists import media_playlist, without_common_gaps

NOTE = "recording"
MASTER = "master.m3u8"
MEDIA = "media.m3u8"
MANIFEST = "manifest.mpd"
HEAD = "event.head"
"""Files of a recording besides its segments: what it is, its playlists and manifest, its MP4's beginning."""

MOST_OF_A_NAME = 100
"""Recordings that may begin in the same second."""


def seal(dvr: Path, recordings: Path, ending: Ending) -> Note | None:
    """Make a recording.

    Args:
        dvr: the channel's DVR, a folder of each rendition; nothing is written to it any more.
        recordings: the folder of the channel's recordings; made when missing.
        ending: what was noted at the end.

    Returns:
        What it is; None where there is nothing to keep.

    Raises:
        OSError: it can't be made, for one thing where the file system has no links.
    """
    found = {path.parent.name: Folder(path.parent).load() for path in sorted(dvr.glob(f"*/{INDEX}"))}
    segments = listed(found, Fraction(*ending.segment_duration))
    playable = [one for one in next(iter(segments.values()), ()) if not one.gap]
    if not playable:
        return None
    name = _free_name(recordings, notes.name_of(playable[0].program_date_time))
    draft = recordings / f".{name}"
    clear(draft)
    for rendition, kept in segments.items():
        _link(dvr / rendition, draft / rendition, kept)
        extension = extension_of(rendition)
        playlist = media_playlist(kept, ending.target_duration, ending.date_ranges, extension)
        write_whole(draft / rendition / MEDIA, playlist.render().encode())
    write_whole(draft / MASTER, ending.master.encode())
    made = _note(name, segments, ending, dash=_write_manifest(draft, segments, ending))
    write_whole(draft / NOTE, notes.encode(made))
    draft.rename(recordings / name)
    return made


def listed(found: dict[str, Found], segment_duration: Fraction) -> dict[str, list[LiveSegment]]:
    """Line up what a recording's renditions have, without the gaps that they share."""
    if not found:
        return {}
    segments, _ = line_up(found, last_number(found) + 1, segment_duration)
    return without_common_gaps(segments)


def read_back(folder: Path, renditions: Iterable[str]) -> dict[str, list[LiveSegment]]:
    """Read what a recording has of some renditions, from the indexes that went with it.

    Raises:
        OSError: an index can't be read.
    """
    found = {}
    for name in renditions:
        lines, _ = decode((folder / name / INDEX).read_bytes())
        found[name] = Found(lines, read_timelines(folder / name))
    return listed(found, Fraction(1))


def _write_manifest(draft: Path, segments: dict[str, list[LiveSegment]], ending: Ending) -> bool:
    """Write what DASH players ask for; False where no two renditions have something at the same time."""
    media = {name: kept for name, kept in segments.items() if extension_of(name) == MEDIA_EXTENSION}
    languages = {
        name: name.removeprefix(CAPTIONS_PREFIX) for name in segments if name.startswith(CAPTIONS_PREFIX)
    }
    periods = spans(media)
    for name in languages:
        there = {one.number for one in segments[name] if not one.gap}
        write_whole(draft / name / captions.INIT, wvtt.INIT)
        for chunk in (one for period in periods for one in captions.chunks(period)):
            names = (segment_uri(one, TEXT_EXTENSION) for one in chunk.segments if one in there)
            texts = (read_whole(f"{draft}/{name}/{file}") for file in names)
            write_whole(f"{draft}/{name}/{chunk.name}", captions.fragment(chunk, texts))
    offered = manifest(periods, Fraction(*ending.frame_rate), languages)
    if offered is not None:
        write_whole(draft / MANIFEST, offered.render())
    return offered is not None


def _free_name(recordings: Path, name: str) -> str:
    names = [name, *(f"{name}-{number}" for number in range(1, MOST_OF_A_NAME))]
    return next((one for one in names if not (recordings / one).exists()), names[-1])


def _link(source: Path, target: Path, segments: list[LiveSegment]) -> None:
    target.mkdir(parents=True)
    timelines = {one.timeline.number for one in segments if one.timeline is not None}
    names = [f"init-{number}.mp4" for number in sorted(timelines)]
    names += [segment_uri(one.number, extension_of(source.name)) for one in segments if not one.gap]
    for name in names:
        os.link(f"{source}/{name}", f"{target}/{name}")
    # Appended to and replaced in its own folder: a copy, unlike the segments.
    write_whole(target / INDEX, (source / INDEX).read_bytes())


def _note(name: str, segments: dict[str, list[LiveSegment]], ending: Ending, *, dash: bool) -> Note:
    rows = next(iter(segments.values()))
    first, last = rows[0], rows[-1]
    return Note(
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
        dash=dash,
    )
