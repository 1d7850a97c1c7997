"""Work that is done once for all who wait, whatever becomes of those who wait and of the one who does it."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path

import pytest

from origin.answers.single_flight import SingleFlight
from origin.files.open_files import OpenedFile, OpenFileCache
from packager.library.local_storage import Library
from packager.library.storage_interface import LibraryFile
from tests.waiting import until

pytestmark = pytest.mark.asyncio

CALLERS = 5000


class Work:
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.times = 0
        self.held: list[str] = []
        self.done = asyncio.Event()
        self.error: Exception | None = None
        self.taken_back = 0
        self.flight = SingleFlight[str, str](self.held.append, self.take_back)

    async def work(self) -> str:
        self.times += 1
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return "result"

    def take_back(self, result: str) -> None:
        self.held.remove(result)
        self.taken_back += 1

    def callers(self, number: int) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.flight.do("key", self.work)) for _ in range(number)]


async def test_the_result_is_good_for_all_who_asked_before_it_came() -> None:
    work = Work()
    callers = work.callers(CALLERS)
    await until(lambda: work.times)
    assert "key" in work.flight
    work.done.set()
    assert await asyncio.gather(*callers) == ["result"] * CALLERS
    assert (work.times, len(work.held)) == (1, CALLERS - 1)
    assert "key" not in work.flight
    assert await work.flight.do("key", work.work) == "result"
    assert work.times == 2, "who asks later has it done again"


async def test_an_error_is_everybodys() -> None:
    work = Work()
    work.error = FileNotFoundError("gone")
    callers = work.callers(3)
    await until(lambda: work.times)
    work.done.set()
    assert await asyncio.gather(*callers, return_exceptions=True) == [work.error] * 3
    assert work.times == 1


async def test_another_goes_on_where_who_did_the_work_has_gone() -> None:
    work = Work()
    callers = work.callers(4)
    await until(lambda: work.times)
    callers[0].cancel()
    await until(lambda: work.times == 2)
    work.done.set()
    assert await asyncio.gather(*callers[1:]) == ["result"] * 3
    assert work.times == 2


async def test_who_goes_gives_back_what_was_lent() -> None:
    work = Work()
    callers = work.callers(3)
    await until(lambda: work.times)
    callers[1].cancel()
    work.done.set()
    # Behind the turn of the one who has the result, before that of the third.
    asyncio.get_running_loop().call_soon(callers[2].cancel)
    assert await callers[0] == "result"
    with pytest.raises(asyncio.CancelledError):
        await callers[2]
    assert (work.times, work.held) == (1, [])
    assert work.taken_back == 1


@pytest.mark.parametrize("age", [1000.0, 0.0])
async def test_a_file_is_opened_once_for_thousands_however_short_its_validity(
    tmp_path: Path, age: float
) -> None:
    """A validity of nothing: as if each turn of the event loop took longer than the validity."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    os.utime(path, (time.time() - age, time.time() - age))
    library, cache = Library(tmp_path), OpenFileCache(valid_seconds=0.0)
    opened: list[LibraryFile] = []

    async def open_file() -> LibraryFile:
        opened.append(await library.threads.opened(library.open, "a.bin"))
        return opened[-1]

    get = partial(cache.get, b"/media/a.bin", open_file, "application/octet-stream", ())
    answers: list[OpenedFile] = await asyncio.gather(*(get() for _ in range(CALLERS)))
    assert len(opened) == 1
    assert {await one.source.read(0, 9) for one in answers[:2]} == {b"content"}
    for one in answers:
        one.source.release()
    cache.close()
    with pytest.raises(ValueError, match="closed"):
        opened[0].pread(0, 1)
