"""The interface of a library's files and folders, on a disk or in S3.

A file has a size, validators and a way to read a range. A file on a disk has a descriptor, too, from which
the kernel can send it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from packager.threads import Threads

SETTLED_AFTER = 2.0
"""Age in seconds from which a modification time identifies a version; before, validators are weak."""


def is_settled(modified: float, changed: float, now: float) -> bool:
    """Return whether a modification time identifies a version, for it can't be given to another one any more.

    A time in the future was set, and a later change gets an earlier one: then it counts when it was set.

    Args:
        modified: the file's time of modification, in seconds since the epoch, as all of these are.
        changed: when the system last changed its entry, which nobody can set.
    """
    return (changed if modified > now else modified) <= now - SETTLED_AFTER


Identity = tuple[int, int, int, int]
"""Numbers that are equal only for the same unchanged file; the last two also on other machines with it."""


class FileChangedError(OSError):
    """A file was replaced since it was opened; opening it again gives the new version."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ESTALE, "it was replaced since it was opened", path)


class LibraryFile(Protocol):
    """An open file. Several threads may read it at once."""

    @property
    def path(self) -> str:
        """The path of the file, for logs."""

    @property
    def name(self) -> str:
        """The name by which the library opens it again."""

    @property
    def size(self) -> int:
        """Its length in bytes when it was opened."""

    @property
    def modified(self) -> float:
        """The time of its last change, in seconds since the epoch."""

    @property
    def identity(self) -> Identity:
        """Numbers that are equal only for the same unchanged file."""

    @property
    def threads(self) -> Threads:
        """The threads for reading, which blocks."""

    def descriptor(self) -> int | None:
        """The descriptor from which the kernel sends the file; None for a file without a descriptor."""

    def validator(self, now: float) -> str:
        """Return its entity-tag, which is the same on every machine.

        Args:
            now: seconds since the epoch, at the time of the answer.
        """

    def pread(self, offset: int, length: int) -> bytes:
        """Read bytes by position: fewer than asked only where the file ends.

        Args:
            offset: position of the first byte.
            length: number of bytes.

        Raises:
            FileChangedError: it was replaced.
            OSError: it can't be read now.
        """

    def close(self) -> None:
        """Close the file. May be called again."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FileBelow(NamedTuple):
    """A subtitle file in a folder beside a film.

    Attributes:
        name: relative to the film's folder, such as ``Subs/Film/2_English.srt``.
        words: the part of its name that has language and purpose, from a dot on, with the ending.
    """

    name: str
    words: str


class FolderNames(Protocol):
    """A source of the names in a library's folders; its methods block."""

    def renditions(self, folder: str, title: str) -> list[str]:
        """Return the files that are renditions of a title, in ascending order of height.

        Args:
            folder: relative to the library; "" for the library itself.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """

    def subtitles(self, folder: str, stem: str) -> list[str]:
        """Return the subtitle files whose name begins with a film's, in order.

        Args:
            folder: relative to the library; "" for the library itself.
            stem: the film's name without its extension.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """

    def subtitles_below(self, folder: str, stem: str) -> Sequence[FileBelow]:
        """Return the subtitle files in folders such as ``Subs`` beside a film, in order.

        They begin with the film's name, lie in a folder of that name, or are beside the only film.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """

    def unused(self, folder: str, stem: str) -> Sequence[str]:
        """Return the names of files of subtitles that seem to be a film's, whether they are used or not.

        They begin with the film's name, and not with that of another film, or are beside the only film.

        Raises:
            OSError, ValueError: the folder can't be read, or no folder can have such a name.
        """


class Storage(Protocol):
    """The storage of a library's files. Its methods block."""

    @property
    def threads(self) -> Threads:
        """The threads for its blocking methods."""

    @property
    def trouble(self) -> str:
        """Why nothing can be opened now, in one line; empty where all is well."""

    def open(self, name: str) -> LibraryFile:
        """Open a file for reading.

        Args:
            name: its parts joined by slashes, relative to the library.

        Returns:
            The open file, which the caller closes.

        Raises:
            NotFoundError: there is no such file that may be served.
            OSError: it can't be opened now.
        """

    def folder_names(self, most: int) -> FolderNames:
        """Make what knows the names in the folders.

        Args:
            most: most names of a folder that are read, and most names of all folders that are kept.
        """
