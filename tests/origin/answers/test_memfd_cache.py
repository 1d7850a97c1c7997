"""Files in memory of what several ask for, not too many, closed behind the last user."""

from __future__ import annotations

import os
import resource

import pytest

from origin.answers.memfd_cache import Media, MemfdCache, MemfdLimits
from origin.answers.pieces import READ_LIMIT

SIZE = READ_LIMIT + 1


def asked_twice(kept: MemfdCache, data: Media) -> int:
    """Gives the copy's descriptor."""
    assert kept.of(data) is None
    copy = kept.of(data)
    assert copy is not None
    assert kept.of(data) is copy
    assert os.pread(copy.fd, len(data) + 1, 0) == data
    assert copy.span == (0, len(data) - 1)
    return copy.fd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_who_asks_second_gets_a_copy_of_bytes_and_of_views_alike() -> None:
    kept, data = MemfdCache(), os.urandom(2 * SIZE)
    first, second = asked_twice(kept, data), asked_twice(kept, memoryview(data)[3 : 3 + SIZE])
    del kept
    assert not is_open(first)
    assert not is_open(second)


def test_equal_bytes_that_are_another_object_are_asked_for_the_first_time() -> None:
    kept = MemfdCache()
    asked_twice(kept, bytes(SIZE))
    assert kept.of(bytes(bytearray(SIZE))) is None


def test_short_media_and_such_as_exceed_the_bound_are_sent_as_they_are() -> None:
    kept = MemfdCache(MemfdLimits(media_bytes=2 * SIZE))
    for data in (bytes(READ_LIMIT), bytes(2 * SIZE + 1)):
        assert [kept.of(data) for _ in range(3)] == [None] * 3


def test_the_oldest_copies_go_and_stay_open_for_who_holds_them() -> None:
    """By number, asked for once or often, and by bytes."""
    kept, data = MemfdCache(MemfdLimits(copies=3, media_bytes=4 * SIZE)), [bytearray(SIZE) for _ in range(4)]
    media = [memoryview(each) for each in data]
    first, second = asked_twice(kept, media[0]), asked_twice(kept, media[1])
    held = kept.of(media[1])
    assert held is not None
    assert kept.of(media[2]) is kept.of(media[3]) is None
    assert not is_open(first)
    asked_twice(kept, memoryview(bytes(3 * SIZE)))
    assert is_open(second)
    assert os.pread(second, SIZE, 0) == bytes(SIZE)
    del held
    assert not is_open(second)


def test_what_was_asked_for_last_keeps_its_copy() -> None:
    kept, media = MemfdCache(MemfdLimits(copies=2, media_bytes=8 * SIZE)), [bytes(SIZE + n) for n in range(4)]
    often = asked_twice(kept, media[0])
    for other in media[1:]:
        assert kept.of(other) is None
        again = kept.of(media[0])
        assert again is not None
        assert again.fd == often


def test_a_copy_is_not_the_one_that_makes_room_for_itself() -> None:
    kept, first, second = MemfdCache(MemfdLimits(media_bytes=SIZE + 1)), bytes(SIZE), bytes(SIZE + 1)
    assert kept.of(first) is None
    other = asked_twice(kept, second)
    copy = kept.of(first)
    assert copy is not None
    assert kept.of(first) is copy
    assert not is_open(other)


def test_without_descriptors_media_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", fail)
    kept, data = MemfdCache(), bytes(SIZE)
    assert [kept.of(data) for _ in range(3)] == [None] * 3


def test_without_room_for_a_copy_it_is_sent_as_it_is() -> None:
    kept, data = MemfdCache(), os.urandom(SIZE)
    assert kept.of(data) is None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        assert kept.of(data) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
