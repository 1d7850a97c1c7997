"""``/api/library`` as the page asks it: one folder, what a search finds, an order, and any place in it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.requests import Request
from starlette.responses import Response

from origin.http.client_limits import ClientLimit
from origin.server.endpoints.library_list import LibraryList
from packager.concurrency import background_task
from packager.library.catalogue import Catalogue
from packager.library.file_listing import File, ListedFolder, Listing
from tests.loop_watch import LoopWatch, slowness
from tests.packager.library.listing import fill


async def asked(answers: LibraryList, query: str) -> tuple[Response, list[dict[str, Any]]]:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": []}
    answer = await answers.answer(Request(scope))
    return answer, json.loads(bytes(answer.body)) if answer.status_code == 200 else []


async def test_a_folder_is_looked_into_searched_and_sorted(tmp_path: Path) -> None:
    names = ["films/B 10.mp4", "films/b 9.mp4", "films/old/c.mp4", "d.mp4"]
    await asyncio.to_thread(fill, tmp_path, names)
    for number, name in enumerate(names):
        os.utime(tmp_path / name, (number, 1_000_000_000 + number))
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    answers = LibraryList(catalogue, lambda: True)
    async with background_task(catalogue.run()):
        answer, (films, own) = await asked(answers, "folder=")
        assert answer.headers["x-total-count"] == "2"
        assert films == {"kind": "folder", "path": "films", "name": "films", "files": 3}
        assert (own["path"], own["modified"]) == ("d.mp4", 1_000_000_003.0)
        _, items = await asked(answers, "folder=films/")
        assert [one["path"] for one in items] == ["films/old", "films/b 9.mp4", "films/B 10.mp4"]
        _, items = await asked(answers, "folder=films&search=b%2010")
        assert [one["path"] for one in items] == ["films/B 10.mp4"]
        answer, items = await asked(answers, "sort=date&order=desc&limit=2")
        assert [one["path"] for one in items] == ["d.mp4", "films/old/c.mp4"]
        more = answer.headers["link"].partition(">")[0].partition("?")[2]
        answer, items = await asked(answers, more)
        assert [one["path"] for one in items] == ["films/b 9.mp4", "films/B 10.mp4"]
        assert "link" not in answer.headers
        answer, items = await asked(answers, "folder=films&limit=1&around=films/b%209.mp4")
        assert (answer.headers["x-offset"], items[0]["path"]) == ("1", "films/b 9.mp4")


@pytest.mark.parametrize(
    "query",
    ["sort=size", "order=up", "offset=-1", "offset=٣", "offset=1234567890", "offset=", "folder=&path=a",
     "search=a&after=file/a", f"search={'x' * 201}"],
)  # fmt: skip
async def test_a_wrong_view_is_answered_with_what_is_right(tmp_path: Path, query: str) -> None:
    answer, _ = await asked(
        LibraryList(Catalogue(ListedFolder(tmp_path), None), lambda: True), quote(query, safe="=&/")
    )
    assert answer.status_code == 400
    right = ("sort: name, date", "order: asc", "offset: a whole", "after, path: ", "search: at")
    assert bytes(answer.body).decode().startswith(right)


async def test_looking_around_in_many_files_holds_nobody_up(
    tmp_path: Path, nothing_holds_the_event_loop: LoopWatch
) -> None:
    names = [f"{number % 7}/{number:06}.mp4" for number in range(30_000)]
    files = [File(name, 4, number) for number, name in enumerate(sorted(names))]
    catalogue = Catalogue(ListedFolder(tmp_path), None)

    async def latest() -> Listing:
        return Listing((), files, number=1)

    catalogue.listing.latest = latest  # type: ignore[method-assign]
    answers = LibraryList(catalogue, lambda: True)
    async with background_task(catalogue.run()):
        nothing_holds_the_event_loop.reset()
        for query in ("search=99", "search=0&sort=date", "sort=length", "sort=name&order=desc&offset=29900"):
            _, items = await asked(answers, f"{query}&limit=100")
            assert len(items) == 100
        answer, items = await asked(answers, "folder=6&limit=100&around=6/029994.mp4")
        assert "6/029994.mp4" in [one["path"] for one in items]
        assert int(answer.headers["x-total-count"]) == 30_000 // 7
    held = nothing_holds_the_event_loop.longest
    assert held.seconds < 0.02 * slowness(), held.where


async def test_one_client_has_few_searches_under_way_and_others_search_meanwhile(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, ["a.mp4", "b.mp4"])
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    answers = LibraryList(catalogue, lambda: True, searches=ClientLimit(2))

    async def search(number: int, client: str) -> int:
        query = f"search={number}".encode()
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": query, "headers": []}
        answer = await answers.answer(Request({**scope, "client": (client, 1)}))
        if answer.status_code == 429:
            assert answer.headers["retry-after"] == "2"
        return answer.status_code

    clients = ["192.0.2.1"] * 5 + ["192.0.2.2"]
    async with background_task(catalogue.run()):
        found = await asyncio.gather(*(search(number, one) for number, one in enumerate(clients)))
        assert found == [200, 200, 429, 429, 429, 200]
        assert await search(9, "192.0.2.1") == 200
