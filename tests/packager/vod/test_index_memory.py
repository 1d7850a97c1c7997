"""The memory of indexes: what they say that they take, and that all together stay within their limit."""

from __future__ import annotations

import gc
import shutil
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from packager.library.storage import Library
from packager.vod import TitleLimits, Titles
from packager.vod.index import FileIndex, IndexLimits, read_index
from packager.vod.index_memory import IndexMemory, IndexMemoryLimits
from tests.packager.crafted import film, write
from tests.waiting import wait_for

MEBIBYTE = 1 << 20


def films(folder: Path, count: int, hours: float) -> list[str]:
    """Put equal films into a folder, each a file of its own."""
    first = write(folder / "0.mp4", *film(hours, rate=25))
    for number in range(1, count):
        shutil.copy(first, folder / f"{number}.mp4")
    return [f"{number}.mp4" for number in range(count)]


@pytest.mark.parametrize("rate", [24, 30])
def test_two_hours_take_eight_megabytes_and_say_so(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "film.mp4", *film(2, rate=rate))
    with Library(tmp_path).open(path.name) as file:
        read_index(file.pread, file.size, IndexLimits())  # whatever is made once
        gc.collect()
        tracemalloc.start()
        try:
            index = read_index(file.pread, file.size, IndexLimits())
            taken, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert taken < 8 * MEBIBYTE
    assert index.nbytes == pytest.approx(taken, rel=0.02)
    # While it was made, too.
    assert peak < taken + 2 * MEBIBYTE


def test_twenty_films_of_two_hours_stay(tmp_path: Path) -> None:
    names = films(tmp_path, 20, 2)
    titles = Titles(Library(tmp_path))
    kept = [titles.track(name, "video").cuts for name in names]
    assert titles.index_count == 20
    assert all(titles.track(name, "video").cuts is cuts for name, cuts in zip(names, kept, strict=True))


def test_many_that_are_asked_for_at_once_take_no_more_than_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = films(tmp_path, 8, 1)
    size = len(film(1, rate=25)[0])
    limit = int(3.5 * size)
    titles = Titles(Library(tmp_path), TitleLimits(index_bytes=limit, made_at_once=4))
    seen: list[int] = []
    real = IndexMemory.reserve

    def noting(memory: IndexMemory, count: int, own: int = 0) -> None:
        real(memory, count, own)
        seen.append(memory.reserved + memory.used)

    monkeypatch.setattr(IndexMemory, "reserve", noting)
    with ThreadPoolExecutor(8) as executor:
        durations = list(executor.map(lambda name: titles.track(name, "video").duration, names))
    assert len(set(durations)) == 1
    assert len(seen) == 8
    assert max(seen) <= limit
    assert titles.index_count <= 3


def index_of(count: int) -> FileIndex:
    return FileIndex((), 0, nbytes=count)


def test_who_reads_waits_for_those_who_read_and_for_a_while_for_those_who_use() -> None:
    dropped: list[int] = []
    memory = IndexMemory(100, IndexMemoryLimits(patience_seconds=0.1), dropped.append)
    memory.reserve(60)
    done = threading.Event()

    def second() -> None:
        memory.reserve(50)
        done.set()

    thread = threading.Thread(target=second)
    thread.start()
    wait_for(lambda: dropped, "a look at what could be dropped")
    assert set(dropped) == {10}
    assert not done.is_set()
    index = index_of(60)
    memory.add(index)
    memory.give_back(60)
    # Nobody reads any more, and who uses an index may be who waits: after a while it goes on.
    thread.join()
    assert done.is_set()
    memory.give_back(50)
    del index
    gc.collect()
    assert memory.used == memory.reserved == 0
    memory.reserve(1000)  # what is larger than the limit for itself alone has another limit
    memory.reserve(1000, own=1000)  # and who reads in several steps doesn't wait for itself
    memory.give_back(2000)


def test_those_who_wait_too_long_are_told() -> None:
    memory = IndexMemory(100, IndexMemoryLimits(patience_seconds=0, wait_seconds=0.1), lambda _: None)
    memory.reserve(60)
    with pytest.raises(TimeoutError, match="no room for an index of 50 bytes"):
        memory.reserve(50)
    assert memory.reserved == 60


def test_what_is_read_in_small_pieces_is_not_counted() -> None:
    data = np.arange(200, dtype=np.uint8).tobytes()
    memory = IndexMemory(1000, IndexMemoryLimits(small_read=100), lambda _: None)

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    with memory.reading(read) as reading:
        assert reading(5, 100) == data[5:105]
        assert memory.reserved == 0
        assert reading(5, 101) == data[5:106]
        assert memory.reserved == 101
    assert memory.reserved == 0
