"""What indexing costs where tables are long: how often they are gone through, in samples and in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.errors import TooLargeError
from media.mp4.movie.box_arrays import STRETCH_LENGTH, Int64
from media.mp4.movie.sample_table import SampleTable
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.edit_list import MAX_SEARCHED
from tests.packager.crafted import Track, constant, film, indexed, moov, rows, sizes, sound, write
from tests.packager.vod.opened_media import open_segment

MEBIBYTE = 1 << 20


class Looked:
    """Counts the samples whose times are made one by one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.samples = 0
        real = SampleTable.decode_times

        def counting(table: SampleTable, start: int, stop: int) -> Int64:
            self.samples += stop - start
            return real(table, start, stop)

        patch.setattr(SampleTable, "decode_times", counting)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Looked:
    return Looked(monkeypatch)


def picture(count: int, edits: list[tuple[int, int]], odd: int = 2000) -> Track:
    """Pictures at 25 a second, a key frame in each second, shown in another order than they are decoded.

    The second one's offset may be an odd one.
    """
    offsets = np.tile([1000, 2000, 0], count // 3 + 1)[:count]
    offsets[1] = odd
    tables = {
        "stts": rows([[count, 1000]]),
        "ctts": rows(np.stack((np.ones(count, np.int64), offsets), axis=1)),
        "stss": rows(np.arange(0, count, 25) + 1),
        "stsc": rows([[1, count, 1]]),
        "stsz": constant(1000, count),
        "stco": rows([4096]),
    }
    return Track(tables, video=True, timescale=25_000, edits=edits)


HOUR = 90_000


@pytest.mark.parametrize(
    ("edits", "frames"),
    [
        ([(0, 1000)], 10 * HOUR),
        # Its sixth hour, by a clock of milliseconds and one of 25,000 ticks
        ([(3_600_000, 5 * HOUR * 1000)], HOUR),
        ([(3_600_000, 1000)], HOUR),
        ([(0, 9 * HOUR * 1000)], HOUR),
    ],
)
def test_an_hour_out_of_ten_is_found_without_looking_at_the_others(
    edits: list[tuple[int, int]], frames: int, looked: Looked
) -> None:
    (track,) = indexed(moov(picture(10 * HOUR, edits)), IndexCacheLimits()).tracks
    assert abs(len(track.samples) - frames) < 50
    # Where the edit list begins, and ends, in the first segment and the last: a stretch of samples each.
    assert looked.samples < 8 * STRETCH_LENGTH


def test_an_hour_out_of_ten_of_sound_is_found_likewise(looked: Looked) -> None:
    count, hour = 1_687_500, 48_000 * 3600
    (track,) = indexed(
        moov(Track(sound(count).tables, edits=[(3_600_000, 5 * hour)])), IndexCacheLimits()
    ).tracks
    assert abs(len(track.samples) - 168_750) < 20
    # What is cut are the sounds of that hour.
    assert looked.samples < 168_750 + 8 * STRETCH_LENGTH


def test_a_rate_that_never_changes_is_told_without_a_look_at_the_frames(looked: Looked) -> None:
    (track,) = indexed(moov(picture(10 * HOUR, [])), IndexCacheLimits()).tracks
    before = looked.samples
    # 25,000 ticks a second, a thousand for each frame; a film that is shorter than the window has no rate.
    assert track.frame_rate == 25
    assert track.samples.largest_rate(10 * HOUR * 1000) == 0
    assert track.samples.largest_rate(2500) == Fraction(1, 1000)
    assert looked.samples == before


def test_composition_offsets_of_hours_are_not_looked_for_in_all_samples(looked: Looked) -> None:
    count = 2 * MAX_SEARCHED * STRETCH_LENGTH
    with pytest.raises(TooLargeError, match="composition offsets of hours"):
        indexed(moov(picture(count, [(0, 0)], -1_000_000_000)), IndexCacheLimits())
    assert looked.samples < (MAX_SEARCHED + 1) * STRETCH_LENGTH
    # As long as the samples are few, whatever they say is looked at.
    (track,) = indexed(moov(picture(9000, [(0, 0)], -1_000_000_000)), IndexCacheLimits()).tracks
    assert len(track.samples) == 9000


def test_key_frames_and_runs_have_limits_that_no_film_meets() -> None:
    data = moov(picture(900, []), sound(100), sound(100, stts=rows([[1, 1024]] * 100)))
    assert len(indexed(data, IndexCacheLimits()).tracks) == 3
    with pytest.raises(TooLargeError, match="36 sync samples: more than 35"):
        indexed(data, IndexCacheLimits(sync_samples=35))
    with pytest.raises(TooLargeError, match="901 entries of stts and ctts: more than 900"):
        indexed(data, IndexCacheLimits(runs=900))
    index = indexed(data, IndexCacheLimits(runs=1000))
    assert [track.name for track in index.tracks] == ["video", "audio"]
    assert index.left_out == ("track 3: 100 entries of stts and ctts: more than 98",)


def recorded(hours: int) -> bytes:
    """A recording of an event by a clock of milliseconds, in which no two frames in a row are as long."""
    random = np.random.default_rng(5)
    frames, sounds = 90_000 * hours, 168_750 * hours

    def jittering(count: int, low: int) -> bytes:
        ones = np.ones(count, np.int64)
        return rows(np.stack((ones, random.integers(low, low + 3, count)), axis=1))

    video = {
        "stts": jittering(frames, 39),
        "stss": rows(np.arange(0, frames, 50) + 1),
        "stsc": rows([[1, 1, 1]]),
        "stsz": sizes(random.integers(500, 5000, frames)),
        "stco": rows(np.arange(frames) * 4000),
    }
    audio = {
        "stts": jittering(sounds, 1008),
        "stsc": rows([[1, 2, 1]]),
        "stsz": sizes(random.integers(300, 420, sounds)),
        "stco": rows(np.arange(-(-sounds // 2)) * 8000),
    }
    return moov(Track(video, video=True, timescale=1000), Track(audio))


@pytest.mark.parametrize(
    "make", [lambda: film(10, rate=25)[0], lambda: recorded(10)], ids=["a film", "a recording"]
)
def test_ten_hours_are_within_the_limits_and_indexed_within_their_time(make: Callable[[], bytes]) -> None:
    data, taken = make(), []
    for _ in range(2):
        started = time.thread_time()
        index = indexed(data, IndexCacheLimits())
        taken.append(time.thread_time() - started)
    assert [track.name for track in index.tracks] == ["video", "audio"]
    assert not index.left_out
    assert index.nbytes < 64 * MEBIBYTE
    # 60 ms on a machine with nothing else to do
    assert min(taken) < 1


def test_the_first_segment_of_two_hours_that_nobody_has_seen_comes_at_once(tmp_path: Path) -> None:
    data, media = film(2, total=770_000_000)
    path = write(tmp_path / "film.mp4", data, media)
    taken = []
    for _ in range(3):
        titles = Titles(Library(tmp_path))
        started = time.thread_time()
        open_segment(titles, path.name, "video", 0).close()
        taken.append(time.thread_time() - started)
    # 11 ms on a machine with nothing else to do
    assert min(taken) < 0.2
