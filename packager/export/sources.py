"""Which films are packaged: files that are named, and those that the library would list of a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from media.errors import UnsupportedError
from packager.export.package_record import Identity
from packager.library.file_listing import FileListing, ListedFolder
from packager.library.local_storage import Library, LocalFile, NotFoundError, Withheld
from packager.library.title_files import FolderTitles, media_stems, title_set_of

MAX_NAMES = 200_000
"""Names in a folder that are looked at for subtitle files."""


@dataclass(frozen=True, slots=True)
class PackagedFilm:
    """A film that is to be packaged.

    Attributes:
        folder: names of the folders below the output folder in which its own is.
    """

    path: Path
    folder: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, ...]:
        """Names of the folders down to its own below the output folder."""
        return *self.folder, self.path.name

    @property
    def library(self) -> Library:
        """The folder in which its file is."""
        return Library(self.path.absolute().parent, follow_symlinks=True)

    def open(self) -> LocalFile:
        """Open its file.

        Raises:
            NotFoundError: there is no such file.
            OSError: the file can't be opened.
        """
        try:
            return self.library.open(self.path.name)
        except NotFoundError:
            # With its folder, by which the user named it.
            raise NotFoundError(str(self.path)) from None


@dataclass(frozen=True, slots=True)
class Folders:
    """Knows the folders in which sources are, so that each is read once for all films in it."""

    _known: dict[Path, FolderTitles] = field(default_factory=dict)

    def titles(self, source: PackagedFilm) -> FolderTitles:
        """Return the listing of the names in a source's folder."""
        folder = source.path.absolute().parent
        return self._known.setdefault(folder, FolderTitles(folder, MAX_NAMES))

    def identities(self, source: PackagedFilm, file: LocalFile) -> tuple[Identity, ...]:
        """Return the version of a source: of its file, subtitle files and title set's description."""
        described = title_set_of(source.path.name)
        names = [] if described is None else [described]
        for stem in media_stems(source.path.name):
            below = [one.name for one in self.titles(source).subtitles_below("", stem)]
            names += [*self.titles(source).subtitles("", stem), *below]
        found = [Identity.of(file)]
        for name in names:
            with suppress(NotFoundError), source.library.open(name) as beside:
                found.append(Identity.of(beside))
        return tuple(dict.fromkeys(found))


def find_sources(inputs: Iterable[Path], out: Path) -> list[PackagedFilm]:
    """Find the films of some files and folders; those of a folder keep their places in it.

    Args:
        out: the folder of the result, in which no films are looked for.

    Raises:
        UnsupportedError: two of them would have the same place, or a folder has none.
        OSError: a folder can't be read.
    """
    sources: list[PackagedFilm] = []
    for path in inputs:
        sources += _in_folder(path, out) if path.is_dir() else [PackagedFilm(path)]
    places: dict[tuple[str, ...], Path] = {}
    for source in sources:
        if source.place in places:
            name = "/".join(source.place)
            raise UnsupportedError(f"two inputs are called {name}; package them into different folders")
        places[source.place] = source.path
    return sources


def _in_folder(folder: Path, out: Path) -> list[PackagedFilm]:
    # Only for folders: a rerun over a file is to be done before it is noticed.
    from packager.library.file_endings import CONTAINERS

    listing = asyncio.run(FileListing(ListedFolder(folder, Withheld(folders=(out,))), CONTAINERS).latest())
    if not listing.files:
        raise UnsupportedError(f"{folder}: there are no media files in it")
    return [PackagedFilm(folder / file.path, tuple(file.path.split("/")[:-1])) for file in listing.files]
