"""The samples of a track that an encoder reads, as a fragmented MP4 that ffmpeg is fed with.

ffmpeg opens no file, and reads no more of the film than a segment needs: the samples are found by the film's
index, whatever container they are in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from media.errors import MalformedError, MediaError, TooLargeError
from media.mp4.boxes import box
from media.mp4.fragments.fragments import write_samples_header
from media.mp4.movie.box_arrays import Int64, stretches
from media.mp4.movie.sample_table import Samples
from media.subtitles.pgs import DisplaySet
from packager.reader_guard import ReaderGuard
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.segment import ShortReadError
from packager.vod.text.text_tracks import PictureSubtitles

MAX_SAMPLES = 1 << 16
"""Most samples that are read for one segment: key frames may be half an hour apart."""

MAX_BYTES = 1 << 30
"""Most bytes that are read for one segment."""

FRAGMENT_SAMPLES = 32
"""Samples that are read and written at once."""


MAX_SUBTITLE_SECONDS = 120
"""Longest time before a segment in which subtitles are looked for that are shown in it."""

MAX_DISPLAY_SETS = 500
"""Most display sets of subtitles of a segment, and as many before it."""

MAX_SUBTITLE_BYTES = 16 << 20
"""Bytes of subtitles, decompressed, behind which no further ones are read for a segment."""


MAX_DAMAGED_SETS = 32
"""Most display sets of a segment that are damaged or too large, behind which no further ones are read."""


@dataclass(frozen=True, slots=True)
class ShownSubtitles:
    """Subtitles that are shown in a segment's pictures.

    Attributes:
        data: a file of them, whose times are counted from the first one.
        container: ffmpeg's name of the file's form.
        canvas: width and height in pixels of the picture on which they are composed.
        begin: when the first one is shown, in milliseconds of the pictures' clock.
    """

    data: bytes
    container: str
    canvas: tuple[int, int]
    begin: int


@dataclass(frozen=True, slots=True)
class SourceSamples:
    """Samples of a track in decoding order, with what a decoder must know before them.

    Attributes:
        init: the init segment, without an edit list: times are those of the composition.
        start: composition time at which the film's presentation begins, in ticks of the track.
        origin: decode time that is about 0 in the MP4. From 0 on ffmpeg computes a bit rate, by which some
            decoders of sound go.
    """

    init: bytes
    track_id: int
    start: int
    samples: Samples
    origin: int

    @property
    def presentation_start(self) -> int:
        """When the film's presentation begins by the times of the MP4, in ticks; mostly negative."""
        return self.start - self.origin

    def movie(self, read: Read) -> Iterator[bytes]:
        """Return the MP4 in pieces.

        Args:
            read: reads from the film's file; it may block.

        Raises:
            ShortReadError: the file ends before.
        """
        yield self.init
        for begin in range(0, len(self.samples), FRAGMENT_SAMPLES):
            part = self.samples.part(begin, begin + FRAGMENT_SAMPLES)
            header = write_samples_header(
                sequence_number=begin + 1,
                track_id=self.track_id,
                base_media_decode_time=int(part.decode_time[0]) - self.origin,
                samples=part,
            )
            pieces = [header]
            for offset, size in zip(part.offset.tolist(), part.size.tolist(), strict=True):
                pieces.append(read(offset, size))
                if len(pieces[-1]) < size:
                    raise ShortReadError(f"the file ends within the sample at {offset}")
            yield b"".join(pieces)


def picture_samples(track: OfferedTrack, start: int, end: int) -> SourceSamples:
    """Find the samples from which the pictures of a span can be decoded, and one picture behind it.

    Args:
        start: begin of the span in ticks of the presentation.
        end: end of the span in these ticks.

    Raises:
        TooLargeError: the key frame before it is too far away.
    """
    arrangement, origin = track.samples, track.samples.start
    decoded = _decoded_by(track, end + origin)
    # A picture that is presented before the end is decoded before it; the next one joins its fields.
    stop = min(decoded + 1, len(arrangement))
    first = _last_sync(track, start, stop)
    return _checked(track, first, stop)


def subtitles_within(
    track: PictureSubtitles, start: int, end: int, origin: int, read: Read
) -> ShownSubtitles | None:
    """Read the subtitles that are shown within a span; None where there are none.

    Args:
        start: begin of the span in milliseconds of the published media.
        end: end of the span in these milliseconds.
        origin: milliseconds that the pictures' clock is behind that of the published media.
        read: reads from the film's file; it may block.

    Raises:
        ShortReadError: the file ends before.
    """
    sets = track.display_sets
    first, stop = np.searchsorted(sets.starts + track.early, [start, end], "left").tolist()
    earliest = int(np.searchsorted(sets.starts + track.early, start - MAX_SUBTITLE_SECONDS * 1000))
    found: list[tuple[int, DisplaySet]] = []
    size = damaged = 0
    following = end
    # Backward from the last one to a set that needs none before it.
    last, least = min(stop, first + MAX_DISPLAY_SETS), max(earliest, first - MAX_DISPLAY_SETS)
    for number in reversed(range(least, last)):
        length = int(sets.sizes[number])
        if size + length > MAX_SUBTITLE_BYTES or len(found) >= 2 * MAX_DISPLAY_SETS:
            break
        size += length
        data = read(int(sets.offsets[number]), length)
        if len(data) < length:
            raise ShortReadError(f"the file ends within the subtitle at {sets.offsets[number]}")
        try:
            with ReaderGuard("subtitles"):
                shown = sets.decode(data)
        except MediaError:  # the film is worth seeing without it
            damaged += 1
            if damaged > MAX_DAMAGED_SETS:
                break
            continue
        began = int(sets.starts[number]) + track.early
        # The next block ends what this one would show later.
        kept = [(began + delay, one) for delay, one in shown if not delay or began + delay < following]
        size += sum(len(segment) for _, one in kept for segment in one.segments)
        found += reversed(kept)
        if kept:
            following = kept[0][0]
            if following < start and kept[0][1].is_complete:
                break
    found.reverse()
    found = [(time, one) for time, one in found if one.canvas == found[0][1].canvas]
    if not found:
        return None
    begin, canvas = found[0][0], found[0][1].canvas
    data = sets.write([(time - begin, one) for time, one in found])
    return ShownSubtitles(data, sets.container, canvas, begin + origin)


def sound_samples(track: OfferedTrack, start: int, end: int, rate: int) -> SourceSamples:
    """Find the samples of a span of sound; the last one before it where it has none.

    Args:
        start: begin of the span in ticks of the presentation.
        end: end of the span in these ticks.
        rate: samples per second of the converted sound; the MP4 begins at a multiple of both clocks.
    """
    origin = track.samples.start
    first = max(_decoded_by(track, start + origin) - 1, 0)
    unit = track.timescale // gcd(track.timescale, rate)
    return _checked(track, first, max(_decoded_by(track, end + origin), first + 1), unit)


def _checked(track: OfferedTrack, first: int, stop: int, unit: int = 1) -> SourceSamples:
    if stop - first > MAX_SAMPLES:
        raise TooLargeError(
            f"{stop - first} samples must be decoded for one segment: more than {MAX_SAMPLES}"
        )
    samples = track.samples.samples(first, stop)
    if (size := int(samples.size.sum())) > MAX_BYTES:
        raise TooLargeError(f"{size} bytes must be decoded for one segment: more than {MAX_BYTES}")
    began = int(samples.decode_time[0])
    init = track.without_edit_list.init
    if track.entry.aperture is not None:
        # Some decoders cut it out by themselves, and others don't.
        written = box(b"clap", track.entry.payload(b"clap"))
        init = init.replace(written, written.replace(b"clap", b"free"))
    return SourceSamples(init, track.track_id, track.samples.start, samples, began - began % unit)


def _decoded_by(track: OfferedTrack, time: int) -> int:
    """Return how many samples are decoded at a time of the published media or before."""
    arrangement = track.samples
    published = arrangement.shift - arrangement.raised + arrangement.start
    found = arrangement.table.decoded_by(time - published) - arrangement.first
    return min(max(found, 0), len(arrangement))


def _last_sync(track: OfferedTrack, start: int, stop: int) -> int:
    """Return the number of the last key frame that is presented at a time or before, or of the first."""
    for begin, end in reversed(list(stretches(0, stop))):
        sync = track.samples.sync_samples(begin, end)
        early = np.flatnonzero(track.samples.times_at(sync) <= start) if len(sync) else sync
        if len(early):
            return int(sync[early[-1]])
    return 0


def pictures_within(source: SourceSamples, start: int, end: int) -> Int64:
    """Return the times of the pictures of a span in order, in ticks of the presentation.

    Args:
        start: begin of the span in ticks; the picture that is shown at this time is the first one.
        end: end of the span in ticks.

    Raises:
        MalformedError: there is none.
    """
    times = np.unique(source.samples.composition_time - source.start)
    first = max(int(times.searchsorted(start, "right")) - 1, 0)
    within = times[first : times.searchsorted(end)]
    if not len(within):
        raise MalformedError("a segment without a picture")
    return within
