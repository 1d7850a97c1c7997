"""Folders, search and sorting of a library: ordered lists of its items.

A view is computed from a listing, in a thread, and kept for all who look at the same.
"""

from __future__ import annotations

import asyncio
import bisect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from packager.bounded_dict import BoundedDict
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.library.file_endings import SOUND_ENDINGS
from packager.library.file_listing import CatalogueLimits, File, Listing, Renditions, in_order
from packager.natural_order import natural_key, search_key
from packager.threads import SHARED_THREADS

Sort = Literal["name", "date", "length"]


class TooManyViewsError(Exception):
    """So many different views wait to be made that another one would come too late for its client."""


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """Which items of a library somebody wants to see, in which order.

    Attributes:
        folder: relative to the library, without a slash at its end; "" for the library itself, whose folders
            and own items are seen; None for the items of all folders.
        search: words that all have to be in an item's path, or in the title, artist and album of its tags, in
            upper or lower case, with or without accents; with them, items in folders of the folder are
            found, too.
        sort: by name, by modification time or by duration.
        descending: whether the order is reversed. Folders come first all the same, and what has no known
            duration comes last.
    """

    folder: str | None = None
    search: str = ""
    sort: Sort = "name"
    descending: bool = False


class ListedSubfolder(NamedTuple):
    """A folder with files in it.

    Attributes:
        path: relative to the library, with slashes.
        files: how many files are in it and in its folders.
    """

    path: str
    files: int


class SearchedFacts(NamedTuple):
    """The facts about an inspected item by which it is found or sorted.

    Attributes:
        duration: seconds; None if unknown.
        tags: text of the title, the artist and the album.
    """

    duration: float | None = None
    tags: str = ""


FactsOf = Callable[[Renditions | File], SearchedFacts | None]
"""Returns the facts about an item, from any thread; None where it isn't inspected yet."""

ViewItem = ListedSubfolder | Renditions | File


@dataclass(frozen=True, slots=True)
class View:
    """An ordered list of items.

    Attributes:
        items: folders, then titles and files.
        unknown: some of the items that may be in it, or in another place, once they are inspected.
        version: number of the listing, and of the facts that were known.
    """

    items: Sequence[ViewItem]
    unknown: Sequence[Renditions | File]
    version: tuple[int, int]

    def position_of(self, path: str) -> int:
        """Return the position of the item of a path; 0 if it isn't there."""
        return next((index for index, item in enumerate(self.items) if item.path == path), 0)


def make_view(
    listing: Listing,
    query: ViewQuery,
    facts_of: FactsOf,
    *,
    unknown_files: int,
    version: int = 0,
    name_order: NameOrder | None = None,
) -> View:
    """Select and order the items of a view, which takes time with many files.

    Args:
        unknown_files: most items that are returned for inspection.
        name_order: caches the order of all items for later views.
    """
    items: list[Renditions | File] = []
    folders: list[ListedSubfolder] = []
    search = _Search(query.search, facts_of)
    prefix = f"{query.folder}/" if query.folder else ""
    for listed in (listing.titles, listing.files):
        if query.folder is None or search.words:
            found = _beneath(listed, prefix)
            items += (one for one in found if search.matches(one, len(prefix))) if search.words else found
        else:
            _look_into(listed, prefix, items, folders if listed is listing.files else None)
    is_whole = len(items) == len(listing.titles) + len(listing.files)
    names = (name_order or NameOrder()).of(listing) if is_whole else by_name(items)
    if query.descending:
        names = names[::-1]
    ordered, unknown = _ordered(names, query, facts_of)
    unknown = [*search.unknown, *unknown]
    folders = list(in_order(folders, lambda folder: natural_key(folder.path)))
    if query.descending and query.sort == "name":
        folders.reverse()
    return View([*folders, *ordered], unknown[:unknown_files], (listing.number, version))


def by_name(items: Sequence[Renditions | File]) -> list[Renditions | File]:
    """Order items by their paths, as people count."""
    return list(in_order(items, lambda item: natural_key(item.path)))


class NameOrder:
    """Keeps the order by name of all items of one listing, since ordering a large one takes seconds."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._names: list[Renditions | File] = []
        self._lock = threading.Lock()

    def of(self, listing: Listing) -> list[Renditions | File]:
        """Return all items of a listing, ordered by name. Threads wait for each other."""
        with self._lock:
            if self._number != listing.number:
                self._names = by_name([*listing.titles, *listing.files])
                self._number = listing.number
            return self._names


def _ordered(
    names: list[Renditions | File],
    query: ViewQuery,
    facts_of: FactsOf,
) -> tuple[list[Renditions | File], list[Renditions | File]]:
    """Order items that are in the order of names; also return those whose unknown duration matters."""
    sign = -1 if query.descending else 1
    if query.sort == "date":
        return _by_numbers(names, [sign * modified(item) for item in names], np.int64), []
    if query.sort == "length":
        durations = [(item, None if (facts := facts_of(item)) is None else facts.duration) for item in names]
        known = [(item, sign * seconds) for item, seconds in durations if seconds is not None]
        unknown = [item for item, seconds in durations if seconds is None]
        first = _by_numbers([item for item, _ in known], [seconds for _, seconds in known], np.float64)
        return [*first, *unknown], unknown
    return names, []


def _by_numbers(
    items: list[Renditions | File], numbers: Sequence[float], kind: type[np.number[Any]]
) -> list[Renditions | File]:
    """Order items by numbers, those of equal numbers as before. numpy sorts without the GIL."""
    positions = np.argsort(np.fromiter(numbers, kind, len(items)), kind="stable")
    return [items[position] for position in positions.tolist()]


def modified(item: Renditions | File) -> int:
    """Return when an item was last changed, in nanoseconds since the epoch."""
    return max(file.modified for file in item.files) if isinstance(item, Renditions) else item.modified


class _Search:
    """The search for words.

    Attributes:
        words: the words, each once.
        unknown: files of music that didn't match by their paths, and whose tags aren't known.
    """

    def __init__(self, text: str, facts_of: FactsOf) -> None:
        self.words = list(dict.fromkeys(search_key(text).split()))
        self.unknown: list[Renditions | File] = []
        self._facts_of = facts_of

    def matches(self, item: Renditions | File, begin: int) -> bool:
        """Return whether an item has all words in its tags or in its path, from a character on."""
        path = search_key(item.path[begin:])
        missing = [word for word in self.words if word not in path]
        if not missing or not path.endswith(SOUND_ENDINGS):
            return not missing
        if (facts := self._facts_of(item)) is None:
            self.unknown.append(item)
            return False
        tags = search_key(facts.tags)
        return all(word in tags for word in missing)


def _beneath(items: Sequence[Renditions | File], prefix: str) -> Sequence[Renditions | File]:
    """Return the items whose paths begin with a folder's and a slash."""
    if not prefix:
        return items
    first = bisect.bisect_left(items, prefix, key=_path_of)
    return items[first : _end_of(items, prefix)]


def _end_of(items: Sequence[Renditions | File], prefix: str) -> int:
    """Return the position behind those whose paths begin with a folder's and a slash."""
    # In ASCII the digit 0 follows the slash.
    return bisect.bisect_left(items, f"{prefix[:-1]}0", key=_path_of)


def _look_into(
    items: Sequence[Renditions | File],
    prefix: str,
    found: list[Renditions | File],
    folders: list[ListedSubfolder] | None,
) -> None:
    """Collect the items that lie in a folder itself, and its folders."""
    position = bisect.bisect_left(items, prefix, key=_path_of)
    end = _end_of(items, prefix) if prefix else len(items)
    while position < end:
        item = items[position]
        name, slash, _ = item.path[len(prefix) :].partition("/")
        if not slash:
            found.append(item)
            position += 1
            continue
        behind = _end_of(items, f"{prefix}{name}/")
        if folders is not None:
            folders.append(ListedSubfolder(f"{prefix}{name}", behind - position))
        position = behind


def _path_of(item: Renditions | File) -> str:
    return item.path


class Views:
    """The recently requested views of a library. Searches wait for searches alone, others for others.

    Args:
        facts_of: is called in a thread.
    """

    def __init__(self, facts_of: FactsOf, limits: CatalogueLimits) -> None:
        order = NameOrder()
        self._searches, self._others = (_ViewQueue(facts_of, limits, order) for _ in range(2))

    async def get(self, listing: Listing, query: ViewQuery, learnt: int, network: str = "") -> View:
        """Return the view of a listing.

        Args:
            query: which items are wanted, in which order.
            learnt: a number that changes when more facts are known that the view depends on.
            network: the client's; networks that wait at the same time take turns.

        Raises:
            TooManyViewsError: too many other views wait to be made.
        """
        version = (listing.number, learnt if query.sort == "length" or query.search else 0)
        queue = self._searches if query.search else self._others
        return await queue.get(listing, query, version, network)


class _ViewQueue:
    """Makes views one at a time, each once for all its requests, and keeps the last ones.

    Args:
        facts_of: is called in a thread.
        name_order: caches the order of all items for later views.
    """

    def __init__(
        self,
        facts_of: FactsOf,
        limits: CatalogueLimits,
        name_order: NameOrder,
    ) -> None:
        self._facts_of = facts_of
        self._limits = limits
        self._name_order = name_order
        self._kept = BoundedDict[ViewQuery, View](limits.kept_views)
        self._awaited: dict[ViewQuery, asyncio.Future[None]] = {}
        self._turns = FairSemaphore(1, 1, max(limits.awaited_views - 1, 0))

    async def get(self, listing: Listing, query: ViewQuery, version: tuple[int, int], network: str) -> View:
        """Return the view of a listing; see ``Views.get``."""
        while (view := self._current(query, version)) is None:
            if (awaited := self._awaited.get(query)) is None:
                return await self._make_in_turn(listing, query, version, network)
            # The request whose turn is awaited may give up, or be refused; then the next one makes the view.
            await asyncio.shield(awaited)
        return view

    async def _make_in_turn(
        self, listing: Listing, query: ViewQuery, version: tuple[int, int], network: str
    ) -> View:
        done = self._awaited[query] = asyncio.get_running_loop().create_future()
        try:
            async with self._turns.held(network):
                return await self._make(listing, query, version, network)
        except TooManyWaitingError:
            raise TooManyViewsError from None
        finally:
            del self._awaited[query]
            done.set_result(None)

    def _current(self, query: ViewQuery, version: tuple[int, int]) -> View | None:
        view = self._kept.get(query)
        if view is None or view.version != version:
            return None
        self._kept.move_to_end(query)
        return view

    async def _make(self, listing: Listing, query: ViewQuery, version: tuple[int, int], network: str) -> View:
        view = await SHARED_THREADS.of(network).run(
            make_view,
            listing,
            query,
            self._facts_of,
            unknown_files=self._limits.unknown_files,
            version=version[1],
            name_order=self._name_order,
        )
        self._kept[query] = view
        return view
