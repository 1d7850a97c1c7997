"""The I-frames of a film as a fragmented MP4 of their own, which players show while a viewer seeks or winds.

The file is made on request, as segments are: an init segment, an index (``sidx``), and a fragment for each
I-frame. HLS names its byte ranges in an I-frame playlist (RFC 8216bis §4.4.3.6), DASH its index in a trick
mode set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError
from media.hls.attribute_values import adding_up
from media.hls.media_playlist import ByteRange, Map, MediaPlaylist, Segment, target_duration
from media.hls.multivariant import IFrameVariant
from media.mp4.boxes import box
from media.mp4.codecs.random_access import Access, sample_starts
from media.mp4.fragments.fragments import write_fragment_header
from media.mp4.fragments.moof import Sample
from media.mp4.fragments.sidx import sidx_bytes, write_sidx
from media.mp4.movie.box_arrays import Int64, stretches
from packager.vod.index.file_index import OfferedTrack
from packager.vod.movie.movie_reader import Read
from packager.vod.segments.bandwidth import average_bandwidth, peak_bandwidth
from packager.vod.segments.segment import ShortReadError

I_FRAMES_NAME = "iframes.mp4"
"""Of all of a film's; a clip's have in their name when it begins and ends, in ticks of the track."""

PLAYLIST_NAME = "iframes.m3u8"

MAX_I_FRAMES = 20_000
"""Most I-frames that are listed: eleven hours of one in two seconds. Of a film that has more, every second
is, or every third …"""

MAX_FRAME_BYTES = 64 << 20
"""Largest I-frame that is listed."""

MAX_TICKS = 1 << 32
"""Bound of the time for which an I-frame stands: fragments and indexes say it in 32 bits."""

MAX_PLAYOUT_RATE = 64
"""How many times as fast as normal I-frames may be shown (ISO/IEC 23009-1 §5.3.7)."""

FREE_HEADER = 8
"""Bytes of an empty box."""

FRAGMENT_HEADER = len(
    write_fragment_header(
        sequence_number=1, track_id=1, base_media_decode_time=0, samples=(Sample(1, MAX_FRAME_BYTES),)
    )
)
"""Bytes in front of a frame's own, the same for all."""


@dataclass(frozen=True, slots=True)
class IFrames:
    """The places of a track's I-frames in its file, and their times.

    Attributes:
        offsets: of each one's first byte in the file.
        frame_sizes: bytes of each.
        times: when each is shown in ticks, rising, and behind them the end; the first one from the beginning.
        timescale: ticks per second.
        bounds: of a clip's, when it begins and ends in ticks; None: they are the whole film's.
    """

    offsets: Int64
    frame_sizes: Int64
    times: Int64
    timescale: int
    bounds: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The last part of the address of all of them together."""
        return I_FRAMES_NAME if self.bounds is None else "iframes-{}-{}.mp4".format(*self.bounds)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def sizes(self) -> Int64:
        """Bytes of each one's fragment."""
        return self.frame_sizes + FRAGMENT_HEADER

    @property
    def longest(self) -> int:
        """Ticks for which one stands at most."""
        return int(np.diff(self.times).max())

    @property
    def duration(self) -> Fraction:
        """Seconds of all."""
        return Fraction(int(self.times[-1] - self.times[0]), self.timescale)

    def chosen(self, wanted: NDArray[np.bool_]) -> IFrames:
        """Return some of the frames; each is shown until the next one, and the first from the beginning."""
        times = np.append(self.times[:-1][wanted], self.times[-1])
        times[0] = self.times[0]
        return IFrames(self.offsets[wanted], self.frame_sizes[wanted], times, self.timescale, self.bounds)

    def within(self, begin: int, end: int) -> IFrames | None:
        """Return a clip's frames; its first one is the film's last before, shown from the clip's beginning.

        Args:
            begin: when the clip begins, in ticks.

        Returns:
            None where they have no such stretch.
        """
        if not self.times[0] <= begin < end <= self.times[-1]:
            return None
        first = int(self.times.searchsorted(begin, "right")) - 1
        behind = int(self.times.searchsorted(end))
        times = np.append(self.times[first:behind], end)
        times[0] = begin
        offsets, sizes = self.offsets[first:behind], self.frame_sizes[first:behind]
        return IFrames(offsets, sizes, times, self.timescale, (begin, end))


def marked_i_frames(track: OfferedTrack, most: int = MAX_I_FRAMES) -> IFrames | None:
    """List the sync samples of a video track, as its tables mark them; None where that is of no use.

    Args:
        most: how many are listed at most; of more, every so many are.
    """
    step = max(1, -(-sum(len(sync) for sync in _sync_samples(track)) // most))
    columns: list[tuple[Int64, Int64, Int64]] = []
    passed = 0
    for sync in _sync_samples(track):
        wanted, passed = sync[-passed % step :: step], passed + len(sync)
        if len(wanted):
            first = int(wanted[0])
            samples = track.samples.samples(first, int(wanted[-1]) + 1)
            at = wanted - first
            columns.append((samples.offset[at], samples.size[at], track.samples.times_at(wanted)))
    if not columns:
        return None
    offsets, sizes, times = map(np.concatenate, zip(*columns, strict=True))
    first, end = track.times[[0, -1]].tolist()
    shown = np.maximum(times, first)
    # Times that go back, which only damage makes, are of no use: nobody could seek to them.
    rising = shown > np.maximum.accumulate(np.append(first - 1, shown[:-1]))
    wanted = rising & (shown < end) & (sizes > 0) & (sizes <= MAX_FRAME_BYTES)
    # The first key frame isn't shown where only later pictures of its group are.
    wanted[0] = wanted[0] and not track.samples.hidden
    if not wanted.any():
        return None
    shown[0] = first
    found = IFrames(offsets, sizes, np.append(shown, end), track.timescale).chosen(wanted)
    return found if found.longest + track.delay < MAX_TICKS else None


def _sync_samples(track: OfferedTrack) -> list[Int64]:
    """Return the numbers of the sync samples by stretches, of which each may be looked at as a whole."""
    return [track.samples.sync_samples(*stretch) for stretch in stretches(0, len(track.samples))]


def decodable_i_frames(track: OfferedTrack, marked: IFrames, read: Read) -> IFrames:
    """Leave out frames that can't be decoded by themselves, or of which that isn't known.

    Args:
        marked: the I-frames that the track's tables mark.
        read: reads from the file; it may block.

    Raises:
        MalformedError: there is no such frame.
    """
    look = sample_starts(track.entry)

    def is_decodable(offset: int, size: int) -> bool:
        found = look(size, lambda position, length: read(offset + position, length))
        return found.access is not Access.NONE

    places = zip(marked.offsets.tolist(), marked.frame_sizes.tolist(), strict=True)
    wanted = np.fromiter((is_decodable(*place) for place in places), np.bool_, len(marked))
    if not wanted.any():
        raise MalformedError(f"no picture of {track.name} can be decoded by itself")
    return marked.chosen(wanted)


class IFrameFile:
    """The I-frames of a track as one file, whose bytes are computed and read on request.

    Args:
        marked: the I-frames that the track's tables mark. The index has room for all of them, so that its
            length is known without reading any.
        frames: the marked frames that are in the file.
        size: of the track's file in bytes.

    Raises:
        MalformedError: a frame isn't within the file.

    Attributes:
        frames: the frames that are in the file.
    """

    video = True

    def __init__(self, track: OfferedTrack, marked: IFrames, frames: IFrames, size: int) -> None:
        if np.any(frames.offsets + frames.frame_sizes > size):
            raise MalformedError("an I-frame lies beyond the end of the file")
        # Not the track itself: with it the whole index would stay in memory, however few its I-frames are.
        self._track_id = track.track_id
        self._timescale = track.timescale
        self._start = track.samples.start
        self._init_bytes = len(track.init)
        self._folder = track.version.folder
        self.frames = frames
        self._head = _head(track, len(marked), frames)
        self._bounds = np.cumsum(np.append(len(self._head), frames.sizes))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return int(self._bounds[-1])

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes."""
        return len(self._head) + self._bounds.nbytes + 3 * self.frames.times.nbytes

    def read(self, read: Read, offset: int, length: int) -> bytes:
        """Read a range of the file.

        Args:
            read: reads from the track's file; it may block.
            offset: first byte wanted.
            length: how many bytes; clipped at the end.

        Raises:
            ShortReadError: the track's file ends before.
        """
        parts: list[bytes] = []
        for piece in self.pieces(offset, length):
            if not isinstance(piece, bytes):
                position, wanted = piece
                piece = read(position, wanted)
                if len(piece) < wanted:
                    raise ShortReadError(f"the file ends before {position + wanted}")
            parts.append(piece)
        return b"".join(parts)

    def count(self, offset: int, length: int) -> int:
        """Count the frames with bytes in a range."""
        return len(self._numbers(offset, min(offset + length, self.size)))

    def pieces(self, offset: int, length: int) -> Iterator[bytes | tuple[int, int]]:
        """Yield the bytes of a range, or where they are: a position of the track's file, and how many.

        Args:
            offset: first byte wanted.
            length: how many bytes; clipped at the end.
        """
        end = min(offset + length, self.size)
        if offset < len(self._head):
            yield self._head[offset:end]
        for number in self._numbers(offset, end):
            begin = int(self._bounds[number])
            start, stop = max(offset - begin, 0), end - begin
            header, size = self._header(number), int(self.frames.frame_sizes[number])
            first, behind = max(start - len(header), 0), min(stop - len(header), size)
            if start < len(header):
                yield header[start:stop]
            if first < behind:
                yield int(self.frames.offsets[number]) + first, behind - first

    def _numbers(self, offset: int, end: int) -> range:
        first = max(int(self._bounds.searchsorted(offset, "right")) - 1, 0)
        return range(first, int(self._bounds.searchsorted(end, "left")))

    def _header(self, number: int) -> bytes:
        time, following = self.frames.times[number : number + 2].tolist()
        return write_fragment_header(
            sequence_number=number + 1,
            track_id=self._track_id,
            # The edit list of the init segment takes as much away again.
            base_media_decode_time=time + self._start,
            samples=(Sample(following - time, int(self.frames.frame_sizes[number])),),
        )

    def playlist(self, delay: int) -> MediaPlaylist:
        """Write the I-frame playlist, whose addresses are relative to its own.

        Args:
            delay: ticks from the beginning of the film, or of the clip, to that of its video.
        """
        name = f"{self._folder}{self.frames.name}"
        init = Map(name, ByteRange(self._init_bytes, 0))
        ticks = np.diff(self.frames.times)
        ticks[0] += delay
        durations = adding_up(Fraction(one, self._timescale) for one in ticks.tolist())
        ranges = zip(np.diff(self._bounds).tolist(), self._bounds[:-1].tolist(), strict=True)
        segments = [
            Segment(name, duration, init, byte_range=ByteRange(*byte_range))
            for duration, byte_range in zip(durations, ranges, strict=True)
        ]
        target = target_duration(segment.duration for segment in segments)
        return MediaPlaylist(target, segments, playlist_type="VOD", ended=True, i_frames_only=True)


def index_bytes(marked: IFrames) -> int:
    """Return the bytes behind the init segment for the index, and free space where that is shorter."""
    return sidx_bytes(len(marked)) + FREE_HEADER


def _head(track: OfferedTrack, room: int, frames: IFrames) -> bytes:
    """Write the init segment, the index, and free space (§8.1.2) for frames that aren't in it."""
    free = box(b"free", bytes(sidx_bytes(room) - sidx_bytes(len(frames))))
    index = write_sidx(
        track_id=track.track_id,
        timescale=track.timescale,
        earliest=int(frames.times[0]),
        first_offset=len(free),
        sizes=frames.sizes,
        durations=np.diff(frames.times),
    )
    return track.init + index + free


def i_frame_variant(prefix: str, track: OfferedTrack, marked: IFrames) -> IFrameVariant:
    """Make a multivariant playlist's entry of an I-frame playlist (§4.4.6.3).

    Args:
        prefix: the beginning of the addresses of the track's file.
        marked: the I-frames that the track's tables mark.
    """
    entry = track.entry
    return IFrameVariant(
        f"{prefix}{track.name}/{PLAYLIST_NAME}{track.query}",
        bandwidth=peak_bandwidth(marked),
        average_bandwidth=average_bandwidth(marked),
        codecs=entry.codec,
        resolution=track.resolution,
        video_range=entry.video_range,
        supplemental_codecs=entry.supplemental_codec,
    )
