"""Sample tables of sound whose pauses are filled with silence: before the track, within it and behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from media.errors import TooLargeError
from media.mp4.codecs.silence import SilentFrame
from media.mp4.movie.box_arrays import Int64, stretches
from media.mp4.movie.sample_table import Samples, SampleTable
from media.mp4.movie.sample_table_writer import SampleColumns, SampleTableWriter, TableRoom

PAUSE_SECONDS = Fraction(1, 4)
"""How much longer than its frame a sample of sound may last until silence is put behind it."""

MAX_SILENT_FRAMES = 1 << 20
"""Most frames of silence in a track: six hours of AAC at 48 kHz."""


@dataclass(frozen=True, slots=True)
class SilentSamples:
    """Frames of silence, one behind the other, which no file has."""

    frame: bytes
    count: int

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return len(self.frame) * self.count

    @property
    def nbytes(self) -> int:
        """Memory of the frame."""
        return len(self.frame)

    def read(self, _read: Callable[[int, int], bytes], start: int, stop: int) -> bytes:
        """Return a range of the bytes."""
        skipped = start % len(self.frame)
        return (self.frame * ((stop - start + skipped) // len(self.frame) + 1))[skipped:][: stop - start]


@dataclass(frozen=True, slots=True)
class FilledSound:
    """A table with silence in its pauses, and the samples that it has beside those of the file."""

    tables: Mapping[bytes, memoryview]
    silence: SilentSamples


def usual_duration(table: SampleTable) -> int:
    """Return the ticks that most of a track's first samples last."""
    start, stop = next(stretches(0, len(table)))
    return int(np.median(np.diff(table.decode_times(start, stop))))


def has_pauses(table: SampleTable, timescale: int) -> bool:
    """Return whether any sample lasts so much longer than most that there is a pause behind it."""
    return table.longest_duration - usual_duration(table) > int(PAUSE_SECONDS * timescale)


@dataclass(frozen=True, slots=True)
class FilledSpan:
    """Which samples of a table are presented, and when.

    Attributes:
        stop: the sample behind the last one.
        end: decode time in the new table up to which there is silence behind the samples.
        first: the first sample.
        before: ticks of silence before that; None: the samples' times stay as they are.
    """

    stop: int
    end: int
    first: int = 0
    before: int | None = None


def fill_pauses(
    table: SampleTable, frame: SilentFrame, timescale: int, span: FilledSpan, place: int, room: TableRoom
) -> FilledSound | None:
    """Write a sample table with silence in all pauses.

    Args:
        frame: one of silence, of the track's codec.
        timescale: ticks per second of the track.
        place: offset behind the data of the file, at which the silence begins.
        room: the memory budget of the table.

    Returns:
        None where there is no pause.

    Raises:
        TooLargeError: the table has no room, or there would be more than `MAX_SILENT_FRAMES`.
    """
    step, usual = frame.seconds * timescale, usual_duration(table)
    pause, silent, size = int(PAUSE_SECONDS * timescale), 0, len(frame.data)
    if step < 1 or usual < 1:
        return None
    boxes, later = SampleTableWriter(room), 0
    if span.before is not None:
        later = span.before - int(table.decode_times(span.first, span.first)[0])
        silent = span.before * step.denominator // step.numerator
        if silent > MAX_SILENT_FRAMES:
            raise TooLargeError(f"more than {MAX_SILENT_FRAMES} frames of silence")
        for start, stop in stretches(0, silent):
            numbers = np.arange(start, stop)
            times, sizes = numbers * step.numerator // step.denominator, np.full(stop - start, size)
            columns = SampleColumns(times, place + numbers * size, sizes, 0 * sizes, sizes > 0)
            boxes.add(columns, span.before)
    for start, stop in stretches(span.first, span.stop):
        samples = table.samples(start, stop)
        times = samples.decode_time + later
        if stop == span.stop:
            # The last sample lasts as long as others where the track goes on behind it.
            times = np.append(times[:-1], max(span.end, int(times[-1])))
        rests = np.diff(times) - usual
        lacking = np.where(rests > pause, rests, 0)
        counts = lacking * step.denominator // step.numerator
        counts[(lacking > 0) & (counts == 0)] = 1
        total = int(counts.sum())
        if silent + total > MAX_SILENT_FRAMES:
            raise TooLargeError(f"more than {MAX_SILENT_FRAMES} frames of silence")
        pauses = _Pauses(replace(samples, decode_time=times), counts, usual, step)
        for part in stretches(0, len(counts) + total):
            columns = pauses.columns(*part, place + silent * size, size)
            boxes.add(columns, int(times[-1]))
        silent += total
    if not silent:
        return None
    return FilledSound(boxes.render(), SilentSamples(frame.data, silent))


@dataclass(frozen=True, slots=True)
class _Pauses:
    """Samples with some frames of silence behind each.

    Attributes:
        counts: how many frames are behind each sample.
        usual: ticks from a sample to the first frame behind it.
        step: ticks from a frame to the next one.
    """

    samples: Samples
    counts: Int64
    usual: int
    step: Fraction

    def columns(self, start: int, stop: int, place: int, size: int) -> SampleColumns:
        """Return a range of the samples and frames together.

        Args:
            place: offset of the first frame.
            size: bytes of each frame.
        """
        rows, ends = np.arange(start, stop), np.cumsum(self.counts + 1)
        numbers = ends.searchsorted(rows, "right")
        within = rows - (ends - self.counts - 1)[numbers]
        is_silent = within > 0
        later = self.usual + (within - 1) * self.step.numerator // self.step.denominator
        samples = self.samples
        return SampleColumns(
            samples.decode_time[numbers] + np.where(is_silent, later, 0),
            np.where(is_silent, place + (rows - numbers - 1) * size, samples.offset[numbers]),
            np.where(is_silent, size, samples.size[numbers]),
            np.where(is_silent, 0, samples.composition_offset[numbers]),
            is_silent | samples.is_sync[numbers],
        )
