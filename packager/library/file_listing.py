"""Lists the library's files: walked once for all requests, and again when something changes.

A folder's modification time shows added and removed names; changes within files are found by walking again
from time to time. Walking takes at most a tenth of the time.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import heapq
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog

from packager.library.file_endings import ending_of
from packager.library.local_storage import (
    NOTHING_WITHHELD,
    Withheld,
    has_unservable_name,
    identity_of,
    is_served,
)
from packager.library.title_files import (
    IDLE_SHARE,
    RENDITION,
    SUBTITLE_FOLDERS,
    composed,
    has_one_film,
    is_sidecar,
    sidecars_of,
    time_of_change,
)
from packager.threads import SHARED_THREADS, Threads
from packager.transient_errors import will_pass

MAX_RENDITIONS = 16
"""Most files of one title."""

SORTED_AT_ONCE = 2000
"""Names that are sorted or compared at once: both hold the GIL."""

T = TypeVar("T")

log = structlog.get_logger()

MAX_BELOW = 256
"""Most names of a folder of subtitles beside films that are read."""

MAX_DEPTH = 8
"""Most levels of folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueLimits:
    """Limits of listing, examining and searching a library's files.

    Attributes:
        probe_seconds: How long it may take.
        awaited_files: Most files of a page whose facts are waited for: more don't become known in that time.
        most_files: most files that are listed.
        most_names: most names of files and folders that are read.
        stale_seconds: how long after its beginning a new listing is waited for if there is an old one.
        unwalked_seconds: how long a change within a file may go unnoticed.
        kept_views: most searches that are kept for further requests, and as many other views; each refers to
            each of its items.
        awaited_views: most different searches that wait to be made, one at a time, and as many other views.
            Beyond, the newest request of the network that waits for the most is refused.
        unknown_files: files that a view has inspected next: one by length those without a known length, a
            search those whose tags aren't known.
    """

    probe_seconds: float = 20.0
    awaited_files: int = 40
    most_files: int = 1_000_000
    most_names: int = 2_000_000
    stale_seconds: float = 1.0
    unwalked_seconds: float = 10.0
    kept_views: int = 8
    awaited_views: int = 16
    unknown_files: int = 256


class File(NamedTuple):
    """A file of the listing; with another size or modification time it is another file.

    Attributes:
        path: relative to the library, with slashes.
        size: in bytes.
        modified: in nanoseconds since the epoch.
        sidecars: name, size and modification time of each subtitle file, and of the cover, beside it.
    """

    path: str
    size: int
    modified: int
    sidecars: tuple[tuple[str, int, int], ...] = ()


class Renditions(NamedTuple):
    """Files ``TITLE.<height>p.mp4`` of one folder as one adaptive title, in ascending order of height."""

    path: str
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of a walk: titles, then files, each ordered by path.

    Attributes:
        titles: two or more renditions of one name in one folder.
        files: all files, those of titles included.
        folders: each folder's modification time; -1 if another change could have the same one.
        number: of the walk that found it first; later walks that find the same don't change it.
    """

    titles: Sequence[Renditions] = ()
    files: Sequence[File] = ()
    folders: dict[str, int] = field(default_factory=dict)
    number: int = 0
    walked: float = 0.0
    seconds: float = 0.0

    def only(self, is_listed: Callable[[str], bool], number: int) -> Listing:
        """Return the listing of some of the items, which takes time with many files.

        Args:
            is_listed: returns whether the new listing has the item of a path.
            number: of the new listing, as no other has.
        """
        titles = [title for title in self.titles if is_listed(title.path)]
        files = [file for file in self.files if is_listed(file.path)]
        return replace(self, titles=titles, files=files, number=number)

    def position_behind(self, kind: str, path: str) -> int:
        """Return the position behind an item, which may no longer exist.

        Args:
            kind: ``title`` or ``file``.
        """
        if kind == "title":
            return bisect.bisect_right(self.titles, path, key=_path_of)
        return len(self.titles) + bisect.bisect_right(self.files, path, key=_path_of)

    def items(self, first: int, count: int) -> list[Renditions | File]:
        """Return so many items from a position on."""
        behind = max(first - len(self.titles), 0)
        titles = self.titles[first : first + count]
        return [*titles, *self.files[behind : behind + count - len(titles)]]

    def named(self, path: str) -> list[Renditions | File]:
        """Return the title and the file of this path, as far as they exist."""
        found: list[Renditions | File] = []
        for items in (self.titles, self.files):
            index = bisect.bisect_left(items, path, key=_path_of)
            found += [item for item in items[index : index + 1] if item.path == path]
        return found


def _path_of(item: Renditions | File) -> str:
    return item.path


@dataclass(slots=True)
class Walked:
    """The items that a walk through the folders has found so far.

    Attributes:
        files: the listed files, in no order.
        folders: as of `Listing`.
        names: how many names were read.
        unservable: how many files and folders are left out since no address can have their names.
        first_unservable: path of the first of them; empty without any.
    """

    files: list[File] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)
    names: int = 0
    unservable: int = 0
    first_unservable: str = ""


class ReadablePath(Protocol):
    """A path at which another program can look at a file, until it is closed."""

    @property
    def path(self) -> Path:
        """The path; it ends as the file's name does."""

    def close(self) -> None:
        """Remove the copy, if one was made. May be called again."""


class ListedFiles(Protocol):
    """The storage of the listed files. Its methods block, and several threads call them at once."""

    @property
    def threads(self) -> Threads:
        """The threads for its blocking methods."""

    def walk(self, endings: frozenset[str], limits: CatalogueLimits, is_ending: Callable[[], bool]) -> Walked:
        """Find all files whose names have one of some endings.

        Args:
            endings: in lower case, with their dots.
            limits: most folders and names that are read.
            is_ending: returns whether to give up, as no request waits any more.

        Raises:
            OSError: the folder can't be listed.
        """

    def is_unchanged(self, listing: Listing) -> bool:
        """Return whether a listing still holds, as far as that shows without another walk."""

    def readable_path(self, path: str) -> ReadablePath:
        """Return a path at which another program can look at a file's beginning, tables and end.

        Raises:
            NotFoundError: there is no such file.
            OSError: it can't be read.
        """


class FileListing:
    """The listing of one library, shared by all requests.

    Args:
        endings: of the files that are listed, in lower case, with their dots.
        clock: seconds.

    Attributes:
        walks: how often the library was walked.
    """

    def __init__(
        self,
        files: ListedFiles,
        endings: Iterable[str],
        limits: CatalogueLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._files = files
        self._endings = frozenset(endings)
        self._limits = limits or CatalogueLimits()
        self._listing: Listing | None = None
        self._looking: asyncio.Future[Listing] | None = None
        self._looking_since = 0.0
        self._idle_until = 0.0
        self._is_ending = False
        self._unservable = 0
        self.walks = 0

    async def latest(self) -> Listing:
        """Return the current listing, or a recent one if a new one takes too long.

        Raises:
            OSError: the folder can't be read.
        """
        known = self._listing
        if known is not None and self._clock() < self._idle_until:
            return known
        if self._looking is None:
            # Not a task: a thread can't be cancelled, and the next request waits for the same walk.
            self._looking_since = self._clock()
            self._looking = self._files.threads.submit(self._look, known)
            self._looking.add_done_callback(self._set_listing)
        looking = self._looking
        if known is None:
            return await asyncio.shield(looking)
        # A request that comes during the walk of a large library doesn't wait for as long as the first one.
        left = max(self._looking_since + self._limits.stale_seconds - self._clock(), 0.0)
        done, _ = await asyncio.wait((looking,), timeout=left)
        return looking.result() if done else known

    def close(self) -> None:
        """Cancel a walk in progress."""
        self._is_ending = True

    def _set_listing(self, looking: asyncio.Future[Listing]) -> None:
        self._looking = None
        if looking.cancelled() or looking.exception() is not None:
            self._listing = None
        else:
            self._listing = looking.result()

    def _look(self, known: Listing | None) -> Listing:
        """Walk the library if it has changed. Runs in a thread."""
        began = self._clock()
        try:
            if known is not None and self._is_as_it_was(known, began):
                return known
            self.walks += 1
            try:
                found = self._files.walk(self._endings, self._limits, lambda: self._is_ending)
            except OSError as error:
                if known is None or not will_pass(error):
                    raise
                return known
            if len(found.files) >= self._limits.most_files and (
                known is None or len(known.files) < len(found.files)
            ):
                log.warning("the library has more files than are listed", listed=len(found.files))
            self._tell_unservable(found)
            took = self._clock() - began
            if known is not None and found.folders == known.folders and are_equal(found.files, known.files):
                # Views that were made of it hold as well.
                return replace(known, walked=began, seconds=took)
            titles = _titles(found.files)
            return Listing(titles, found.files, found.folders, self.walks, began, took)
        finally:
            now = self._clock()
            self._idle_until = now + IDLE_SHARE * (now - began)

    def _tell_unservable(self, found: Walked) -> None:
        """Log how much is left out for its name, once until that changes."""
        if found.unservable and found.unservable != self._unservable:
            log.warning(
                "files of the library aren't listed for their names",
                files=found.unservable,
                first=os.fsencode(found.first_unservable).decode("utf-8", "backslashreplace"),
                reason="addresses have UTF-8, and neither backslashes nor line ends",
                advice="rename them; from Latin-1 by: convmv -r -f latin1 -t utf8 --notest FOLDER",
            )
        self._unservable = found.unservable

    def _is_as_it_was(self, known: Listing, now: float) -> bool:
        if now - known.walked > max(self._limits.unwalked_seconds, IDLE_SHARE * known.seconds):
            return False
        return self._files.is_unchanged(known)


@dataclass(frozen=True, slots=True)
class FilePath:
    """The path of a file on a disk of this machine, which needs no copy."""

    path: Path

    def close(self) -> None:
        """Do nothing, as no copy was made."""


class ListedFolder:
    """The files of a folder.

    Args:
        withheld: files and folders that aren't listed.
    """

    threads = SHARED_THREADS

    def __init__(self, root: Path, withheld: Withheld = NOTHING_WITHHELD) -> None:
        self._root = root
        self._withheld = withheld

    def walk(self, endings: frozenset[str], limits: CatalogueLimits, is_ending: Callable[[], bool]) -> Walked:
        """Walk the folder; see `ListedFiles`."""
        walk = _FolderWalk(self._root, self._withheld, endings, limits, is_ending)
        walk.enter("", 0)
        return walk.found

    def is_unchanged(self, listing: Listing) -> bool:
        """Return whether the modification times of all its folders are those that the walk found."""
        return all(time_of_change(self._root / path) == kept >= 0 for path, kept in listing.folders.items())

    def readable_path(self, path: str) -> FilePath:
        """Return the path of the file itself."""
        return FilePath(self._root / path)


class _FolderWalk:
    """One walk of a folder.

    Args:
        withheld: files and folders that aren't listed.
        limits: most folders and names that are read.
        is_ending: returns whether to give up the walk.

    Attributes:
        found: the items that were found so far.
    """

    def __init__(
        self,
        root: Path,
        withheld: Withheld,
        endings: frozenset[str],
        limits: CatalogueLimits,
        is_ending: Callable[[], bool],
    ) -> None:
        self._root = root
        # Of each name a path is made: texts take a tenth of the time that objects of pathlib take.
        self._prefix = f"{root}/"
        self._withheld = withheld
        self._identities = withheld.identities()
        self._endings = endings
        self._limits = limits
        self._is_ending = is_ending
        self.found = Walked()

    def enter(self, folder: str, depth: int) -> None:
        """Find what is in a folder, at so many levels below the library's.

        Raises:
            OSError: the library's folder can't be read.
        """
        found = self.found
        # Before it is read: what changes meanwhile is a change.
        found.folders[folder] = time_of_change(self._root / folder)
        try:
            read, beside, below = self._names(folder)
        except OSError:
            if not folder:
                raise
            return
        names = list(read)
        is_only = bool(beside or below) and has_one_film(names)
        for name in names:
            if self._is_ending() or len(found.files) >= self._limits.most_files:
                return
            path = folder + name
            if name.endswith("/"):
                if depth < MAX_DEPTH:
                    self.enter(path, depth + 1)
                continue
            try:
                status = os.lstat(self._prefix + path)
            except OSError:  # gone since the folder was read
                continue
            if stat.S_ISREG(status.st_mode) and identity_of(status) not in self._identities:
                own = sidecars_of(name, beside, below, is_only=is_only) if beside or below else ()
                sidecars = self._sidecars(folder, own)
                found.files.append(File(path, status.st_size, status.st_mtime_ns, sidecars))

    def _sidecars(self, folder: str, names: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
        """Return the facts of the files that belong to a file, so that their changes change the listing."""
        found: dict[str, tuple[str, int, int]] = {}
        for one in names:
            try:
                status = (self._root / folder / one).lstat()
            except OSError:  # gone since the folder was read
                continue
            found.setdefault(one, (one, status.st_size, status.st_mtime_ns))
        return tuple(found.values())

    def _names(self, folder: str) -> tuple[Iterator[str], Sequence[str], Sequence[str]]:
        """Read a folder's names, those of folders with a slash, in order of their paths; and sidecars'.

        The last are those of the files in folders of subtitles.
        """
        names: list[str] = []
        beside: list[str] = []
        below: list[str] = []
        with os.scandir(self._root / folder) as entries:
            for entry in entries:
                self.found.names += 1
                if self._is_ending() or self.found.names > self._limits.most_names:
                    break
                if not is_served(entry.name) or self._withheld.has_name(entry.name):
                    self._note_unservable(entry)
                    continue
                if entry.is_dir(follow_symlinks=False):
                    # Not of the entry: on a mount, that has the inode of the folder beneath it.
                    status = Path(entry.path).lstat() if self._identities else None
                    if status is None or identity_of(status) not in self._identities:
                        names.append(f"{entry.name}/")
                        if entry.name.lower() in SUBTITLE_FOLDERS:
                            below += self._subtitles_in(folder, entry.name)
                elif ending_of(entry.name) in self._endings:
                    names.append(entry.name)
                elif is_sidecar(entry.name):
                    beside.append(entry.name)
        return in_order(names), list(in_order(beside, composed)), list(in_order(below))

    def _note_unservable(self, entry: os.DirEntry[str]) -> None:
        """Note a folder, or a file that would be listed by another name, whose name no address can have."""
        if not has_unservable_name(entry.name) or self._withheld.has_name(entry.name):
            return
        if ending_of(entry.name) in self._endings or entry.is_dir(follow_symlinks=False):
            self.found.unservable += 1
            self.found.first_unservable = self.found.first_unservable or entry.path

    def _subtitles_in(self, folder: str, name: str, depth: int = 1) -> list[str]:
        """Return the subtitle files of a folder beside films, and of the folders in it."""
        found: list[str] = []
        with contextlib.suppress(OSError), os.scandir(self._root / folder / name) as entries:
            for entry in itertools.islice(entries, MAX_BELOW):
                self.found.names += 1
                if self._is_ending() or self.found.names > self._limits.most_names:
                    break
                if not is_served(entry.name) or self._withheld.has_name(entry.name):
                    continue
                path = f"{name}/{entry.name}"
                if is_sidecar(entry.name):
                    found.append(path)
                elif depth and entry.is_dir(follow_symlinks=False):
                    found += self._subtitles_in(folder, path, depth - 1)
        return found


def are_equal(items: Sequence[object], others: Sequence[object]) -> bool:
    """Compare two lists in short steps, since each holds the GIL."""
    steps = range(0, len(items), SORTED_AT_ONCE)
    return len(items) == len(others) and all(
        items[first : first + SORTED_AT_ONCE] == others[first : first + SORTED_AT_ONCE] for first in steps
    )


def in_order(items: Sequence[T], key: Callable[[T], Any] = lambda item: item) -> Iterator[T]:
    """Sort names, or items by a key, in short steps; items of the same key stay in their order."""
    keyed = zip(map(key, items), range(len(items)), strict=True)
    steps = [sorted(step) for step in batched(keyed, SORTED_AT_ONCE)]
    return (items[index] for _, index in heapq.merge(*steps))


def batched(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Return items in lists of so many; the last one may have fewer."""
    remaining = iter(items)
    while step := list(itertools.islice(remaining, count)):
        yield step


def _titles(files: Iterable[File]) -> list[Renditions]:
    groups: dict[str, list[tuple[int, File]]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        match = RENDITION.fullmatch(name)
        if match is not None:
            path = f"{folder}/{match['title']}".removeprefix("/")
            groups.setdefault(path, []).append((int(match["height"]), file))
    several = [path for path, group in groups.items() if 1 < len(group) <= MAX_RENDITIONS]
    return [Renditions(path, tuple(file for _, file in sorted(groups[path]))) for path in in_order(several)]
