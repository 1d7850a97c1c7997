"""Lists the library in pages: each file, its contents, and whether browsers can play it.

ffprobe's results are kept by path, size and modification time. Only files of requested pages are inspected, a
few at a time; a page is sent without facts that aren't known yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from packager.bounded_dict import BoundedDict
from packager.concurrency import wait_within
from packager.fair_queue import FairSemaphore, TooManyWaitingError
from packager.library.file_endings import CONTAINERS, PLAYLIST_ENDING, SOUND_ENDINGS
from packager.library.file_listing import (
    CatalogueLimits,
    File,
    FileListing,
    ListedFiles,
    Listing,
    Renditions,
)
from packager.library.file_probe import (
    NO_TAGS,
    NO_TEXT,
    UNREAD_ENDINGS,
    Facts,
    TextFacts,
    probe,
    unread_reason,
)
from packager.library.library_search import (
    ListedSubfolder,
    SearchedFacts,
    TooManyViewsError,
    View,
    ViewItem,
    ViewQuery,
    Views,
)
from packager.library.local_storage import NotFoundError
from packager.library.missing_bytes import missing_bytes
from packager.library.title_files import cover_among
from packager.process.ffmpeg_discovery import BusyError, Tools
from packager.reader_guard import log_fault
from packager.threads import SHARED_THREADS
from packager.transient_errors import NotReadyError

MAX_PROBES = 2
"""Most files that are probed at once."""

BUSY_SECONDS = 1.0
"""Seconds until a file is probed again for which the system had no room."""

PAGE_ITEMS = 200
"""Items of a page whose request has no number."""

MAX_PAGE_ITEMS = 500
"""Most items of a page."""

MAX_PAGE_FILES = 1000
"""Most files of all items of a page; a title has several."""

MAX_UNKNOWN_FILES = 2000
"""Most files that wait to be probed; of more, those that were asked for first are left until they are asked
for again.
"""

UNREADABLE = "it can't be read: its content has led to a fault of the reader"
"""The reason that is listed for a file whose inspection failed unexpectedly."""

LEARNT_FILES = 100
"""Files whose length has become known before a view by length is made anew, while others are unknown."""


SELECTIONS_KEPT = 8
"""Most listings of those files that some requests may see."""

SELECTIONS_AWAITED = 16
"""Most requests that wait for such a listing to be made; beyond, the network with the most is refused."""

IsListed = Callable[[str], bool]
"""Returns whether the item of a path is listed; equal ones list the same."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the library.

    Attributes:
        path: relative, with slashes.
        size: in bytes.
        facts: None before it was inspected.
        modified: when it was last changed, in nanoseconds since the epoch.
    """

    path: str
    size: int
    facts: Facts | None
    modified: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LibraryTitle:
    """Files ``TITLE.<height>p.mp4`` of one folder as one adaptive title, in ascending order of height.

    Attributes:
        path: relative, with slashes: what the files' names have in common.
        facts: whether they are renditions of one title; None before that was examined.
    """

    path: str
    renditions: tuple[Entry, ...]
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class CataloguePage:
    """A page of the library.

    Attributes:
        items: titles, then files; of a view also folders.
        after: kind and path of the last one, if more follow.
        version: equal only for pages with the same content.
        offset: of a view, how many items come before the first one.
        total: of a view, the number of its items.
    """

    items: tuple[ListedSubfolder | LibraryTitle | Entry, ...]
    after: tuple[str, str] | None
    version: tuple[int, ...]
    offset: int = 0
    total: int | None = None


DEFAULT_LIMITS = CatalogueLimits()

Item = TypeVar("Item", bound=ViewItem)


@dataclass(frozen=True, slots=True)
class PackagingFacts:
    """Functions that examine how a file or title is packaged, each by its path; they may block.

    Attributes:
        obstacle: returns why no HLS can be made, or None.
        encoded: returns whether renditions are encoded on request that all browsers play.
        text: returns the subtitles and chapters.
        thumbnails: returns whether there are thumbnails.
        sequence: returns the facts about a playlist of clips.
    """

    obstacle: Callable[[str], str | None] = lambda _: None
    encoded: Callable[[str], bool] = lambda _: False
    text: Callable[[str], TextFacts] = lambda _: NO_TEXT
    thumbnails: Callable[[str], bool] = lambda _: False
    sequence: Callable[[str], Facts] = lambda _: Facts()


NOT_PACKAGED = PackagingFacts()


class Catalogue:
    """Lists a library; ``run`` inspects the files of requested pages.

    Args:
        tools: ffprobe; None to list files without facts.
        packaging: examines how files and titles are packaged.
    """

    name = "library"

    def __init__(
        self,
        files: ListedFiles,
        tools: Tools | None,
        packaging: PackagingFacts = NOT_PACKAGED,
        *,
        limits: CatalogueLimits = DEFAULT_LIMITS,
    ) -> None:
        self._files = files
        self._tools = tools
        self._packaging = packaging
        self.limits = limits
        self.listing = FileListing(files, UNREAD_ENDINGS.union(CONTAINERS, (PLAYLIST_ENDING,)), limits)
        # The one that wasn't asked for for longest comes first, in both.
        self._known = BoundedDict[Renditions | File, Facts](self.limits.most_files)
        self._unknown = BoundedDict[Renditions | File, None](MAX_UNKNOWN_FILES)
        self._looked_at: set[Renditions | File] = set()
        self._views = Views(self._searched, limits)
        # Listings of those files that some requests may see, and their numbers, which no walk has.
        self._selected = BoundedDict[tuple[int, IsListed], Listing](SELECTIONS_KEPT)
        self._numbers = itertools.count(-1, -1)
        self._selecting = FairSemaphore(1, 1, SELECTIONS_AWAITED)
        self._learnt = self._learnt_tags = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._is_ending = False

    @property
    def waiting(self) -> int:
        """Number of files and titles that wait to be inspected."""
        return len(self._unknown)

    async def run(self) -> None:
        """Walk the library ahead of the first request, and then inspect files of requested pages for ever."""
        with contextlib.suppress(OSError):  # a request for a page reports the error
            await self.listing.latest()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            async with asyncio.TaskGroup() as group:
                for _ in range(MAX_PROBES):
                    group.create_task(self._look())

    def close(self) -> None:
        """Release waiting requests."""
        self._is_ending = True
        self.listing.close()
        self._notify()

    async def page(
        self,
        after: tuple[str, str] | None = None,
        count: int | None = None,
        *,
        patience: float | None,
        network: str = "",
        is_listed: IsListed | None = None,
    ) -> CataloguePage:
        """Return the items after another.

        Args:
            after: that item's kind (``title`` or ``file``) and path; None: from the first one.
            count: how many at most; None: as many as the limits say.
            patience: seconds for which unknown facts are waited for; None: until all are known.
            network: the client's; networks that wait for selections at the same time take turns.
            is_listed: returns whether the item of a path is listed; None: all are.

        Raises:
            TooManyViewsError: too many requests wait for other selections.
            OSError: the folder can't be read.
        """
        listing = await self._listing(is_listed, network)
        first = 0 if after is None else listing.position_behind(*after)
        most = min(PAGE_ITEMS if count is None else count, MAX_PAGE_ITEMS)
        found = _within(listing.items(first, most), MAX_PAGE_FILES)
        behind = first + len(found) < len(listing.titles) + len(listing.files)
        last = (_kind(found[-1]), found[-1].path) if found and behind else None
        return await self._described(listing, found, last, patience)

    async def named(
        self, path: str, *, patience: float | None, is_listed: IsListed | None = None
    ) -> CataloguePage:
        """Return the title and the file of a path; otherwise as `page`."""
        listing = await self.listing.latest()
        found = [item for item in listing.named(path) if is_listed is None or is_listed(item.path)]
        return await self._described(listing, found, None, patience)

    async def view(
        self,
        query: ViewQuery,
        offset: int = 0,
        count: int | None = None,
        *,
        around: str | None = None,
        patience: float | None,
        network: str = "",
        is_listed: IsListed | None = None,
    ) -> CataloguePage:
        """Return items of a folder or of a search, in a given order; otherwise as `page`.

        Args:
            query: which items, in which order.
            offset: how many items precede the page.
            count: how many at most.
            around: path of an item, whose page is returned, if all pages before have as many items.
            patience: as in `page`, and so is `is_listed`.
            network: the client's; networks that wait for views at the same time take turns.

        Raises:
            TooManyViewsError: too many requests wait for other views.
            OSError: the folder can't be read.
        """
        listing = await self._listing(is_listed, network)
        view = await self._view(listing, query, network)
        if query.search and 0 < len(view.unknown) <= self.limits.awaited_files:
            await self._inspect(view.unknown, patience)
            view = await self._view(listing, query, network)
        if len(self._unknown) < MAX_PROBES:
            # Items of requested pages come first.
            self._want(view.unknown)
        most = min(PAGE_ITEMS if count is None else count, MAX_PAGE_ITEMS)
        if around is not None:
            offset = await SHARED_THREADS.of(network).run(view.position_of, around) // most * most
        found = _within(view.items[offset : offset + most], MAX_PAGE_FILES)
        page = await self._described(listing, found, None, patience)
        version = (*page.version, *view.version)
        return replace(page, version=version, offset=offset, total=len(view.items))

    async def _view(self, listing: Listing, query: ViewQuery, network: str) -> View:
        """Return a view by the facts that are known, but for the newest ones while others are looked for."""
        learnt = self._learnt if query.sort == "length" else self._learnt_tags
        learnt -= learnt % LEARNT_FILES if self._unknown else 0
        return await self._views.get(listing, query, learnt, network)

    async def _listing(self, is_listed: IsListed | None, network: str) -> Listing:
        """Return the listing, or a selection of it: one is made at a time, in a thread."""
        listing = await self.listing.latest()
        if is_listed is None:
            return listing
        key = listing.number, is_listed
        if key not in self._selected:
            try:
                async with self._selecting.held(network):
                    if key not in self._selected:
                        threads, number = SHARED_THREADS.of(network), next(self._numbers)
                        selected = await threads.run(listing.only, is_listed, number)
                        self._selected[key] = selected
            except TooManyWaitingError:
                raise TooManyViewsError from None
        self._selected.move_to_end(key)
        return self._selected[key]

    def _searched(self, item: Renditions | File) -> SearchedFacts | None:
        known = [facts for one in _files_of((item,)) if (facts := self._known.get(one)) is not None]
        if not known:
            return None
        duration = max((facts.duration for facts in known if facts.duration is not None), default=None)
        tags = known[0].tags
        return SearchedFacts(duration, " ".join(filter(None, (tags.title, tags.artist, tags.album))))

    async def _described(
        self,
        listing: Listing,
        found: Sequence[ViewItem],
        after: tuple[str, str] | None,
        patience: float | None,
    ) -> CataloguePage:
        # A title is inspected behind its files, whose indexes decide whether it is a title.
        files = [item for item in found if not isinstance(item, ListedSubfolder)]
        items = list(dict.fromkeys((*_files_of(files), *files)))
        await self._inspect(items, patience)
        facts = {item: self._known.get(item) for item in items}
        return CataloguePage(
            tuple(_described(item, facts) for item in found), after, (listing.number, self._learnt)
        )

    async def _inspect(self, items: Sequence[Renditions | File], patience: float | None) -> None:
        """Have items inspected, and wait for that unless they are many."""
        self._want(items)
        if patience is None or sum(one not in self._known for one in items) <= self.limits.awaited_files:
            await wait_within(patience, self._wait_for(items))

    def _want(self, items: Iterable[Renditions | File]) -> None:
        for item in items:
            if item in self._known:
                self._known.move_to_end(item)
            elif item not in self._looked_at:
                self._unknown[item] = None
        if self._unknown:
            self._wanted.set()

    async def _wait_for(self, items: Iterable[Renditions | File]) -> None:
        for item in items:
            while item not in self._known and not self._is_ending:
                await self._news.wait()

    def _notify(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _look(self) -> None:
        """Inspect files and titles until none is wanted."""
        while self._unknown and not self._is_ending:
            item, _ = self._unknown.popitem(last=False)
            self._looked_at.add(item)
            try:
                self._known[item] = await self._facts(item)
            except (BusyError, NotReadyError):
                # The system was busy, which says nothing about the file.
                self._unknown[item] = None
                await asyncio.sleep(BUSY_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001  # the others are inspected all the same
                log_fault(item.path, error)
                self._known[item] = Facts(reason=UNREADABLE, obstacle=UNREADABLE)
            finally:
                self._looked_at.discard(item)
            self._learnt += 1
            self._learnt_tags += self._known[item].tags != NO_TAGS
            self._notify()

    async def _facts(self, item: Renditions | File) -> Facts:
        run = self._files.threads.run
        unread = unread_reason(item.path) if isinstance(item, File) else None
        if unread is not None:
            return Facts(reason=unread, obstacle=unread)
        if item.path.endswith(PLAYLIST_ENDING):
            return await run(self._packaging.sequence, item.path)
        obstacle = await run(self._packaging.obstacle, item.path)
        encoded = obstacle is None and await run(self._packaging.encoded, item.path)
        text = await run(self._packaging.text, item.path)
        thumbnails = False if obstacle else await run(self._packaging.thumbnails, item.path)
        if self._tools is None or isinstance(item, Renditions):
            return Facts(obstacle=obstacle, text=text, thumbnails=thumbnails)
        try:
            readable = await self._files.threads.opened(self._files.readable_path, item.path)
        except NotFoundError:
            return Facts(reason="it isn't there any more", obstacle=obstacle)
        except OSError as error:
            raise BusyError(str(error)) from error
        with contextlib.closing(readable):
            facts = await probe(readable.path, self._tools, self.limits, is_packaged=obstacle is None)
            incomplete = await run(missing_bytes, readable.path)
        return replace(
            facts,
            reason=None if encoded else _reason(facts, incomplete),
            obstacle=obstacle,
            encoded=encoded,
            incomplete=incomplete,
            text=text,
            thumbnails=thumbnails,
            cover=_cover_of(item),
        )


def _cover_of(file: File) -> str | None:
    """Return the path of the cover beside a file of music."""
    folder, slash, name = file.path.rpartition("/")
    cover = cover_among(one for one, _, _ in file.sidecars) if name.lower().endswith(SOUND_ENDINGS) else None
    return None if cover is None else f"{folder}{slash}{cover}"


def _kind(item: Renditions | File) -> str:
    return "title" if isinstance(item, Renditions) else "file"


def _within(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return as many of the first items as have at most so many files together."""
    files = 0
    for index, item in enumerate(items):
        files += len(item.files) if isinstance(item, Renditions) else 1
        if files > most:
            return items[:index]
    return items


def _files_of(items: Iterable[Renditions | File]) -> Iterable[File]:
    for item in items:
        yield from item.files if isinstance(item, Renditions) else (item,)


def _described(
    item: ViewItem, facts: dict[Renditions | File, Facts | None]
) -> ListedSubfolder | LibraryTitle | Entry:
    if isinstance(item, ListedSubfolder):
        return item
    if isinstance(item, Renditions):
        entries = tuple(Entry(file.path, file.size, facts[file], file.modified) for file in item.files)
        return LibraryTitle(item.path, entries, facts[item])
    return Entry(item.path, item.size, facts[item], item.modified)


def _reason(facts: Facts, incomplete: str | None) -> str | None:
    """Return why a file isn't played: that it isn't whole tells people more than what ffprobe says then."""
    return f"it is incomplete: {incomplete}" if incomplete is not None and not facts.codecs else facts.reason
