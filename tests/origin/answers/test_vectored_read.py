"""Scattered ranges of a file are gathered to the same bytes as one by one, whatever they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.answers.vectored_read import GAP, READ_AT_ONCE, RUNS_AT_ONCE, FileRuns

SIZE = 4 << 20
DATA = np.random.default_rng(3).integers(0, 256, SIZE, np.uint8).tobytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path: Path = tmp_path_factory.mktemp("runs") / "file"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def arrays(runs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets, lengths = zip(*runs, strict=True)
    return np.array(offsets, np.int64), np.cumsum(np.array(lengths, np.int64))


def gathered(runs: FileRuns, file: int, step: int) -> tuple[bytes, int]:
    """Give all bytes of the runs, and how often they were read."""
    found, reads = b"", 0
    while runs:
        data = runs.read(file, step)
        assert 0 < len(data) <= step
        found, reads = found + data, reads + 1
        runs.skip(len(data))
    return found, reads


RUN = st.tuples(st.integers(0, SIZE - (64 << 10)), st.integers(0, 64 << 10))


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(RUN, min_size=1, max_size=40).filter(lambda runs: any(length for _, length in runs)),
    data=st.data(),
)
def test_any_range_of_any_runs_is_what_the_runs_say(
    file: int, runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    whole = b"".join(DATA[offset : offset + length] for offset, length in runs)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    step = data.draw(st.integers(1 << 12, READ_AT_ONCE))
    assert gathered(FileRuns(*arrays(runs), start, stop), file, step)[0] == whole[start:stop]


def test_samples_among_others_are_read_together_and_far_ones_for_themselves(file: int) -> None:
    near = [(1000 * number, 700) for number in range(400)]
    far = [((700 + GAP + 1) * number, 700) for number in range(100)]
    for runs in (near, far, [*near, *far]):
        whole = b"".join(DATA[offset : offset + length] for offset, length in runs)
        found, reads = gathered(FileRuns(*arrays(runs), 0, len(whole)), file, READ_AT_ONCE)
        assert (found, reads) == (whole, 1)


def test_one_reading_has_bounds_in_bytes_and_in_runs(file: int) -> None:
    many = [(4 * number, 3) for number in range(3 * RUNS_AT_ONCE)]
    long = [((1 << 20) * number, 900_000) for number in range(4)]
    for runs in (many, long):
        whole = b"".join(DATA[offset : offset + length] for offset, length in runs)
        found, reads = gathered(FileRuns(*arrays(runs), 0, len(whole)), file, 1 << 30)
        assert found == whole
        assert reads >= 3


def test_a_file_that_has_become_shorter_gives_nothing(file: int) -> None:
    assert not FileRuns(*arrays([(SIZE - 10, 11)]), 0, 11).read(file, 100)
    assert not FileRuns(*arrays([(0, 10), (SIZE, 10)]), 0, 20).read(file, 100)
    assert bytes(FileRuns(*arrays([(0, 10), (SIZE, 10)]), 0, 10).read(file, 100)) == DATA[:10]


def test_what_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            FileRuns(*arrays([(0, 10)]), 0, 10).read(folder, 10)
    finally:
        os.close(folder)
