"""Lists the library in pages: each file, what it contains, and whether browsers can play it.

ffprobe's results are kept by path, size and modification time. Only files of requested pages are inspected, a
few at a time; a page is sent without what isn't known yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from packager.library.file_listing import (
    File,
    FileListing,
    ListedFiles,
    Listing,
    ListingLimits,
    Renditions,
)
from packager.library.file_probe import (
    CONTAINERS,
    NO_TEXT,
    UNREAD_ENDINGS,
    Facts,
    ProbeLimits,
    TextFacts,
    probe,
    unread_reason,
)
from packager.library.library_search import ListedSubfolder, ViewItem, ViewLimits, ViewQuery, Views
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import BusyError, Tools


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
        facts: whether they are renditions of one title; None before that was looked at.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLimits:
    """Limits of examining a library's files.

    Attributes:
        probes: Files that are looked at at once.
        probe: What looking at one may cost.
        busy_seconds: Until a file is looked at again where the system had no room for that.
        page_items: Items of a page for which nobody says a number.
        most_page_items: Most items of a page.
        page_seconds: How long a page waits for what isn't known yet of its files.
        awaited_files: Most files of a page whose facts are waited for: more don't become known in that time.
        page_files: Files of all items of a page, of which a title has several.
        unknown_files: Files that wait to be looked at, at most: those that were asked for first are left
            until they are again.
        listing: What listing the folder may cost.
        view: What searching and sorting may cost.
    """

    probes: int = 2
    probe: ProbeLimits = field(default_factory=ProbeLimits)
    busy_seconds: float = 1.0
    page_items: int = 200
    most_page_items: int = 500
    page_seconds: float = 1.0
    awaited_files: int = 40
    page_files: int = 1000
    unknown_files: int = 2000
    listing: ListingLimits = field(default_factory=ListingLimits)
    view: ViewLimits = field(default_factory=ViewLimits)


DEFAULT_LIMITS = CatalogueLimits()

Item = TypeVar("Item", bound=ViewItem)


class Catalogue:
    """Lists a library; ``run`` inspects the files of requested pages.

    Args:
        tools: ffprobe; None where there is none, and files are listed without facts.
        obstacle: tells of a path why no HLS can be made of the file or title, or None; it may block.
        text: tells of a path what text the file or title has; it may block.
        thumbnails: tells of a path whether there are small pictures of the file or title; it may block.
    """

    name = "library"

    def __init__(
        self,
        files: ListedFiles,
        tools: Tools | None,
        obstacle: Callable[[str], str | None] = lambda _: None,
        *,
        text: Callable[[str], TextFacts] = lambda _: NO_TEXT,
        thumbnails: Callable[[str], bool] = lambda _: False,
        limits: CatalogueLimits = DEFAULT_LIMITS,
    ) -> None:
        self._files = files
        self._tools = tools
        self._obstacle = obstacle
        self._text = text
        self._thumbnails = thumbnails
        self.limits = limits
        self.listing = FileListing(files, UNREAD_ENDINGS.union(CONTAINERS), limits.listing)
        # The one that wasn't asked for for longest comes first, in both.
        self._known: OrderedDict[Renditions | File, Facts] = OrderedDict()
        self._unknown: OrderedDict[Renditions | File, None] = OrderedDict()
        self._looked_at: set[Renditions | File] = set()
        self._views = Views(self._duration, limits.view)
        self._learnt = 0
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._is_ending = False

    @property
    def waiting(self) -> int:
        """Number of files and titles that wait to be inspected."""
        return len(self._unknown)

    async def run(self) -> None:
        """Walk the library ahead of the first request, and then inspect files of requested pages for ever."""
        with contextlib.suppress(OSError):  # who asks for a page is told
            await self.listing.latest()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            async with asyncio.TaskGroup() as group:
                for _ in range(self.limits.probes):
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
    ) -> CataloguePage:
        """Return the items after another.

        Args:
            after: its kind (``title`` or ``file``) and path; None: from the first one.
            count: how many at most; None: as many as the limits say.
            patience: seconds in which facts may come before it goes without them; None: until all are there.

        Raises:
            OSError: the folder can't be read.
        """
        listing = await self.listing.latest()
        first = 0 if after is None else listing.position_behind(*after)
        most = min(count or self.limits.page_items, self.limits.most_page_items)
        found = _within(listing.items(first, most), self.limits.page_files)
        behind = first + len(found) < len(listing.titles) + len(listing.files)
        last = (_kind(found[-1]), found[-1].path) if found and behind else None
        return await self._described(listing, found, last, patience)

    async def named(self, path: str, *, patience: float | None) -> CataloguePage:
        """Return the title and the file of a path; otherwise as `page`."""
        listing = await self.listing.latest()
        return await self._described(listing, listing.named(path), None, patience)

    async def view(
        self,
        query: ViewQuery,
        offset: int = 0,
        count: int | None = None,
        *,
        around: str | None = None,
        patience: float | None,
        network: str = "",
    ) -> CataloguePage:
        """Return items of a folder, or of what a search finds, in an order; otherwise as `page`.

        Args:
            query: which items, in which order.
            offset: how many of them come before the first one.
            count: how many at most.
            around: path of an item; the page is the one that has it, and each page before it as many items.
            patience: as in `page`.
            network: of the client; those that wait for other views at the same time take turns.

        Raises:
            TooManyViewsError: too many others wait for other views.
            OSError: the folder can't be read.
        """
        listing = await self.listing.latest()
        learnt = self._learnt - (self._learnt % self.limits.view.learnt_files if self._unknown else 0)
        view = await self._views.get(listing, query, learnt, network)
        if len(self._unknown) < self.limits.probes:
            # What somebody looks at comes first.
            self._want(view.unknown)
        most = min(count or self.limits.page_items, self.limits.most_page_items)
        if around is not None:
            offset = await asyncio.to_thread(view.position_of, around) // most * most
        found = _within(view.items[offset : offset + most], self.limits.page_files)
        page = await self._described(listing, found, None, patience)
        version = (*page.version, *view.version)
        return replace(page, version=version, offset=offset, total=len(view.items))

    def _duration(self, item: Renditions | File) -> float | None:
        known = (self._known.get(one) for one in _files_of((item,)))
        return max((facts.duration for facts in known if facts and facts.duration is not None), default=None)

    async def _described(
        self,
        listing: Listing,
        found: Sequence[ViewItem],
        after: tuple[str, str] | None,
        patience: float | None,
    ) -> CataloguePage:
        # A title is looked at behind its files: their indexes, which tell whether it is one, are there then.
        files = [item for item in found if not isinstance(item, ListedSubfolder)]
        items = list(dict.fromkeys((*_files_of(files), *files)))
        self._want(items)
        if patience is None or sum(one not in self._known for one in items) <= self.limits.awaited_files:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._wait_for(items)
        facts = {item: self._known.get(item) for item in items}
        return CataloguePage(
            tuple(_described(item, facts) for item in found), after, (listing.number, self._learnt)
        )

    def _want(self, items: Iterable[Renditions | File]) -> None:
        for item in items:
            if item in self._known:
                self._known.move_to_end(item)
            elif item not in self._looked_at:
                self._unknown[item] = None
                self._unknown.move_to_end(item)
        while len(self._unknown) > self.limits.unknown_files:
            self._unknown.popitem(last=False)
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
            except BusyError:
                # That is nothing about the file.
                self._unknown[item] = None
                await asyncio.sleep(self.limits.busy_seconds)
                continue
            finally:
                self._looked_at.discard(item)
            self._learnt += 1
            if len(self._known) > self.limits.listing.files:
                self._known.popitem(last=False)
            self._notify()

    async def _facts(self, item: Renditions | File) -> Facts:
        run = self._files.threads.run
        unread = unread_reason(item.path) if isinstance(item, File) else None
        if unread is not None:
            return Facts(reason=unread, obstacle=unread)
        obstacle = await run(self._obstacle, item.path)
        text = NO_TEXT if obstacle else await run(self._text, item.path)
        thumbnails = False if obstacle else await run(self._thumbnails, item.path)
        if self._tools is None or isinstance(item, Renditions):
            return Facts(obstacle=obstacle, text=text, thumbnails=thumbnails)
        try:
            readable = await self._files.threads.opened(self._files.readable_path, item.path)
        except NotFoundError:
            return Facts(reason="it isn't there any more", obstacle=obstacle)
        except OSError as error:
            raise BusyError(str(error)) from error
        with contextlib.closing(readable):
            facts = await probe(readable.path, self._tools, self.limits.probe, is_packaged=obstacle is None)
        return replace(facts, obstacle=obstacle, text=text, thumbnails=thumbnails)


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
