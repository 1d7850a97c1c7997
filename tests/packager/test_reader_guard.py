"""What fails unexpectedly in a reader of bytes from outside costs the file alone that has these bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from structlog.testing import capture_logs

import packager.vod.film_segments
import packager.vod.index.index_cache
import packager.vod.text.sidecars
import packager.vod.title_sets
from media.errors import MalformedError, MediaError, UnsupportedError
from media.mp4.movie.pieced_samples import PiecedSamples
from packager.concurrency import background_task
from packager.library.catalogue import Catalogue, PackagingFacts
from packager.library.file_listing import ListedFolder
from packager.library.local_storage import Library
from packager.reader_guard import ReaderGuard
from packager.vod import Titles
from packager.vod.segments.clip import ClipError
from tests.packager import films
from tests.packager.library.listing import files

ERRORS = [
    IndexError("list index out of range"),
    KeyError("codec"),
    struct.error("unpack requires a buffer of 4 bytes"),
    ValueError("invalid literal"),
    OverflowError("too large"),
    ZeroDivisionError("division by zero"),
    RecursionError("maximum recursion depth exceeded"),
    AttributeError("'NoneType' object has no attribute 'size'"),
    TypeError("'NoneType' object is not subscriptable"),
    AssertionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_no_reader_documents_is_that_of_malformed_input(error: Exception) -> None:
    with pytest.raises(MalformedError, match=type(error).__name__), ReaderGuard("a file"):
        raise error


@pytest.mark.parametrize("error", [UnsupportedError("a codec"), ClipError("too late"), OSError(5, "disk")])
def test_errors_with_a_meaning_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, ReaderGuard("a file"):
        raise error
    assert raised.value is error


def test_each_place_in_the_code_is_logged_once() -> None:
    def fail() -> NoReturn:
        raise IndexError("of many files")

    with capture_logs() as logs:
        for number in range(100):
            with pytest.raises(MalformedError), ReaderGuard(f"file {number}"):
                fail()
    assert [line["subject"] for line in logs] == ["file 0"]


def test_a_stream_with_samples_and_without_pieces_is_malformed() -> None:
    nothing, some = np.array([], np.int64), np.array([0, 5], np.int64)
    with pytest.raises(MalformedError, match="no piece"):
        PiecedSamples(nothing, nothing, some, some).file_offsets()


def failing(calls: list[str]) -> Callable[..., NoReturn]:
    def read(*arguments: Any) -> NoReturn:
        calls.append(str(len(arguments)))
        raise IndexError("a fault of the reader")

    return read


def put_films(folder: Path) -> Titles:
    (folder / "film.mp4").write_bytes(films.film("bframes.mp4").read_bytes())
    (folder / "film.en.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return Titles(Library(folder))


def test_a_fault_in_an_index_refuses_the_film_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(packager.vod.index.index_cache, "read_index", failing(calls))
    titles = put_films(tmp_path)
    for _ in range(3):
        with pytest.raises(MalformedError):
            titles.multivariant_playlist("film.mp4")
    assert len(calls) == 1
    assert titles.facts.obstacle("film.mp4") is not None
    assert not titles.facts.text("film.mp4").subtitles
    assert not titles.facts.is_encoded("film.mp4")
    assert not titles.facts.has_thumbnails("film.mp4")


def test_a_fault_in_a_segment_refuses_that_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles, calls = put_films(tmp_path), list[str]()
    titles.multivariant_playlist("film.mp4")
    monkeypatch.setattr(packager.vod.film_segments, "make_segment", failing(calls))
    with titles.files.open("film.mp4") as file:
        with pytest.raises(MediaError):
            titles.segments.of(file, "video", 0)
        assert titles.segments.known(file, "video", 0) is None
    assert len(calls) == 2


def test_a_fault_in_what_lies_beside_a_film_costs_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(packager.vod.text.sidecars, "read_subtitle_file", failing(calls))
    titles = put_films(tmp_path)
    assert "#EXT-X-STREAM-INF" in titles.multivariant_playlist("film.mp4")
    assert calls
    monkeypatch.setattr(packager.vod.title_sets, "read_title_set", failing(calls))
    (tmp_path / "VTS_01_0.IFO").write_bytes(bytes(4096))
    (tmp_path / "VTS_01_1.VOB").write_bytes(films.film("bframes.mp4").read_bytes())
    assert "#EXT-X-STREAM-INF" in titles.multivariant_playlist("VTS_01_1.VOB")


async def test_a_fault_in_the_inspection_of_a_file_leaves_the_others_to_be_inspected(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        (tmp_path / name).write_bytes(films.film("bframes.mp4").read_bytes())

    def obstacle(name: str) -> str | None:
        if name in ("a.mp4", "c.mp4"):
            raise RuntimeError("a fault that no guard knows")
        return None

    catalogue = Catalogue(ListedFolder(tmp_path), None, PackagingFacts(obstacle=obstacle))
    async with background_task(catalogue.run()):
        facts = {entry.path: entry.facts for entry in await files(catalogue)}
    reasons = {path: one and one.obstacle for path, one in facts.items()}
    unread = "it can't be read: its content has led to a fault of the reader"
    assert reasons == {"a.mp4": unread, "b.mp4": None, "c.mp4": unread, "d.mp4": None}


async def fail_together(*errors: Exception) -> None:
    async def fail(error: Exception) -> None:
        raise error

    with ReaderGuard("tasks"):
        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(fail(error))


async def test_faults_of_several_tasks_are_malformed_input_unless_another_error_is_among_them() -> None:
    known, fault = MalformedError("a known error"), IndexError("of a task")
    for errors, reason in (((fault,), "IndexError"), ((known, fault), "IndexError"), ((known,), "known")):
        with pytest.raises(MalformedError, match=reason):
            await fail_together(*errors)
    with pytest.raises(ExceptionGroup):
        await fail_together(fault, OSError("no room"))
