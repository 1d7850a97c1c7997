"""Which files of a folder are renditions of one title or subtitles of a film, by their names.

A folder is read again when its modification time shows that names were added or removed.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packager.bounded_dict import SizedDict
from packager.library.file_endings import (
    FILM_ENDINGS,
    SOUND_ENDINGS,
    SUBTITLE_ENDINGS,
    UNREAD_SUBTITLE_ENDINGS,
)
from packager.library.storage_interface import SETTLED_AFTER, FileBelow

RENDITION = re.compile(r"(?P<title>.+)\.(?P<height>[0-9]{2,4})p\.(mp4|m4v|mov|mkv|webm)", re.IGNORECASE)

SUBTITLE_FOLDERS = ("subs", "subtitles")
"""Names, in lower case, of a folder beside films that has their subtitles."""

MAX_SIDECARS = 32
"""Most subtitle files of one film that are listed."""

COVER = re.compile(r"(cover|folder|front|album)\.(?:jpe?g|png|webp)", re.IGNORECASE)
"""Names of the cover of the music in a folder."""

TITLE_SET = re.compile(r"(VTS_[0-9]{2}_)0\.IFO", re.IGNORECASE)
"""Names of the descriptions of a DVD's title sets."""

_TITLE_VOB = re.compile(r"(VTS_[0-9]{2}_)[1-9]\.(VOB)", re.IGNORECASE)

MAX_SUBTITLE_FOLDERS = 2
"""Most folders of subtitles beside a film."""

IDLE_SHARE = 9
"""Pause after a walk, as a multiple of its duration."""


def is_subtitle_file(name: str) -> bool:
    """Return whether a file has subtitles by its ending, of a format that is read or not."""
    return name.lower().endswith((*SUBTITLE_ENDINGS, *UNREAD_SUBTITLE_ENDINGS))


def is_sidecar(name: str) -> bool:
    """Return whether a file may belong to others of its folder, as subtitles, title sets and covers do."""
    return is_subtitle_file(name) or any(one.fullmatch(name) is not None for one in (COVER, TITLE_SET))


def title_set_of(name: str) -> str | None:
    """Return the name of the description of a DVD's title set, by that of one of its VOBs; else None."""
    match = _TITLE_VOB.fullmatch(name)
    return None if match is None else f"{match[1]}0.{'IFO' if match[2].isupper() else 'ifo'}"


def subtitle_folder_of(path: str) -> str | None:
    """Return the folder beside which a file's folder of subtitles is; None for a file in no such folder.

    ``films/Subs/film.srt`` and ``films/Subs/film/2_English.srt`` are in one of ``films``.
    """
    folders = path.split("/")[:-1]
    for depth in (1, 2):
        if len(folders) >= depth and folders[-depth].lower() in SUBTITLE_FOLDERS:
            return "/".join(folders[:-depth])
    return None


def has_one_film(names: Iterable[str]) -> bool:
    """Return whether the films among the names of a folder are all of one title, and there is one."""
    titles = filter(None, map(film_title, names))
    first = next(titles, "")
    return first != "" and all(title == first for title in titles)


def film_title(name: str) -> str:
    """Return the title that a film's file belongs to; empty for any other file."""
    return media_stems(name)[-1] if name.lower().endswith(FILM_ENDINGS) else ""


def files_below(stem: str, names: Iterable[str], *, is_only: bool) -> Iterator[FileBelow]:
    """Find those files of the folders of subtitles that belong to a film.

    Args:
        stem: the film's name without its extension.
        names: of the files, relative to the film's folder.
        is_only: whether no other film is beside it, so that files with any name are its own.
    """
    stem = composed(stem)
    for name in names:
        folder, _, file = composed(name).rpartition("/")
        if folder.rpartition("/")[2] == stem and "/" in folder:
            yield FileBelow(name, f".{file}")
        elif "/" not in folder and file.startswith(f"{stem}."):
            yield FileBelow(name, file[len(stem) :])
        elif "/" not in folder and is_only:
            yield FileBelow(name, f".{file}")


def sidecars_of(
    name: str, beside: Sequence[str], below: Sequence[str] = (), *, is_only: bool = False
) -> Iterator[str]:
    """Find the files that belong to a film or to music among a folder's sorted sidecars.

    Args:
        below: the subtitle files in folders of their own.
        is_only: whether the film is the only one of the folder.
    """
    if is_only and film_title(name):
        yield from [one for one in beside if COVER.fullmatch(one) is None][:MAX_SIDECARS]
    for stem in media_stems(name):
        yield from beginning_with(beside, stem)[:MAX_SIDECARS]
        if below and film_title(name):
            found = files_below(stem, below, is_only=is_only)
            yield from [one.name for one in itertools.islice(found, MAX_SIDECARS)]
    title_set = title_set_of(name)
    if title_set is not None and title_set in beside:
        yield title_set
    if name.lower().endswith(SOUND_ENDINGS) and (cover := cover_among(beside)) is not None:
        yield cover


def cover_among(names: Iterable[str]) -> str | None:
    """Return the cover among the names of files, by the order of the names in `COVER`; None without one."""
    found = {match[1].lower(): match[0] for name in names if (match := COVER.fullmatch(name))}
    return next((found[kind] for kind in ("cover", "folder", "front", "album") if kind in found), None)


def media_stems(name: str) -> list[str]:
    """Return the prefixes of the names of a film's subtitle files: the stems of its name and its title's."""
    match = RENDITION.fullmatch(name)
    return [PurePosixPath(name).stem, *([] if match is None else [match["title"]])]


def beginning_with(names: Sequence[str], stem: str) -> Sequence[str]:
    """Return those of some names, sorted by their composed forms, that begin with a stem and a dot."""
    # In ASCII the slash follows the dot.
    stem = composed(stem)
    begin = bisect.bisect_left(names, f"{stem}.", key=composed)
    return names[begin : bisect.bisect_left(names, f"{stem}/", begin, key=composed)]


def composed(name: str) -> str:
    """Return the form of a name by which names are compared: macOS decomposes letters with accents."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def forms(name: str) -> Iterable[str]:
    """Return the forms that a name may have on disk, each once."""
    return dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))


def longer_titles(films: Iterable[str], stem: str) -> tuple[str, ...]:
    """Return how the files of films begin whose composed titles go on behind a stem."""
    beginning = f"{composed(stem)}."
    return tuple([f"{film}." for film in films if film.startswith(beginning)])


class FolderTitles:
    """Finds titles' renditions and subtitle files in folders, which are read again when they change.

    Its methods block on the disk, and several threads may call them at once.

    Args:
        names: most names of a folder that are read, and most names of all folders that are kept.

    Attributes:
        reads: how often a folder was read.
    """

    def __init__(self, root: Path, names: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._folders = SizedDict[str, _ListedFolderNames](None, names, lambda one: 1 + one.count)
        self.reads = 0

    @property
    def kept(self) -> int:
        """Return how many names are kept, those of the folders too."""
        return self._folders.nbytes

    def renditions(self, folder: str, title: str) -> list[str]:
        """Return the files that are renditions of a title, in ascending order of height.

        Args:
            folder: relative to the library; "" for the library itself.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """
        return [name for _, name in sorted(self._known(folder).titles.get(title, ()))]

    def subtitles(self, folder: str, stem: str) -> list[str]:
        """Return the subtitle files whose name begins with a film's, in order.

        Args:
            folder: relative to the library; "" for the library itself.
            stem: the film's name without its extension.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """
        names = beginning_with(self._known(folder).subtitles, stem)
        return [name for name in names if name.lower().endswith(SUBTITLE_ENDINGS)]

    def subtitles_below(self, folder: str, stem: str) -> list[FileBelow]:
        """Return the files in the folders of subtitles beside a film, in order; see `FolderNames`."""
        known = self._known(folder)
        names: list[str] = []
        for one in known.folders[:MAX_SUBTITLE_FOLDERS]:
            for inner in (one, *[f"{one}/{form}" for form in forms(stem)]):
                with contextlib.suppress(OSError, ValueError):
                    files = self._known(f"{folder}/{inner}".removeprefix("/")).subtitles
                    names += [f"{inner}/{file}" for file in files[: 2 * MAX_SIDECARS]]
        return list(files_below(stem, names, is_only=len(known.films) == 1))

    def unused(self, folder: str, stem: str) -> list[str]:
        """Return the names of files of subtitles that seem to be a film's; see `FolderNames`."""
        known = self._known(folder)
        if len(known.films) == 1:
            return known.subtitles
        others = longer_titles(known.films, stem)
        return [
            name
            for name in beginning_with(known.subtitles, stem)[: 2 * MAX_SIDECARS]
            if not composed(name).startswith(others)
        ]

    def _known(self, folder: str) -> _ListedFolderNames:
        with self._lock:
            known = self._folders.use(folder)
            if known is None or self._clock() >= known.idle_until:
                changed = time_of_change(self._root / folder)
                if known is None or not known.changed == changed >= 0:
                    known = self._folders[folder] = self._read(folder, changed)
            return known

    def _read(self, folder: str, changed: int) -> _ListedFolderNames:
        self.reads += 1
        began = self._clock()
        titles: dict[str, list[tuple[int, str]]] = {}
        subtitles: list[str] = []
        films: set[str] = set()
        folders: list[str] = []
        count = 0
        with os.scandir(self._root / folder) as entries:
            for _, entry in zip(range(self._names), entries, strict=False):
                if title := film_title(entry.name):
                    films.add(composed(title))
                match = RENDITION.fullmatch(entry.name)
                if match is not None:
                    titles.setdefault(match["title"], []).append((int(match["height"]), entry.name))
                    count += 1
                elif is_subtitle_file(entry.name):
                    subtitles.append(entry.name)
                elif entry.name.lower() in SUBTITLE_FOLDERS and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
        subtitles.sort(key=composed)
        now = self._clock()
        count += len(subtitles) + len(films) + len(folders)
        idle_until = now + IDLE_SHARE * (now - began)
        return _ListedFolderNames(
            titles, subtitles, frozenset(films), sorted(folders), count, changed, idle_until
        )


@dataclass(frozen=True, slots=True)
class _ListedFolderNames:
    """The renditions and subtitle files in a folder.

    Attributes:
        titles: heights and names of renditions, by title.
        subtitles: names of subtitle files, in order, those too that can't be read.
        films: the titles of its films, composed.
        folders: names of the folders of subtitles.
        changed: the folder's modification time, as of `time_of_change`.
        idle_until: when it may be read again, by the clock.
    """

    titles: dict[str, list[tuple[int, str]]]
    subtitles: list[str]
    films: frozenset[str]
    folders: list[str]
    count: int
    changed: int
    idle_until: float


def time_of_change(folder: Path) -> int:
    """Return a folder's modification time; -1 if it is too recent, or the folder is gone."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return -1
    return changed if changed < (time.time() - SETTLED_AFTER) * 1e9 else -1
