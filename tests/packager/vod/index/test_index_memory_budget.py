"""The memory of indexes: what they say that they take, and that all together stay within their limit."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from media.mp4.movie.sample_table_writer import Reserve, reserve_nothing
from packager.library.local_storage import Library
from packager.threads import ThreadLimits, Threads
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.index.index_memory_budget import IndexMemory
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.limits import TitleLimits
from tests.packager.crafted import film, write
from tests.packager.films import derived
from tests.waiting import until

MEBIBYTE = 1 << 20


def films(folder: Path, count: int, hours: float) -> list[str]:
    """Put equal films into a folder, each a file of its own; copies would have no holes, but gigabytes."""
    made = film(hours, rate=25)
    return [write(folder / f"{number}.mp4", *made).name for number in range(count)]


@pytest.mark.parametrize("rate", [24, 30])
def test_two_hours_take_eight_megabytes_and_say_so(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "film.mp4", *film(2, rate=rate))
    with Library(tmp_path).open(path.name) as file:
        read_index(file.pread, file.size, IndexCacheLimits())  # whatever is made once
        gc.collect()
        tracemalloc.start()
        try:
            index = read_index(file.pread, file.size, IndexCacheLimits())
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
    kept = [titles.segments.track(name, "video").cuts for name in names]
    assert len(titles.files) == 20
    assert all(
        titles.segments.track(name, "video").cuts is cuts for name, cuts in zip(names, kept, strict=True)
    )


def seen_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how much memory is taken after each reservation, in the list that is returned."""
    seen: list[int] = []
    real = IndexMemory.reserve

    def noting(memory: IndexMemory, count: int, own: int = 0, *, is_impatient: bool = False) -> None:
        real(memory, count, own, is_impatient=is_impatient)
        seen.append(memory.reserved + memory.used)

    monkeypatch.setattr(IndexMemory, "reserve", noting)
    return seen


async def samples_of(titles: Titles, names: Sequence[str]) -> list[int]:
    """Have films read at once, and return how many samples the pictures of each have."""

    def count(name: str) -> int:
        return len(titles.segments.track(name, "video").samples)

    return await asyncio.gather(*(titles.threads.run(count, name) for name in names))


async def test_many_that_are_asked_for_at_once_take_no_more_than_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = films(tmp_path, 8, 1)
    size = len(film(1, rate=25)[0])
    limit = int(3.5 * size)
    titles = Titles(Library(tmp_path), TitleLimits(index_bytes=limit, made_at_once=4))
    seen = seen_at_once(monkeypatch)
    assert await samples_of(titles, names) == [90_000] * 8
    assert len(seen) == 8
    assert max(seen) <= limit
    assert len(titles.files) <= 3


def index_of(count: int) -> FileIndex:
    return FileIndex((), 0, nbytes=count)


def reading(memory: IndexMemory, *counts: int) -> int:
    """Read an index that takes its room in parts, and return the room that it has."""
    with memory.reading(lambda offset, length: b"") as read:
        for count in counts:
            read.reserve(count)
        return memory.reserved


async def test_who_reads_waits_for_those_who_read_and_for_a_while_for_those_who_use() -> None:
    dropped, threads = list[int](), Threads(ThreadLimits(threads=1))
    memory = IndexMemory(100, IndexCacheLimits(memory_patience_seconds=0.1), dropped.append)
    memory.reserve(60)
    second = threads.submit(reading, memory, 50)
    await until(lambda: dropped)
    assert {*dropped} == {10}
    assert await threads.run(lambda: "at once") == "at once", "no thread waits"
    assert not second.done()
    index = index_of(60)
    memory.add(index)
    memory.give_back(60)
    # Nobody reads any more, and who uses an index may be who waits: after a while it goes on.
    assert await second == 50
    del index
    gc.collect()
    assert memory.used == memory.reserved == 0
    # What is larger than the limit for itself alone has another limit, and doesn't wait for itself.
    assert await threads.run(reading, memory, 1000, 1000) == 2000


async def test_who_waits_holds_nothing_that_another_one_waits_for() -> None:
    threads, memory = Threads(ThreadLimits(threads=2)), IndexMemory(100, IndexCacheLimits(), lambda _: None)
    both = threading.Barrier(2)
    tries = Counter[str]()

    def read(name: str) -> int:
        tries[name] += 1
        with memory.reading(lambda offset, length: b"") as read:
            read.reserve(40)
            if tries[name] == 1:
                both.wait(60)
            read.reserve(30)
            assert memory.reserved <= 100
            return memory.reserved

    assert {*await asyncio.gather(threads.submit(read, "a"), threads.submit(read, "b"))} == {70}
    assert memory.reserved == 0


async def test_those_who_wait_too_long_are_told() -> None:
    memory = IndexMemory(
        100, IndexCacheLimits(memory_patience_seconds=0, memory_wait_seconds=0.1), lambda _: None
    )
    memory.reserve(60)
    with pytest.raises(TimeoutError, match="no room for an index of 50 bytes"):
        await Threads(ThreadLimits(threads=1)).run(reading, memory, 50)
    with pytest.raises(TimeoutError, match="no room for an index of 50 bytes"):
        reading(memory, 50)  # outside of these threads nobody can wait
    assert memory.reserved == 60


def test_what_is_read_in_small_pieces_is_not_counted() -> None:
    data = np.arange(200, dtype=np.uint8).tobytes()
    memory = IndexMemory(1000, IndexCacheLimits(small_read=100), lambda _: None)

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    with memory.reading(read) as reading:
        assert reading(5, 100) == data[5:105]
        assert memory.reserved == 0
        assert reading(5, 101) == data[5:106]
        assert memory.reserved == 101
    assert memory.reserved == 0


CLUSTER = b"\x1f\x43\xb6\x75"


def matroska(frames: int, tracks: tuple[int, ...] = (1, 2)) -> bytes:
    """Write a film of frames of all sizes at odd times, with something between some of them."""
    source = derived("bframes.mp4.mkv", "bframes.mp4").read_bytes()
    head = bytearray(source[: source.index(CLUSTER)])
    size_at = head.index(b"\x18\x53\x80\x67") + 4
    head[size_at : size_at + 8] = b"\x01" + b"\xff" * 7  # of unknown size
    random = np.random.default_rng(1)
    written = bytearray(head)
    for first in range(0, frames, 2000):
        body = bytearray(b"\xe7\x88" + (first // 2000 * 32000).to_bytes(8, "big"))
        numbers = enumerate(zip(random.integers(1, 60, 2000), random.integers(0, 400, 2000), strict=True))
        for number, (size, late) in numbers:
            time = (number * 15 + int(late)).to_bytes(2, "big")
            track, key = 0x80 | tracks[number % len(tracks)], b"\x80" if number % 4 < 2 else b"\0"
            body += b"\xa3" + bytes((0x84 + int(size), track)) + time + key + b"x" * int(size)
            body += b"" if number % 8 else b"\xec\x80"
        written += CLUSTER + b"\x01" + len(body).to_bytes(7, "big") + body
    return bytes(written)


def read_index_of(data: bytes, reserve: Reserve = reserve_nothing) -> FileIndex:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return read_index(read, len(data), IndexCacheLimits(), reserve)


@pytest.mark.parametrize("tracks", [(1, 2), (1,)])
def test_what_an_index_takes_while_it_is_made_is_reserved_before(tracks: tuple[int, ...]) -> None:
    """Also of a file that has no tables, of which they are made while it is gone through."""
    data, reserved = matroska(64_000, tracks), list[int]()
    gc.collect()
    tracemalloc.start()
    try:
        index = read_index_of(data, reserved.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index.tracks[0].samples) * len(tracks) == 64_000
    assert peak < sum(reserved) + 2 * MEBIBYTE
    assert sum(reserved) < 3 * peak


async def test_films_without_tables_take_their_room_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = matroska(40_000)
    for number in range(4):
        (tmp_path / f"{number}.mkv").write_bytes(data)
    alone: list[int] = []
    await asyncio.to_thread(read_index_of, data, alone.append)
    limit = sum(alone) * 2
    titles = Titles(Library(tmp_path), TitleLimits(index_bytes=limit, made_at_once=2))
    seen = seen_at_once(monkeypatch)
    assert await samples_of(titles, [f"{number}.mkv" for number in range(4)]) == [20_000] * 4
    assert len(seen) >= 4
    assert 0 < max(seen) <= limit


def test_a_track_without_a_frame_is_left_out_and_the_others_are_played() -> None:
    index = read_index_of(matroska(4000, (1,)))
    assert [track.name for track in index.tracks] == ["video"]
    assert any("it has no samples" in line for line in index.left_out)
