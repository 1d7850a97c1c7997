"""The listing of a folder of many files: one walk for all who ask, in pages and within limits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.concurrency import background_task
from packager.library import file_listing
from packager.library.catalogue import (
    MAX_PAGE_FILES,
    MAX_PROBES,
    MAX_UNKNOWN_FILES,
    Catalogue,
    Entry,
    LibraryTitle,
    PackagingFacts,
)
from packager.library.file_listing import CatalogueLimits, FileListing, ListedFolder, Listing
from packager.library.file_probe import Facts
from packager.library.title_files import FolderTitles
from tests.packager.library.listing import THEN, files, fill
from tests.waiting import until


def settle(root: Path) -> None:
    """Let the last change of all folders be long ago: no other change can have its time."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, ns=(THEN, os.stat(folder).st_mtime_ns - 60 * 10**9))


async def test_a_folder_is_walked_once_for_all_who_ask_and_kept_until_it_changes(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4", "deep/in/b.mp4"])
    settle(tmp_path)
    listing = FileListing(ListedFolder(tmp_path), (".mp4",), limits=CatalogueLimits(unwalked_seconds=600))
    found = await asyncio.gather(*(listing.latest() for _ in range(1000)))
    assert listing.walks == 1
    assert all(one is found[0] for one in found)

    async def after_a_while() -> list[str]:
        await asyncio.sleep(10 * found[0].seconds)  # nobody looks before that
        return [file.path for file in (await listing.latest()).files]

    assert await after_a_while() == ["a.mp4", "deep/in/b.mp4"]
    assert listing.walks == 1
    await asyncio.to_thread(fill, tmp_path, ["deep/in/c.mp4"])
    await until_it_is(after_a_while, ["a.mp4", "deep/in/b.mp4", "deep/in/c.mp4"])
    (tmp_path / "a.mp4").unlink()
    await until_it_is(after_a_while, ["deep/in/b.mp4", "deep/in/c.mp4"])


async def until_it_is(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    async with asyncio.timeout(60):
        while await ask() != expected:
            await asyncio.sleep(0.01)


async def test_looking_takes_a_tenth_of_the_time_at_most_however_often_somebody_asks(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4"])
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.5
        return now

    listing = FileListing(
        ListedFolder(tmp_path), (".mp4",), limits=CatalogueLimits(unwalked_seconds=0), clock=clock
    )
    for _ in range(1000):
        await listing.latest()
    # Each walk takes a second of this clock, which is looked at twice.
    assert 1 < listing.walks <= now / 10


async def test_a_walk_that_finds_what_was_there_leaves_the_listing_and_what_is_made_of_it(
    tmp_path: Path,
) -> None:
    await asyncio.to_thread(fill, tmp_path, [f"{number:04}.mp4" for number in range(2500)])
    now = 0.0
    listing = FileListing(
        ListedFolder(tmp_path), (".mp4",), limits=CatalogueLimits(stale_seconds=600), clock=lambda: now
    )
    first = await listing.latest()
    now = 100.0
    second = await listing.latest()
    assert (listing.walks, second.number, second.walked) == (2, first.number, 100.0)
    assert second.files is first.files
    (tmp_path / "2499.mp4").write_bytes(b"another length")
    now = 200.0
    assert (await listing.latest()).number == 3


async def test_a_library_is_walked_before_anybody_asks_and_a_folder_that_is_missing_is_told_to_who_asks(
    tmp_path: Path,
) -> None:
    (tmp_path / "film.mp4").touch()
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    async with background_task(catalogue.run()):
        await until(lambda: catalogue.listing.walks == 1, "the walk")
    missing = Catalogue(ListedFolder(tmp_path / "none"), None)
    async with background_task(missing.run()):
        with pytest.raises(OSError, match="No such file"):
            await missing.page(patience=None)


async def test_only_who_comes_at_its_beginning_waits_for_a_walk(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4"])
    now, looking, gate = 0.0, threading.Event(), threading.Event()

    class Slow(ListedFolder):
        def is_unchanged(self, listing: Listing) -> bool:
            looking.set()
            gate.wait()
            return super().is_unchanged(listing)

    listing = FileListing(Slow(tmp_path), (".mp4",), CatalogueLimits(stale_seconds=60), lambda: now)
    first = await listing.latest()
    now = 1.0
    waiting = asyncio.create_task(listing.latest())
    try:
        await until(looking.is_set, "the thread that looks")
        now = 61.5
        # A minute of this clock has passed since the walk began, and nothing of another one.
        async with asyncio.timeout(30):
            assert await listing.latest() is first
        assert not waiting.done()
    finally:
        gate.set()
    assert (await waiting).files == first.files


async def test_a_library_of_more_files_than_are_listed_is_told_once(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4", "b.mp4", "c.mp4"])
    now = 0.0
    listing = FileListing(ListedFolder(tmp_path), (".mp4",), CatalogueLimits(most_files=2), lambda: now)
    with capture_logs() as logs:
        await listing.latest()
        now = 100.0
        await listing.latest()
    assert [line["event"] for line in logs] == ["the library has more files than are listed"]


async def test_files_whose_names_no_address_can_have_are_told_once(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4", "notes\\.txt"])
    names = [b"caf\xe9.mp4", b"d\xe9s", b"notes\xe9.txt", b".hidden\xe9.mp4", b"back\\slash.mp4"]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        if name == b"d\xe9s":
            os.mkdir(path)
        else:
            Path(os.fsdecode(path)).write_bytes(b"")
    with capture_logs() as logs:
        for _ in range(2):
            listing = FileListing(ListedFolder(tmp_path), (".mp4",))
            for _ in range(2):
                assert [file.path for file in (await listing.latest()).files] == ["a.mp4"]
    told = [line for line in logs if line["event"] == "files of the library aren't listed for their names"]
    # A film in Latin-1, a folder in Latin-1, and a film with a backslash; neither what is hidden nor notes.
    assert [line["files"] for line in told] == [3, 3], "once for each listing"
    assert all("\\" in line["first"] for line in told)


async def test_a_page_does_not_wait_for_more_facts_than_can_come_meanwhile(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, [f"{number:02}.mp4" for number in range(30)])
    catalogue = Catalogue(ListedFolder(tmp_path), None, limits=CatalogueLimits(awaited_files=20))
    # Nothing looks at files here, so whoever waits for facts waits for all of the time.
    async with asyncio.timeout(60):
        page = await catalogue.page(None, 30, patience=600)
    assert [item.path for item in page.items] == [f"{number:02}.mp4" for number in range(30)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await catalogue.page(None, 10, patience=600)


async def test_pages_have_each_file_once_in_order_of_path_while_others_come_and_go(tmp_path: Path) -> None:
    names = [f"{folder}{number:03}.mp4" for folder in ("a/", "a-b/", "", "z/y/") for number in range(40)]
    names += ["a.mp4", "film.240p.mp4", "film.720p.mp4"]
    await asyncio.to_thread(fill, tmp_path, names)
    limits = CatalogueLimits(stale_seconds=600)
    catalogue = Catalogue(ListedFolder(tmp_path), None, limits=limits)
    found: list[tuple[str, str]] = []
    after, page = None, 0
    while True:
        items = await catalogue.page(after, 7, patience=0)
        assert len(items.items) <= 7
        found += [("title" if isinstance(one, LibraryTitle) else "file", one.path) for one in items.items]
        if items.after is None:
            break
        after, page = items.after, page + 1
        # The last item of the page goes, and another one comes before it.
        if page == 5:
            (tmp_path / found[-1][1]).unlink()
            await asyncio.to_thread(fill, tmp_path, ["a-a.mp4"])
    # What comes is there once the listing was made anew, in its place.
    expected = sorted([*names, "a-a.mp4"] if ("file", "a-a.mp4") in found else names)
    assert found == [("title", "film"), *(("file", name) for name in expected)]


async def test_a_page_has_no_more_files_than_are_looked_at_for_it(tmp_path: Path) -> None:
    names = [f"{title:03}.{height}p.mp4" for title in range(100) for height in range(100, 116)]
    await asyncio.to_thread(fill, tmp_path, names)
    page = await Catalogue(ListedFolder(tmp_path), None).page(None, 500, patience=0)
    assert (
        sum(len(item.renditions) for item in page.items if isinstance(item, LibraryTitle)) <= MAX_PAGE_FILES
    )
    assert page.after == ("title", page.items[-1].path)


async def test_whoever_asks_for_all_pages_starts_no_unbounded_looking(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, [f"{number:05}.mp4" for number in range(MAX_UNKNOWN_FILES + 500)])
    gate, looked_at = threading.Event(), list[str]()

    def obstacle(path: str) -> str | None:
        looked_at.append(path)
        gate.wait()
        return None

    catalogue = Catalogue(ListedFolder(tmp_path), None, PackagingFacts(obstacle))
    async with background_task(catalogue.run()):
        try:
            await files(catalogue, 0)
            await until(lambda: len(looked_at) == MAX_PROBES)
            assert catalogue.waiting <= MAX_UNKNOWN_FILES
            # What was asked for last is what somebody looks at now.
            assert (await catalogue.page(None, 10, patience=0)).items[0] == Entry("00000.mp4", 4, None)
        finally:
            gate.set()
        (first, *_) = (await catalogue.page(None, 10, patience=None)).items
        assert isinstance(first, Entry)
        assert first.facts == Facts()
    assert len(looked_at) == len(set(looked_at))


def test_names_are_sorted_in_short_steps_to_the_same_order() -> None:
    names = [f"{number * 7919 % 100_000:06}.mp4" for number in range(100_000)]
    assert list(file_listing.in_order(names)) == sorted(names)


async def test_many_files_of_one_folder_are_listed_in_order(tmp_path: Path) -> None:
    names = [f"{number * 7919 % 100_000:06}.mp4" for number in range(2500)]
    await asyncio.to_thread(fill, tmp_path, names)
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    found = [entry.path for entry in await files(catalogue, 0)]
    assert found == sorted(names)


async def test_no_more_files_and_names_are_looked_at_than_the_limits_say(tmp_path: Path) -> None:
    await asyncio.to_thread(
        fill,
        tmp_path,
        [f"{number}.mp4" for number in range(30)] + [f"x/{number}.txt" for number in range(30)],
    )
    few = FileListing(ListedFolder(tmp_path), (".mp4",), limits=CatalogueLimits(most_files=10))
    assert len((await few.latest()).files) == 10
    names = FileListing(ListedFolder(tmp_path), (".mp4",), limits=CatalogueLimits(most_names=20))
    assert len((await names.latest()).files) <= 20


async def test_a_folder_that_was_gone_is_listed_again(tmp_path: Path) -> None:
    root = tmp_path / "library"
    await asyncio.to_thread(fill, root, ["film.mp4"])
    catalogue = Catalogue(ListedFolder(root), None)
    assert len(await files(catalogue, 0)) == 1
    root.rename(tmp_path / "elsewhere")

    async def is_gone() -> bool:
        try:
            await catalogue.page(patience=0)
        except FileNotFoundError:
            return True
        return False

    await until_it_is(is_gone, True)
    assert await is_gone()
    (tmp_path / "elsewhere").rename(root)
    await until_it_is(is_gone, False)
    assert [entry.path for entry in await files(catalogue, 0)] == ["film.mp4"]


def test_a_folder_is_read_once_for_titles_until_it_changes(tmp_path: Path) -> None:
    """Any stranger may ask for titles that aren't there, of a folder with a hundred thousand names."""
    fill(tmp_path, ["a/film.720p.mp4", "a/film.240p.mp4", "a/other.mp4"])
    settle(tmp_path)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.5
        return now

    folders = FolderTitles(tmp_path, 100, clock)
    for number in range(1000):
        assert folders.renditions("a", f"nothing-{number}") == []
    assert folders.renditions("a", "film") == ["film.240p.mp4", "film.720p.mp4"]
    assert folders.reads == 1
    fill(tmp_path, ["a/film.480p.mp4"])
    now += 100
    assert folders.renditions("a", "film") == ["film.240p.mp4", "film.480p.mp4", "film.720p.mp4"]
    assert folders.reads == 2
    # While it changes all the time, reading takes a tenth of the time at most.
    before = now
    for _ in range(1000):
        folders.renditions("a", "film")
    assert folders.reads - 2 <= (now - before) / 5 + 1
    with pytest.raises(FileNotFoundError):
        folders.renditions("b", "film")


def test_what_is_kept_of_folders_is_bounded(tmp_path: Path) -> None:
    fill(
        tmp_path,
        [f"{folder}/{film}.{height}p.mp4" for folder in range(9) for film in "ab" for height in (10, 20)],
    )
    settle(tmp_path)
    folders = FolderTitles(tmp_path, 10)
    for folder in range(9):
        assert folders.renditions(str(folder), "a") == ["a.10p.mp4", "a.20p.mp4"]
    assert folders.kept <= 10
