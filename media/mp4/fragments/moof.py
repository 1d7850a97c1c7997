"""Parses and writes ``moof`` boxes (ISO/IEC 14496-12 §8.8): runs of samples, their times, and their bytes.

All counts are checked against limits first: a run may declare 2^32 - 1 samples in twenty bytes.
"""

from __future__ import annotations

import functools
import operator
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from media.errors import MalformedError, TooLargeError
from media.mp4.boxes import Box, box, full_box, walk
from media.mp4.movie.movie import MovieLimits

LONGEST_TIME = 1 << 63
"""Bound of a decode time in ticks: the epoch in nanoseconds is below 2^61."""

NON_SYNC = 0x0001_0000
"""The bit sample_is_non_sync_sample of sample flags (§8.8.3.1)."""

DEPENDS_ON_OTHERS = 0x0100_0000
DEPENDS_ON_NONE = 0x0200_0000
"""sample_depends_on in sample flags: 1 and 2."""

_BASE_DATA_OFFSET = 0x01
_DESCRIPTION_INDEX = 0x02
_DEFAULT_DURATION = 0x08
_DEFAULT_SIZE = 0x10
_DEFAULT_FLAGS = 0x20
_DEFAULT_BASE_IS_MOOF = 0x02_0000
DATA_OFFSET = 0x01
FIRST_SAMPLE_FLAGS = 0x04
"""Bits of a run (§8.8.8.1) with a data offset and the flags of its first sample."""

PER_SAMPLE = (0x100, 0x200, 0x400, 0x800)
"""Bits of a run whose samples have their own duration, size, flags and composition offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentLimits:
    """Limits of a stream of movie fragments.

    Attributes:
        movie: Of the ``moov``, which without sample tables has some thousand bytes.
        media_data_bytes: Largest ``mdat``: ten seconds at 25 Mbit/s.
        metadata_bytes: Largest box other than these.
        samples: Most samples of one fragment; a minute of AAC has 2,813.
        empty_samples: Most samples of one run beyond its bytes: a count of empty ones costs nothing to send,
            and much to parse.
        boxes: Most boxes in one fragment; a run for each sample is rare, and a hundred of them many.
    """

    movie: MovieLimits = field(default_factory=lambda: MovieLimits(moov_bytes=128 << 10))
    media_data_bytes: int = 32 << 20
    metadata_bytes: int = 1 << 20
    samples: int = 1 << 13
    empty_samples: int = 64
    boxes: int = 2048


DEFAULT_LIMITS = FragmentLimits()


class Sample(NamedTuple):
    """A sample of a fragment; a NamedTuple, as thousands of them are built at once.

    Attributes:
        duration: ticks of the track's timescale.
        size: bytes.
        is_sync: whether decoding can begin with it (§8.6.2).
        composition_offset: ticks from decoding to presentation; may be negative.
    """

    duration: int
    size: int
    is_sync: bool = True
    composition_offset: int = 0


_SAMPLE = functools.partial(tuple.__new__, Sample)
_DURATION, _SIZE = map(operator.itemgetter, map(Sample._fields.index, ("duration", "size")))


def samples_of(
    durations: Iterable[int], sizes: Iterable[int], syncs: Iterable[bool], offsets: Iterable[int]
) -> Iterator[Sample]:
    """Build samples from columns, up to the end of the shortest."""
    return map(_SAMPLE, zip(durations, sizes, syncs, offsets, strict=False))


def total_duration(samples: Iterable[Sample]) -> int:
    """Return the sum of the samples' durations in ticks."""
    return sum(map(_DURATION, samples))


def total_size(samples: Iterable[Sample]) -> int:
    """Return the sum of the samples' sizes in bytes."""
    return sum(map(_SIZE, samples))


@dataclass(frozen=True, slots=True)
class Defaults:
    """Default values of samples whose run lacks them (``trex``, §8.8.3, or ``tfhd``, §8.8.7).

    Attributes:
        duration: ticks.
        size: bytes.
        flags: sample flags (§8.8.3.1).
        description: number of the sample entry, from 1.
    """

    duration: int = 0
    size: int = 0
    flags: int = 0
    description: int = 1


@dataclass(frozen=True, slots=True)
class TrackFragment:
    """The samples of one track in a fragment (``traf``).

    Attributes:
        base_media_decode_time: ticks, or None without ``tfdt``: the fragment begins where the last one ended.
        samples: of all runs, in order.
        spans: (offset, length) of each run's bytes, as absolute positions in the stream.
    """

    track_id: int
    base_media_decode_time: int | None
    samples: tuple[Sample, ...]
    spans: tuple[tuple[int, int], ...]


def parse_trex(moov: bytes) -> dict[int, Defaults]:
    """Read the defaults of each track from the ``trex`` boxes (§8.8.3) of a ``moov``.

    Args:
        moov: the payload of the box.

    Returns:
        Defaults by track ID.

    Raises:
        MalformedError: a box is cut off.
    """
    found: dict[int, Defaults] = {}
    for mvex in walk(moov):
        if mvex.kind == b"mvex":
            for trex in walk(moov, mvex.payload, mvex.end):
                if trex.kind == b"trex":
                    track_id, description, duration, size, flags = _unpack(moov, trex, 4, ">IIIII")
                    found[track_id] = Defaults(duration, size, flags, description)
    return found


def parse_moof(
    data: bytes, position: int, defaults: Mapping[int, Defaults], limits: FragmentLimits = DEFAULT_LIMITS
) -> tuple[int, tuple[TrackFragment, ...]]:
    """Read a movie fragment.

    Args:
        position: where the box begins in the stream.
        defaults: by track ID; a fragment of any other track is malformed.

    Returns:
        The sequence number (§8.8.5) and the track fragments in order.

    Raises:
        MalformedError: the fragment is cut off, contradicts itself or names an unknown track.
        TooLargeError: the fragment has too many samples or boxes, or too many empty samples.
    """
    if (lone := _lone_sample(data, position, defaults)) is not None:
        return lone
    sequence_number = 0
    fragments: list[TrackFragment] = []
    boxes = list(walk(data))
    if len(boxes) != 1:
        raise MalformedError(f"{len(boxes)} boxes where one moof is")
    (outer,) = boxes
    left, room = limits.samples, limits.boxes
    end = position
    for child in walk(data, outer.payload, outer.end):
        room -= 1
        if child.kind == b"mfhd":
            (sequence_number,) = _unpack(data, child, 4, ">I")
        elif child.kind == b"traf":
            inner = list(walk(data, child.payload, child.end))
            room -= len(inner)
            if room < 0:
                raise TooLargeError(f"more than {limits.boxes} boxes in one fragment")
            fragment, end = _traf(data, inner, position, end, defaults, (limits, left))
            left -= len(fragment.samples)
            fragments.append(fragment)
    return sequence_number, tuple(fragments)


def _lone_layout(fill: bytes, *, with_first_flags: bool) -> bytes:
    """Write a template of ffmpeg's ``moof`` with one sample, as for a fragment per frame."""
    said = _DESCRIPTION_INDEX | _DEFAULT_DURATION | _DEFAULT_SIZE | _DEFAULT_FLAGS | _DEFAULT_BASE_IS_MOOF
    given = DATA_OFFSET | (FIRST_SAMPLE_FLAGS if with_first_flags else 0)
    tfhd = full_box(b"tfhd", 0, said, 5 * fill)
    tfdt = full_box(b"tfdt", 1, 0, 2 * fill)
    trun = full_box(b"trun", 1, given, b"\0\0\0\1", (2 if with_first_flags else 1) * fill)
    return box(b"moof", full_box(b"mfhd", 0, 0, fill), box(b"traf", tfhd, tfdt, trun))


def _lone_layouts() -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield templates by the length of the box: a mask of the constant bits, and their values."""
    for with_first_flags in (False, True):
        empty, full = (_lone_layout(4 * fill, with_first_flags=with_first_flags) for fill in (b"\0", b"\xff"))
        fixed = int.from_bytes(empty, "big")
        yield len(empty), (~(fixed ^ int.from_bytes(full, "big")), fixed)


_LONE = dict(_lone_layouts())
_LONE_VALUES = struct.Struct(">20x I 20x I 4x III 12x Q 16x i")


def _lone_sample(
    data: bytes, position: int, known: Mapping[int, Defaults]
) -> tuple[int, tuple[TrackFragment, ...]] | None:
    """Read a ``moof`` that matches a template, of which live streams have a hundred a second; else None."""
    layout = _LONE.get(len(data))
    if layout is None or int.from_bytes(data, "big") & layout[0] != layout[1]:
        return None
    sequence_number, track_id, duration, size, flags, time, offset = _LONE_VALUES.unpack_from(data)
    if track_id not in known or time >= LONGEST_TIME:
        return None
    if len(data) > _LONE_VALUES.size:
        flags = int.from_bytes(data[_LONE_VALUES.size :], "big")
    sample = Sample(duration, size, not flags & NON_SYNC)
    return sequence_number, (TrackFragment(track_id, time, (sample,), ((position + offset, size),)),)


def _traf(
    data: bytes,
    children: list[Box],
    moof: int,
    previous: int,
    known: Mapping[int, Defaults],
    most: tuple[FragmentLimits, int],
) -> tuple[TrackFragment, int]:
    """Read one track fragment; return it and the stream position behind its bytes.

    ``most`` has the limits, and the remaining number of samples.
    """
    limits, left = most
    heads = [child for child in children if child.kind == b"tfhd"]
    if len(heads) != 1:  # §8.8.7.1: exactly one
        raise MalformedError(f"traf with {len(heads)} tfhd")
    track_id, defaults, base = parse_tfhd(data, heads[0], moof, previous, known)
    time: int | None = None
    samples: list[Sample] = []
    spans: list[tuple[int, int]] = []
    end = base
    for child in children:
        if child.kind == b"tfdt":
            time = parse_tfdt(data, child)
        elif child.kind == b"trun":
            run, start = _trun(data, child, base, end, defaults, (limits, left - len(samples)))
            samples += run
            end = start + sum(sample.size for sample in run)
            spans.append((start, end - start))
    return TrackFragment(track_id, time, tuple(samples), tuple(spans)), end


def parse_tfhd(
    data: bytes, tfhd: Box, moof: int, previous: int, known: Mapping[int, Defaults]
) -> tuple[int, Defaults, int]:
    """Read a track fragment header (§8.8.7): track ID, defaults, and the base of data offsets."""
    (flags, track_id) = _unpack(data, tfhd, 0, ">II")
    if track_id not in known:
        raise MalformedError(f"a fragment of track {track_id}, which the moov doesn't have")
    # §8.8.7.1: without a base of their own, the first counts from the moof, others from the last one's end
    base = moof if flags & _DEFAULT_BASE_IS_MOOF else previous
    offset = 8
    if flags & _BASE_DATA_OFFSET:
        (base,) = _unpack(data, tfhd, offset, ">Q")
        offset += 8
    description = known[track_id].description
    if flags & _DESCRIPTION_INDEX:
        (description,) = _unpack(data, tfhd, offset, ">I")
        offset += 4
    values = [known[track_id].duration, known[track_id].size, known[track_id].flags]
    for index, bit in enumerate((_DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS)):
        if flags & bit:
            (values[index],) = _unpack(data, tfhd, offset, ">I")
            offset += 4
    return track_id, Defaults(values[0], values[1], values[2], description), base


def parse_tfdt(data: bytes, tfdt: Box) -> int:
    """Read the decode time of a fragment's first sample (§8.8.12)."""
    (version,) = _unpack(data, tfdt, 0, ">B")
    (time,) = _unpack(data, tfdt, 4, ">Q" if version else ">I")
    if time >= LONGEST_TIME:  # a time before 0 that was written as unsigned
        raise MalformedError(f"tfdt: decode time {time}")
    return time


def _trun(
    data: bytes, trun: Box, base: int, follows: int, defaults: Defaults, most: tuple[FragmentLimits, int]
) -> tuple[list[Sample], int]:
    """Read a run (§8.8.8): its samples, and the position of its first byte; for ``most`` see ``_traf``."""
    limits, left = most
    word, count = _unpack(data, trun, 0, ">II")
    flags, offset, start = word & 0xFF_FFFF, 8, follows
    if count > left:
        raise TooLargeError(f"more than {limits.samples} samples in one fragment")
    if flags & DATA_OFFSET:
        start = base + _unpack(data, trun, offset, ">i")[0]
        offset += 4
    first_flags = None
    if flags & FIRST_SAMPLE_FLAGS:
        (first_flags,) = _unpack(data, trun, offset, ">I")
        offset += 4
    present = [bool(flags & bit) for bit in PER_SAMPLE]
    width = sum(present)
    values = _table(data, trun, offset, count * width)
    given = iter(range(width))
    columns = [values[next(given) :: width] if there else None for there in present]
    durations, sizes, sample_flags, offsets = (
        column if column is not None else array("L", [default]) * count
        for column, default in zip(
            columns, (defaults.duration, defaults.size, defaults.flags, 0), strict=True
        )
    )
    if count > limits.empty_samples + sum(sizes):
        raise TooLargeError(f"{count} samples in {sum(sizes)} bytes")
    if first_flags is not None and count:
        sample_flags[0] = first_flags
    if flags & PER_SAMPLE[3]:
        # §8.8.8.2: signed from version 1 on, but writers of version 0 put negative offsets there, too
        offsets = array("i", offsets.tobytes())
    sync = [not flag & NON_SYNC for flag in sample_flags]
    return list(samples_of(durations, sizes, sync, offsets)), start


def _table(data: bytes, parent: Box, offset: int, count: int) -> array[int]:
    """Read consecutive numbers of 32 bits."""
    start = parent.payload + offset
    if start + 4 * count > parent.end:
        raise MalformedError(f"{parent.kind.decode('latin-1')!r} of {parent.size} bytes is too short")
    numbers = array("I", data[start : start + 4 * count])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _unpack(data: bytes, parent: Box, offset: int, layout: str) -> tuple[int, ...]:
    start = parent.payload + offset
    if start + struct.calcsize(layout) > parent.end:
        raise MalformedError(f"{parent.kind.decode('latin-1')!r} of {parent.size} bytes is too short")
    return struct.unpack_from(layout, data, start)
