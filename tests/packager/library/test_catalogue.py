"""The listing says of real files what they carry and whether a browser plays them."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from packager.concurrency import beside
from packager.library import file_listing
from packager.library.catalogue import (
    MAX_PAGE_FILES,
    MAX_UNKNOWN,
    PROBE_MEMORY,
    PROBES_AT_ONCE,
    Catalogue,
    Entry,
    Facts,
    LibraryTitle,
    probe,
)
from packager.library.file_listing import FileListing, FolderTitles, ListingLimits
from packager.library.storage import Withheld
from packager.process.tools import Tools
from tests.packager import crafted
from tests.waiting import until

THEN = 1_700_000_000 * 10**9

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=duration=1")
H264 = (*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p")


def make(tools: Tools, path: Path, *arguments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools.ffmpeg, "-nostdin", "-v", "error", *arguments, f"file:{path}"], check=True)


async def listed(root: Path, tools: Tools | None) -> dict[str, Facts]:
    catalogue = Catalogue(root, tools)
    async with beside(catalogue.run()):
        return {entry.path: entry.facts or Facts() for entry in await files(catalogue)}


async def files(catalogue: Catalogue, patience: float | None = None) -> list[Entry]:
    """All files, however many pages they take."""
    found: list[Entry] = []
    after = None
    while True:
        page = await catalogue.page(after, patience=patience)
        found += [item for item in page.items if isinstance(item, Entry)]
        if page.after is None:
            return found
        after = page.after


async def test_what_browsers_play_has_no_reason_and_the_rest_says_why(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "good.mp4", *H264)
    make(tools, tmp_path / "sub" / "sound.mp3", *SOUND)
    make(tools, tmp_path / "mpeg4.mp4", *PICTURE, "-c:v", "mpeg4")
    make(tools, tmp_path / "deep.mp4", *PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    make(tools, tmp_path / "box.avi", *H264)
    (tmp_path / "broken.mp4").write_bytes(b"not a film" * 100)
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no media")
    facts = await listed(tmp_path, tools)
    assert list(facts) == ["box.avi", "broken.mp4", "deep.mp4", "good.mp4", "mpeg4.mp4", "sub/sound.mp3"]
    good = facts["good.mp4"]
    assert (good.reason, good.width, good.height, good.codecs) == (None, 160, 90, ("h264",))
    assert good.duration == pytest.approx(1.0, abs=0.11)
    assert facts["sub/sound.mp3"].reason is None
    assert facts["mpeg4.mp4"].reason == "most browsers don't play mpeg4 video"
    assert "yuv444p" in str(facts["deep.mp4"].reason)
    assert facts["box.avi"].reason == "browsers don't play AVI files; repackaged as MP4 it would play"
    assert str(facts["broken.mp4"].reason).startswith("can't be read: ")


async def test_a_file_that_says_to_have_billions_of_samples_takes_bounded_memory_of_ffprobe(
    tools: Tools, tmp_path: Path
) -> None:
    """Without a bound it takes more than 8 GB, and half a minute."""
    path = crafted.write(tmp_path / "bomb.mp4", crafted.bomb())
    index = await asyncio.to_thread(crafted.film, 10)
    long = await asyncio.to_thread(crafted.write, tmp_path / "film.mp4", *index)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await probe(path, tools)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The kernel counts resident pages by processor, and sums them up later: it may be some megabytes off.
    assert after.ru_maxrss << 10 <= max(PROBE_MEMORY, before.ru_maxrss << 10) + (16 << 20)
    assert (await probe(long, tools)).codecs == ("h264", "aac")


async def test_a_playlist_called_mp4_is_not_followed(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "secret" / "real.mp4", *H264)
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{tmp_path}/secret/real.mp4\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "trap.mp4").write_text(playlist)
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret/real.mp4'\n")
    facts = await listed(tmp_path, tools)
    for name in ("trap.mp4", "concat.mp4"):
        assert facts[name].codecs == ()
        assert str(facts[name].reason).startswith("can't be read")


async def test_a_changed_file_is_asked_again_and_an_unchanged_one_is_not(
    tools: Tools, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    make(tools, path, *H264)
    catalogue = Catalogue(tmp_path, tools)
    async with beside(catalogue.run()):
        (first,) = await files(catalogue)
        (again,) = await files(catalogue)
        assert again.facts is first.facts
        path.unlink()
        make(tools, path, *PICTURE, "-c:v", "mpeg4")
        (changed,) = await files(catalogue)
    assert changed.facts is not None
    assert changed.facts.codecs == ("mpeg4",)


async def test_a_list_of_many_files_comes_before_all_is_known_of_them_and_completes_itself(
    tmp_path: Path,
) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.mp4").write_bytes(b"1234")
    gate, under_way, most = threading.Event(), 0, 0

    def obstacle(path: str) -> str | None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if path > "04.mp4":
            gate.wait()
        under_way -= 1
        return None

    catalogue = Catalogue(tmp_path, None, obstacle)
    async with beside(catalogue.run()):
        try:
            entries = await files(catalogue, 0.3)
            assert len(entries) == 20
            assert entries[-1].facts is None
            await until(lambda: under_way == PROBES_AT_ONCE)
        finally:
            gate.set()
        entries = await files(catalogue)
    assert all(entry.facts is not None for entry in entries)
    assert most == PROBES_AT_ONCE


async def test_without_ffprobe_files_are_still_listed(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"1234")
    assert await listed(tmp_path, None) == {"film.mp4": Facts()}


async def test_a_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"1")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    assert list(await listed(tmp_path, None)) == ["real.mp4"]


@pytest.mark.clause("RFC 3629 §3", "RFC 3986 §2.5")
async def test_names_that_no_address_can_say_are_not_listed(tmp_path: Path) -> None:
    """An address is UTF-8, and names on a disk are any bytes."""
    for name in (b"good.mp4", b"n\xe4me.mp4", b"back\\slash.mp4", "n\u00e4me.mp4".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    (tmp_path / os.fsdecode(b"f\xf6lder")).mkdir()
    (tmp_path / os.fsdecode(b"f\xf6lder") / "inside.mp4").write_bytes(b"")
    assert list(await listed(tmp_path, None)) == ["good.mp4", "n\u00e4me.mp4"]


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Catalogue(tmp_path / "nowhere", None).page()


async def test_renditions_of_one_name_in_one_folder_are_a_title(tmp_path: Path) -> None:
    for name in ("a/film.720p.mp4", "a/film.240p.mp4", "b/film.720p.mp4", "film.1080p.mp4", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (title,) = [
        item
        for item in (await Catalogue(tmp_path, None).page(patience=0)).items
        if isinstance(item, LibraryTitle)
    ]
    assert title.path == "a/film"
    assert [entry.path for entry in title.renditions] == ["a/film.240p.mp4", "a/film.720p.mp4"]


def fill(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1234")


def settle(root: Path) -> None:
    """Let the last change of all folders be long ago: no other change can have its time."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, ns=(THEN, os.stat(folder).st_mtime_ns - 60 * 10**9))


async def test_a_folder_is_walked_once_for_all_who_ask_and_kept_until_it_changes(tmp_path: Path) -> None:
    fill(tmp_path, ["a.mp4", "deep/in/b.mp4"])
    settle(tmp_path)
    listing = FileListing(tmp_path, (".mp4",), limits=ListingLimits(unwalked_seconds=600))
    found = await asyncio.gather(*(listing.latest() for _ in range(1000)))
    assert listing.walks == 1
    assert all(one is found[0] for one in found)

    async def after_a_while() -> list[str]:
        await asyncio.sleep(10 * found[0].seconds)  # nobody looks before that
        return [file.path for file in (await listing.latest()).files]

    assert await after_a_while() == ["a.mp4", "deep/in/b.mp4"]
    assert listing.walks == 1
    fill(tmp_path, ["deep/in/c.mp4"])
    await until_it_is(after_a_while, ["a.mp4", "deep/in/b.mp4", "deep/in/c.mp4"])
    (tmp_path / "a.mp4").unlink()
    await until_it_is(after_a_while, ["deep/in/b.mp4", "deep/in/c.mp4"])


async def until_it_is(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    async with asyncio.timeout(60):
        while await ask() != expected:
            await asyncio.sleep(0.01)


async def test_looking_takes_a_tenth_of_the_time_at_most_however_often_somebody_asks(tmp_path: Path) -> None:
    fill(tmp_path, ["a.mp4"])
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.5
        return now

    listing = FileListing(tmp_path, (".mp4",), limits=ListingLimits(unwalked_seconds=0), clock=clock)
    for _ in range(1000):
        await listing.latest()
    # Each walk takes a second of this clock, which is looked at twice.
    assert 1 < listing.walks <= now / 10


async def test_pages_have_each_file_once_in_order_of_path_while_others_come_and_go(tmp_path: Path) -> None:
    names = [f"{folder}{number:03}.mp4" for folder in ("a/", "a-b/", "", "z/y/") for number in range(40)]
    names += ["a.mp4", "film.240p.mp4", "film.720p.mp4"]
    fill(tmp_path, names)
    catalogue = Catalogue(tmp_path, None)
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
            fill(tmp_path, ["a-a.mp4"])
    assert found == [("title", "film"), *(("file", name) for name in sorted(names))]


async def test_a_page_has_no_more_files_than_are_looked_at_for_it(tmp_path: Path) -> None:
    names = [f"{title:03}.{height}p.mp4" for title in range(100) for height in range(100, 116)]
    await asyncio.to_thread(fill, tmp_path, names)
    page = await Catalogue(tmp_path, None).page(None, 500, patience=0)
    assert (
        sum(len(item.renditions) for item in page.items if isinstance(item, LibraryTitle)) <= MAX_PAGE_FILES
    )
    assert page.after == ("title", page.items[-1].path)


async def test_whoever_asks_for_all_pages_starts_no_unbounded_looking(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, [f"{number:05}.mp4" for number in range(2 * MAX_UNKNOWN)])
    gate, looked_at = threading.Event(), list[str]()

    def obstacle(path: str) -> str | None:
        looked_at.append(path)
        gate.wait()
        return None

    catalogue = Catalogue(tmp_path, None, obstacle)
    async with beside(catalogue.run()):
        try:
            await files(catalogue, 0)
            await until(lambda: len(looked_at) == PROBES_AT_ONCE)
            assert catalogue.waiting <= MAX_UNKNOWN
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
    names = [f"{number * 7919 % 100_000:06}.mp4" for number in range(5000)]
    await asyncio.to_thread(fill, tmp_path, names)
    catalogue = Catalogue(tmp_path, None)
    found = [entry.path for entry in await files(catalogue, 0)]
    assert found == sorted(names)


async def test_no_more_files_and_names_are_looked_at_than_the_limits_say(tmp_path: Path) -> None:
    fill(tmp_path, [f"{number}.mp4" for number in range(30)] + [f"x/{number}.txt" for number in range(30)])
    few = FileListing(tmp_path, (".mp4",), limits=ListingLimits(files=10))
    assert len((await few.latest()).files) == 10
    names = FileListing(tmp_path, (".mp4",), limits=ListingLimits(names=20))
    assert len((await names.latest()).files) <= 20


async def test_the_servers_own_data_and_its_configuration_are_not_listed(tmp_path: Path) -> None:
    """By whatever name they are in the library: a link to a folder isn't followed anyway."""
    fill(tmp_path, ["film.mp4", "data/live/demo/dvr/0.mp4", "other/data.mp4", "hidden.mp4"])
    withheld = Withheld((tmp_path / "hidden.mp4",), (tmp_path / "data",))
    os.link(tmp_path / "hidden.mp4", tmp_path / "another.mp4")
    listing = await FileListing(tmp_path, (".mp4",), withheld).latest()
    assert [file.path for file in listing.files] == ["film.mp4", "other/data.mp4"]


async def test_a_folder_that_was_gone_is_listed_again(tmp_path: Path) -> None:
    root = tmp_path / "library"
    fill(root, ["film.mp4"])
    catalogue = Catalogue(root, None)
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


async def test_an_item_is_found_by_its_path(tmp_path: Path) -> None:
    fill(tmp_path, ["film.240p.mp4", "film.720p.mp4", "other.mp4"])
    catalogue = Catalogue(tmp_path, None)
    (title,) = (await catalogue.named("film", patience=0)).items
    assert isinstance(title, LibraryTitle)
    (file,) = (await catalogue.named("film.720p.mp4", patience=0)).items
    assert file == Entry("film.720p.mp4", 4, None)
    assert (await catalogue.named("film.480p.mp4", patience=0)).items == ()


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
