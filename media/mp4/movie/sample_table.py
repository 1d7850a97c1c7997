"""Reads sample tables (ISO/IEC 14496-12 §8.6, §8.7) from their boxes, without expanding all samples.

The boxes are compact: a run of 2^32 samples takes eight bytes. They are validated in one pass; after that, a
stretch of samples is expanded on demand. Memory is bounded by the boxes themselves, a stretch, and marks in
the boxes (a hundredth of their size), whatever a file declares. Those of long films are brought into a form
that takes less (`SampleTable.compact`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from media.errors import MalformedError, TooLargeError
from media.mp4.movie.box_arrays import Int64, Payload, box_array, box_head, stretches
from media.mp4.movie.chunk_table import ChunkTable
from media.mp4.movie.sample_runs import SampleRuns
from media.mp4.movie.sample_sizes import SampleSizes

MAX_SAMPLES = 1 << 22
"""Most samples of one track: 24 hours of AAC at 48 kHz. Uncompressed sound has a sample per tick."""

_DENSE = 8
"""Distance of samples up to which all samples between them are expanded, too, which is faster."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples of a track, in decoding order.

    Attributes:
        offset: of each sample's first byte in the file.
        size: of each sample in bytes.
        decode_time: in ticks of the media's timescale; the entry behind the last sample is its end.
        composition_offset: composition time minus decode time in ticks, signed (§8.6.1.3).
        is_sync: whether decoding can begin with it (§8.6.2).
    """

    offset: Int64
    size: Int64
    decode_time: Int64
    composition_offset: Int64
    is_sync: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def composition_time(self) -> Int64:
        """Presentation times on the media's own timeline, in ticks; edit lists aren't applied."""
        return np.add(self.decode_time[:-1], self.composition_offset)

    def part(self, start: int, stop: int) -> Samples:
        """Return the samples from ``start`` up to, but not including, ``stop``."""
        return Samples(
            self.offset[start:stop],
            self.size[start:stop],
            self.decode_time[start : stop + 1],
            self.composition_offset[start:stop],
            self.is_sync[start:stop],
        )


class SampleTable:
    """The samples of one track; ranges are from ``start`` up to, but not including, ``stop``.

    Args:
        tables: payloads (version and flags included) of ``stts``, ``stsc``, ``stsz`` or ``stz2``, ``stco``
            or ``co64``, and if present ``ctts`` and ``stss``. The payloads are kept until `compact`.
        descriptions: the track's sample entries, of which equal ones are one; or only their number.
        limit: most samples.
        most_runs: most entries of ``stts`` and ``ctts`` together.

    Raises:
        MalformedError: a box is missing or cut off, or the boxes don't agree with each other.
        UnsupportedError: the samples use several sample entries.
        TooLargeError: there are more samples or entries than the limits allow.

    Attributes:
        description: index of the sample entry that all samples use, from 0.
        duration: of all samples together in ticks.
        nbytes: bytes of memory beside the boxes; behind `compact` the boxes are counted, too.
        runs: number of entries of ``stts`` and ``ctts``.
    """

    __slots__ = (
        *("_chunks", "_durations", "_offsets", "_sizes", "_sync"),
        *("description", "duration", "nbytes", "runs"),
    )

    def __init__(
        self,
        tables: Mapping[bytes, Payload],
        descriptions: Sequence[object] | int,
        limit: int = MAX_SAMPLES,
        most_runs: int = 2 * MAX_SAMPLES,
    ) -> None:
        self._sizes = SampleSizes(tables, limit)
        # The number of entries that fit into the box: truncation is reported where the entries are read.
        self.runs = sum(max(len(tables[kind]) // 8 - 1, 0) for kind in (b"stts", b"ctts") if kind in tables)
        if self.runs > most_runs:
            raise TooLargeError(f"{self.runs} entries of stts and ctts: more than {most_runs}")
        known: dict[object, int] = {}
        entries = range(descriptions) if isinstance(descriptions, int) else descriptions
        alike = [known.setdefault(entry, number) for number, entry in enumerate(entries)]
        declared = len(self._sizes)
        self._chunks = ChunkTable(tables, self._sizes, np.array(alike, np.int64))
        count = len(self._sizes)
        self._durations = SampleRuns(tables, b"stts", count, summed=True)
        if self._durations.least < 0:  # §8.6.1.2: decoding times never go back; some writers put -1 here
            raise MalformedError("stts: a delta of 2^31 or more")
        # §8.6.1.3: unsigned in version 0, but writers of version 0 put negative offsets there, too.
        self._offsets = SampleRuns(tables, b"ctts", count, summed=False) if b"ctts" in tables else None
        self._sync = _sync(tables, declared)
        if self._sync is not None and count < declared:
            self._sync = self._sync[: bisect_left(self._sync, count + 1)]
        self.description = self._chunks.description
        self.duration = self._durations.total
        self.nbytes = self._sizes.nbytes + self._chunks.nbytes + self._durations.nbytes
        self.nbytes += 0 if self._offsets is None else self._offsets.nbytes

    def __len__(self) -> int:
        return len(self._sizes)

    def compact(self) -> None:
        """Keep the tables in fewer bytes, and their boxes no more."""
        self.nbytes = self._sizes.compact() + self._chunks.compact() + self._durations.compact()
        if self._offsets is not None:
            self.nbytes += self._offsets.compact()
        if self._sync is not None:
            self._sync = self._sync.copy()
            self.nbytes += self._sync.nbytes

    def samples(self, start: int, stop: int) -> Samples:
        """Expand a range of samples."""
        offset, size = self.places(start, stop)
        is_sync = np.zeros(stop - start, bool)
        is_sync[self.sync_samples(start, stop) - start] = True
        return Samples(
            offset=offset,
            size=size,
            decode_time=self.decode_times(start, stop),
            composition_offset=self._composition_offsets(start, stop),
            is_sync=is_sync,
        )

    @property
    def constant_duration(self) -> int | None:
        """Duration of every sample in ticks; None if durations differ."""
        return self._durations.least if self._durations.least == self._durations.greatest else None

    @property
    def longest_duration(self) -> int:
        """Duration in ticks of the sample that lasts longest."""
        return self._durations.greatest

    def places(self, start: int, stop: int) -> tuple[Int64, Int64]:
        """Return the offsets of a range's samples in the file, and their sizes in bytes."""
        size = self.sizes(start, stop)
        return self._chunks.places(start, stop, size), size

    @property
    def chunk_count(self) -> int:
        """The number of chunks that have samples, and of those behind them."""
        return self._chunks.count

    def chunks(self) -> tuple[Int64, Int64]:
        """Return the offset of each chunk in the file, and the index of its first sample."""
        return self._chunks.places_and_firsts(len(self))

    def data_end(self, start: int, stop: int) -> int:
        """Return the offset behind the last data of a non-empty range in the file."""
        # Most writers write chunks in the order of their numbers; else each sample has to be checked.
        ranges = [(stop - 1, stop)] if self._chunks.end_with_last(start, stop) else stretches(start, stop)
        return max(int(np.add(*self.places(*one)).max()) for one in ranges)

    def sizes(self, start: int, stop: int) -> Int64:
        """Return the sizes of a range's samples in bytes."""
        return self._sizes.values(start, stop)

    def decode_times(self, start: int, stop: int) -> Int64:
        """Return the decode times of a range's samples in ticks, and the end of the last sample."""
        return self._durations.sums(start, stop)

    def composition_times(self, start: int, stop: int) -> Int64:
        """Return the presentation times of a range's samples on the media's own timeline, in ticks."""
        return np.add(self.decode_times(start, stop)[:-1], self._composition_offsets(start, stop))

    def composition_times_of(self, samples: Int64) -> Int64:
        """Return the presentation times of samples in ticks, by their rising indexes."""
        if len(samples) and int(samples[-1]) - int(samples[0]) < _DENSE * len(samples):
            first = int(samples[0])
            return self.composition_times(first, int(samples[-1]) + 1)[samples - first]
        times = self._durations.sums_of(samples)
        return times if self._offsets is None else np.add(times, self._offsets.values_of(samples))

    def bytes_between(self, samples: Int64) -> Int64:
        """Return the bytes of all samples between consecutive rising indexes."""
        return self._sizes.between(samples)

    def ends(self, start: int, stop: int) -> Int64:
        """Return the ends of presentation of a range's samples on the media's own timeline, in ticks."""
        return np.add(self.decode_times(start, stop)[1:], self._composition_offsets(start, stop))

    def decoded_by(self, time: int) -> int:
        """Return the number of samples that are decoded at a time or before."""
        return self._durations.reached(time)

    def sync_samples(self, start: int, stop: int) -> Int64:
        """Return the indexes of a range's sync samples, rising (§8.6.2)."""
        if self._sync is None:
            return np.arange(start, stop, dtype=np.int64)
        low, high = bisect_left(self._sync, start + 1), bisect_left(self._sync, stop + 1)
        return np.subtract(self._sync[low:high].astype(np.int64), 1)

    @property
    def sync_count(self) -> int:
        """The number of sync samples."""
        return len(self) if self._sync is None else len(self._sync)

    def offset_bounds(self, start: int, stop: int) -> tuple[int, int]:
        """Return the least and the greatest composition offset of a non-empty range in ticks."""
        return (0, 0) if self._offsets is None else self._offsets.bounds(start, stop)

    def _composition_offsets(self, start: int, stop: int) -> Int64:
        if self._offsets is None:
            return np.zeros(stop - start, np.int64)
        return self._offsets.values(start, stop)


def _sync(tables: Mapping[bytes, Payload], count: int) -> NDArray[np.unsignedinteger] | None:
    """Read ``stss`` (§8.6.2), whose numbers count from 1; without it every sample is a sync sample."""
    if b"stss" not in tables:
        return None
    payload = tables[b"stss"]
    (entries,) = box_head(payload, b"stss", ">4xI")
    numbers = box_array(payload, b"stss", 8, ">u4", entries)
    last = 0
    for begin, end in stretches(0, entries):
        stretch = numbers[begin:end].astype(np.int64)
        if np.any(np.diff(stretch, prepend=last) <= 0) or stretch[-1] > count:
            raise MalformedError("stss: the sample numbers aren't rising within 1 and the last")
        last = int(stretch[-1])
    return numbers
