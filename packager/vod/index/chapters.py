"""Reads the chapters of a film from its file, and writes them as JSON for players."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from media.errors import MalformedError, MediaError, TooLargeError
from media.mp3.id3 import ID3V2_HEADER, id3v2_size, parse_chapters
from media.mp4.movie.movie import Movie
from media.mp4.movie.sample_table import SampleTable
from media.mp4.text.chapters import Chapter, chapter_title, parse_chapter_list, printable
from packager.vod.movie.edit_list import apply_edit_list
from packager.vod.movie.movie_reader import Read
from packager.vod.text.cues import MAX_SAMPLE_BYTES, TextLimits

DATA_ID = "com.apple.hls.chapters"
"""Apple's name for them in EXT-X-SESSION-DATA."""

MAX_CHAPTERS = 1000

MAX_TAG_BYTES = 2 << 20
"""Most bytes of a tag that are read: chapters may be behind a cover."""


@dataclass(frozen=True, slots=True)
class ChapterSource:
    """Where a film's file has its chapters.

    Attributes:
        table: samples of a QuickTime track of chapters, which are read when requested; or None.
        timescale: ticks per second of that track.
        shift: ticks from its own timeline to that of the file's presentation.
        listed: start in milliseconds and title of each, without such a track.
        sample_bytes: largest sample that is read.
    """

    table: SampleTable | None = None
    timescale: int = 1
    shift: int = 0
    listed: tuple[tuple[int, str], ...] = ()
    sample_bytes: int = 0

    def __bool__(self) -> bool:
        return self.table is not None or bool(self.listed)


NO_CHAPTERS = ChapterSource()


def chapter_source(movie: Movie, limits: TextLimits) -> ChapterSource:
    """Find where a file names its chapters: a QuickTime track is better than a list."""
    listed = movie.chapters[:MAX_CHAPTERS] or tuple(parse_chapter_list(movie.chapter_list))
    references = [track.chapter_track for track in movie.tracks if track.chapter_track]
    named = next((track for track in movie.tracks if track.track_id in references[:1]), None)
    if named is None or named.handler not in (b"text", b"sbtl") or not named.self_contained:
        return ChapterSource(listed=listed)
    try:
        table = SampleTable(named.tables, len(named.sample_entries), limits.samples)
        placement = apply_edit_list(named.edits, movie.timescale, named.timescale)
        if not 0 < len(table) <= MAX_CHAPTERS:
            raise TooLargeError(f"{len(table)} chapters")
    except MediaError:  # a film is worth seeing without them
        return ChapterSource(listed=listed)
    shift = placement.delay - placement.media_start
    return ChapterSource(table, named.timescale, shift, listed, MAX_SAMPLE_BYTES)


def read_chapters(source: ChapterSource, read: Read, duration: Fraction, lead_in: Fraction) -> list[Chapter]:
    """Read the chapters of a file.

    Args:
        read: reads from the file; it may block.
        duration: of the published media in seconds: there the last one ends.
        lead_in: seconds by which the published media begin before what the file presents.

    Raises:
        OSError: the file can't be read.
    """
    starts = list(source.listed)
    if source.table is not None:
        starts = _read_samples(source, source.table, read) or starts
    early, end = round(lead_in * 1000), round(duration * 1000)
    placed = [(start + early, title) for start, title in sorted(starts) if 0 <= start + early < end]
    ends = [*(start for start, _ in placed[1:]), end]
    parts = zip(placed, ends, strict=False)
    return [Chapter(start, stop, title) for (start, title), stop in parts if stop > start]


def music_chapters(name: str, read: Read) -> list[Chapter]:
    """Read the chapters of an MP3 file's tag; none of other files, which aren't packaged either.

    Args:
        read: as of `read_chapters`.

    Raises:
        OSError: the file can't be read.
    """
    size = id3v2_size(read(0, ID3V2_HEADER)) if name.lower().endswith(".mp3") else None
    if size is None:
        return []
    listed = parse_chapters(read(0, min(size, MAX_TAG_BYTES)))[:MAX_CHAPTERS]
    return [Chapter(start, end, printable(title)) for start, end, title in listed if start < end]


def chapters_within(chapters: Sequence[Chapter], begin: int, end: int) -> list[Chapter]:
    """Return the chapters of a clip on its own timeline; all times are in milliseconds."""
    bounds = [(max(one.start, begin) - begin, min(one.end, end) - begin, one.title) for one in chapters]
    return [Chapter(start, stop, title) for start, stop, title in bounds if start < stop]


def _read_samples(source: ChapterSource, table: SampleTable, read: Read) -> list[tuple[int, str]]:
    samples = table.samples(0, len(table))
    found = []
    for offset, size, time in zip(
        samples.offset.tolist(), samples.size.tolist(), samples.decode_time[:-1].tolist(), strict=True
    ):
        try:
            title = chapter_title(read(offset, min(size, source.sample_bytes)))
        except MalformedError:
            title = ""
        found.append((round(Fraction((time + source.shift) * 1000, source.timescale)), title))
    return found


def chapters_json(chapters: Sequence[Chapter]) -> bytes:
    """Write chapters as Apple describes it in "Providing JavaScript Object Notation (JSON) chapters"."""
    return msgspec.json.encode(
        [
            {
                "chapter": number,
                "start-time": chapter.start / 1000,
                "duration": (chapter.end - chapter.start) / 1000,
                "titles": [{"language": "und", "title": chapter.title or f"Chapter {number}"}],
            }
            for number, chapter in enumerate(chapters, 1)
        ]
    )
