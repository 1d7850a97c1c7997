"""The limits of films' indexes: what is refused for its size, and what many askers cost at once."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from media.errors import TooLargeError
from media.mp4.boxes import box
from media.mp4.movie.movie import MovieLimits
from packager.library.local_storage import Library, LocalFile
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.limits import TitleLimits
from packager.vod.segments.bandwidth import MAX_CONTIGUOUS, peak_bandwidth
from packager.vod.segments.segment import MAX_SEGMENT_SAMPLES, make_segment
from tests.packager import crafted
from tests.packager.crafted import (
    Track,
    constant,
    film,
    indexed,
    moov,
    rows,
    sound,
    write,
)
from tests.packager.vod.opened_media import open_segment
from tests.packager.vod.vod_titles import indexing_others
from tests.waiting import until


@pytest.mark.clause("A film's index has limits, which are looked at before it is read")
def test_each_limit_of_an_index_refuses_the_file_in_one_line() -> None:
    data = moov(sound(1000), sound(1000), sound(1000))
    assert len(indexed(data, IndexCacheLimits()).tracks) == 3
    with pytest.raises(TooLargeError, match=r"moov of [0-9]+ bytes: more than 1000"):
        indexed(data, IndexCacheLimits(movie=MovieLimits(moov_bytes=1000)))
    with pytest.raises(TooLargeError, match="1000 samples: more than 999"):
        indexed(data, IndexCacheLimits(samples=999))
    with pytest.raises(TooLargeError, match="more than 3 segments of all tracks"):
        indexed(data, IndexCacheLimits(segments=3))


def test_sound_that_is_too_much_beside_the_first_is_left_out_and_said_so() -> None:
    data = moov(sound(1000), sound(1000), sound(1000))
    index = indexed(data, IndexCacheLimits(samples=2500))
    assert [track.name for track in index.tracks] == ["audio", "audio-2"]
    assert index.left_out == ("track 3: 1000 samples: more than 500",)
    index = indexed(data, IndexCacheLimits(segments=9))
    assert [track.name for track in index.tracks] == ["audio", "audio-2"]
    assert index.left_out == ("track 3: more than 9 segments of all tracks",)
    assert len(indexed(data, IndexCacheLimits(sound_tracks=1)).tracks) == 1


def test_a_film_is_not_published_without_a_picture_that_is_too_much() -> None:
    picture = Track(sound(2000).tables, video=True)
    with pytest.raises(TooLargeError, match="2000 samples"):
        indexed(moov(sound(1000), picture), IndexCacheLimits(samples=2500))
    with pytest.raises(TooLargeError, match="2000 samples"):
        indexed(moov(picture, sound(2000)), IndexCacheLimits(samples=2500))


def test_what_an_index_says_that_it_takes_is_what_it_takes(tmp_path: Path) -> None:
    small, _ = film(0.01)
    large, _ = film(1)
    day, _ = film(24)
    cover = moov(sound(9), more=box(b"udta", bytes(3 * (1 << 20))))
    for data, count in ((small, 30), (large, 1), (day, 1), (cover, 3)):
        path = write(tmp_path / "film.mp4", data)
        with Library(tmp_path).open(path.name) as file:
            read_index(file.pread, file.size)
            tracemalloc.start()
            try:
                kept = [read_index(file.pread, file.size) for _ in range(count)]
                taken = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
        said = sum(index.nbytes for index in kept)
        assert taken / 1.2 < said < taken * 2 + 20_000 * count
        if data is day:
            assert len(data) > 64 << 20
            assert taken < 40 << 20


@pytest.mark.clause("What is kept and what runs at once is bounded, however much is asked for")
def test_refusals_and_indexes_of_a_whole_library_stay_within_their_memory(tmp_path: Path) -> None:
    small, media = film(0.01)
    for number in range(40):
        write(tmp_path / f"{number}.mp4", small if number % 2 else crafted.bomb(), media)
    titles = Titles(Library(tmp_path), TitleLimits(index_bytes=300_000))
    played = titles.segments.track("1.mp4", "video")
    told = [titles.facts.obstacle(f"{number}.mp4") for number in range(40)]
    assert told[1] is None
    assert told[0] is not None
    assert "16777216 samples: more than 8388608" in told[0]
    assert len(titles.files) < 40
    # Looking at the library doesn't put out what is played.
    assert titles.segments.track("1.mp4", "video") is played


class CountingLibrary(Library):
    """Counts how many threads read from its files at once."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lock = threading.Lock()
        self.reading = self.most = 0

    def open(self, name: str) -> LocalFile:
        library = self

        class Counted(LocalFile):
            def pread(self, offset: int, length: int) -> bytes:
                with library.lock:
                    library.reading += 1
                    library.most = max(library.most, library.reading)
                try:
                    time.sleep(0.01)
                    return super().pread(offset, length)
                finally:
                    with library.lock:
                        library.reading -= 1

        file = super().open(name)
        counted = Counted(os.dup(file.fd), file.path, os.fstat(file.fd))
        counted.name = name
        return counted


async def test_whoever_asks_only_two_indexes_are_made_at_the_same_time(tmp_path: Path) -> None:
    small, media = film(0.01)
    for number in range(12):
        write(tmp_path / f"{number}.mp4", small, media)
    library = CountingLibrary(tmp_path)
    titles = Titles(library)
    told = await asyncio.gather(
        *(
            titles.threads.of(f"192.0.2.{number}").run(titles.facts.obstacle, f"{number % 12}.mp4")
            for number in range(36)
        )
    )
    assert told == [None] * 36
    assert library.most == 2
    assert len(titles.files) == 12


async def test_who_waits_too_long_for_others_is_told_to_come_again(tmp_path: Path) -> None:
    small, media = film(0.01)
    for number in range(3):
        write(tmp_path / f"{number}.mp4", small, media)
    titles = Titles(Library(tmp_path), TitleLimits(made_at_once=1, wait_seconds=0))
    threads = titles.threads.of("192.0.2.1")
    with indexing_others(titles):
        with pytest.raises(TimeoutError, match="waits for others"):
            await threads.run(titles.multivariant_playlist, "0.mp4")
        assert await threads.run(titles.files.version_name, "1.mp4"), "no thread is taken by those who wait"
    assert (await titles.threads.run(titles.multivariant_playlist, "0.mp4")).startswith("#EXTM3U")


class FailingLibrary(Library):
    """A library whose disk fails while it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tries, self.fails, self.may_fail = 0, True, threading.Event()

    def open(self, name: str) -> LocalFile:
        if threading.current_thread().name.startswith("index"):
            self.tries += 1
            assert self.may_fail.wait(60)
            if self.fails:
                raise OSError(errno.EIO, "the disk")
        return super().open(name)


async def test_an_index_that_cant_be_read_fails_all_who_wait_for_it_once_and_is_tried_again(
    tmp_path: Path,
) -> None:
    small, media = film(0.01)
    write(tmp_path / "film.mp4", small, media)
    library = FailingLibrary(tmp_path)
    titles = Titles(library)
    waiting = [
        asyncio.ensure_future(titles.threads.of(f"192.0.2.{n}").run(titles.multivariant_playlist, "film.mp4"))
        for n in range(9)
    ]
    await until(lambda: library.tries)
    await until(lambda: len(waiters_of(titles)) == 9)
    library.may_fail.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(one) for one in outcomes} == {"[Errno 5] the disk"}
    assert library.tries == 1
    library.fails = False
    assert (await titles.threads.run(titles.multivariant_playlist, "film.mp4")).startswith("#EXTM3U")


def waiters_of(titles: Titles) -> list[str]:
    """Return the clients that wait for indexes."""
    (turns,) = titles.files.indexes.threads._pool._turns.values()
    return [client for flight in turns._flights.values() for client in flight.waiting.values()]


def test_who_reads_the_same_segment_at_the_same_time_reads_by_one_header(tmp_path: Path) -> None:
    count = MAX_SEGMENT_SAMPLES
    scattered = sound(
        count,
        stts=rows([[count, 1]]),
        stsc=rows([[1, 1, 1]]),
        stco=rows(np.arange(count)[::-1] * 7),
    )
    path = write(tmp_path / "film.mp4", moov(scattered))
    titles = Titles(Library(tmp_path))
    open_segment(titles, path.name, "audio", 0).close()
    tracemalloc.start()
    opened = [open_segment(titles, path.name, "audio", 0) for _ in range(100)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 8 * (1 << 20)
    assert len({id(one.media) for one in opened}) == 1
    for one in opened:
        one.close()
    assert titles.segments.being_read == 1
    del opened, one
    assert titles.segments.being_read == 0


def test_an_hour_in_one_segment_beside_brief_ones_is_measured_in_bounded_steps() -> None:
    count = 15_000
    long = Track(
        sound(count, stts=rows([[count - 1, 7], [1, 100_000]]), stsz=constant(100, count)).tables,
        video=True,
        timescale=1,
    )
    (track,) = indexed(moov(long), IndexCacheLimits()).tracks
    assert len(track.sizes) > 100 * MAX_CONTIGUOUS
    # No segments in a row have a higher rate than a segment of 7 seconds.
    assert peak_bandwidth(track) == -(-int(track.sizes[1]) * 8 // 7)


def test_a_manifest_of_too_many_segments_is_refused_and_its_playlists_are_not(tmp_path: Path) -> None:
    write(tmp_path / "film.mp4", moov(sound(100_000)))
    titles = Titles(Library(tmp_path), TitleLimits(manifest_segments=300))
    with pytest.raises(TooLargeError, match="a manifest of 356 segments: more than 300"):
        titles.manifest("film.mp4")
    assert titles.media_playlist("film.mp4", "audio").count("#EXTINF") == 356


def test_a_segment_that_lies_in_a_hundred_thousand_places_is_read_in_linear_time() -> None:
    count = MAX_SEGMENT_SAMPLES
    tables = sound(
        count,
        stts=rows([[count, 1]]),
        stsc=rows([[1, 1, 1]]),
        stco=rows(np.arange(count)[::-1] * 7),
    )
    index = indexed(moov(tables), IndexCacheLimits())
    index = FileIndex(index.tracks, 1 << 30)
    segment = make_segment(index, index.tracks[0], 0)
    assert segment is not None
    calls = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal calls
        calls += 1
        return bytes(length)

    assert len(segment.read(read, 0, segment.size)) == segment.size
    assert calls == count
