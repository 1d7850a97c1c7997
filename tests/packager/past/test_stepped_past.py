"""A past whose clock was set back, of which few blocks are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest

from packager.past.stepped_past import DatedBlock, SteppedPast
from packager.window.clock_steps import begin_of, found_by_date, stretches_of
from packager.window.model import LiveSegment
from tests.packager.window.clock_runs import ELEVEN, MINUTE, NINE, NOON, STEP, TEN, Run, made


class Blocks:
    """Segments in blocks, which notes what is read of them."""

    def __init__(self, segments: Sequence[LiveSegment], length: int) -> None:
        self._parts = [segments[at : at + length] for at in range(0, len(segments), length)]
        self.firsts = [DatedBlock(one[0].number, begin_of(one[0])) for one in self._parts]
        self.reads = list[int]()

    def read(self, positions: Sequence[int]) -> Iterator[Sequence[LiveSegment]]:
        self.reads += positions
        return (self._parts[at] for at in positions)


@pytest.mark.parametrize("length", [7, 64, 1000])
@pytest.mark.parametrize(
    "runs",
    [
        ((NINE, 2 * 3600), (TEN, 1800)),
        ((TEN, 600), (ELEVEN + 600, 600), (TEN + 1200, 600)),
        ((NINE, 3 * 3600), (TEN, 30), (NOON + MINUTE, 600)),
    ],
)
def test_the_segments_of_a_span_are_found_though_few_blocks_are_read(
    length: int, runs: tuple[Run, ...]
) -> None:
    segments = made(*runs)
    stretches = stretches_of(segments)
    noted = [one.numbers.start for one in stretches[1:]]
    blocks = Blocks(segments, length)
    past = SteppedPast(blocks.firsts, blocks.read, noted)
    assert len(blocks.reads) <= 2 * len(noted) + 1
    for start in range(NINE, NOON + 600, 977):
        for end in (start + 100, start + 4000, None):
            bounds = Fraction(start), None if end is None else Fraction(end)
            chosen = found_by_date(stretches, *bounds)
            wanted = [
                one.number
                for one in segments
                if any(each.has(one) for each in chosen)
                and begin_of(one) + STEP > start
                and (end is None or begin_of(one) < end)
            ]
            found = [one for one in past.segments(*bounds, 10**9) if begin_of(one) + STEP > start]
            assert [one.number for one in found] == wanted


def test_blocks_whose_dates_rise_are_not_read() -> None:
    blocks = Blocks(made((NINE, 3600), (NOON, 3600)), 50)
    assert not SteppedPast(blocks.firsts, blocks.read).stretches
    assert not blocks.reads
