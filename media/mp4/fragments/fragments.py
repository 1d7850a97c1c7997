"""Movie fragments (ISO/IEC 14496-12 §8.8): written from samples, and read from a stream without I/O.

The reader's events don't depend on how the bytes are cut.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from media.errors import MalformedError, MediaError, NeedMoreDataError, TooLargeError, UnsupportedError
from media.mp4.boxes import LARGEST_HEADER, header, media_data_header
from media.mp4.fragments.moof import (
    DEFAULT_LIMITS,
    DEPENDS_ON_NONE,
    DEPENDS_ON_OTHERS,
    NON_SYNC,
    Defaults,
    FragmentLimits,
    Sample,
    TrackFragment,
    parse_moof,
    parse_trex,
    total_size,
)
from media.mp4.movie.movie import Track, parse_movie
from media.mp4.movie.sample_table import Samples
from media.stream_reader import without_front

LARGE_MEDIA_DATA = 1 << 20
"""From this size on, an ``mdat`` isn't copied: its fragments are views of the received bytes."""

SYNC_FLAGS = DEPENDS_ON_NONE
OTHER_FLAGS = DEPENDS_ON_OTHERS | NON_SYNC
"""Sample flags (§8.8.3.1) of sync samples, and of all other samples."""

_EMPTY_FIXED = struct.Struct(">I4sI4sIII4sI4sIIII4sIQ")
_MOOF_FIXED = struct.Struct(">I4sI4sIII4sI4sIIIII4sIQ")
_TRUN_FIXED = struct.Struct(">I4sIIi")


def write_fragment_header(
    *, sequence_number: int, track_id: int, base_media_decode_time: int, samples: Sequence[Sample]
) -> bytes:
    """Write a ``moof`` and the header of the ``mdat`` behind it, whose bytes are sent separately.

    Args:
        sequence_number: §8.8.5: rises from fragment to fragment; its low 32 bits are written.
        track_id: the track's ID in the init segment.
        base_media_decode_time: §8.8.12: decode time of the first sample, in ticks, not negative.
        samples: the samples in decoding order, at least one; the ``mdat`` has their sizes' sum.

    Returns:
        The bytes before the first sample.
    """
    durations, sizes, syncs, offsets = zip(*samples, strict=True)
    columns: list[Sequence[int]] = [sizes]
    run_flags, version, count = 0x201, 0, len(samples)
    default_duration, default_flags = durations[0], SYNC_FLAGS if syncs[-1] else OTHER_FLAGS
    if durations.count(default_duration) != count:
        columns.insert(0, durations)
        run_flags |= 0x100
    if syncs.count(syncs[-1]) != count:
        columns.append([SYNC_FLAGS if is_sync else OTHER_FLAGS for is_sync in syncs])
        run_flags |= 0x400
    if any(offsets):
        version = 1  # §8.8.8.2: signed offsets
        columns.append([offset & 0xFFFF_FFFF for offset in offsets])
        run_flags |= 0x800
    cells = itertools.chain.from_iterable(zip(*columns, strict=True))
    return _header(
        (sequence_number, track_id, base_media_decode_time),
        (default_duration, default_flags),
        (version << 24 | run_flags, count),
        struct.pack(f">{count * len(columns)}I", *cells),
        sum(sizes),
    )


def write_samples_header(
    *, sequence_number: int, track_id: int, base_media_decode_time: int, samples: Samples
) -> bytes:
    """Write a ``moof`` and the header of its ``mdat`` for samples in arrays, of which there may be very many.

    The arguments are those of ``write_fragment_header``.
    """
    durations = np.diff(samples.decode_time)
    flags = np.where(samples.is_sync, SYNC_FLAGS, OTHER_FLAGS)
    columns, run_flags = [samples.size], 0x201
    if np.any(durations != durations[0]):
        columns.insert(0, durations)
        run_flags |= 0x100
    if np.any(flags != flags[-1]):
        columns.append(flags)
        run_flags |= 0x400
    if np.any(samples.composition_offset):
        columns.append(samples.composition_offset)
        run_flags |= 0x0100_0800  # §8.8.8.2: signed offsets
    cells = np.empty((len(samples), len(columns)), ">u4")
    for index, column in enumerate(columns):
        cells[:, index] = column & 0xFFFF_FFFF
    return _header(
        (sequence_number, track_id, base_media_decode_time),
        (int(durations[0]), int(flags[-1])),
        (run_flags, len(samples)),
        cells.tobytes(),
        int(samples.size.sum()),
    )


def _header(
    fragment: tuple[int, int, int], defaults: tuple[int, int], run: tuple[int, int], cells: bytes, data: int
) -> bytes:
    """Write a ``moof`` with one run of the given rows, and the header of an ``mdat`` with ``data`` bytes."""
    sequence_number, track_id, base_media_decode_time = fragment
    trun_size = _TRUN_FIXED.size + len(cells)
    moof_size = _MOOF_FIXED.size + trun_size
    media_header = media_data_header(data)
    moof = _MOOF_FIXED.pack(
        *(moof_size, b"moof", 16, b"mfhd", 0, sequence_number & 0xFFFF_FFFF),
        *(moof_size - 24, b"traf"),
        # §8.8.7: default-base-is-moof, default duration, default flags
        *(24, b"tfhd", 0x02_0028, track_id, *defaults),
        *(20, b"tfdt", 0x0100_0000, base_media_decode_time),
    )
    trun = _TRUN_FIXED.pack(trun_size, b"trun", *run, moof_size + len(media_header))
    return b"".join((moof, trun, cells, media_header))


def read_track(init: bytes) -> Track:
    """Read the one track of an init segment."""
    reader = FragmentReader()
    reader.receive_data(init)
    (track,) = next(event.tracks for event in reader.events() if isinstance(event, InitSegment))
    return track


def write_fragment(
    *,
    sequence_number: int,
    track_id: int,
    base_media_decode_time: int,
    samples: Sequence[Sample],
    data: bytes | bytearray | memoryview,
) -> bytes:
    """Write a ``moof`` and its ``mdat``.

    Args:
        sequence_number: as for :func:`write_fragment_header`.
        data: the samples' bytes, one behind the other.

    Returns:
        The fragment.

    Raises:
        ValueError: ``data`` isn't as long as the samples' sizes say.
    """
    if len(data) != total_size(samples):
        raise ValueError(f"{len(data)} bytes aren't those of the samples")
    head = write_fragment_header(
        sequence_number=sequence_number,
        track_id=track_id,
        base_media_decode_time=base_media_decode_time,
        samples=samples,
    )
    return b"".join((head, data))


def write_empty_fragment(
    *, sequence_number: int, track_id: int, base_media_decode_time: int, duration: int
) -> bytes:
    """Write a ``moof`` for a time without samples, and an empty ``mdat``.

    Args:
        sequence_number: as for :func:`write_fragment_header`.
        base_media_decode_time: start of that time in ticks, not negative.
        duration: ticks.
    """
    size = _EMPTY_FIXED.size
    moof = _EMPTY_FIXED.pack(
        *(size, b"moof", 16, b"mfhd", 0, sequence_number & 0xFFFF_FFFF),
        *(size - 24, b"traf"),
        # §8.8.7: duration-is-empty, default-base-is-moof, default duration
        *(20, b"tfhd", 0x03_0008, track_id, duration),
        *(20, b"tfdt", 0x0100_0000, base_media_decode_time),
    )
    return moof + media_data_header(0)


@dataclass(frozen=True, slots=True)
class InitSegment:
    """``ftyp`` and ``moov`` of a fragmented stream; a stream may have another one later.

    Attributes:
        data: both boxes' bytes.
        tracks: the tracks as described in the ``moov``.
        movie_timescale: ticks per second of the durations of edits.
    """

    data: bytes
    tracks: tuple[Track, ...]
    movie_timescale: int


class Fragment(NamedTuple):
    """The samples of one track in one ``moof``.

    Attributes:
        base_media_decode_time: of the first sample, in ticks of the track's timescale.
        samples: at least one, in decoding order.
        data: the samples' bytes, one behind the other.
    """

    track_id: int
    sequence_number: int
    base_media_decode_time: int
    samples: tuple[Sample, ...]
    data: bytes | memoryview


class FragmentReader:
    """Reads a stream of ``ftyp moov (moof mdat)…`` incrementally.

    The buffer holds at most one box and the last received bytes. Media are copied once; large media aren't.
    """

    def __init__(self, limits: FragmentLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._box_bytes = {b"mdat": limits.media_data_bytes, b"moov": limits.movie.moov_bytes}
        self._buffer = bytearray()
        self._position = 0
        self._needed = 8
        self._ended = False
        self._error: MediaError | None = None
        self._file_type = b""
        self._defaults: dict[int, Defaults] = {}
        self._times: dict[int, int] = {}
        self._moof: tuple[int, tuple[TrackFragment, ...]] | None = None

    def receive_data(self, data: bytes) -> None:
        """Buffer the next bytes, which ``events`` parses."""
        if self._error is None:
            self._buffer += data

    def receive_eof(self) -> None:
        """Mark the end of the input."""
        self._ended = True

    @property
    def buffered(self) -> int:
        """The number of buffered bytes."""
        return len(self._buffer)

    def events(self) -> Iterator[InitSegment | Fragment]:
        """Yield the events of the bytes so far, each once; raises as ``boxes`` does."""
        for events in self.boxes():
            yield from events

    def boxes(self) -> Iterator[Sequence[InitSegment | Fragment]]:
        """Yield the events of each box in the bytes so far; a box is parsed on demand.

        Raises:
            MalformedError: after the events before it; later calls raise the same error.
            NeedMoreDataError: the stream ended inside a box, or between a ``moof`` and its ``mdat``.
        """
        if self._error is not None:
            raise self._error
        try:
            while len(self._buffer) >= self._needed:
                if events := self._next_box():
                    yield events
            if self._ended and (self._buffer or self._moof is not None):
                raise NeedMoreDataError(f"the stream ends inside a box at {self._position}")
        except MediaError as error:
            self._error = error
            self._buffer = bytearray()  # not cleared: the error's frames may hold views of it
            raise

    def _next_box(self) -> Sequence[InitSegment | Fragment]:
        if len(self._buffer) < LARGEST_HEADER and self._buffer[:4] == b"\x00\x00\x00\x01":
            self._needed = LARGEST_HEADER
            return ()
        kind, size = self._bounded_header()
        self._needed = size
        if len(self._buffer) < size:
            return ()
        start, self._position, self._needed = self._position, self._position + size, 8
        if kind == b"mdat" and size >= LARGE_MEDIA_DATA:
            received, self._buffer = self._buffer, self._buffer[size:]
            return [*self._fragments(start, memoryview(received).toreadonly()[:size])]
        found: list[InitSegment | Fragment] = []
        with memoryview(self._buffer) as whole, whole[:size] as view:
            if kind in (b"ftyp", b"styp"):
                self._file_type = bytes(view) if kind == b"ftyp" else self._file_type
            elif kind == b"moov":
                found.append(self._init_segment(bytes(view)))
            elif kind == b"moof":
                self._begin(start, bytes(view))
            elif kind == b"mdat":
                found += self._fragments(start, view)
        self._buffer = without_front(self._buffer, size)
        return found

    def _bounded_header(self) -> tuple[bytes, int]:
        kind = bytes(self._buffer[4:8])
        limit = self._box_bytes.get(kind, self._limits.metadata_bytes)
        declared = int.from_bytes(self._buffer[:4], "big")
        if declared == 0:  # §4.2: up to the end of the file, which a live stream doesn't have
            raise UnsupportedError(f"box {kind.decode('latin-1')!r} without a size")
        if declared == 1:
            declared = int.from_bytes(self._buffer[8:16], "big")
        if declared > limit:
            raise TooLargeError(f"box {kind.decode('latin-1')!r} of {declared} bytes: more than {limit}")
        if declared >= LARGEST_HEADER:
            return kind, declared
        return kind, header(self._buffer, 0, LARGEST_HEADER).size

    def _init_segment(self, data: bytes) -> InitSegment:
        payload = data[header(data, 0, len(data)).payload :]
        movie = parse_movie(payload, self._limits.movie)
        if not movie.fragmented:
            raise UnsupportedError("a moov without mvex: the file isn't fragmented")
        given = parse_trex(payload)
        self._defaults = {track.track_id: given.get(track.track_id, Defaults()) for track in movie.tracks}
        self._times, self._moof = {}, None
        return InitSegment(self._file_type + data, movie.tracks, movie.timescale)

    def _begin(self, start: int, data: bytes) -> None:
        if self._moof is not None:
            raise MalformedError(f"moof at {start}: the one before has no mdat")
        moof = parse_moof(data, start, self._defaults, self._limits)
        if any(length for fragment in moof[1] for _, length in fragment.spans):
            self._moof = moof

    def _fragments(self, start: int, data: memoryview) -> Iterator[Fragment]:
        if self._moof is None:
            return
        sequence_number, fragments = self._moof
        self._moof = None
        first = start + header(data, 0, len(data)).payload
        # Each run is copied, and a moof may have thousands, which might all name the same bytes.
        if sum(length for fragment in fragments for _, length in fragment.spans) > start + len(data) - first:
            raise MalformedError(f"moof before {start}: samples of more bytes than the mdat behind it")
        for fragment in fragments:
            time = fragment.base_media_decode_time
            # §8.8.12: without tfdt a fragment begins where the track's last one ended
            time = self._times.get(fragment.track_id, 0) if time is None else time
            self._times[fragment.track_id] = time + sum(sample.duration for sample in fragment.samples)
            if any(begin < first or begin + length > start + len(data) for begin, length in fragment.spans):
                raise MalformedError(f"moof before {start}: samples outside of the mdat behind it")
            pieces = [data[begin - start : begin - start + length] for begin, length in fragment.spans]
            if fragment.samples:
                large = len(pieces) == 1 and len(data) >= LARGE_MEDIA_DATA
                media = pieces[0] if large else b"".join(pieces)
                yield Fragment(fragment.track_id, sequence_number, time, fragment.samples, media)
