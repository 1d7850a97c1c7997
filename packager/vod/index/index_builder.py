"""Makes the index of a film from its tables: chooses the tracks to offer, and cuts them at key frames.

An index is made from the tables that `packager.vod.movie.movie_reader` returns, and kept in memory; nothing
is written to disk. A function that is handed in reads the file, which may be local or elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.codecs.decodable_entry import decodable_picture, decodable_sound, fixed_packing
from media.mp4.codecs.sample_entry import SampleEntry, parse_sample_entry
from media.mp4.codecs.silence import silent_frame
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.languages import language_tag
from media.mp4.movie.assembled_samples import AssembledSamples
from media.mp4.movie.box_arrays import Int64
from media.mp4.movie.empty_samples import has_empty_samples, without_empty_samples
from media.mp4.movie.filled_sound import PAUSE_SECONDS, FilledSpan, SilentSamples, fill_pauses, has_pauses
from media.mp4.movie.movie import Movie, Track, foreign_format
from media.mp4.movie.one_sample_entry import samples_of_one_entry, use_several_entries
from media.mp4.movie.packed_sound import MAX_INSTANTS, PACKED_BYTES, packed_tables
from media.mp4.movie.sample_table import SampleTable
from media.mp4.movie.sample_table_writer import MAX_TABLE_TICKS, Reserve, TableRoom, reserve_nothing
from media.mp4.movie.track_box import TrackFacts
from packager.reader_guard import ReaderGuard
from packager.vod.index.chapters import chapter_source
from packager.vod.index.file_index import FRAGMENT_BYTES, SAMPLE_BYTES, TRACK_BYTES, FileIndex, OfferedTrack
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.index.repeated_sets import with_sets_apart
from packager.vod.index.segment_boundaries import cut_at_sync, cut_at_times
from packager.vod.index.still_pictures import cut_at_still_pictures, repeated_bytes
from packager.vod.movie.bounded_references import BoundedRead, require_few_repeats
from packager.vod.movie.edit_list import (
    Arrangement,
    Placement,
    apply_edit_list,
    arrange,
    first_video_sample,
    lead_in,
    moved_edits,
)
from packager.vod.movie.hidden_pictures import hide_before_edit
from packager.vod.movie.movie_reader import Read, is_packet_stream, read_movie
from packager.vod.movie.paused_tracks import with_pauses
from packager.vod.movie.track_roles import place_of, roles_of
from packager.vod.text.text_tracks import (
    PictureSubtitles,
    embedded_text_tracks,
    picture_subtitles,
    segment_times,
)

_KEPT_SHARE = 4
"""A moov of which the tables are less than one part in so many isn't kept for them: they are copied."""

_LONG_BYTES = 16 << 20
"""A film with larger tables, of some five hours and more, has them in a form that takes a third."""

_MEDIA = (b"vide", b"soun")
"""Handlers of pictures and of sound."""

SHORTEST_DIFFERENCE = Fraction(1, 10)
"""Seconds by which tracks may differ in length until the shorter ones are made as long."""

LEAST_SECONDS = Fraction(1, 2)
"""Length of a film of picture and sound at least: browsers begin to play with some 0.3 s of both, and hls.js
ends neither before it plays."""

FILLED_BYTES = 16 << 20
"""Memory for the tables of sound with silence in its pauses."""

_CUE_BYTES, _CHAPTER_BYTES = 48, 512
"""Memory of a cue that isn't in a sample table, and most memory of a chapter."""

_STILLS = (b"jpeg", b"png ", b"tiff")
_STILL_SECONDS = 1
"""Pictures that are coded each for itself and stay at least so long are a cover or slides, not a film."""


LIMITS = IndexCacheLimits()


def read_index(
    read: Read, size: int, limits: IndexCacheLimits = LIMITS, reserve: Reserve = reserve_nothing
) -> FileIndex:
    """Index a file.

    Args:
        read: reads from the file; it may block.
        size: the file's length in bytes.
        limits: most samples, segments and tracks of the index.
        reserve: called before memory is taken for tables that the file doesn't have.

    Returns:
        The index.

    Raises:
        MalformedError: the file breaks its format.
        UnsupportedError: it is of another format, or there is nothing in it that can be packaged.
        TooLargeError: there is more in it than the limits allow.
        OSError: it can't be read.
    """
    whole_file = read
    read = BoundedRead(whole_file, size, limits.containers)
    found = read_movie(read, size, limits.movie, limits.containers, reserve)
    index = index_movie(found.movie, found.nbytes, size, limits, found.assembled, reserve)
    if found.cut_short is not None:
        index = replace(index, left_out=(*index.left_out, found.cut_short))
    return with_sets_apart(index, whole_file)


def read_beginning(
    read: Read, size: int, limits: IndexCacheLimits = LIMITS, reserve: Reserve = reserve_nothing
) -> FileIndex | None:
    """Index only the beginning of a file of which an index takes all of it to be read; None of any other.

    Raises:
        MediaError, OSError: as :func:`read_index`.
    """
    beginning = limits.containers.transport.beginning_bytes
    if size <= beginning or size > limits.containers.transport.file_bytes or not is_packet_stream(read):
        return None
    return read_index(read, beginning, limits, reserve)


def index_movie(
    movie: Movie,
    moov_bytes: int,
    size: int,
    limits: IndexCacheLimits = LIMITS,
    assembled: AssembledSamples | None = None,
    reserve: Reserve = reserve_nothing,
) -> FileIndex:
    """Choose the tracks to offer, and cut them.

    Args:
        movie: the tracks that the file declares.
        moov_bytes: bytes of memory that the tables of the movie's tracks refer to.
        size: the file's length in bytes.
        limits: most samples, segments and tracks of the index.
        assembled: the samples that are sent in another form than the file has them; or None.
        reserve: called before memory is taken for tables that the file doesn't have.

    Raises:
        MalformedError, UnsupportedError, TooLargeError: as :func:`read_index`.
    """
    require_few_repeats(movie, assembled.end if assembled is not None else size, limits.containers)
    tables = sum(map(_table_bytes, movie.tracks))
    is_long = tables > _LONG_BYTES
    whole = tables * _KEPT_SHARE >= moov_bytes and not is_long
    tracks = movie.tracks
    if not whole:
        tracks = tuple(one if _is_apart(one, is_long=is_long) else _copied(one) for one in tracks)
    left_out: list[str] = list(movie.unread)
    lost: list[str] = []
    chosen, uncopied = _choose(tracks, movie.timescale, limits, left_out, lost)
    obstacle = ""
    if not chosen:
        reasons = "; ".join(left_out) or "it has neither video nor sound"
        obstacle = f"nothing in it can be packaged: {reasons}"
    placed, early = _place(chosen, uncopied, left_out)
    own_end = assembled.end if assembled is not None else size
    cut_short = _cut_short([one.arrangement for one in placed], own_end)
    placed, silence = _lengthened(placed, own_end, limits, reserve)
    offered = _offer([one for one in placed if one.is_copied], early, limits, left_out)
    only_encoded = _offer_encoded([one for one in placed if not one.is_copied], offered, early, limits)
    if not offered and not only_encoded:
        raise UnsupportedError(obstacle)
    times = segment_times((track.times, track.timescale) for track in offered or only_encoded)
    texts, text_left_out = embedded_text_tracks(tracks, movie.timescale, times, early, limits.text)
    chapters = chapter_source(replace(movie, tracks=tracks), limits.text)
    shown = picture_subtitles(tracks, movie.timescale, early)
    nbytes = TRACK_BYTES * len(texts) + len(movie.chapter_list) + _CHAPTER_BYTES * len(chapters.listed)
    nbytes += _CUE_BYTES * _cue_count(tracks, shown)
    # The tables of a long film's media are counted with their samples.
    nbytes += (
        moov_bytes
        if whole
        else sum(_table_bytes(one) for one in movie.tracks if not _is_apart(one, is_long=is_long))
    )
    nbytes += _sample_bytes((*offered, *only_encoded), is_long=is_long)
    nbytes += 0 if is_long else sum(_own_bytes(one.candidate) for one in placed)
    lost_picture = None if any(track.video for track in offered) else next(iter(lost), None)
    if silence is not None:
        assembled = silence if assembled is None else assembled.joined(silence)
    if assembled is not None:
        size, nbytes = assembled.end, nbytes + assembled.nbytes
    return FileIndex(
        tracks=offered,
        size=size,
        left_out=tuple(left_out),
        lost_picture=lost_picture,
        cut_short=cut_short,
        only_encoded=only_encoded,
        obstacle=obstacle,
        nbytes=nbytes,
        text_tracks=texts,
        text_left_out=text_left_out,
        picture_subtitles=shown,
        chapters=chapters,
        lead_in=early,
        assembled=assembled,
    )


def _cut_short(tracks: Sequence[Arrangement], size: int) -> str | None:
    """Describe the missing bytes of a file that was cut short; None if it is whole."""
    end = max((track.data_end for track in tracks), default=0)
    return f"the file is cut short: it has {size} of {end} bytes" if end > size else None


def _copied(track: Track) -> Track:
    return replace(track, tables={kind: memoryview(bytes(table)) for kind, table in track.tables.items()})


def _choose(
    tracks: Iterable[Track],
    movie_timescale: int,
    limits: IndexCacheLimits,
    left_out: list[str],
    lost: list[str],
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Choose a video track and the sound tracks, as many as the limits allow.

    Returns:
        The tracks that are copied, and further ones that a decoder reads.

    Args:
        movie_timescale: ticks per second of their edits' durations.
        limits: most samples, segments and tracks of the index.
        left_out: gets a line for each track that can't be offered.
        lost: gets a line for each of these that holds the film's picture.

    Raises:
        MalformedError: all tracks have tables that can't be read.
    """
    chosen: list[_Candidate] = []
    refused: list[Track] = []
    malformed: list[MalformedError] = []
    samples, runs = limits.samples, limits.runs
    # §8.3.2.3: a disabled track isn't presented by itself; it is how files mark sound to choose from.
    for track in sorted(tracks, key=place_of):
        alike = sum(track.handler == one.track.handler for one in chosen)
        if alike >= {b"vide": 1, b"soun": limits.sound_tracks}.get(track.handler, 0):
            continue
        try:
            candidate = _candidate(track, movie_timescale, replace(limits, samples=samples, runs=runs))
        except TooLargeError as error:
            if not alike:  # the rest would be a film without video, or without any sound
                raise
            left_out.append(f"track {track.track_id}: {error}")
        except UnsupportedError as error:
            left_out.append(f"track {track.track_id}: {error}")
            refused.append(track)
            if _is_picture(track):
                lost.append(left_out[-1])
        except MalformedError as error:  # as in ffmpeg and browsers, the other tracks play
            left_out.append(f"track {track.track_id}: {error}")
            malformed.append(error)
        else:
            chosen.append(candidate)
            samples -= len(candidate.table)
            runs -= candidate.table.runs
    chosen.sort(key=lambda one: not one.video)
    limits = replace(limits, samples=samples, runs=runs)
    uncopied = _choose_uncopied(refused, movie_timescale, limits, chosen)
    if malformed and not chosen and not uncopied:
        raise malformed[0]
    left_out += [_lacking(one) for one in (*chosen, *uncopied) if one.track.lacking]
    return chosen, uncopied


def _choose_uncopied(
    tracks: Sequence[Track], movie_timescale: int, limits: IndexCacheLimits, copied: Sequence[_Candidate]
) -> list[_Candidate]:
    """Choose the tracks that are decoded, as many as the limits allow beside the copied ones."""
    chosen: list[_Candidate] = []
    for track in tracks:
        alike = sum(track.handler == one.track.handler for one in (*copied, *chosen))
        most = 1 if track.handler == b"vide" else limits.sound_tracks
        if alike >= most or (track.handler == b"vide" and not _is_picture(track)):
            continue
        try:
            candidate = _decodable(track, movie_timescale, limits)
        except MediaError:  # the reason why it isn't copied is known already
            continue
        chosen.append(candidate)
        left = limits.samples - len(candidate.table), limits.runs - candidate.table.runs
        limits = replace(limits, samples=left[0], runs=left[1])
    return sorted(chosen, key=lambda one: not one.video)


def _is_picture(track: Track) -> bool:
    """Return whether a track is a film's video, and no cover or slides beside the chapters of a book."""
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
    has_own_tables: bool = False

    @property
    def video(self) -> bool:
        return self.track.handler == b"vide"


def _candidate(track: Track, movie_timescale: int, limits: IndexCacheLimits) -> _Candidate:
    if track.obstacle:
        raise UnsupportedError(track.obstacle)
    if not track.self_contained:
        raise UnsupportedError("its media are in another file")
    has_own_tables = False
    if use_several_entries(track.tables, track.sample_entries):
        one = samples_of_one_entry(
            track.tables, track.sample_entries, track.timescale, limits.samples, TableRoom(PACKED_BYTES)
        )
        if one.dropped:
            has_own_tables = True
            track = replace(
                track,
                tables=one.tables,
                sample_entries=track.sample_entries[one.entry : one.entry + 1],
                edits=moved_edits(track.edits, one.begin, movie_timescale, track.timescale),
                lacking=foreign_format(one.dropped),
            )
    entries = [parse_sample_entry(entry) for entry in track.sample_entries[:1]]
    table = SampleTable(track.tables, track.sample_entries, limits.samples, limits.runs)
    if track.handler == b"vide" and table.sync_count > limits.sync_samples:
        raise TooLargeError(f"{table.sync_count} sync samples: more than {limits.sync_samples}")
    if table.description:
        entries = [parse_sample_entry(track.sample_entries[table.description])]
    if has_empty_samples(track.tables):
        tables = without_empty_samples(table, TableRoom(PACKED_BYTES))
        entry = track.sample_entries[table.description : table.description + 1]
        track, has_own_tables = replace(track, tables=tables, sample_entries=entry), True
        table = SampleTable(tables, entry, limits.samples, limits.runs)
    if not entries or len(table) == 0 or table.duration == 0:
        raise UnsupportedError("it has no samples")
    return _paused(_Candidate(track, entries[0], table, movie_timescale, has_own_tables), limits)


def _paused(one: _Candidate, limits: IndexCacheLimits) -> _Candidate:
    """Return a track in whose tables the pauses of its edit list are.

    Raises:
        MediaError: the tables can't be written.
    """
    track = one.track
    room = TableRoom(PACKED_BYTES)
    paused = with_pauses(one.table, track.edits, one.movie_timescale, track.timescale, room)
    if paused is None:
        return one
    entry = one.table.description
    track = replace(
        track,
        tables=paused.tables,
        edits=paused.edits,
        sample_entries=track.sample_entries[entry : entry + 1],
    )
    table = SampleTable(track.tables, track.sample_entries, limits.samples, limits.runs)
    return replace(one, track=track, table=table, has_own_tables=True)


def _lacking(one: _Candidate) -> str:
    """Describe what of a track isn't published, and what stands in for it."""
    track = one.track
    if one.video:
        return f"picture of track {track.track_id}: {track.lacking}; the picture before stays"
    stands = "silence stands in" if silent_frame(one.entry) is not None else "nothing stands in"
    return f"sound of track {track.track_id}: {track.lacking}; {stands}"


def _decodable(track: Track, movie_timescale: int, limits: IndexCacheLimits) -> _Candidate:
    """Read a track that is decoded; raises MediaError where it can't be."""
    if not track.self_contained or not track.sample_entries:
        raise UnsupportedError("it has no samples of a known codec")
    parse = decodable_picture if track.handler == b"vide" else decodable_sound
    entry, tables, packing = parse(track.sample_entries[0]), track.tables, None
    alike = int.from_bytes(bytes(tables.get(b"stsz", b"")[4:8]), "big")
    if track.handler == b"soun" and alike:
        packing = fixed_packing(entry)
    descriptions = track.sample_entries
    most = limits.samples if packing is None else MAX_INSTANTS
    table = SampleTable(tables, descriptions, most, limits.runs)
    if table.description:
        raise UnsupportedError("its samples use another sample entry than the first")
    if packing is not None:
        track = replace(track, tables=packed_tables(table, packing, TableRoom(PACKED_BYTES)))
        table = SampleTable(track.tables, descriptions, limits.samples, limits.runs)
    if track.handler == b"vide" and table.sync_count > limits.sync_samples:
        raise TooLargeError(f"{table.sync_count} sync samples: more than {limits.sync_samples}")
    if len(table) == 0 or table.duration == 0:
        raise UnsupportedError("it has no samples")
    candidate = _Candidate(track, entry, table, movie_timescale, has_own_tables=packing is not None)
    return _paused(candidate, limits)


def _own_bytes(one: _Candidate) -> int:
    """Return the memory of tables that the file doesn't have; others are counted with the movie's."""
    return _table_bytes(one.track) if one.has_own_tables else 0


def _is_apart(track: Track, *, is_long: bool) -> bool:
    """Return whether a track's tables are compacted, and counted with its samples."""
    return is_long and track.handler in _MEDIA


def _sample_bytes(tracks: Sequence[OfferedTrack], *, is_long: bool) -> int:
    """Return the bytes of tracks' samples; those of a long film are compacted."""
    if is_long:
        for track in tracks:
            track.samples.table.compact()
    return sum(track.nbytes + track.samples.table.nbytes for track in tracks)


def _cue_count(tracks: Sequence[Track], shown: Sequence[PictureSubtitles]) -> int:
    """Return the number of cues of text, and of pictures."""
    texts = sum(len(track.text.starts) for track in tracks if track.text is not None)
    return texts + sum(len(one.display_sets.starts) for one in shown)


def _table_bytes(track: Track) -> int:
    return sum(map(len, track.tables.values()))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A track with the place of its samples in the presentation.

    Attributes:
        placement: by its edit list.
        is_copied: whether its own samples are sent; else a decoder reads them.
    """

    candidate: _Candidate
    placement: Placement
    arrangement: Arrangement
    is_copied: bool

    @property
    def end(self) -> Fraction:
        """Seconds of the presentation at which the track ends."""
        return Fraction(self.arrangement.end, self.candidate.track.timescale)


def _place(
    chosen: Sequence[_Candidate], uncopied: Sequence[_Candidate], left_out: list[str]
) -> tuple[list[_Placed], Fraction]:
    """Place the tracks; also return by how much they begin before what the file presents.

    Args:
        left_out: gets a line for each track that can't be placed.

    Raises:
        MalformedError: no track can be placed.
    """
    placed: list[_Placed] = []
    # A film that was trimmed without encoding starts at the key frame before the trim, all tracks with it.
    early, malformed = Fraction(0), None
    for one in chosen:
        track, first, hidden = one.track, None, 0
        try:
            placement = apply_edit_list(track.edits, one.movie_timescale, track.timescale)
            ahead = early
            if one.video:
                first = first_video_sample(one.table, placement)
                one, placement, hidden = _hidden_before_edit(one, placement, first)
                ahead = Fraction(lead_in(one.table, placement, first), track.timescale)
            arrangement = arrange(one.table, placement, round(ahead * track.timescale), first)
            arrangement = replace(arrangement, hidden=hidden)
        except MalformedError as error:
            malformed = malformed or error
            left_out.append(f"track {track.track_id}: {error}")
            continue
        early = ahead
        placed.append(_Placed(one, placement, arrangement, is_copied=True))
    if malformed and not placed:
        raise malformed
    for one in uncopied:
        try:
            placement = apply_edit_list(one.track.edits, one.movie_timescale, one.track.timescale)
            first, hidden = first_video_sample(one.table, placement) if one.video else None, 0
            if first is not None:
                one, placement, hidden = _hidden_before_edit(one, placement, first)
            arrangement = arrange(one.table, placement, round(early * one.track.timescale), first)
            arrangement = replace(arrangement, hidden=hidden)
        except MediaError:  # the film is worth offering without what can't be placed
            continue
        placed.append(_Placed(one, placement, arrangement, is_copied=False))
    return placed, early


def _hidden_before_edit(
    one: _Candidate, placement: Placement, first: int
) -> tuple[_Candidate, Placement, int]:
    """Return a track whose pictures before its edit last a tick each, its place, and their number."""
    try:
        with ReaderGuard("edit list"):
            hidden = hide_before_edit(one.track.tables, one.table, placement, first)
            if hidden is None:
                return one, placement, 0
            table = SampleTable(hidden.tables, one.track.sample_entries)
    except MediaError:
        return one, placement, 0
    track = replace(one.track, tables=hidden.tables)
    return replace(one, track=track, table=table, has_own_tables=True), hidden.placement, hidden.count


def _lengthened(
    placed: Sequence[_Placed], size: int, limits: IndexCacheLimits, reserve: Reserve
) -> tuple[list[_Placed], AssembledSamples | None]:
    """Make all tracks as long as the longest, by a last picture that stays and by silence.

    Sound gets silence in its pauses, too: most players end at what they have no sound for.

    Args:
        size: offset behind all data of the file.
    """
    end = max((one.end for one in placed), default=Fraction(0))
    if len({one.candidate.video for one in placed}) > 1:
        end = max(end, LEAST_SECONDS)
    place = max([size, *(one.arrangement.data_end for one in placed)])
    room = TableRoom(FILLED_BYTES, reserve)
    longer: list[_Placed] = []
    begins: list[int] = []
    silence: list[SilentSamples] = []
    for one in placed:
        arrangement = one.arrangement
        if one.candidate.video or not one.is_copied:
            one = _held_from_begin(one)
            arrangement = one.arrangement
            if end - one.end > SHORTEST_DIFFERENCE:
                arrangement = arrangement.held_until(int(end * one.candidate.track.timescale))
            longer.append(replace(one, arrangement=arrangement))
            continue
        filled = _filled(one, end, place, limits, room)
        if filled is not None:
            one, added = filled
            begins.append(place)
            silence.append(added)
            place += added.size
        longer.append(one)
    return longer, AssembledSamples(begins, silence) if silence else None


def _held_from_begin(one: _Placed) -> _Placed:
    """Show the first picture of a track that begins later than the film from the film's begin on."""
    candidate, arrangement = one.candidate, one.arrangement
    if not candidate.video or not len(arrangement) or arrangement.first:
        return one
    late = arrangement.earliest(1)
    if late <= PAUSE_SECONDS * candidate.track.timescale or not one.placement.delay:
        return one
    tables = {**candidate.track.tables, b"stts": memoryview(_first_longer(candidate.track.tables, late))}
    try:
        table = SampleTable(tables, candidate.track.sample_entries)
        media_end = one.placement.media_end
        placement = replace(
            one.placement,
            delay=max(one.placement.delay - late, 0),
            media_start=one.placement.media_start + max(late - one.placement.delay, 0),
            media_end=None if media_end is None else media_end + late,
        )
        origin = arrangement.shift - one.placement.delay + one.placement.media_start
        moved = arrange(table, placement, origin, 0)
    except MediaError:
        return one
    track = replace(candidate.track, tables=tables)
    candidate = replace(candidate, track=track, table=table, has_own_tables=True)
    return replace(one, candidate=candidate, placement=placement, arrangement=moved)


def _first_longer(tables: Mapping[bytes, memoryview], ticks: int) -> bytes:
    """Return a ``stts`` (ISO/IEC 14496-12 §8.6.1.2) whose first sample lasts longer."""
    old = bytes(tables[b"stts"])
    entries, count, delta = struct.unpack_from(">III", old, 4)
    rest = struct.pack(">II", count - 1, delta) if count > 1 else b""
    head = struct.pack(">III", entries + (count > 1), 1, min(delta + ticks, MAX_TABLE_TICKS))
    return old[:4] + head + rest + old[16:]


def _filled(
    one: _Placed, end: Fraction, place: int, limits: IndexCacheLimits, room: TableRoom
) -> tuple[_Placed, SilentSamples] | None:
    """Put silence into the pauses of a track of sound, before it and behind it; return None without any."""
    candidate, arrangement = one.candidate, one.arrangement
    timescale, table = candidate.track.timescale, candidate.table
    is_short = end - one.end > SHORTEST_DIFFERENCE
    late = int(arrangement.times(0, 1)[0])
    is_late = late > PAUSE_SECONDS * timescale
    if not is_short and not is_late and not has_pauses(table, timescale):
        return None
    frame = silent_frame(candidate.entry)
    if frame is None:
        return None
    count = arrangement.first + len(arrangement)
    # Decode times on the media's own timeline, which are those of presentation: sound isn't reordered.
    until = int(end * timescale) if is_short else 0
    if is_late:
        span = FilledSpan(count, until, arrangement.first, late)
    else:
        span = FilledSpan(count, until - arrangement.shift if is_short else 0)
    try:
        filled = fill_pauses(table, frame, timescale, span, place, room)
        if filled is None:
            return None
        table = SampleTable(filled.tables, 1, limits.samples, limits.runs)
    except TooLargeError:
        return None
    placement = replace(one.placement, media_end=None) if is_short else one.placement
    if is_late:
        placement = Placement()
    candidate = replace(
        candidate, track=replace(candidate.track, tables=filled.tables), table=table, has_own_tables=True
    )
    origin = 0 if is_late else arrangement.shift - one.placement.delay + one.placement.media_start
    return replace(
        one, candidate=candidate, placement=placement, arrangement=arrange(table, placement, origin)
    ), filled.silence


def _offer(
    placed: Sequence[_Placed], early: Fraction, limits: IndexCacheLimits, left_out: list[str]
) -> tuple[OfferedTrack, ...]:
    """Cut the tracks that are copied, as many as the limits allow.

    Args:
        early: seconds by which they begin before what the file presents.
    """
    offered: list[OfferedTrack] = []
    has_video, segments = any(one.candidate.video for one in placed), 0
    for one in placed:
        starts = _cut(one.candidate, one.arrangement, offered)
        track = _offered_track(one.candidate, one.arrangement, starts, len(offered) + (not has_video))
        segments += len(track.sizes)
        if segments > limits.segments:
            reason = f"more than {limits.segments} segments of all tracks"
            if len(offered) <= has_video:
                raise TooLargeError(reason)
            left_out.append(f"track {one.candidate.track.track_id}: {reason}")
            break
        offered.append(_delayed(track, one.placement, early))
    return tuple(offered)


def _delayed(track: OfferedTrack, placement: Placement, early: Fraction) -> OfferedTrack:
    """Return a track with the time before it, where its edit list asks for some."""
    return replace(track, delay=int(track.times[0])) if placement.delay or early else track


def _cut(one: _Candidate, arrangement: Arrangement, offered: Sequence[OfferedTrack]) -> Int64:
    """Cut a track into segments: sound as the film's video, if that is among the tracks before it."""
    if one.video:
        return cut_at_sync(arrangement, one.track.timescale)
    video = next((track for track in offered if track.video), None)
    if video is None:
        return cut_at_times(arrangement, one.track.timescale)
    times, end = video.times[1:-1].tolist(), int(video.times[-1])
    return cut_at_times(arrangement, one.track.timescale, times, video.timescale, end)


def _offer_encoded(
    placed: Sequence[_Placed], copied: Sequence[OfferedTrack], early: Fraction, limits: IndexCacheLimits
) -> tuple[OfferedTrack, ...]:
    """Cut tracks that aren't copied like those that are, without those that can't be cut.

    Args:
        early: seconds by which the copied tracks begin before what the file presents.
    """
    offered: list[OfferedTrack] = []
    segments = sum(len(track.sizes) for track in copied)
    for one in placed:
        sounds = sum(not track.video for track in (*copied, *offered))
        number = 0 if one.candidate.video else sounds + 1
        try:
            starts = _cut(one.candidate, one.arrangement, (*copied, *offered))
            track = _offered_track(one.candidate, one.arrangement, starts, number)
        except MediaError:
            continue
        segments += len(track.sizes)
        if segments > limits.segments:
            break
        offered.append(_delayed(track, one.placement, early))
    return tuple(offered)


def _offered_track(one: _Candidate, arrangement: Arrangement, starts: Int64, number: int) -> OfferedTrack:
    track = one.track
    cuts = np.append(starts, len(arrangement))
    times = np.append(arrangement.times_at(starts), arrangement.end)
    # Leading pictures may be shown before the first sample is; sound's priming isn't heard.
    times[0] = max(0, arrangement.earliest(int(cuts[1])))
    times = np.maximum.accumulate(times)
    if times[-1] <= times[0]:
        raise MalformedError(f"track {track.track_id} has no duration")
    sizes = arrangement.sizes(cuts)
    if one.video:
        cuts, times, sizes = cut_at_still_pictures(arrangement, cuts, times, track.timescale)
        sizes[-1] += repeated_bytes(arrangement, cuts, int(times[-1]), track.timescale)
    counts = cuts[cuts.searchsorted(cuts[:-1], "right")] - cuts[:-1]
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
        entry=one.entry.shown_at((track.display_width, track.display_height)) if one.video else one.entry,
        timescale=track.timescale,
        language=language_tag(track.language, track.extended_language),
        title=track.name,
        rotation=track.rotation,
        samples=arrangement,
        cuts=cuts,
        sizes=sizes + counts * SAMPLE_BYTES + FRAGMENT_BYTES,
        times=times,
        init=init,
        place_in_file=(place_of(track), track.track_id),
        roles=roles_of(track),
    )
