"""What a day of DVR costs: rendering and memory of a window of 43,200 segments, beside one of an hour.

``python -m tests.benchmarks.dvr``. No encoder: the window is filled as if a day had passed.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from array import array
from collections.abc import Sequence
from fractions import Fraction

from media.codecs import SampleEntry
from packager.ladder import cadence
from packager.presentation import Presentation
from packager.rendition import Rendition
from packager.window import LivePart, LiveSegment, Stored, Window

DAY = 43_200
HOUR = 1_800
PARTS = 6
ROUNDS = 200
"""Segments over which the rendering is measured."""

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
            self.window.confirm(self.pending.number, Stored(sizes, self.pending.program_date_time))

    def remove(self, number: int, timelines: Sequence[int]) -> None:
        """Forget the segment."""

    def path(self, number: int) -> str:
        """Tell where it is."""
        return f"{number}.m4s"


def publish(window: Window, shelf: AtOnce) -> None:
    """Publish a segment of two seconds and 12 kB."""
    number = window.next_number
    for index in range(PARTS):
        part = LivePart(bytes(2000), Fraction(1, 3), index == 0)
        window.append(part, Fraction(2 * number) + Fraction(index, 3), ends_segment=index == PARTS - 1)
    shelf.settle()


def measure(segments: int) -> tuple[float, float, float, float, int]:
    """Fill a window and go on publishing.

    Args:
        segments: how many it lists.

    Returns:
        Milliseconds to publish a segment, to render the playlist, to render its delta update; bytes of memory
        of each listed segment, its rendered lines included; bytes of the playlist.
    """
    times = cadence(Fraction(30), 2.0, 0.333)
    shelf = AtOnce()
    gc.collect()
    tracemalloc.start()
    window = shelf.window = Window(times.target_duration, 0, dvr_window=2.0 * segments, shelf=shelf)
    window.begin(b"init", ENTRY)
    presentation = Presentation({"720p": Rendition("720p", window, True, 3_000_000)}, times)
    for _ in range(2 * segments + 100):
        publish(window, shelf)
    size = len(presentation.media("720p"))
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] / len(window.listed)
    tracemalloc.stop()
    columns: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        began = time.perf_counter()
        publish(window, shelf)
        published = time.perf_counter()
        presentation.media("720p")
        rendered = time.perf_counter()
        presentation.media("720p", skip=True)
        ends = (published, rendered, time.perf_counter())
        for column, start, end in zip(columns, (began, *ends), ends, strict=False):
            column.append(1000 * (end - start))
    publishing, whole, delta = (statistics.median(column) for column in columns)
    return publishing, whole, delta, memory, size


if __name__ == "__main__":
    for count in (HOUR, DAY):
        publishing, whole, delta, memory, size = measure(count)
        print(  # noqa: T201  # its purpose
            f"{count:6} segments: publish {publishing:.3f} ms, playlist {whole:.2f} ms ({size} bytes),"
            f" delta update {delta:.3f} ms, {memory:.0f} bytes of memory each"
        )
