"""Makes the index of a film from its tables: chooses the tracks to offer, and cuts them at key frames.

An index is made from the tables that `packager.vod.movie.movie_reader` returns, and kept in memory; nothing
is written to disk. A function that is handed in reads the file, which may be local or elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, TooLargeError, UnsupportedError
from media.mp4.assembled_samples import AssembledSamples
from media.mp4.init_segment import write_init_segment
from media.mp4.languages import language_tag
from media.mp4.movie import Movie, MovieLimits, Track
from media.mp4.random_access import Access, sample_starts
from media.mp4.sample_entry import SampleEntry, parse_sample_entry, without_parameter_sets
from media.mp4.sample_table import MAX_SAMPLES, Int64, SampleTable
from media.mp4.sample_table_writer import Reserve, reserve_nothing
from media.mp4.track_box import TrackFacts
from packager.vod.index.chapters import chapter_source
from packager.vod.index.file_index import FRAGMENT_BYTES, SAMPLE_BYTES, TRACK_BYTES, FileIndex, OfferedTrack
from packager.vod.index.segment_boundaries import MAX_SEGMENTS, cut_at_sync, cut_at_times
from packager.vod.movie.edit_list import Arrangement, apply_edit_list, arrange, first_video_sample, lead_in
from packager.vod.movie.movie_reader import ContainerLimits, Read, is_transport_stream, read_movie
from packager.vod.text.text_tracks import TEXT_LIMITS, TextLimits, embedded_text_tracks

_KEPT_SHARE = 4
"""A moov of which the tables are less than one part in so many isn't kept for them: they are copied."""

MAX_PICTURES_LOOKED_AT = 16
"""Pictures at cuts whose parameter sets are looked for, before it is said that there are none."""

_STILLS = (b"jpeg", b"png ", b"tiff")
_STILL_SECONDS = 1
"""Pictures that are coded each for itself and stay at least so long are a cover or slides, not a film."""


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """The limits of the index of one file; a file of a few kilobytes may declare billions of anything.

    Attributes:
        movie: what a ``moov`` may have, which is read as a whole.
        samples: most samples of all offered tracks together: ten hours of film have 3 million.
        sync_samples: most pictures from which decoding can begin: ten hours of nothing else have a million.
        runs: most entries of all offered tracks' ``stts`` and ``ctts`` together: ten hours that were recorded
            by a clock of milliseconds, so that no two frames in a row are as long, have 3 million.
        segments: likewise of segments; each is a line of a playlist.
        sound_tracks: most sound tracks that are offered.
        containers: what files may be made of that have no whole ``moov``.
        text: what text tracks may have.
    """

    movie: MovieLimits = field(default_factory=MovieLimits)
    samples: int = MAX_SAMPLES
    sync_samples: int = 9 << 17
    runs: int = 3 << 20
    segments: int = 2 * MAX_SEGMENTS
    sound_tracks: int = 8
    containers: ContainerLimits = field(default_factory=ContainerLimits)
    text: TextLimits = TEXT_LIMITS


LIMITS = IndexLimits()


def read_index(
    read: Read, size: int, limits: IndexLimits = LIMITS, reserve: Reserve = reserve_nothing
) -> FileIndex:
    """Index a file.

    Args:
        read: reads from the file; it may block.
        size: the file's length in bytes.
        limits: what the index may be made of.
        reserve: called before memory is taken for tables that the file doesn't have.

    Returns:
        The index.

    Raises:
        MalformedError: the file breaks its format.
        UnsupportedError: it is of another format, or there is nothing in it that can be packaged.
        TooLargeError: there is more in it than the limits allow.
        OSError: it can't be read.
    """
    found = read_movie(read, size, limits.movie, limits.containers, reserve)
    index = index_movie(found.movie, found.nbytes, size, limits, found.assembled)
    if found.cut_short is not None:
        index = replace(index, left_out=(*index.left_out, found.cut_short))
    entry = None if index.video is None else without_parameter_sets(index.video.entry)
    if index.video is None or entry is None or _have_parameter_sets(index.video, index.reading(read)):
        return index
    init = index.video.init.replace(index.video.entry.render(), entry.render())
    return replace(index, tracks=(replace(index.video, entry=entry, init=init), *index.sounds))


def read_beginning(
    read: Read, size: int, limits: IndexLimits = LIMITS, reserve: Reserve = reserve_nothing
) -> FileIndex | None:
    """Index only the beginning of a file of which an index takes all of it to be read; None of any other.

    Raises:
        MediaError, OSError: as :func:`read_index`.
    """
    beginning = limits.containers.transport.beginning_bytes
    if size <= beginning or size > limits.containers.transport.file_bytes or not is_transport_stream(read):
        return None
    return read_index(read, beginning, limits, reserve)


def _have_parameter_sets(track: OfferedTrack, read: Read) -> bool:
    """Look at some segments' first pictures, where encoders repeat parameter sets if they do."""
    look, step = sample_starts(track.entry), -(-len(track.sizes) // MAX_PICTURES_LOOKED_AT)
    for cut in track.cuts[:-1:step].tolist():
        sample = track.samples.samples(cut, cut + 1)
        offset = int(sample.offset[0])

        def read_sample(position: int, length: int, offset: int = offset) -> bytes:
            return read(offset + position, length)

        found = look(int(sample.size[0]), read_sample)
        if found.parameter_sets or found.access is Access.NONE:
            return True
    return False


def index_movie(
    movie: Movie,
    moov_bytes: int,
    size: int,
    limits: IndexLimits = LIMITS,
    assembled: AssembledSamples | None = None,
) -> FileIndex:
    """Choose the tracks to offer, and cut them.

    Args:
        movie: what the file says of its tracks.
        moov_bytes: length of what the tables of the movie's tracks keep in memory.
        size: the file's length in bytes.
        limits: what the index may be made of.
        assembled: the samples that the file doesn't hold as they are sent; or None.

    Raises:
        MalformedError, UnsupportedError, TooLargeError: as :func:`read_index`.
    """
    tables = sum(len(table) for track in movie.tracks for table in track.tables.values())
    whole = tables * _KEPT_SHARE >= moov_bytes
    tracks = movie.tracks if whole else tuple(map(_copied, movie.tracks))
    left_out: list[str] = []
    lost: list[str] = []
    chosen = _choose(tracks, movie.timescale, limits, left_out, lost)
    if not chosen:
        reasons = "; ".join(left_out) or "it has neither video nor sound"
        raise UnsupportedError(f"nothing in it can be packaged: {reasons}")
    offered, early = _offer(chosen, limits, left_out)
    text_tracks = embedded_text_tracks(tracks, movie.timescale, early, left_out, limits.text)
    chapters = chapter_source(replace(movie, tracks=tracks), limits.text)
    nbytes = TRACK_BYTES * len(text_tracks) + len(movie.chapter_list)
    nbytes += sum(track.nbytes + track.samples.table.nbytes for track in offered)
    lost_picture = None if offered[0].video else next(iter(lost), None)
    nbytes += moov_bytes if whole else tables
    if assembled is not None:
        size, nbytes = assembled.end, nbytes + assembled.nbytes
    return FileIndex(
        tracks=offered,
        size=size,
        left_out=tuple(left_out),
        lost_picture=lost_picture,
        cut_short=_cut_short(offered, size),
        nbytes=nbytes,
        text_tracks=text_tracks,
        chapters=chapters,
        lead_in=early,
        assembled=assembled,
    )


def _cut_short(tracks: Sequence[OfferedTrack], size: int) -> str | None:
    """Say what is missing where samples lie behind the file's end: it wasn't loaded to its end."""
    end = max(track.samples.data_end for track in tracks)
    return f"the file is cut short: it has {size} of {end} bytes" if end > size else None


def _copied(track: Track) -> Track:
    return replace(track, tables={kind: memoryview(bytes(table)) for kind, table in track.tables.items()})


def _choose(
    tracks: Iterable[Track],
    movie_timescale: int,
    limits: IndexLimits,
    left_out: list[str],
    lost: list[str],
) -> list[_Candidate]:
    """Take a video track and the sound tracks, as many as the limits allow.

    Args:
        movie_timescale: ticks per second of their edits' durations.
        limits: what the index may be made of.
        left_out: gets a line for each track that can't be offered.
        lost: gets a line for each of these that holds the film's picture.
    """
    chosen: list[_Candidate] = []
    samples, runs = limits.samples, limits.runs
    # §8.3.2.3: a disabled track isn't presented by itself; it is how files mark sound to choose from.
    for track in sorted(tracks, key=lambda track: not track.enabled):
        alike = sum(track.handler == one.track.handler for one in chosen)
        if alike >= {b"vide": 1, b"soun": limits.sound_tracks}.get(track.handler, 0):
            continue
        try:
            candidate = _candidate(track, movie_timescale, replace(limits, samples=samples, runs=runs))
        except TooLargeError as error:
            if not alike:  # what is left would be a film without its picture, or without any sound
                raise
            left_out.append(f"track {track.track_id}: {error}")
        except UnsupportedError as error:
            left_out.append(f"track {track.track_id}: {error}")
            if _is_picture(track):
                lost.append(left_out[-1])
        else:
            chosen.append(candidate)
            samples -= len(candidate.table)
            runs -= candidate.table.runs
    return sorted(chosen, key=lambda one: not one.video)


def _is_picture(track: Track) -> bool:
    """Say whether a track is a film's picture: no cover, no slides beside the chapters of a book."""
    sizes = track.tables.get(b"stsz") or track.tables.get(b"stz2") or b""
    samples = int.from_bytes(sizes[8:12], "big")
    if track.handler != b"vide" or not track.enabled or samples <= 1:
        return False
    stills = all(entry[4:8] in _STILLS for entry in track.sample_entries)
    return not stills or track.duration < samples * track.timescale * _STILL_SECONDS


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A track whose codec and tables could be read, before its place is known."""

    track: Track
    entry: SampleEntry
    table: SampleTable
    movie_timescale: int

    @property
    def video(self) -> bool:
        return self.track.handler == b"vide"


def _candidate(track: Track, movie_timescale: int, limits: IndexLimits) -> _Candidate:
    if track.obstacle:
        raise UnsupportedError(track.obstacle)
    if not track.self_contained:
        raise UnsupportedError("its media are in another file")
    entries = [parse_sample_entry(entry) for entry in track.sample_entries[:1]]
    table = SampleTable(track.tables, len(track.sample_entries), limits.samples, limits.runs)
    if track.handler == b"vide" and table.sync_count > limits.sync_samples:
        raise TooLargeError(f"{table.sync_count} sync samples: more than {limits.sync_samples}")
    if table.description:
        entries = [parse_sample_entry(track.sample_entries[table.description])]
    if not entries or len(table) == 0 or table.duration == 0:
        raise UnsupportedError("it has no samples")
    return _Candidate(track, entries[0], table, movie_timescale)


def _offer(
    chosen: Sequence[_Candidate], limits: IndexLimits, left_out: list[str]
) -> tuple[tuple[OfferedTrack, ...], Fraction]:
    """Place the tracks and cut them; also say by how much they begin before what the file presents."""
    placements = [
        apply_edit_list(one.track.edits, one.movie_timescale, one.track.timescale) for one in chosen
    ]
    # A film that was trimmed without encoding starts at the key frame before the trim, all tracks with it.
    early, first = Fraction(0), None
    if chosen[0].video:
        first = first_video_sample(chosen[0].table, placements[0])
        early = Fraction(lead_in(chosen[0].table, placements[0], first), chosen[0].track.timescale)
    offered: list[OfferedTrack] = []
    segments = 0
    for one, placement in zip(chosen, placements, strict=True):
        timescale = one.track.timescale
        origin = round(early * timescale)
        arrangement = arrange(one.table, placement, origin, first if one.video else None)
        if one.video:
            starts = cut_at_sync(arrangement, timescale)
        elif offered and offered[0].video:
            video = offered[0]
            times, end = video.times[1:-1].tolist(), int(video.times[-1])
            starts = cut_at_times(arrangement, timescale, times, video.timescale, end)
        else:
            starts = cut_at_times(arrangement, timescale)
        segments += len(starts)
        if segments > limits.segments:
            reason = f"more than {limits.segments} segments of all tracks"
            if len(offered) <= chosen[0].video:
                raise TooLargeError(reason)
            left_out.append(f"track {one.track.track_id}: {reason}")
            break
        track = _offered_track(one, arrangement, starts, len(offered) + (not chosen[0].video))
        offered.append(replace(track, delay=int(track.times[0])) if placement.delay or origin else track)
    return tuple(offered), early


def _offered_track(one: _Candidate, arrangement: Arrangement, starts: Int64, number: int) -> OfferedTrack:
    track = one.track
    cuts = np.append(starts, len(arrangement))
    times = np.append(arrangement.times_at(starts), arrangement.end)
    # Leading pictures may be shown before the first sample is; sound's priming isn't heard.
    times[0] = max(0, arrangement.earliest(int(cuts[1])))
    times = np.maximum.accumulate(times)
    if times[-1] <= times[0]:
        raise MalformedError(f"track {track.track_id} has no duration")
    name = "video" if one.video else "audio" if number == 1 else f"audio-{number}"
    facts = TrackFacts(
        number + 1,
        track.handler,
        track.timescale,
        one.entry.render(),
        language=track.language,
        matrix=track.matrix,
        display_size=(track.display_width, track.display_height),
    )
    init = write_init_segment(
        facts,
        media_start=arrangement.start,
        brands=[] if one.entry.brand is None else [one.entry.brand],
    )
    return OfferedTrack(
        name=name,
        track_id=number + 1,
        video=one.video,
        entry=one.entry,
        timescale=track.timescale,
        language=language_tag(track.language, track.extended_language),
        title=track.name,
        rotation=track.rotation,
        samples=arrangement,
        cuts=cuts,
        sizes=arrangement.sizes(cuts) + np.diff(cuts) * SAMPLE_BYTES + FRAGMENT_BYTES,
        times=times,
        init=init,
    )
