"""Pinned items of a cache stay, whatever else is cached; items in memory alone take no room on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from packager.hashed_file_cache import FileKind, HashedFileCache, HashedFileLimits
from packager.safe_files import DataFolder
from tests.small_disk import small_disk

KIND = FileKind("items", ".bin", b"\0", 1 << 20)
PINNED, OTHER = "a" * 32, "b" * 32
DATA = bytes(100)


def cache_of(folder: Path, **limits: int) -> HashedFileCache:
    return HashedFileCache(KIND, DataFolder(folder), HashedFileLimits(**{"memory_bytes": 1, **limits}))


@pytest.mark.parametrize("limits", [{"disk_bytes": 500}, {"disk_files": 5}])
def test_pinned_items_are_never_removed_to_make_room(tmp_path: Path, limits: dict[str, int]) -> None:
    cache = cache_of(tmp_path, **limits)
    cache.keep((PINNED, 0), DATA)
    cache.pin({PINNED})
    cache.keep((PINNED, 1), DATA)
    for number in range(10):
        cache.keep((OTHER, number), DATA)
    assert cache.pinned_sizes(PINNED) == {0: 100, 1: 100}
    assert [cache.has((OTHER, number)) for number in range(10)] == 7 * [False] + 3 * [True]
    # Another process that knows the keys before it looks into the folder.
    again = cache_of(tmp_path, **limits)
    again.pin({PINNED})
    for number in range(10, 20):
        again.keep((OTHER, number), DATA)
    assert [again.find((PINNED, number)) for number in range(2)] == [DATA, DATA]
    assert len(list(tmp_path.iterdir())) == 5


def test_items_that_are_unpinned_go_as_others_do(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, disk_files=3)
    cache.pin({PINNED})
    for number in range(2):
        cache.keep((PINNED, number), DATA)
    cache.unpin({PINNED})
    assert cache.pinned_sizes(PINNED) == {}
    assert cache.find((PINNED, 0)) == DATA
    for number in range(3):
        cache.keep((OTHER, number), DATA)
    assert not cache.has((PINNED, 0))
    assert len(list(tmp_path.iterdir())) == 3


def test_pinned_items_leave_a_tenth_to_others(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, disk_bytes=1000)
    cache.pin({PINNED})
    for number in range(8):
        cache.keep((PINNED, number), DATA)
    assert cache.has_room(100)
    assert not cache.has_room(101)


def test_what_is_only_remembered_is_on_no_disk(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.remember((OTHER, 0), DATA)
    assert cache.find((OTHER, 0)) == DATA
    assert list(tmp_path.iterdir()) == []


def test_who_must_store_an_item_is_told_that_the_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path, 16 << 10):
        cache = cache_of(tmp_path)
        with pytest.raises(OSError, match="No space left"):
            cache.store((PINNED, 0), bytes(100_000))
        cache.store((PINNED, 1), DATA)
        assert cache.find((PINNED, 1)) == DATA
