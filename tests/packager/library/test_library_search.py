"""What is seen of a library by who looks into a folder, searches or sorts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from packager.concurrency import background_task
from packager.library.catalogue import Catalogue, Entry, LibraryTitle
from packager.library.file_listing import CatalogueLimits, File, ListedFolder, Listing, Renditions
from packager.library.library_search import (
    ListedSubfolder,
    NameOrder,
    SearchedFacts,
    Sort,
    TooManyViewsError,
    View,
    ViewQuery,
    Views,
    make_view,
)
from tests.packager.library.listing import fill


def listing_of(*paths: str, titles: tuple[Renditions, ...] = ()) -> Listing:
    """A listing of files, of which each later one by path is older."""
    files = [File(path, 4, 1000 - number) for number, path in enumerate(sorted(paths))]
    return Listing(titles, files, number=1)


def seen(listing: Listing, durations: dict[str, float] | None = None, /, **query: object) -> list[str]:
    known = {path: SearchedFacts(seconds) for path, seconds in (durations or {}).items()}
    view = make_view(
        listing,
        ViewQuery(**query),  # type: ignore[arg-type]
        lambda item: known.get(item.path),
        unknown_files=9,
    )
    return [f"{item.path}/" if isinstance(item, ListedSubfolder) else item.path for item in view.items]


FILMS = listing_of("Film 10.mp4", "film 9.mp4", "a/b/deep.mp4", "a/b.mp4", "a.mp4", "z/last.mp4")


def test_a_folder_has_its_folders_and_what_lies_in_it() -> None:
    assert seen(FILMS, folder="") == ["a/", "z/", "a.mp4", "film 9.mp4", "Film 10.mp4"]
    assert seen(FILMS, folder="a") == ["a/b/", "a/b.mp4"]
    assert seen(FILMS, folder="a/b") == ["a/b/deep.mp4"]
    assert seen(FILMS, folder="nowhere") == []


def test_a_folder_tells_how_many_files_are_in_it_and_beneath() -> None:
    view = make_view(FILMS, ViewQuery(""), lambda _: None, unknown_files=0)
    assert [item for item in view.items if isinstance(item, ListedSubfolder)] == [
        ListedSubfolder("a", 2),
        ListedSubfolder("z", 1),
    ]


def test_folders_whose_names_begin_alike_are_kept_apart() -> None:
    alike = listing_of("a/1.mp4", "a b/2.mp4", "a.b/3.mp4", "a0/4.mp4", "a/c/5.mp4")
    assert sorted(seen(alike, folder="")) == ["a b/", "a.b/", "a/", "a0/"]
    assert seen(alike, folder="a") == ["a/c/", "a/1.mp4"]


def test_without_a_folder_all_are_seen() -> None:
    assert seen(FILMS) == ["a.mp4", "a/b.mp4", "a/b/deep.mp4", "film 9.mp4", "Film 10.mp4", "z/last.mp4"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"search": "FILM"}, ["film 9.mp4", "Film 10.mp4"]),
        ({"search": "10 film"}, ["Film 10.mp4"]),
        ({"search": "deep", "folder": "a"}, ["a/b/deep.mp4"]),
        ({"search": "a", "folder": "z"}, ["z/last.mp4"]),
        ({"search": "B/DEEP"}, ["a/b/deep.mp4"]),
        ({"search": "no such"}, []),
        ({"search": "  ", "folder": "z"}, ["z/last.mp4"]),
    ],
)
def test_a_search_finds_what_has_all_its_words_in_its_path_beneath_the_folder(
    query: dict[str, str], found: list[str]
) -> None:
    assert seen(FILMS, **query) == found


def test_a_folders_own_name_doesnt_match_what_is_searched_for_in_it() -> None:
    assert seen(FILMS, folder="a/b", search="b") == []


def test_a_search_finds_a_name_however_its_accents_are_written() -> None:
    """Unicode 3.13, D145: names from a Mac are decomposed, and what is typed elsewhere isn't."""
    composed, decomposed = "Am\u00e9lie.mp4", "Ame\u0301lie 2.mp4"
    both = listing_of(composed, decomposed, "film.mp4")
    for typed in ("am\u00e9lie", "AME\u0301LIE", "\u00c9", "amelie"):
        assert sorted(seen(both, search=typed)) == sorted([composed, decomposed])


def test_a_search_finds_music_by_its_tags_and_has_the_rest_inspected() -> None:
    music = listing_of("1.mp3", "2.flac", "3.opus", "film.mp4")
    tags = {
        "1.mp3": "J\u00f3ga Bj\u00f6rk Homogenic",
        "2.flac": "Sk\u00f8gen \u0141\u00f3d\u017a",
        "film.mp4": "Bj\u00f6rk",
    }
    known = {path: SearchedFacts(tags=text) for path, text in tags.items()}

    def search(words: str) -> tuple[list[str], list[str]]:
        view = make_view(music, ViewQuery(search=words), lambda item: known.get(item.path), unknown_files=9)
        return [item.path for item in view.items], [item.path for item in view.unknown]

    assert search("bjork JOGA") == (["1.mp3"], ["3.opus"])
    assert search("skogen lodz") == (["2.flac"], ["3.opus"])
    assert search("homogenic 1") == (["1.mp3"], ["3.opus"])
    assert search("opus") == (["3.opus"], [])


def test_the_newest_come_first_where_that_is_the_order() -> None:
    paths = [file.path for file in FILMS.files]
    assert seen(FILMS, sort="date", descending=True) == paths
    assert seen(FILMS, sort="date") == paths[::-1]


def test_what_has_no_known_length_comes_last_in_both_orders() -> None:
    lengths = {"a.mp4": 30.0, "z/last.mp4": 10.0, "film 9.mp4": 20.0}
    unknown = ["a/b.mp4", "a/b/deep.mp4", "Film 10.mp4"]
    assert seen(FILMS, lengths, sort="length") == ["z/last.mp4", "film 9.mp4", "a.mp4", *unknown]
    by_length = seen(FILMS, lengths, sort="length", descending=True)
    assert by_length == ["a.mp4", "film 9.mp4", "z/last.mp4", *unknown[::-1]]


def test_a_whole_library_is_ordered_by_name_once_for_all_orders() -> None:
    order = NameOrder()
    once = order.of(FILMS)
    views = [
        make_view(
            FILMS,
            ViewQuery(sort=sort, descending=down),
            lambda _: SearchedFacts(1.0),
            unknown_files=1,
            name_order=order,
        )
        for sort in get_args(Sort)
        for down in (False, True)
    ]
    assert order.of(FILMS) is once
    assert order.of(replace(FILMS, number=FILMS.number + 1)) is not once
    names = [item.path for item in views[0].items]
    assert [item.path for item in views[1].items] == names[::-1]
    # What is as long as everything else stays in the order of its name.
    assert [item.path for item in views[4].items] == names


async def test_views_are_kept_for_who_comes_next_and_no_more_of_them_than_the_limit() -> None:
    asked = 0

    def facts(_: Renditions | File) -> SearchedFacts:
        nonlocal asked
        asked += 1
        return SearchedFacts(1.0)

    views = Views(facts, CatalogueLimits(kept_views=2))
    by_length = ViewQuery(sort="length")
    first = await asyncio.gather(*(views.get(FILMS, by_length, 0) for _ in range(50)))
    assert asked == len(FILMS.files)
    assert all(one is first[0] for one in first)
    # When more lengths are known it is made anew.
    assert await views.get(FILMS, by_length, 1) is not first[0]
    kept = await views.get(FILMS, ViewQuery("a"), 1)
    assert await views.get(FILMS, ViewQuery("a"), 2) is kept
    await views.get(FILMS, ViewQuery("z"), 0)
    await views.get(FILMS, by_length, 1)
    assert asked == 3 * len(FILMS.files)


async def test_a_view_that_is_there_waits_for_no_other_and_too_many_are_refused() -> None:
    release = threading.Event()

    def slow(_: Renditions | File) -> SearchedFacts:
        assert release.wait(60)
        return SearchedFacts(1.0)

    views = Views(slow, CatalogueLimits(kept_views=2, awaited_views=2))
    kept = await views.get(FILMS, ViewQuery("a"), 0)
    try:
        queries = [ViewQuery(sort="length", search=word) for word in ("film", "a", "film")]
        waiting = [asyncio.ensure_future(views.get(FILMS, query, 0)) for query in queries]
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            assert await views.get(FILMS, ViewQuery("a"), 0) is kept
            with pytest.raises(TooManyViewsError):
                await views.get(FILMS, ViewQuery("z", search="last"), 0)
            # Who gives up makes room for others.
            waiting[1].cancel()
            await asyncio.wait([waiting[1]])
            wanted = asyncio.ensure_future(views.get(FILMS, ViewQuery("z", search="last"), 0))
            await asyncio.sleep(0)
            assert not wanted.done()
    finally:
        release.set()
    one, same = await asyncio.gather(waiting[0], waiting[2])
    assert one is same
    assert [item.path for item in (await wanted).items] == ["z/last.mp4"]


@pytest.mark.clause("CWE-400")
async def test_who_searches_keeps_others_neither_from_folders_and_sorts_nor_from_a_search() -> None:
    """Networks take turns, and who waits for the most is refused; folders don't wait for searches."""
    release = threading.Event()

    def slow(_: Renditions | File) -> SearchedFacts:
        assert release.wait(60)
        return SearchedFacts(1.0)

    def search(word: str, network: str) -> asyncio.Future[View]:
        return asyncio.ensure_future(views.get(FILMS, ViewQuery(sort="length", search=word), 0, network))

    views = Views(slow, CatalogueLimits(awaited_views=16))
    many = [search(f"film {number}", "192.0.2.0") for number in range(16)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            for query in (ViewQuery("z"), ViewQuery(sort="date")):
                assert (await views.get(FILMS, query, 0, "198.51.100.0")).items
        other = search("last", "198.51.100.0")
        shared = search("film 15", "203.0.113.0")
        async with asyncio.timeout(60):
            # Each of the two takes the place of the newest, though one wants what another network waited for.
            await asyncio.wait(many[14:])
        assert not other.done()
    finally:
        release.set()
    order: list[asyncio.Future[View]] = []
    for one in (*many, other):
        one.add_done_callback(order.append)
    found = await asyncio.gather(*many, other, shared, return_exceptions=True)
    assert [index for index, one in enumerate(found) if isinstance(one, TooManyViewsError)] == [14, 15]
    assert isinstance(found[-1], View)
    # The refused ones came first, then the search that was under way.
    assert order.index(other) <= 5


async def test_sorting_by_length_has_the_files_inspected_that_nobody_has_looked_at(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, [f"{number:02}.mp4" for number in range(40)])
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    async with background_task(catalogue.run()), asyncio.timeout(60):
        await catalogue.view(ViewQuery("", sort="length"), 0, 1, patience=None)
        while (await catalogue.page(count=40, patience=0)).items[-1].facts is None:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)


async def test_a_page_around_an_item_has_it_wherever_it_is(tmp_path: Path) -> None:
    names = [f"{number:03}.mp4" for number in range(50)]
    await asyncio.to_thread(fill, tmp_path, [*names, "x/film.240p.mp4", "x/film.720p.mp4"])
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    async with background_task(catalogue.run()):
        page = await catalogue.view(ViewQuery(""), count=10, around="037.mp4", patience=None)
        assert (page.offset, page.total) == (30, 51)
        assert "037.mp4" in [item.path for item in page.items]
        newest = ViewQuery("x", sort="date", descending=True)
        (title, *rest) = (await catalogue.view(newest, patience=None)).items
        assert isinstance(title, LibraryTitle | Entry)
        assert len(rest) == 2
        assert (await catalogue.view(ViewQuery(""), count=10, around="gone.mp4", patience=0)).offset == 0
        assert (await catalogue.view(ViewQuery(""), 1000, patience=0)).items == ()


async def test_a_view_has_only_the_items_that_its_request_may_see(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4", "b/c.mp4", "b/d.240p.mp4", "b/d.720p.mp4", "e/f.mp4"])
    catalogue = Catalogue(ListedFolder(tmp_path), None)

    def is_listed(path: str) -> bool:
        return not path.startswith("b/")

    for query, paths in (
        (ViewQuery(), ["a.mp4", "e/f.mp4"]),
        (ViewQuery(""), ["e", "a.mp4"]),
        (ViewQuery("b"), []),
        (ViewQuery(search="mp4"), ["a.mp4", "e/f.mp4"]),
    ):
        seen = await catalogue.view(query, patience=0, is_listed=is_listed)
        assert ([item.path for item in seen.items], seen.total) == (paths, len(paths))
        assert len((await catalogue.view(query, patience=0)).items) > len(paths)
    page = await catalogue.page(count=2, patience=0, is_listed=is_listed)
    assert ([item.path for item in page.items], page.after) == (["a.mp4", "e/f.mp4"], None)
    assert (await catalogue.named("b/c.mp4", patience=0, is_listed=is_listed)).items == ()
