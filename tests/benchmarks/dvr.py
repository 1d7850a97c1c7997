"""What a day of DVR costs: rendering and memory of a window of 43,200 segments, beside one of an hour.

``python -m tests.benchmarks.dvr``. No encoder: the window is filled as if a day had passed.
"""

from __future__ import annotations

import gc
import os
import statistics
import struct
import sys
import tempfile
import time
import tracemalloc
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from media.mp4.boxes import box
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.movie.track_box import TrackFacts
from packager.dvr.disk_rendition import DvrFolder
from packager.dvr.index import INDEX, IndexLine, encode
from packager.dvr.restore_plan import align_renditions
from packager.publish.hls import Presentation
from packager.window.cadence import cadence
from packager.window.model import LivePart, LiveSegment, StoredSegment, WindowOptions
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.conformance.handfed import media_clock

DAY = 43_200
HOUR = 1_800
PARTS = 6
FIRST = 890_000_000
"""Number of the first segment."""

AVCC = bytes.fromhex("0142c01effe1000467640000010004") + b"\x68\xee\x3c\x80"

ROUNDS = 200
"""Segments over which the rendering is measured."""

SAMPLE_ENTRY = box(b"avc1", bytes(24), struct.pack(">HH", 640, 360), bytes(50), box(b"avcC", AVCC))
ENTRY = SampleEntry(b"avc1", "avc1.64001f", b"", (), width=1280, height=720)


class AtOnce:
    """A shelf that has stored what it is given at once, and keeps none of it."""

    def __init__(self) -> None:
        self.window: Window | None = None
        self.pending: LiveSegment | None = None

    def put(self, segment: LiveSegment) -> None:
        """Store the segment."""
        self.pending = segment

    def settle(self) -> None:
        """Tell the window."""
        if self.pending is not None and self.window is not None:
            sizes = array("L", [len(part.data) for part in self.pending.parts])
            self.window.confirm(
                self.pending.number,
                StoredSegment.of(sizes, self.pending.program_date_time.as_integer_ratio()),
            )

    def hold(self, size: int) -> bool:
        """There is room for everything."""
        return True

    def release(self, size: int) -> None:
        """Nothing is counted."""

    def remove(self, number: int, size: int, timelines: Sequence[int]) -> None:
        """Forget the segment."""

    def path(self, number: int, _: StoredSegment) -> str:
        """Tell where it is."""
        return f"{number}.m4s"


def publish(window: Window, segment_store: AtOnce, on_part: Callable[[], object] = lambda: None) -> None:
    """Publish a segment of two seconds and 12 kB; ``on_part`` is called after each of its parts."""
    number = window.next_number
    for index in range(PARTS):
        part = LivePart(bytes(2000), Fraction(1, 3), index == 0)
        window.append(part, Fraction(2 * number) + Fraction(index, 3), ends_segment=index == PARTS - 1)
        on_part()
    segment_store.settle()


def measure(segments: int) -> tuple[float, float, float, float, int]:
    """Fill a window and go on publishing.

    Args:
        segments: how many it lists.

    Returns:
        Milliseconds of CPU to publish a segment, to render the playlist, to render its delta update; bytes of
        memory of each listed segment, its rendered lines included; bytes of the playlist.
    """
    times = cadence(Fraction(30), 2.0, 0.333)
    segment_store = AtOnce()
    gc.collect()
    tracemalloc.start()
    options = WindowOptions(times.target_duration, 0, dvr_window=2.0 * segments)
    window = segment_store.window = Window(options, segment_store=segment_store)
    window.clock = media_clock(window)
    window.begin(b"init", ENTRY)
    presentation = Presentation({"720p": Rendition("720p", window, True, 3_000_000)}, times)
    for _ in range(2 * segments + 100):
        publish(window, segment_store)
    size = len(presentation.media("720p"))
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] / len(window.listed)
    tracemalloc.stop()
    columns: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        began = time.process_time()
        publish(window, segment_store)
        published = time.process_time()
        presentation.media("720p")
        rendered = time.process_time()
        presentation.media("720p", skip=True)
        ends = (published, rendered, time.process_time())
        for column, start, end in zip(columns, (began, *ends), ends, strict=False):
            column.append(1000 * (end - start))
    publishing, whole, delta = (statistics.median(column) for column in columns)
    return publishing, whole, delta, memory, size


def broadcast() -> Iterator[float]:
    """Publish a day as players see it, in which each part has its delta update, and each segment a playlist.

    Yields:
        Seconds of CPU of each hour.
    """
    times = cadence(Fraction(30), 2.0, 0.333)
    segment_store = AtOnce()
    options = WindowOptions(times.target_duration, 0, dvr_window=2.0 * DAY)
    window = segment_store.window = Window(options, segment_store=segment_store)
    window.clock = media_clock(window)
    window.begin(b"init", ENTRY)
    presentation = Presentation({"720p": Rendition("720p", window, True, 3_000_000)}, times)
    for _ in range(DAY // HOUR):
        began = time.process_time()
        for _ in range(HOUR):
            publish(window, segment_store, lambda: presentation.media("720p", skip=True))
            presentation.media("720p")
        yield time.process_time() - began


def take_up(folder: Path) -> tuple[float, float, float]:
    """Measure a start on a day's DVR of three renditions.

    Args:
        folder: an empty one.

    Returns:
        Seconds from the beginning to the first playlist of each; of CPU; megabytes of memory.
    """
    names, times = ("720p", "360p", "audio"), cadence(Fraction(30), 2.0, 0.333)
    for name in names:
        _fill(folder / name)
    resident = _resident()
    began, cpu = time.perf_counter(), time.process_time()
    found = {name: DvrFolder(folder / name).load() for name in names}
    segments, sequence = align_renditions(found, FIRST + DAY, times.segment_duration)
    renditions = {}
    for name in names:
        options = WindowOptions(times.target_duration, FIRST + DAY, dvr_window=2.0 * DAY)
        window = Window(options, segment_store=AtOnce())
        window.restore(segments[name], FIRST + DAY, sequence)
        renditions[name] = Rendition(name, window, name != "audio", 1_000_000)
    presentation = Presentation(renditions, times)
    for name in names:
        presentation.media(name)
    return time.perf_counter() - began, time.process_time() - cpu, (_resident() - resident) / 1e6


def _fill(folder: Path) -> None:
    """Make a day's files of one rendition, all bytes of them zero."""
    folder.mkdir(parents=True)
    init = write_init_segment(TrackFacts(1, b"vide", 90_000, SAMPLE_ENTRY))
    (folder / f"init-{FIRST}.mp4").write_bytes(init)
    with (folder / INDEX).open("wb") as file:
        for number in range(FIRST, FIRST + DAY):
            # As after the clock has been mended a little: no whole number of seconds.
            date = ((2 * number * 90_000 + number % 7), 90_000)
            file.write(encode(IndexLine(number, date, (2, 1), init=FIRST, parts=(2000,) * PARTS)))
            (folder / f"{number}.m4s").touch()
            os.truncate(folder / f"{number}.m4s", 2000 * PARTS)


def _resident() -> int:
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> Iterator[str]:
    """Measure.

    Yields:
        A line for each result.
    """
    for count in (HOUR, DAY):
        publishing, whole, delta, memory, size = measure(count)
        yield (
            f"{count:6} segments: publish {publishing:.3f} ms, playlist {whole:.2f} ms ({size} bytes),"
            f" delta update {delta:.3f} ms, {memory:.0f} bytes of memory each"
        )
    hours = list(broadcast())
    first, last = statistics.median(hours[:3]), statistics.median(hours[-3:])
    yield f"a day: {sum(hours):.1f} s of CPU; an hour at its beginning {first:.2f} s, at its end {last:.2f} s"
    with tempfile.TemporaryDirectory(prefix="headwater-dvr-") as folder:
        seconds, cpu, megabytes = take_up(Path(folder))
    yield f"a start on a day of three renditions: {seconds:.2f} s ({cpu:.2f} s of CPU), {megabytes:.0f} MB"


if __name__ == "__main__":
    for line in main():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
