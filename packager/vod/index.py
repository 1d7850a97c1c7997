"""The index of one file: which tracks it offers, how they are cut, and what a segment of them consists of.

An index is made from the file's ``moov`` alone and kept in memory; nothing is written to disk. Reading is
done by a function that is given, so that a file may be local or elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from media.codecs import SampleEntry, parse_sample_entry
from media.errors import MalformedError, UnsupportedError
from media.faststart import MoovFinder
from media.initsegment import write_init_segment
from media.isobmff import LARGEST_HEADER
from media.movie import Movie, Track, parse_movie
from media.samples import Int64, SampleTable, parse_samples
from packager.vod.timeline import Arrangement, arrange, cut_at_sync, cut_at_times, lead_in, place

MAX_SOUND_TRACKS = 8
"""Most sound tracks that one file offers."""

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of a file; fewer bytes only where it ends."""

_FRAGMENT_BYTES = 128
_SAMPLE_BYTES = 16
"""What a fragment's header takes, and each sample in it; only for the declared bandwidth."""


@dataclass(frozen=True, slots=True)
class OfferedTrack:
    """One track as it is published.

    Attributes:
        name: its part of the address: ``video``, ``audio``, ``audio-2`` …
        track_id: what its init segment and fragments call it.
        video: whether it is video; else it is sound.
        entry: its codec's facts.
        timescale: its ticks per second.
        language: ISO 639-2/T code or ``und``.
        rotation: clockwise, in degrees.
        samples: on the timeline of the published media.
        cuts: index of each segment's first sample, and behind them the number of samples.
        times: when each segment's presentation begins in ticks, and behind them the end.
        init: the init segment.
    """

    name: str
    track_id: int
    video: bool
    entry: SampleEntry
    timescale: int
    language: str
    rotation: int
    samples: SampleTable
    cuts: Int64
    times: Int64
    init: bytes

    @property
    def duration(self) -> Fraction:
        """Seconds from the first segment's start to the last one's end."""
        return Fraction(int(self.times[-1] - self.times[0]), self.timescale)

    @property
    def durations(self) -> list[Fraction]:
        """Seconds of each segment."""
        return [Fraction(int(ticks), self.timescale) for ticks in np.diff(self.times)]

    @property
    def sizes(self) -> Int64:
        """Bytes of each segment, its header estimated."""
        data: Int64 = np.add.reduceat(self.samples.size, self.cuts[:-1])
        total: Int64 = data + np.diff(self.cuts) * _SAMPLE_BYTES + _FRAGMENT_BYTES
        return total

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height in pixels as the picture is seen."""
        size = self.entry.width, self.entry.height
        return size if self.rotation in (0, 180) else (size[1], size[0])

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, on average."""
        decode = self.samples.decode_time
        return Fraction(len(self.samples) * self.timescale, max(1, int(decode[-1] - decode[0])))


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What one file offers.

    Attributes:
        tracks: the video track first, if there is one, then the sound tracks.
        size: the file's length in bytes.
        left_out: a line for each track that isn't offered.
    """

    tracks: tuple[OfferedTrack, ...]
    size: int
    left_out: tuple[str, ...] = ()

    @property
    def video(self) -> OfferedTrack | None:
        """The video track, or None."""
        return self.tracks[0] if self.tracks[0].video else None

    @property
    def sounds(self) -> tuple[OfferedTrack, ...]:
        """The sound tracks, the default one first."""
        return tuple(track for track in self.tracks if not track.video)

    @property
    def duration(self) -> Fraction:
        """Seconds of the longest track."""
        return max(track.duration for track in self.tracks)

    @property
    def nbytes(self) -> int:
        """Memory that the index takes, in bytes."""
        return sum(track.samples.nbytes + len(track.init) + 4096 for track in self.tracks)

    def track(self, name: str) -> OfferedTrack | None:
        """Find a track by the name in its address."""
        return next((track for track in self.tracks if track.name == name), None)


def read_index(read: Read, size: int) -> FileIndex:
    """Index a file.

    Args:
        read: reads from the file; it may block.
        size: the file's length in bytes.

    Returns:
        The index.

    Raises:
        MalformedError: the file breaks its format.
        UnsupportedError: it is of another format, or there is nothing in it that can be packaged.
        OSError: it can't be read.
    """
    return index_movie(parse_movie(_read_moov(read, size)), size)


def _read_moov(read: Read, size: int) -> bytes:
    """Go from box to box to the ``moov``, wherever in the file it is, and read its payload."""
    finder = MoovFinder(size)
    found = None
    while found is None:
        found = finder.receive(read(finder.position, LARGEST_HEADER))
    length = found.end - found.payload
    moov = read(found.payload, length)
    if len(moov) < length:
        raise MalformedError("the file ends within its moov")
    return moov


def index_movie(movie: Movie, size: int) -> FileIndex:
    """Choose the tracks to offer, and cut them.

    Args:
        movie: the file's ``moov``.
        size: the file's length in bytes.

    Raises:
        MalformedError, UnsupportedError: as :func:`read_index`.
    """
    if movie.fragmented:
        for track in movie.tracks:  # an encrypted file is named so, fragmented or not
            for entry in track.sample_entries:
                if entry[4:8] in (b"encv", b"enca"):
                    raise UnsupportedError("encrypted media")
        raise UnsupportedError("a fragmented MP4; only files with whole sample tables can be packaged")
    candidates: list[_Candidate] = []
    left_out: list[str] = []
    for track in movie.tracks:
        if track.handler not in (b"vide", b"soun"):
            continue
        try:
            candidates.append(_candidate(track, movie.timescale))
        except UnsupportedError as error:
            left_out.append(f"track {track.track_id}: {error}")
    # §8.3.2.3: a disabled track isn't presented by itself; it is how files mark sound to choose from.
    candidates.sort(key=lambda candidate: not candidate.track.enabled)
    videos = [candidate for candidate in candidates if candidate.video][:1]
    sounds = [candidate for candidate in candidates if not candidate.video][:MAX_SOUND_TRACKS]
    chosen = [*videos, *sounds]
    if not chosen:
        reasons = "; ".join(left_out) or "it has neither video nor sound"
        raise UnsupportedError(f"nothing in it can be packaged: {reasons}")
    return FileIndex(_offer(chosen), size, tuple(left_out))


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


def _candidate(track: Track, movie_timescale: int) -> _Candidate:
    if not track.self_contained:
        raise UnsupportedError("its media are in another file")
    entries = [parse_sample_entry(entry) for entry in track.sample_entries[:1]]
    table = parse_samples(track.tables, len(track.sample_entries))
    if table.description:
        entries = [parse_sample_entry(track.sample_entries[table.description])]
    if not entries or len(table) == 0 or table.decode_time[-1] == 0:
        raise UnsupportedError("it has no samples")
    return _Candidate(track, entries[0], table, movie_timescale)


def _offer(chosen: Sequence[_Candidate]) -> tuple[OfferedTrack, ...]:
    placements = [place(one.track.edits, one.movie_timescale, one.track.timescale) for one in chosen]
    # A film that was trimmed without encoding starts at the key frame before the trim, all tracks with it.
    early = Fraction(0)
    if chosen[0].video:
        early = Fraction(lead_in(chosen[0].table, placements[0]), chosen[0].track.timescale)
    offered: list[OfferedTrack] = []
    times: list[Fraction] = []
    end = Fraction(0)
    for one, placement in zip(chosen, placements, strict=True):
        timescale = one.track.timescale
        arrangement = arrange(one.table, placement, round(early * timescale), video=one.video)
        if one.video:
            starts = cut_at_sync(arrangement, timescale)
        else:
            starts = cut_at_times(arrangement, timescale, times, end)
        track = _offered_track(one, arrangement, starts, number=len(offered) + (not chosen[0].video))
        offered.append(track)
        if one.video:
            times = [Fraction(int(time), timescale) for time in track.times[1:-1]]
            end = Fraction(int(track.times[-1]), timescale)
    return tuple(offered)


def _offered_track(one: _Candidate, arrangement: Arrangement, starts: Int64, number: int) -> OfferedTrack:
    track = one.track
    shown = arrangement.times
    cuts = np.append(starts, len(shown))
    times = np.append(shown[starts], arrangement.end)
    # Leading pictures may be shown before the first sample is; sound's priming isn't heard.
    times[0] = max(0, int(shown[: cuts[1]].min()))
    times = np.maximum.accumulate(times)
    if times[-1] <= times[0]:
        raise MalformedError(f"track {track.track_id} has no duration")
    name = "video" if one.video else "audio" if number == 1 else f"audio-{number}"
    init = write_init_segment(
        track_id=number + 1,
        handler=track.handler,
        timescale=track.timescale,
        sample_entry=one.entry.render(),
        language=track.language,
        matrix=track.matrix,
        display_size=(track.display_width, track.display_height),
        media_start=arrangement.start,
    )
    return OfferedTrack(
        name=name,
        track_id=number + 1,
        video=one.video,
        entry=one.entry,
        timescale=track.timescale,
        language=track.language,
        rotation=track.rotation,
        samples=arrangement.samples,
        cuts=cuts,
        times=times,
        init=init,
    )
